"""ForestPhotoz: p(z) from the training redshifts that share a galaxy's leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.tree import DecisionTreeRegressor

from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["ForestPhotoz"]

_BATCH = 25
_BLOCK = 4096
_TUNING_ROWS = 4000
_BANDWIDTHS = np.geomspace(0.002, 0.08, 12)
_TEMPERATURES = (0.4, 3.0)
_LOWEST_DENSITY = 1e-4


class _Tree(Protocol):
    """What is read of scikit-learn's fitted tree."""

    n_features: int
    children_left: NDArray[np.intp]
    children_right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: FloatArray
    missing_go_to_left: NDArray[np.uint8]


@dataclass(frozen=True)
class _Trees:
    """Nodes of trees one after the other; a leaf is its own child, so that walks end there.

    Parameters
    ----------
    column
        Column of the doubled features that a node asks about, shape ``(n_nodes,)``.
    threshold
        A galaxy above it goes to the second child, shape ``(n_nodes,)``.
    child
        First of the two adjacent children, counted from the tree's root, same shape.
    root
        Where each tree begins, and the end, shape ``(n_trees + 1,)``.
    start
        Where each node's contents begin, and the end, shape ``(n_nodes + 1,)``.
    grid_index
        Grid point nearest to the redshift of each entry, shape ``(n_entries,)``.
    count
        How often the bootstrap drew what stands there, shape ``(n_entries,)``.
    """

    column: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    child: NDArray[np.uint32]
    root: NDArray[np.int64]
    start: NDArray[np.int64]
    grid_index: NDArray[np.uint16]
    count: NDArray[np.float16]

    @classmethod
    def join(cls, parts: Sequence[_Trees]) -> _Trees:
        """Trees of several parts behind each other."""
        arrays: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        for name in ("root", "start"):
            ends = np.cumsum([0, *(getattr(part, name)[-1] for part in parts)])
            pieces = [
                getattr(part, name)[:-1] + end for part, end in zip(parts, ends, strict=False)
            ]
            arrays[name] = np.concatenate([*pieces, ends[-1:]])
        return cls(**arrays)

    def walk(self, X: NDArray[np.float32]) -> NDArray[np.int32]:
        """Leaf of each galaxy in each tree, shape ``(n_galaxies, n_trees)``."""
        doubled = _double(X)
        first = np.arange(len(X)) * doubled.shape[1]
        leaves = np.empty((len(self.root) - 1, len(X)), dtype=np.int32)
        for tree, (begin, end) in enumerate(zip(self.root[:-1], self.root[1:], strict=True)):
            nodes = slice(begin, end)
            leaves[tree] = begin + _descend(
                self.column[nodes].astype(np.intp),
                self.threshold[nodes],
                self.child[nodes].astype(np.intp),
                doubled.ravel(),
                first,
            )
        return leaves.T

    def contents(self, n_z: int) -> sparse.csr_array:
        """Redshift histogram of each leaf, of unit sum, shape ``(n_nodes, n_z)``."""
        count = self.count.astype(np.float32)
        n_entries = np.diff(self.start)
        filled = n_entries > 0
        total = np.add.reduceat(count, self.start[:-1][filled]) if filled.any() else count
        weight = count / np.repeat(total, n_entries[filled])
        indices = self.grid_index.astype(np.int32)
        shape = (len(n_entries), n_z)
        return sparse.csr_array((weight, indices, self.start.astype(np.int32)), shape=shape)


