"""BoostingPhotoz: p(z) as a Gaussian mixture whose parameters are boosted together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.estimators.labels import n_of_z_at
from photoz.estimators.limits import Limits
from photoz.estimators.linear_leaves import Scaling, add_steps, newton_steps
from photoz.estimators.mixture_likelihood import (
    MixtureLikelihood,
    mixture_of,
    starting_scores,
)
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["BoostingPhotoz"]

_REPORT_EVERY = 5
_FEWEST_ROUNDS, _MOST_ROUNDS = 25, 300
_CHUNK = 16384


class BoostingPhotoz(PhotozEstimator):
    """Photo-z from boosted trees whose leaves move every parameter of a Gaussian mixture.

    A round draws a random combination of the gradients of all parameters (weights, means
    and widths), lets LightGBM grow one tree on it, and gives each leaf one regularised
    Newton step: linear in the features, for all parameters at once. Random combinations
    split where the sum of all gains is large (Iosipoi & Vakhrushev 2022), and linear leaves
    follow a redshift that is smooth in the colours (Shi et al. 2019).

    Parameters
    ----------
    n_components
        Gaussian components of a mixture.
    n_rounds
        Trees of a member; with validation rows the most there may be. None takes 300 with
        validation rows, and half the square root of the number of training rows, but at least
        25, without: nothing would stop so many before they learn the noise.
    learning_rate
        Share of each Newton step that is taken.
    n_leaves
        Leaves of a tree.
    min_leaf
        Least sum of sample weights in a leaf, among the rows of a round.
    ridge
        Strength of the penalty on slopes within a leaf, in galaxies.
    row_fraction
        Share of the rows that a round draws.
    max_rows
        Most rows that are fitted, a random part of more; it bounds time on large training
        sets, from which so few leaves learn nothing further.
    patience
        Rounds without a lower validation loss after which a fit ends.
    members
        Fits, each with draws of its own, whose scores are averaged: sharper for as many times
        the time of fits, those of a search included, and as many times the trees.
    z_max, n_z
        Upper end and number of points of the redshift grid, which starts at 0; the end
        follows from the training redshifts if it is None, the number from the end, in steps
        of 0.004 or finer.
    n_threads
        Threads of LightGBM; all cores if None. They do not change the result.
    random_state
        Seed of the combinations and of the rows of each round.

    References
    ----------
    Iosipoi & Vakhrushev (2022), https://arxiv.org/abs/2211.12858;
    Shi et al. (2019), https://arxiv.org/abs/1802.05640
    """

    limits: ClassVar = {
        "n_components": Limits(1, whole=True),
        "n_rounds": Limits(1, whole=True, none="to follow the rows"),
        "learning_rate": Limits(0, above=True),
        "n_leaves": Limits(2, whole=True),
        "min_leaf": Limits(0),
        "ridge": Limits(0),
        "row_fraction": Limits(0, 1, above=True),
        "max_rows": Limits(1, whole=True),
        "patience": Limits(1, whole=True),
        "members": Limits(1, whole=True),
        "n_threads": Limits(1, whole=True, none="for all cores"),
    }

    def __init__(
        self,
        *,
        n_components: int = 4,
        n_rounds: int | None = None,
        learning_rate: float = 0.15,
        n_leaves: int = 6,
        min_leaf: float = 20,
        ridge: float = 10.0,
        row_fraction: float = 0.5,
        max_rows: int = 300_000,
        patience: int = 20,
        members: int = 1,
        z_max: float | None = None,
        n_z: int | None = None,
        n_threads: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.n_leaves = n_leaves
        self.min_leaf = min_leaf
        self.ridge = ridge
        self.row_fraction = row_fraction
        self.max_rows = max_rows
        self.patience = patience
        self.members = members
        self.z_max = z_max
        self.n_z = n_z
        self.n_threads = n_threads
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""
        return {
            "n_components": Range(2, 6),
            "learning_rate": Range(0.1, 0.25, log=True),
            "n_leaves": Range(2, 16, log=True),
            "min_leaf": Range(10, 200, log=True),
            "ridge": Range(1.0, 300.0, log=True),
        }

    @property
    def n_steps(self) -> int | None:
        """Number of rounds."""
        return self.n_rounds

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Parameters that make the fits of a search cheaper and leave its order intact."""
        return {"patience": 10}

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        generator = np.random.default_rng(self.random_state)
        if len(train) > self.max_rows:
            train = train[np.sort(generator.permutation(len(train))[: self.max_rows])]
        self.scaling_ = Scaling.learn(train.X)
        self.start_ = starting_scores(train, self.n_components, self._narrowest)
        likelihood = self._likelihood(train)
        features, start = self._start(train.X)
        scores = [start.copy() for _ in range(self.members)]
        held_out = None if validation is None else self._start(validation.X)
        booster = self._booster(train) if _varies(train.X) else None
        rounds: list[tuple[int, FloatArray]] = []
        losses: list[float] = []
        n_rounds = self.n_rounds or _default_rounds(len(train), stops=held_out is not None)
        for step in range(1, n_rounds + 1):
            for own in scores:
                tree, leaf, steps = self._grow_round(
                    booster, likelihood, features, own, train, generator
                )
                add_steps(own, features, leaf, steps)
                # The mean of the members' scores is the sum of all their steps, so divided.
                rounds.append((tree, steps / np.float32(self.members)))
                if validation is not None and held_out is not None:
                    leaf = self._leaves(booster, validation.X, tree)
                    add_steps(held_out[1], held_out[0], leaf, rounds[-1][1])
            if validation is not None and held_out is not None:
                losses.append(self._likelihood(validation).loss(held_out[1].T))
            if on_step is not None and step % _REPORT_EVERY == 0:
                # It would end at its best round.
                on_step(step, float(np.min(losses)) if losses else math.nan)
            if losses and step - 1 - int(np.argmin(losses)) >= self.patience:
                break
        if losses:
            best = int(np.argmin(losses)) + 1
            rounds = rounds[: best * self.members]
            self.tuned_ = {"n_rounds": best}
        self._keep(booster, rounds)

    def _grow_round(
        self,
        booster: lgb.Booster | None,
        likelihood: MixtureLikelihood,
        features: FloatArray,
        scores: FloatArray,
        train: Rows,
        generator: np.random.Generator,
    ) -> tuple[int, NDArray[np.int16], NDArray[np.float32]]:
        """Tree, leaf of each training row in it, and what its leaves add to the scores."""
        rows = np.flatnonzero(generator.random(len(train)) < self.row_fraction)
        if not len(rows):  # by bad luck among very few
            rows = np.arange(len(train))
        weight = train.weight[rows].astype(np.float32)
        gradient, curvature = likelihood[rows].derivatives(np.ascontiguousarray(scores[rows].T))
        gradient *= weight
        curvature *= weight
        mixed = generator.standard_normal(len(gradient)) @ _standardised(gradient, curvature)
        tree = _grow(booster, rows, mixed, train.weight)
        leaf = self._leaves(booster, train.X, tree)
        steps = newton_steps(
            features[rows], gradient, curvature, leaf[rows],
            n_leaves=self.n_leaves, ridge=self.ridge,
        )  # fmt: skip
        return tree, leaf, (self.learning_rate * steps).astype(np.float32)

    @property
    def _narrowest(self) -> float:
        """Two steps of the grid, which can show nothing narrower."""
        return 2 * float(self.z_grid_[1])

    def _likelihood(self, rows: Rows) -> MixtureLikelihood:
        doubted = rows.reliability is not None
        return MixtureLikelihood(
            rows.z_spec,
            self._narrowest,
            float(self.z_grid_[-1]),
            rows.reliability,
            n_of_z_at(rows, self.z_grid_) if doubted else None,
        )

    def _booster(self, train: Rows) -> lgb.Booster:
        """A booster without trees. It grows their structure only; their leaves are ours."""
        params: dict[str, Any] = {
            "objective": "none",
            "num_leaves": self.n_leaves,
            # Rows that a round leaves out have no curvature: count by curvature, not by row.
            "min_data_in_leaf": 1,
            "min_data_in_bin": 1,
            "min_sum_hessian_in_leaf": self.min_leaf,
            "boost_from_average": False,
            "feature_pre_filter": False,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.n_threads or 0,
            "seed": 0,
            "verbosity": -1,
        }
        return lgb.Booster(params, lgb.Dataset(train.X, np.zeros(len(train)), params=params))

    def _leaves(
        self, booster: lgb.Booster | None, X: NDArray[np.float32], tree: int
    ) -> NDArray[np.int16]:
        """Leaf of each galaxy in one tree; tree -1 is a round that found no split."""
        if booster is None or tree < 0:
            return np.zeros(len(X), dtype=np.int16)
        found = booster.predict(
            X, pred_leaf=True, start_iteration=tree, num_iteration=1,
            num_threads=self.n_threads or 0,
        )  # fmt: skip
        return np.asarray(found).reshape(len(X)).astype(np.int16)

    def _start(self, X: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Terms and starting scores; float32 halves the time of a fit."""
        start = self.start_.astype(np.float32)
        return self.scaling_.terms(X).astype(np.float32), np.tile(start, (len(X), 1))

    def _keep(self, booster: lgb.Booster | None, rounds: list[tuple[int, FloatArray]]) -> None:
        self.trees_ = np.array([tree for tree, _ in rounds], dtype=np.int64)
        self.coefficients_ = np.stack([steps for _, steps in rounds])
        used = int(self.trees_.max()) + 1
        self.booster_ = None
        if booster is not None and used > 0:
            # Read back from its text, so that a loaded model is the same to the last bit.
            self.booster_ = lgb.Booster(model_str=booster.model_to_string(num_iteration=used))

    def predict_mixture(self, X: NDArray[np.float32]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights, means and standard deviations of the mixtures of galaxies.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.

        Returns
        -------
        ndarray, ndarray, ndarray
            Each of shape ``(n_galaxies, n_components)``, in redshift.
        """
        X = self._check_features(X)
        scores = np.tile(self.start_, (len(X), 1))
        for first in range(0, len(X), _CHUNK):
            self._boost(scores[first : first + _CHUNK], X[first : first + _CHUNK])
        return mixture_of(scores, self._narrowest, float(self.z_grid_[-1]))

    def _boost(self, scores: FloatArray, X: NDArray[np.float32]) -> None:
        """Add all rounds to the scores, in float64: the sum must not depend on the chunk."""
        terms = self.scaling_.terms(X)
        nowhere = np.zeros(len(X), dtype=np.int16)
        leaves = np.empty((len(X), 0), dtype=np.int16)
        if self.booster_ is not None:
            found = self.booster_.predict(X, pred_leaf=True, num_threads=self.n_threads or 0)
            leaves = np.asarray(found).reshape(len(X), -1).astype(np.int16)
        for tree, steps in zip(self.trees_, self.coefficients_.astype(np.float64), strict=True):
            add_steps(scores, terms, leaves[:, tree] if tree >= 0 else nowhere, steps)

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        return RedshiftPDF.from_mixture(self.z_grid_, *self.predict_mixture(X)).density

    def _save(self, directory: Path) -> None:
        if self.booster_ is not None:
            self.booster_.save_model(directory / "trees.txt")
        np.savez(
            directory / "leaves.npz",
            trees=self.trees_,
            coefficients=self.coefficients_,
            scaling=self.scaling_.table,
            start=self.start_,
        )

    def _load(self, directory: Path) -> None:
        trees = directory / "trees.txt"
        self.booster_ = lgb.Booster(model_file=trees) if trees.exists() else None
        with np.load(directory / "leaves.npz", allow_pickle=False) as learned:
            self.trees_ = learned["trees"]
            self.coefficients_ = learned["coefficients"]
            self.scaling_ = Scaling(learned["scaling"])
            self.start_ = learned["start"]


def _default_rounds(n_rows: int, *, stops: bool) -> int:
    if stops:
        return _MOST_ROUNDS
    return min(max(_FEWEST_ROUNDS, math.ceil(0.5 * math.sqrt(n_rows))), _MOST_ROUNDS)


def _standardised(gradient: FloatArray, curvature: FloatArray) -> FloatArray:
    """Gradients whose squares are gains, so that parameters of any unit can be added up."""
    standardised: FloatArray = gradient / np.sqrt(np.maximum(curvature, 1e-9))
    return standardised


def _varies(X: NDArray[np.float32]) -> bool:
    """Whether there is anything to split: LightGBM refuses features that are all constant."""
    missing = np.isnan(X)
    partly = missing.any(axis=0) & ~missing.all(axis=0)
    return bool((partly | (np.fmax.reduce(X) > np.fmin.reduce(X))).any())


def _grow(
    booster: lgb.Booster | None,
    rows: NDArray[np.intp],
    gradient: FloatArray,
    weight: FloatArray,
) -> int:
    """Grow one tree on some rows and return its number, or -1 if no split was found."""
    if booster is None:
        return -1
    target, count = np.zeros((2, len(weight)), dtype=np.float32)
    target[rows] = gradient * np.sqrt(weight[rows])
    count[rows] = weight[rows]
    before = booster.num_trees()
    booster.update(fobj=lambda *_: (target, count))
    return before if booster.num_trees() > before else -1
