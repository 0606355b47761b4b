"""The floors: n(z) for every galaxy (trainz), and the nearest neighbours' redshifts (knn)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from sklearn.utils import Tags

from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.estimators.limits import Limits
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["KnnPhotoz", "TrainzPhotoz"]

_BLOCK = 4096
_TUNING_ROWS = 2000
_BANDWIDTHS = np.geomspace(0.001, 0.1, 15)
_LOWEST_DENSITY = 1e-4
# Twins count much, but not alone (in standard deviations of a feature).
_NEAREST = 1e-3


class TrainzPhotoz(PhotozEstimator):
    """The n(z) of the training set for every galaxy, whatever its photometry.

    It is well calibrated and knows nothing: an estimator that does not beat it in a proper
    score has learned nothing.

    Parameters
    ----------
    bandwidth
        Standard deviation of the kernel that smooths n(z), in redshift; never narrower than
        two steps of the grid.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None, the number from the end, in steps
        of 0.004 or finer.
    random_state
        Not used; every estimator has it.
    """

    limits: ClassVar = {"bandwidth": Limits(0)}

    def __init__(
        self,
        *,
        bandwidth: float = 0.01,
        z_max: float | None = None,
        n_z: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.bandwidth = bandwidth
        self.z_max = z_max
        self.n_z = n_z
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Nothing to search: a floor stays where it is."""
        return {}

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:  # noqa: ARG002
        nearest = np.rint(train.z_spec / self.z_grid_[1]).astype(np.intp)
        filled = np.flatnonzero(np.bincount(nearest, minlength=len(self.z_grid_)))
        weight = np.bincount(nearest, weights=train.weight)[filled].astype(np.float64)
        means = self.z_grid_[filled]
        pz = RedshiftPDF.from_mixture(
            self.z_grid_,
            weight[np.newaxis],
            means[np.newaxis],
            np.full((1, len(means)), self.bandwidth),
        )
        self.n_of_z_ = pz.density[0]

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        return np.tile(self.n_of_z_, (len(X), 1))

    def _save(self, directory: Path) -> None:
        np.savez_compressed(directory / "trainz.npz", n_of_z=self.n_of_z_)

    def _load(self, directory: Path) -> None:
        with np.load(directory / "trainz.npz", allow_pickle=False) as saved:
            self.n_of_z_ = saved["n_of_z"]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class KnnPhotoz(PhotozEstimator):
    """A Gaussian around the redshift of each of the nearest training galaxies.

    Features are centred and scaled by their training median and spread; one that was not
    observed stands at the median. The nearer a neighbour, the more it counts. This is what
    `KNearNeigh` of RAIL does; a saved model contains the training rows.

    Parameters
    ----------
    n_neighbours
        Number of neighbours.
    bandwidth
        Standard deviation of the Gaussians in redshift, never narrower than two steps of
        the grid; None chooses it by log score on the validation rows, else on the training
        rows, each without itself.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None, the number from the end, in steps
        of 0.004 or finer.
    random_state
        Not used; every estimator has it.
    """

    limits: ClassVar = {
        "n_neighbours": Limits(1, whole=True),
        "bandwidth": Limits(0, above=True, none="to be chosen"),
    }

    def __init__(
        self,
        *,
        n_neighbours: int = 10,
        bandwidth: float | None = None,
        z_max: float | None = None,
        n_z: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.n_neighbours = n_neighbours
        self.bandwidth = bandwidth
        self.z_max = z_max
        self.n_z = n_z
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Nothing to search: a floor stays where it is."""
        return {}

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:  # noqa: ARG002
        # A redshift that is wrong tells nothing: its galaxy counts as far as it can be trusted.
        weight = train.weight if train.reliability is None else train.weight * train.reliability
        used = weight > 0
        features, z_spec, weight = train.X[used], train.z_spec[used], weight[used]
        self.centre_, self.scale_ = _centre_and_scale(features)
        points = self._standardise(features)
        if self.bandwidth is not None:
            self.bandwidth_ = self.bandwidth
        elif validation is not None and len(validation):
            self._remember(points, z_spec, weight)
            asked = self._standardise(validation.X)
            self.bandwidth_ = self._choose_bandwidth(asked, validation.z_spec)
        else:
            asked_for = _held_out(z_spec)
            self._remember(points[~asked_for], z_spec[~asked_for], weight[~asked_for])
            self.bandwidth_ = self._choose_bandwidth(points[asked_for], z_spec[asked_for])
        self.tuned_ = {} if self.bandwidth is not None else {"bandwidth": self.bandwidth_}
        self._remember(points, z_spec, weight)

    def _standardise(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = ((X - self.centre_) / self.scale_).astype(np.float32)
        return np.nan_to_num(scaled, nan=0.0)

    def _remember(self, points: FloatArray, z_spec: FloatArray, weight: FloatArray) -> None:
        self.points_, self.z_spec_, self.weight_ = points, z_spec, weight
        self.tree_ = KDTree(points)

    def _choose_bandwidth(self, points: FloatArray, z_spec: FloatArray) -> float:
        """Bandwidth of the best log score on galaxies that are not remembered."""
        rows = slice(_TUNING_ROWS)

        def loss(bandwidth: float) -> float:
            pz = RedshiftPDF(self.z_grid_, self._density(points[rows], bandwidth))
            return float(-np.log(np.maximum(pz.at(z_spec[rows]), _LOWEST_DENSITY)).mean())

        return float(min(self.z_grid_[-1] * _BANDWIDTHS, key=loss))

    def _density(self, points: FloatArray, bandwidth: float) -> FloatArray:
        n_neighbours = min(self.n_neighbours, len(self.points_))
        distance, neighbour = self.tree_.query(points, k=np.arange(1, n_neighbours + 1))
        weight = self.weight_[neighbour] / (distance + _NEAREST)
        sigmas = np.full(weight.shape, bandwidth)
        means = self.z_spec_[neighbour]
        return RedshiftPDF.from_mixture(self.z_grid_, weight, means, sigmas).density

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        points = self._standardise(X)
        blocks = [
            self._density(points[begin : begin + _BLOCK], self.bandwidth_)
            for begin in range(0, len(X), _BLOCK)
        ]
        return np.concatenate(blocks)

    def _save(self, directory: Path) -> None:
        np.savez_compressed(
            directory / "knn.npz",
            points=self.points_,
            z_spec=self.z_spec_,
            weight=self.weight_,
            centre=self.centre_,
            scale=self.scale_,
            bandwidth=self.bandwidth_,
        )

    def _load(self, directory: Path) -> None:
        with np.load(directory / "knn.npz", allow_pickle=False) as saved:
            self.centre_, self.scale_ = saved["centre"], saved["scale"]
            self.bandwidth_ = float(saved["bandwidth"])
            self._remember(saved["points"], saved["z_spec"], saved["weight"])


def _centre_and_scale(X: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Median and standard deviation of each feature, both of shape ``(n_features,)``."""
    seen = ~np.isnan(X).all(axis=0)
    centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
    centre[seen] = np.nanmedian(X[:, seen], axis=0)
    scale[seen] = np.nanstd(X[:, seen], axis=0, dtype=np.float64)
    return centre, np.where(scale > 0, scale, 1)


def _held_out(z_spec: FloatArray) -> NDArray[np.bool_]:
    """Every fifth redshift with all its rows, shape ``(n_rows,)``.

    Noisy copies of a galaxy share its redshift; one of them would find itself in another.
    """
    _, rank = np.unique(z_spec, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(rank.max() + 1)
    group = shuffled[rank] if rank.max() > 0 else np.arange(len(z_spec))
    held_out: NDArray[np.bool_] = group % 5 == 0
    return held_out
