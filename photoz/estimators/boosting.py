"""BoostingPhotoz: p(z) as a Gaussian mixture whose parameters are boosted trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from photoz.estimators.base import Choice, OnStep, PhotozEstimator, Range, Rows
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["BoostingPhotoz"]

_REPORT_EVERY = 5


class BoostingPhotoz(PhotozEstimator):
    """Photo-z from gradient boosting (LightGBM) of the parameters of a Gaussian mixture."""

    def __init__(
        self,
        *,
        n_components: int = 4,
        n_rounds: int = 300,
        learning_rate: float = 0.1,
        n_leaves: int = 15,
        min_leaf: int = 20,
        l2: float = 1.0,
        width_scale: float = 1.0,
        patience: int = 20,
        z_max: float | None = None,
        n_z: int = 301,
        n_threads: int | None = None,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.n_leaves = n_leaves
        self.min_leaf = min_leaf
        self.l2 = l2
        self.width_scale = width_scale
        self.patience = patience
        self.z_max = z_max
        self.n_z = n_z
        self.n_threads = n_threads
        self.random_state = random_state

    @classmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""
        return {
            "n_components": Range(3, 6),
            "learning_rate": Range(0.05, 0.2, log=True),
            "n_leaves": Range(8, 32, log=True),
            "min_leaf": Range(10, 100, log=True),
        }

    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        self.start_ = _starting_point(train, self.n_components)
        narrowest = 2 * self.z_grid_[1]
        data = lgb.Dataset(
            train.X,
            np.zeros(len(train)),
            init_score=np.tile(self.start_[:, np.newaxis], len(train)).ravel(),
            free_raw_data=False,
        )
        loss = _MixtureLoss(train, narrowest)
        held_out = None if validation is None else _MixtureLoss(validation, narrowest)
        booster = lgb.Booster(self._lightgbm_parameters(), data)
        best, self.best_round_ = np.inf, self.n_rounds
        scores = None if validation is None else np.tile(self.start_[:, np.newaxis], len(validation))
        for step in range(1, self.n_rounds + 1):
            if booster.update(fobj=loss):
                break
            if held_out is None or validation is None:
                continue
            scores += booster.predict(
                validation.X, raw_score=True, start_iteration=step - 1, num_iteration=1
            ).T
            value = held_out.value(scores)
            if on_step is not None and step % _REPORT_EVERY == 0:
                on_step(step, value)
            if value < best:
                best, self.best_round_ = value, step
            if step - self.best_round_ >= self.patience:
                break
        if validation is not None:
            self.tuned_ = {"n_rounds": self.best_round_}
        self.booster_ = lgb.Booster(
            model_str=booster.model_to_string(num_iteration=self.best_round_)
        )

    def _lightgbm_parameters(self) -> dict[str, Any]:
        return {
            "num_class": 3 * self.n_components,
            "objective": "none",
            "learning_rate": self.learning_rate,
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.min_leaf,
            "min_sum_hessian_in_leaf": 1e-3,
            "lambda_l2": self.l2,
            "min_data_in_bin": 1,
            "feature_pre_filter": False,
            "boost_from_average": False,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.n_threads or 0,
            "seed": self.random_state or 0,
            "verbosity": -1,
        }

    def predict_mixture(
        self, X: NDArray[np.float32]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights, means and widths of the mixtures, each ``(n_galaxies, n_components)``."""
        raw = self.booster_.predict(X, raw_score=True, num_threads=self.n_threads or 0)
        scores = raw.T + self.start_[:, np.newaxis]
        logits, means, widths = scores.reshape(3, self.n_components, -1)
        logits = logits - logits.max(axis=0)
        weights = np.exp(logits)
        weights /= weights.sum(axis=0)
        sigmas = self.width_scale * np.hypot(np.exp(widths), 2 * self.z_grid_[1])
        return weights.T, means.T, sigmas.T

    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        return RedshiftPDF.from_mixture(self.z_grid_, *self.predict_mixture(X)).density

    def _save(self, directory: Path) -> None:
        self.booster_.save_model(directory / "booster.txt")
        (directory / "start.json").write_text(json.dumps(self.start_.tolist()), encoding="utf-8")

    def _load(self, directory: Path) -> None:
        self.booster_ = lgb.Booster(model_file=directory / "booster.txt")
        text = (directory / "start.json").read_text(encoding="utf-8")
        self.start_ = np.array(json.loads(text))


def _starting_point(train: Rows, n_components: int) -> FloatArray:
    """Logits, means and log widths of equal components between quantiles of z."""
    edges = np.quantile(train.z_spec, np.linspace(0, 1, n_components + 1))
    means = (edges[1:] + edges[:-1]) / 2
    width = max(float(train.z_spec.std()) / n_components, 1e-3)
    return np.concatenate(
        [np.zeros(n_components), means, np.full(n_components, np.log(width))]
    )


class _MixtureLoss:
    """Negative log likelihood of a mixture, with its gradient and a positive curvature."""

    def __init__(self, rows: Rows, narrowest: float) -> None:
        self.z_spec = rows.z_spec
        self.weight = rows.weight
        self.narrowest = narrowest

    def value(self, scores: FloatArray) -> float:
        """Mean loss of scores of shape ``(3 n_components, n_galaxies)``."""
        logits, means, widths = scores.reshape(3, -1, scores.shape[1])
        sigma = np.hypot(np.exp(widths), self.narrowest)
        u = (self.z_spec - means) / sigma
        top = np.logaddexp.reduce(logits - np.log(sigma) - 0.5 * u**2, axis=0)
        log_p = top - np.logaddexp.reduce(logits, axis=0) - 0.5 * np.log(2 * np.pi)
        return float(-np.average(np.maximum(log_p, np.log(1e-4)), weights=self.weight))

    def __call__(self, raw: FloatArray, _: lgb.Dataset) -> tuple[FloatArray, FloatArray]:
        """Gradient and curvature, each of shape ``(n_galaxies, 3 n_components)``."""
        scores = raw.T
        logits, means, widths = scores.reshape(3, -1, scores.shape[1])
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        variance = np.exp(2 * widths) + self.narrowest**2
        sigma = np.sqrt(variance)
        offset = self.z_spec - means
        u2 = offset**2 / variance
        part = np.log(share + 1e-30) - np.log(sigma) - 0.5 * u2
        part -= part.max(axis=0)
        r = np.exp(part)
        r /= r.sum(axis=0)
        ratio = np.exp(2 * widths) / variance
        gradient = np.stack([share - r, -r * offset / variance, r * (1 - u2) * ratio])
        curvature = np.stack(
            [share * (1 - share) + 0.01, (r + 0.01) / variance, 2 * (r + 0.01) * ratio**2 + 0.01]
        )
        gradient *= self.weight
        curvature *= self.weight
        shape = scores.shape
        return gradient.reshape(shape).T, curvature.reshape(shape).T