class ForestPhotoz(PhotozEstimator):
    """Photo-z from a random forest.

    The p(z) of a galaxy is the redshift histogram of the training galaxies that share its
    leaf, averaged over the trees (Meinshausen 2006; Carrasco Kind & Brunner 2013), smoothed
    by a Gaussian kernel, and raised to a power. The trees split where the distribution of
    redshifts changes, not only its mean: their targets are cosines of the redshift's rank,
    whose squared error is the CDE loss of a cosine series.

    Parameters
    ----------
    n_trees
        Number of trees.
    min_leaf
        Fewest training rows in a leaf: few give noisy p(z), many give wide ones.
    max_features
        Share of the features that are tried for each split.
    max_samples
        Rows drawn for each tree, with replacement, as a share of the training rows.
    n_cosines
        Number of cosines that the splits look at; with 0 they look at the mean redshift.
    bandwidth
        Standard deviation of the kernel, in dz / (1 + z) and never narrower than two steps
        of the grid; None chooses it by log score on the validation rows, else on the rows
        that a tree has not seen.
    temperature
        Power of the smoothed density; None chooses it together with `bandwidth`.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None.
    n_jobs
        Threads of `fit` and `predict_pdf`; -1 uses all cores. It changes no result.
    random_state
        Seed of the bootstrap and of the splits.

    Attributes
    ----------
    tuned_
        The `bandwidth` and `temperature` that were chosen.

    References
    ----------
    Meinshausen (2006), https://jmlr.org/papers/v7/meinshausen06a.html
    Carrasco Kind & Brunner (2013), https://arxiv.org/abs/1303.7269
    """

    def __init__(
        self,
        *,
        n_trees: int = 200,
        min_leaf: int = 5,
        max_features: float = 0.6,
        max_samples: float = 1.0,
        n_cosines: int = 4,
        bandwidth: float | None = None,
        temperature: float | None = None,
        z_max: float | None = None,
        n_z: int = 501,
        n_jobs: int = -1,
        random_state: int | None = None,
    ) -> None:
        self.n_trees = n_trees
        self.min_leaf = min_leaf
        self.max_features = max_features
        self.max_samples = max_samples
        self.n_cosines = n_cosines
        self.bandwidth = bandwidth
        self.temperature = temperature
        self.z_max = z_max
        self.n_z = n_z
        self.n_jobs = n_jobs
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""
        return {
            "min_leaf": Range(1, 20, log=True),
            "max_features": Range(0.3, 1.0),
        }

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Fewer trees: they are noisier, but rank the other parameters alike."""
        return {"n_trees": 50}

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        self._check_parameters()
        seeds = np.random.SeedSequence(self.random_state).spawn(self.n_trees)
        target = _targets(train.z_spec, self.n_cosines)
        grown: list[tuple[_Trees, NDArray[np.bool_]]] = []
        for begin in range(0, self.n_trees, _BATCH):
            grown += Parallel(n_jobs=self.n_jobs, require="sharedmem")(
                delayed(self._grow)(train, target, seed) for seed in seeds[begin : begin + _BATCH]
            )
            if on_step is not None and validation is not None:
                self._keep(_Trees.join([trees for trees, _ in grown]))
                histogram = self._histogram(validation.X[:_TUNING_ROWS])
                *_, loss = self._choose(histogram, validation.z_spec[:_TUNING_ROWS])
                on_step(len(grown), loss)
        self._keep(_Trees.join([trees for trees, _ in grown]))
        self._tune(train, validation, np.column_stack([drawn for _, drawn in grown]))

    def _check_parameters(self) -> None:
        if self.n_trees < 1 or self.min_leaf < 1 or self.n_cosines < 0:
            msg = (
                "n_trees and min_leaf must be at least 1 and n_cosines at least 0, got "
                f"{self.n_trees}, {self.min_leaf} and {self.n_cosines}."
            )
            raise ValueError(msg)
        if not (0 < self.max_features <= 1 and 0 < self.max_samples <= 1):
            msg = (
                "max_features and max_samples must be above 0 and at most 1, got "
                f"{self.max_features} and {self.max_samples}."
            )
            raise ValueError(msg)
        if any(value is not None and value <= 0 for value in (self.bandwidth, self.temperature)):
            msg = (
                "bandwidth and temperature must be above 0 or None, got "
                f"{self.bandwidth} and {self.temperature}."
            )
            raise ValueError(msg)

    def _grow(
        self, train: Rows, target: FloatArray, seed: np.random.SeedSequence
    ) -> tuple[_Trees, NDArray[np.bool_]]:
        """One tree, and which rows it has seen."""
        generator = np.random.default_rng(seed)
        n_draws = max(1, round(self.max_samples * len(train)))
        share = train.weight / train.weight.sum()
        times = np.bincount(generator.choice(len(train), n_draws, p=share), minlength=len(train))
        drawn = times > 0
        tree = DecisionTreeRegressor(
            min_samples_leaf=self.min_leaf,
            max_features=self.max_features,
            random_state=int(generator.integers(2**31)),
        )
        tree.fit(train.X[drawn], target[drawn], sample_weight=times[drawn])
        column, threshold, child = _nodes(tree.tree_)
        leaf = _descend(
            column, threshold, child, _double(train.X[drawn]).ravel(),
            np.arange(int(drawn.sum())) * 2 * train.X.shape[1],
        )  # fmt: skip
        nearest = np.rint(train.z_spec[drawn] / self.z_grid_[1]).astype(np.intp)
        shape = (len(child), self.n_z)
        contents = sparse.coo_array((times[drawn], (leaf, nearest)), shape=shape).tocsr()
        trees = _Trees(
            column=column.astype(np.uint16),
            threshold=threshold,
            child=child.astype(np.uint32),
            root=np.array([0, len(child)]),
            start=contents.indptr.astype(np.int64),
            grid_index=contents.indices.astype(np.uint16),
            count=contents.data.astype(np.float16),
        )
        return trees, drawn

    def _keep(self, trees: _Trees) -> None:
        self.trees_ = trees
        self.contents_ = trees.contents(self.n_z)

    def _tune(self, train: Rows, validation: Rows | None, drawn: NDArray[np.bool_]) -> None:
        """Choose the kernel and the temperature where they are not given."""
        if self.bandwidth is not None and self.temperature is not None:
            self.bandwidth_, self.temperature_ = self.bandwidth, self.temperature
            return
        if validation is not None:
            histogram = self._histogram(validation.X[:_TUNING_ROWS])
            z_spec = validation.z_spec[:_TUNING_ROWS]
        else:
            rows = np.random.default_rng(self.random_state).permutation(len(train))[:_TUNING_ROWS]
            rows = rows[train.weight[rows] > 0]
            histogram = self._histogram(train.X[rows], ~_seen(train.z_spec, drawn, rows))
            z_spec = train.z_spec[rows]
        self.bandwidth_, self.temperature_, _ = self._choose(histogram, z_spec)
        self.tuned_ = {"bandwidth": self.bandwidth_, "temperature": self.temperature_}

    def _choose(self, histogram: FloatArray, z_spec: FloatArray) -> tuple[float, float, float]:
        """Kernel and temperature of the best log score, and its negative."""
        known = histogram.sum(axis=1) > 0
        histogram, z_spec = histogram[known], z_spec[known]
        best = (float(_BANDWIDTHS[-1]), 1.0, np.inf)
        for bandwidth in _BANDWIDTHS if self.bandwidth is None else [self.bandwidth]:
            smooth = np.log(np.maximum(histogram @ self._kernel(bandwidth), 1e-12))

            def loss(temperature: float, smooth: FloatArray = smooth) -> float:
                pz = RedshiftPDF.from_weights(self.z_grid_, np.exp(temperature * smooth))
                return float(-np.log(np.maximum(pz.at(z_spec), _LOWEST_DENSITY)).mean())

            if self.temperature is None:
                found = minimize_scalar(
                    loss, bounds=_TEMPERATURES, method="bounded", options={"xatol": 0.02}
                )
                trial = (float(bandwidth), float(found.x), float(found.fun))
            else:
                trial = (float(bandwidth), self.temperature, loss(self.temperature))
            best = min(best, trial, key=lambda choice: choice[2])
        return best

    def _kernel(self, bandwidth: float) -> NDArray[np.float32]:
        """Gaussian kernel from grid to grid, reflected at redshift 0, shape ``(n_z, n_z)``."""
        sigma = np.maximum(bandwidth * (1 + self.z_grid_), 2 * self.z_grid_[1])[:, np.newaxis]
        direct, mirrored = (
            np.exp(-0.5 * ((self.z_grid_ - centre[:, np.newaxis]) / sigma) ** 2)
            for centre in (self.z_grid_, -self.z_grid_)
        )
        kernel: NDArray[np.float32] = ((direct + mirrored) / sigma).astype(np.float32)
        return kernel

    def _histogram(
        self, X: NDArray[np.float32], use: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Leaf contents averaged over the trees, shape ``(n_galaxies, n_z)``.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``.
        use
            Trees that count for each galaxy, shape ``(n_galaxies, n_trees)``; None is all.
        """
        leaves = self.trees_.walk(X)
        n_trees = leaves.shape[1]
        weight = np.ones(leaves.shape, dtype=np.float32) if use is None else use
        membership = sparse.csr_array(
            (
                weight.ravel().astype(np.float32) / n_trees,
                leaves.ravel(),
                np.arange(len(X) + 1, dtype=np.int32) * n_trees,
            ),
            shape=(len(X), self.contents_.shape[0]),
        )
        histogram: NDArray[np.float32] = (membership @ self.contents_).toarray()
        return histogram

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        kernel = self._kernel(self.bandwidth_)

        def block(begin: int) -> FloatArray:
            smooth = self._histogram(X[begin : begin + _BLOCK]) @ kernel
            return smooth**self.temperature_

        blocks = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(block)(begin) for begin in range(0, len(X), _BLOCK)
        )
        return np.concatenate(blocks)

    def _save(self, directory: Path) -> None:
        arrays = {field.name: getattr(self.trees_, field.name) for field in fields(_Trees)}
        np.savez_compressed(
            directory / "forest.npz",
            bandwidth=self.bandwidth_,
            temperature=self.temperature_,
            **arrays,
        )

    def _load(self, directory: Path) -> None:
        with np.load(directory / "forest.npz", allow_pickle=False) as saved:
            self.bandwidth_ = float(saved["bandwidth"])
            self.temperature_ = float(saved["temperature"])
            self._keep(_Trees(**{field.name: saved[field.name] for field in fields(_Trees)}))


