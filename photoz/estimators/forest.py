"""ForestPhotoz: p(z) from the training redshifts that share a galaxy's leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.tree import DecisionTreeRegressor

from photoz.environment import processors
from photoz.errors import InputError
from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.estimators.cosines import CosineRegression, cosines_of_rank
from photoz.estimators.labels import Labels, trust
from photoz.estimators.limits import Limits
from photoz.estimators.smoothing import choose_smoothing, finite_log, gaussian_kernel
from photoz.estimators.trees import Trees, galaxies_of
from photoz.pdf import FloatArray

__all__ = ["ForestPhotoz"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Report = Callable[[list[Trees]], None]

# Splits on more cosines cost time and gained nothing.
_SPLIT_COSINES = 4
_BLOCK = 4096
_TUNING_ROWS = 2000
# Share of the trees from which on there is a loss, by which hopeless trials are told.
_REPORTED_FROM = 0.3
# A first look at which redshifts may be wrong needs few trees and a wide kernel.
_SCOUTS = 30
_SCOUT_BANDWIDTH = 0.02


class ForestPhotoz(PhotozEstimator):
    """Photo-z from a random forest.

    The p(z) of a galaxy is the redshift histogram of the training galaxies that share its
    leaf, averaged over the trees (Meinshausen 2006; Carrasco Kind & Brunner 2013), smoothed
    by a Gaussian kernel, and raised to a power. The trees split where the distribution of
    redshifts changes, not only its mean: their targets are cosines of the redshift's rank,
    whose squared error is the CDE loss of a cosine series. Beside the features they may
    split on a regression of such cosines, which sees directions that no axis follows.

    Parameters
    ----------
    n_trees
        Number of trees.
    min_leaf
        Fewest training rows in a leaf: few give noisy p(z), many give wide ones.
    max_features
        Share of the features that are tried for each split.
    max_rows
        Most rows drawn for one tree; it bounds time and size on large training sets.
    n_cosines
        Number of cosines in the regression that the trees may split on; 0 leaves it out.
    bandwidth
        Standard deviation of the kernel, in dz / (1 + z) and never narrower than two steps
        of the grid; None chooses it by log score on the validation rows, else on the rows
        that a tree has not seen.
    temperature
        Power of the smoothed density; None chooses it together with `bandwidth`.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None, the number from the end, in steps
        of 0.004 or finer.
    n_threads
        Threads of `fit` and `predict_pdf`; all cores if None. They do not change the result.
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

    limits: ClassVar = {
        "n_trees": Limits(1, whole=True),
        "min_leaf": Limits(1, whole=True),
        "max_features": Limits(0, 1, above=True),
        "max_rows": Limits(1, whole=True),
        "n_cosines": Limits(0, whole=True),
        "bandwidth": Limits(0, above=True, none="to be chosen"),
        "temperature": Limits(0, above=True, none="to be chosen"),
        "n_threads": Limits(1, whole=True, none="for all cores"),
    }

    def __init__(
        self,
        *,
        n_trees: int = 100,
        min_leaf: int = 3,
        max_features: float = 0.6,
        max_rows: int = 50_000,
        n_cosines: int = 8,
        bandwidth: float | None = None,
        temperature: float | None = None,
        z_max: float | None = None,
        n_z: int | None = None,
        n_threads: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.n_trees = n_trees
        self.min_leaf = min_leaf
        self.max_features = max_features
        self.max_rows = max_rows
        self.n_cosines = n_cosines
        self.bandwidth = bandwidth
        self.temperature = temperature
        self.z_max = z_max
        self.n_z = n_z
        self.n_threads = n_threads
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""
        return {
            "min_leaf": Range(1, 20, log=True),
            "max_features": Range(0.3, 1.0),
        }

    @property
    def n_steps(self) -> int | None:
        """Number of trees."""
        return self.n_trees

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Fewer trees: they are noisier, but rank the other parameters alike."""
        return {"n_trees": 20}

    @classmethod
    def fold_parameters(cls) -> dict[str, Any]:
        """Half of the default trees: their p(z) is hardly noisier."""
        return {"n_trees": 50}

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        weight = train.weight if train.reliability is None else train.weight * train.reliability
        if (weight > 0).sum() < 2:
            msg = "at least 2 training rows must have a weight and a reliability above 0."
            raise InputError(msg)
        train = replace(train, weight=weight)[weight > 0]
        if train.reliability is not None:
            train = self._doubt(train)
        report = None if on_step is None else self._reporter(validation, on_step)
        train, seen = self._plant(train, report)
        if validation is None or not len(validation):
            if self.bandwidth is not None and self.temperature is not None:
                self.bandwidth_, self.temperature_ = self.bandwidth, self.temperature
            else:
                self._tune(*self._unseen_rows(train, seen))
            return
        loss = self._tune(*self._tuning_rows(validation))
        if on_step is not None:
            on_step(self.n_trees, loss)

    def _reporter(self, validation: Rows | None, on_step: OnStep) -> _Report:
        """What tells the number of trees so far, and their loss."""
        near = None

        def report(trees: list[Trees]) -> None:
            nonlocal near
            if validation is None or not len(validation):
                on_step(len(trees), math.nan)
                return
            if len(trees) < _REPORTED_FROM * self.n_trees:
                return
            self._keep(Trees.join(trees))
            near, _, loss = self._choose(*self._tuning_rows(validation), near)
            on_step(len(trees), loss)

        return report

    def _plant(self, train: Rows, report: _Report | None = None) -> tuple[Rows, NDArray[np.bool_]]:
        """Grow all trees.

        Parameters
        ----------
        train
            Rows to grow them on.
        report
            Called with the trees so far after every tenth of them but the last.

        Returns
        -------
        Rows
            The rows as the trees see them.
        ndarray of shape (n_rows, n_trees)
            Which of them each tree was grown on.
        """
        group = galaxies_of(train.z_spec)
        train = self._add_regression(train, group)
        seeds = np.random.SeedSequence(self.random_state).spawn(self.n_trees)
        target = cosines_of_rank(train.z_spec, _SPLIT_COSINES)
        grown: list[tuple[Trees, NDArray[np.bool_]]] = []
        grow = partial(self._grow, train, group, target)
        if report is not None:
            for n_trees in sorted({self.n_trees * tenth // 10 for tenth in range(1, 10)} - {0}):
                grown += self._in_threads(grow, seeds[len(grown) : n_trees])
                report([trees for trees, _ in grown])
        grown += self._in_threads(grow, seeds[len(grown) :])
        self._keep(Trees.join([trees for trees, _ in grown]))
        return train, np.column_stack([of_tree for _, of_tree in grown])[group]

    def _doubt(self, train: Rows) -> Rows:
        """Weigh rows by how far trees of a first forest that have not seen them believe them."""
        scout = clone(self).set_params(n_trees=min(self.n_trees, _SCOUTS))
        scout.z_grid_, scout.tuned_ = self.z_grid_, {}
        planted, seen = scout._plant(train)
        kernel = gaussian_kernel(self.z_grid_, _SCOUT_BANDWIDTH)
        kernel /= kernel.sum(axis=1, keepdims=True) * np.float32(self.z_grid_[1])
        nearest = np.rint(train.z_spec / self.z_grid_[1]).astype(np.intp)
        density = np.empty(len(train))
        for begin in range(0, len(train), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            histogram = scout.trees_.histogram(planted.X[rows], scout.contents_, ~seen[rows])
            at_truth = np.einsum("ij,ij->i", histogram, kernel.T[nearest[rows]])
            density[rows] = at_truth / np.maximum(histogram.sum(axis=1), 1e-6)
        labels = Labels.of(train, self.z_grid_)
        return replace(train, weight=train.weight * trust(density, labels, train.weight))

    def _add_regression(self, train: Rows, group: NDArray[np.intp]) -> Rows:
        """The rows with the regression's cosines as further features."""
        self.regression_, predicted = CosineRegression.fit(
            train.X, cosines_of_rank(train.z_spec, self.n_cosines), train.weight, group
        )
        return replace(train, X=np.concatenate([train.X, predicted], axis=1))

    def _inputs(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the trees split on, shape ``(n_galaxies, n_features + n_cosines)``."""
        return np.concatenate([X, self.regression_.predict(X)], axis=1)

    def _grow(
        self,
        train: Rows,
        group: NDArray[np.intp],
        target: FloatArray,
        seed: np.random.SeedSequence,
    ) -> tuple[Trees, NDArray[np.bool_]]:
        """One tree, and which galaxies it has seen, each with all its copies."""
        generator = np.random.default_rng(seed)
        share = np.bincount(group, weights=train.weight)
        n_draws = max(1, round(len(share) * min(1, self.max_rows / len(train))))
        times = np.bincount(
            generator.choice(len(share), n_draws, p=share / share.sum()), minlength=len(share)
        )
        rows = np.flatnonzero(times[group])
        # Rows of one galaxy may differ in weight; the draw has taken account of their sum only.
        count = times[group[rows]]
        tree = DecisionTreeRegressor(
            min_samples_leaf=self.min_leaf,
            max_features=float(self.max_features),
            random_state=int(generator.integers(2**31)),
        )
        tree.fit(train.X[rows], target[rows], sample_weight=count)
        nearest = np.rint(train.z_spec[rows] / self.z_grid_[1]).astype(np.intp)
        return Trees.grow(tree.tree_, train.X[rows], nearest, count, len(self.z_grid_)), times > 0

    def _keep(self, trees: Trees) -> None:
        self.trees_ = trees
        self.contents_ = trees.contents(len(self.z_grid_))

    def _tuning_rows(self, validation: Rows) -> tuple[FloatArray, Labels]:
        """Histograms and redshifts of validation rows, evenly spread over all of them."""
        n_rows = min(len(validation), _TUNING_ROWS)
        rows = validation[np.linspace(0, len(validation) - 1, n_rows).astype(np.intp)]
        histogram = self.trees_.histogram(self._inputs(rows.X), self.contents_)
        return histogram, Labels.of(rows, self.z_grid_)

    def _unseen_rows(self, train: Rows, seen: NDArray[np.bool_]) -> tuple[FloatArray, Labels]:
        """Histograms of training rows from the trees that have not seen their galaxy."""
        rows = np.random.default_rng(self.random_state).permutation(len(train))[:_TUNING_ROWS]
        unseen = ~seen[rows]
        # Two galaxies and three trees may leave nobody unseen.
        use = unseen if unseen.any() else None
        histogram = self.trees_.histogram(train.X[rows], self.contents_, use)
        return histogram, Labels.of(train[rows], self.z_grid_)

    def _choose(
        self, histogram: FloatArray, labels: Labels, near: float | None = None
    ) -> tuple[float, float, float]:
        given = self.bandwidth, self.temperature
        return choose_smoothing(histogram, labels, self.z_grid_, *given, near=near)

    def _tune(self, histogram: FloatArray, labels: Labels) -> float:
        """Choose the kernel and the temperature where they are not given; return the loss."""
        self.bandwidth_, self.temperature_, loss = self._choose(histogram, labels)
        if self.bandwidth is None:
            self.tuned_["bandwidth"] = self.bandwidth_
        if self.temperature is None:
            self.tuned_["temperature"] = self.temperature_
        return loss

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        kernel = gaussian_kernel(self.z_grid_, self.bandwidth_)

        def block(begin: int) -> FloatArray:
            smooth = self.trees_.histogram(self._inputs(X[begin : begin + _BLOCK]), self.contents_)
            density: FloatArray = np.exp(
                np.float32(self.temperature_) * finite_log(smooth @ kernel)
            )
            return density

        return np.concatenate(self._in_threads(block, range(0, len(X), _BLOCK)))

    def _in_threads(
        self, task: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> list[_Result]:
        """Results of a task in the order of its items."""
        with ThreadPoolExecutor(self.n_threads or processors()) as pool:
            return list(pool.map(task, items))

    def _save(self, directory: Path) -> None:
        arrays = {
            field.name: getattr(part, field.name)
            for part in (self.trees_, self.regression_)
            for field in fields(part)
        }
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
            self._keep(Trees(**{field.name: saved[field.name] for field in fields(Trees)}))
            self.regression_ = CosineRegression(
                **{field.name: saved[field.name] for field in fields(CosineRegression)}
            )
