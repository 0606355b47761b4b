"""Densities: how the p(z) of each family of estimators get into a block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from photoz.estimators.base import PhotozEstimator
from photoz.kernels.mixtures import evaluate_mixtures
from photoz.kernels.rows import Block, find_supports
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["Densities", "Fill", "densities_of"]

Fill = Callable[[slice, Block], int]
"""Writes some galaxies into a block; returns the number of a row that is no density, or -1."""


class Densities(Protocol):
    """Uncalibrated densities of one estimator."""

    def of(self, X: NDArray[np.float32]) -> Fill:
        """Densities of galaxies, by their features of shape ``(n_galaxies, n_features)``."""


@dataclass(frozen=True, eq=False)
class MixtureDensities:
    """Gaussian mixtures.

    Parameters
    ----------
    predict_mixture
        Weights, means and standard deviations of the galaxies' mixtures.
    """

    predict_mixture: Callable[[NDArray[np.float32]], tuple[FloatArray, FloatArray, FloatArray]]

    def of(self, X: NDArray[np.float32]) -> Fill:
        """Densities of galaxies."""
        weights, means, sigmas = (
            np.ascontiguousarray(part, dtype=np.float32) for part in self.predict_mixture(X)
        )
        return lambda rows, block: evaluate_mixtures(
            weights[rows], means[rows], sigmas[rows], block
        )


@dataclass(frozen=True, eq=False)
class GridDensities:
    """Densities that are predicted on the grid.

    Parameters
    ----------
    predict_pdf
        Densities of galaxies.
    """

    predict_pdf: Callable[[NDArray[np.float32]], RedshiftPDF]

    def of(self, X: NDArray[np.float32]) -> Fill:
        """Densities of galaxies."""
        density = self.predict_pdf(X).density

        def fill(rows: slice, block: Block) -> int:
            n_rows = rows.stop - rows.start
            block.density[:n_rows, : block.n_z] = density[rows]
            return find_supports(block, n_rows)

        return fill


def densities_of(estimator: PhotozEstimator) -> Densities:
    """How the densities of an estimator are worked out: compiled, where that is possible."""
    if hasattr(estimator, "predict_mixture"):
        return MixtureDensities(estimator.predict_mixture)
    return GridDensities(estimator.predict_pdf)