def _targets(z_spec: FloatArray, n_cosines: int) -> FloatArray:
    """Cosines of the redshift's rank, shape ``(n_galaxies, n_cosines)``."""
    if n_cosines == 0:
        return z_spec
    _, rank = np.unique(z_spec, return_inverse=True)
    share = (rank + 0.5) / (rank.max() + 1)
    cosines: FloatArray = np.cos(np.pi * np.outer(share, np.arange(1, n_cosines + 1)))
    return cosines


def _seen(
    z_spec: FloatArray, drawn: NDArray[np.bool_], rows: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether a tree drew a row or another one of its redshift, shape ``(n_rows, n_trees)``.

    Noisy copies of a galaxy share its redshift: a tree that drew one has seen the galaxy.
    """
    distinct, galaxy = np.unique(z_spec, return_inverse=True)
    seen = np.zeros((len(distinct), drawn.shape[1]), dtype=bool)
    np.logical_or.at(seen, galaxy, drawn)
    of_galaxy: NDArray[np.bool_] = seen[galaxy[rows]]
    # Where redshifts are rounded so much that every tree saw each, only the row itself counts.
    return of_galaxy if (~of_galaxy).any(axis=1).mean() > 0.1 else drawn[rows]


def _double(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features twice, shape ``(n_galaxies, 2 n_features)``: NaN goes left, then right."""
    missing = np.isnan(X)
    left, right = (np.where(missing, np.float32(end), X) for end in (-np.inf, np.inf))
    return np.concatenate([left, right], axis=1)


def _nodes(tree: _Tree) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Columns, thresholds and first children of a tree's nodes, level by level.

    Children stand side by side, so that a step is ``child + (feature > threshold)``. A leaf
    asks for more than infinity and is its own child.
    """
    left, right = tree.children_left, tree.children_right
    levels = [np.zeros(1, dtype=np.intp)]
    while len(inner := levels[-1][left[levels[-1]] >= 0]):
        levels.append(np.column_stack([left[inner], right[inner]]).ravel())
    order = np.concatenate(levels)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    leaf = left[order] < 0
    # Where a node sends NaN to the right, the second half of the doubled features is asked.
    to_right = tree.missing_go_to_left[order] == 0
    column = np.where(leaf, 0, tree.feature[order] + tree.n_features * to_right)
    threshold = np.where(leaf, np.inf, tree.threshold[order]).astype(np.float32)
    child = np.where(leaf, np.arange(len(order)), position[left[order]])
    return column, threshold, child


def _descend(
    column: NDArray[np.intp],
    threshold: NDArray[np.float32],
    child: NDArray[np.intp],
    features: NDArray[np.float32],
    first: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Leaf of each galaxy in one tree, shape ``(n_galaxies,)``.

    Parameters
    ----------
    column, threshold, child
        Nodes of the tree, each of shape ``(n_nodes,)``.
    features
        Doubled features of all galaxies in one row.
    first
        Where each galaxy's features begin, shape ``(n_galaxies,)``.
    """
    leaf = np.zeros(len(first), dtype=np.intp)
    walking = np.arange(len(first))
    node = leaf
    while len(walking):
        for _ in range(4):
            above = features.take(column.take(node) + first) > threshold.take(node)
            node = child.take(node) + above
        leaf[walking] = node
        # Galaxies that have arrived are let go of: half of the steps would be idle.
        inside = child.take(node) != node
        walking, node, first = walking[inside], node[inside], first[inside]
    return leaf
