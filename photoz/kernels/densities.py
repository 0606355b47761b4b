"""Densities: how the p(z) of each family of estimators get into a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from photoz.estimators import estimator_name
from photoz.estimators.base import PhotozEstimator
from photoz.estimators.mixture_likelihood import mixture_of
from photoz.estimators.smoothing import LOWEST_TAIL, gaussian_kernel
from photoz.kernels.boosted import boost
from photoz.kernels.forests import Forest, Smoothing, evaluate_forest, walk_forest
from photoz.kernels.mixtures import evaluate_mixtures
from photoz.kernels.networks import Networks
from photoz.kernels.rounds import rounds_of
from photoz.kernels.rows import LANES, Block, find_supports
from photoz.pdf import FloatArray

__all__ = ["ROWS", "Densities", "Fill", "densities_of", "empty_block"]

ROWS = 128
"""Galaxies at a time: their densities stay in a processor's cache."""

Features = NDArray[np.float32]

Fill = Callable[[slice, Block], int]
"""Writes some galaxies into a block; returns the number of a row that is no density, or -1."""


class Densities(Protocol):
    """Uncalibrated densities of one estimator."""

    def of(self, X: Features) -> Fill:
        """Densities of galaxies, by their features of shape ``(n_galaxies, n_features)``."""


class GridDensities:
    """Densities of any estimator, predicted on the grid."""

    def __init__(self, estimator: PhotozEstimator) -> None:
        self.estimator = estimator

    def of(self, X: Features) -> Fill:
        """Densities of galaxies."""
        density = self.estimator.predict_pdf(X).density

        def fill(rows: slice, block: Block) -> int:
            n_rows = rows.stop - rows.start
            block.density[:n_rows, : block.n_z] = density[rows]
            return find_supports(block, n_rows)

        return fill


class NetworkDensities:
    """Mixtures that networks give."""

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401 - of a family with heavy imports
        self._networks = Networks(estimator)

    def of(self, X: Features) -> Fill:
        """Densities of galaxies."""
        return _of_mixtures(*self._networks.mixtures(X))


class BoostingDensities:
    """Mixtures whose parameters are sums over trees."""

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401
        self.estimator = estimator
        self._rounds = rounds_of(estimator)
        step, z_max = estimator.z_grid_[[1, -1]].tolist()
        self._narrowest, self._z_max = 2 * step, z_max

    def of(self, X: Features) -> Fill:
        """Densities of galaxies."""
        scores = np.tile(self.estimator.start_, (len(X), 1))
        boost(X, self.estimator.scaling_.terms(X), self._rounds, scores)
        return _of_mixtures(*mixture_of(scores, self._narrowest, self._z_max))


class ForestDensities:
    """Histograms of what hangs in the leaves of a forest, smoothed."""

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401
        self.estimator = estimator
        trees = estimator.trees_
        self._forest = Forest(
            *(trees.column, trees.threshold, trees.child, trees.root, trees.start),
            trees.grid_index,
            estimator.contents_.data,
        )
        kernel = gaussian_kernel(estimator.z_grid_, estimator.bandwidth_)
        inside = kernel > 0
        ends = [inside.argmax(axis=1), kernel.shape[1] - inside[:, ::-1].argmax(axis=1)]
        self._smoothing = Smoothing(
            kernel,
            np.stack(ends, axis=1),
            np.float32(estimator.temperature_),
            np.float32(LOWEST_TAIL),
        )

    def of(self, X: Features) -> Fill:
        """Densities of galaxies."""
        inputs = np.concatenate([X, self.estimator.regression_.predict(X)], axis=1)
        leaves = np.empty((len(X), len(self._forest.root) - 1), dtype=np.uint32)
        walk_forest(inputs, self._forest, leaves)

        def fill(rows: slice, block: Block) -> int:
            evaluate_forest(leaves[rows], self._forest, self._smoothing, block)
            return find_supports(block, rows.stop - rows.start)

        return fill


FAMILIES: dict[str, Callable[[Any], Densities]] = {
    "network": NetworkDensities,
    "boosting": BoostingDensities,
    "forest": ForestDensities,
}


def densities_of(estimator: PhotozEstimator) -> Densities:
    """How the densities of an estimator are worked out: compiled, where its family is known."""
    return FAMILIES.get(estimator_name(estimator), GridDensities)(estimator)


def empty_block(z_grid: FloatArray, negligible: float) -> Block:
    """A block for the densities of `ROWS` galaxies."""
    density = np.empty((ROWS, len(z_grid) + 2 * LANES), dtype=np.float32)
    support = np.empty((ROWS, 2), dtype=np.int64)
    return Block(density, support, len(z_grid), float(z_grid[1]), negligible)


def _of_mixtures(weights: FloatArray, means: FloatArray, sigmas: FloatArray) -> Fill:
    weight, mean, sigma = (
        np.ascontiguousarray(part, dtype=np.float32) for part in (weights, means, sigmas)
    )
    return lambda rows, block: evaluate_mixtures(weight[rows], mean[rows], sigma[rows], block)
