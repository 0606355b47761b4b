"""PhotozEstimator: the interface of every estimator, from arrays to p(z)."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.estimators.limits import Limits, OneOf
from photoz.estimators.rows import FEWEST, Rows, check_on_grid
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.plain_json import plain_value
from photoz.resolution import n_points
from photoz.weights import check_reliability, check_weight

__all__ = ["Choice", "OnStep", "PhotozEstimator", "Point", "Range", "Rows", "Validation"]

OnStep = Callable[[int, float], None]
"""Called with the step of a fit and the validation loss so far; may raise to end the fit."""

Validation = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike | None]
"""Features, redshifts and, if known, reliabilities of galaxies that are not fitted."""

Point = Literal["median", "mode", "mean"]


_COMMON_LIMITS = {
    "z_max": Limits(0, above=True, none="to follow from the training redshifts"),
    # The forest keeps the redshifts of its leaves as two bytes each.
    "n_z": Limits(3, 2**16, whole=True, none="for steps of 0.004 or finer"),
    "random_state": Limits(0, 2**32 - 1, whole=True, none="for another one each time"),
}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, that a search may try.

    Parameters
    ----------
    low, high
        Ends of the range; two integers make a range of integers.
    log
        Whether to search on a logarithmic scale.
    beyond
        How far the best may be doubled after the search; None for not at all.
    """

    low: float
    high: float
    log: bool = False
    beyond: float | None = None

    @property
    def integer(self) -> bool:
        """Whether only integers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """Values that a search may try, in no order."""

    options: tuple[bool | int | float | str, ...]


class PhotozEstimator(RegressorMixin, BaseEstimator, ABC):
    """Base of all estimators: checks the input, keeps the grid, turns densities into p(z).

    A subclass has the parameters ``z_max``, ``n_z`` and ``random_state``, writes `_fit`
    and `_predict_density`, `_save` and `_load` of what it learned, `search_space`, and the
    `limits` of its own parameters.

    Attributes
    ----------
    z_grid_
        Redshift grid of shape ``(n_z,)``, from 0 to `z_max`.
    tuned_
        Parameters that the fit chose on the validation rows (the stopping point, a
        smoothing width). Given to the constructor, they repeat the choice without
        validation rows.
    """

    limits: ClassVar[Mapping[str, Limits | OneOf]] = {}

    z_max: float | None
    n_z: int | None
    random_state: int | None
    z_grid_: NDArray[np.float64]
    n_features_in_: int
    tuned_: dict[str, Any]

    @abstractmethod
    def _fit(self, train: Rows, validation: Rows | None, on_step: OnStep | None) -> None:
        """Learn from checked rows; the grid is set already."""

    @abstractmethod
    def _predict_density(self, X: NDArray[np.float32]) -> FloatArray:
        """Relative densities on the grid, shape ``(n_galaxies, n_z)``, for checked features."""

    @abstractmethod
    def _save(self, directory: Path) -> None:
        """Write what `_fit` learned."""

    @abstractmethod
    def _load(self, directory: Path) -> None:
        """Read what `_save` wrote."""

    @classmethod
    @abstractmethod
    def search_space(cls) -> dict[str, Range | Choice]:
        """Ranges that are searched where an experiment does not say otherwise."""

    @classmethod
    def load_libraries(cls) -> None:
        """Import what a fit needs beyond a prediction, which may be missing.

        Raises
        ------
        ModuleNotFoundError
            If it is.
        """

    @classmethod
    def check_parameter(cls, name: str, value: object) -> None:
        """Tell whether a parameter may have a value, before anything is fitted.

        Raises
        ------
        InputError
            If it may not.
        """
        limits = {**_COMMON_LIMITS, **cls.limits}
        if name in limits:
            limits[name].check(name, value)

    def check_parameters(self) -> None:
        """Raise `InputError` if a parameter is out of its limits."""
        for name, value in self.get_params(deep=False).items():
            self.check_parameter(name, value)

    def check_fitted(self) -> None:
        """Raise scikit-learn's `NotFittedError` unless `fit` or `load` came before."""
        check_is_fitted(self)

    @property
    def n_steps(self) -> int | None:
        """Steps of a fit that does not stop early; None where they are not known before it."""
        return None

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Parameters that make the fits of a search cheaper and leave its order intact."""
        return {}

    @classmethod
    def n_finalists(cls) -> int:
        """How many of the best trials are compared once more, all for a blend; 0 for none."""
        return 0

    @classmethod
    def fold_parameters(cls) -> dict[str, Any]:
        """Parameters that make out-of-fold fits cheaper and leave their calibration valid."""
        return {}

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation: Validation | None = None,
        on_step: OnStep | None = None,
        reliability: ArrayLike | None = None,
    ) -> Self:
        """Learn p(z) from galaxies of known redshift.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
        y
            Spectroscopic redshifts of shape ``(n_galaxies,)``.
        sample_weight
            Weights of shape ``(n_galaxies,)``; equal if left out.
        validation
            Features and redshifts of other galaxies, to stop early, and, if a third array is
            there, the probability that each of these redshifts is right; without it nothing
            stops early.
        on_step
            Called now and then with the step, up to `n_steps`, and the validation loss, NaN
            without validation rows; may raise to end the fit.
        reliability
            Probability that each redshift is right, shape ``(n_galaxies,)``.

        Returns
        -------
        self

        Raises
        ------
        InputError
            If a parameter is out of its limits, the shapes disagree, a redshift is NaN,
            negative or above `z_max`, or a weight or a reliability is out of its range.
        ModuleNotFoundError
            If a library that only fits need is missing.
        """
        self.load_libraries()
        self.check_parameters()
        features, target = validate_data(
            self,
            X,
            unmasked(y),
            dtype=np.float32,
            ensure_all_finite="allow-nan",
            ensure_min_samples=FEWEST,
            y_numeric=True,
        )
        z_spec = np.asarray(target, dtype=np.float64)
        weight = check_weight(sample_weight, len(z_spec))
        right = _checked_reliability(reliability, len(z_spec))
        train = Rows(features, z_spec, weight, right).with_weight()
        self.z_grid_ = _make_grid(train.z_spec, self.z_max, self.n_z)
        self.tuned_ = {}
        check_on_grid(train.z_spec, self.z_grid_[-1])
        self._fit(train, self._check_validation(validation), on_step)
        return self

    def predict_pdf(self, X: ArrayLike) -> RedshiftPDF:
        """Redshift densities of galaxies.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.

        Returns
        -------
        RedshiftPDF
        """
        self.check_fitted()
        X = self._check_features(X)
        if len(X) == 0:
            return RedshiftPDF(self.z_grid_, np.empty((0, len(self.z_grid_)), dtype=np.float32))
        return RedshiftPDF.from_weights(self.z_grid_, self._predict_density(X))

    def predict(self, X: ArrayLike, point: Point = "median") -> FloatArray:
        """Point redshifts of galaxies, shape ``(n_galaxies,)``.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
        point
            Which point of p(z): its median, mode or mean.
        """
        points = ("median", "mode", "mean")
        if point not in points:
            msg = f"point must be one of {', '.join(points)}, got {point!r}."
            raise ValueError(msg)
        z_phot: FloatArray = getattr(self.predict_pdf(X), point)()
        return z_phot

    def save(self, directory: Path) -> None:
        """Write the fitted estimator to a directory, in formats that hold no code."""
        self.check_fitted()
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            "parameters": self.get_params(deep=False),
            "tuned": self.tuned_,
            "z_max": float(self.z_grid_[-1]),
            "n_z": len(self.z_grid_),
            "n_features": self.n_features_in_,
        }
        text = json.dumps(state, indent=1, default=plain_value)
        (directory / "estimator.json").write_text(text, encoding="utf-8")
        self._save(directory)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read an estimator that `save` wrote."""
        state = json.loads((directory / "estimator.json").read_text(encoding="utf-8"))
        estimator = cls(**state["parameters"])
        estimator.tuned_ = state["tuned"]
        n_z = state.get("n_z", estimator.n_z)  # earlier bundles have it as a parameter only
        estimator.z_grid_ = np.linspace(0, state["z_max"], n_z)
        estimator.n_features_in_ = state["n_features"]
        estimator._load(directory)
        return estimator

    def _check_features(self, X: ArrayLike) -> NDArray[np.float32]:
        checked: NDArray[np.float32] = validate_data(
            self, X, reset=False, dtype=np.float32, ensure_all_finite="allow-nan",
            ensure_min_samples=0,
        )  # fmt: skip
        return checked

    def _check_validation(self, validation: Validation | None) -> Rows | None:
        if validation is None:
            return None
        X = self._check_features(validation[0])
        z_spec = np.asarray(unmasked(validation[1]), dtype=np.float64)
        if len(X) != len(z_spec) or len(X) == 0:
            msg = (
                f"validation must hold as many features as redshifts, got {len(X)}, {len(z_spec)}."
            )
            raise ValueError(msg)
        # A truth beyond the grid is scored as a miss elsewhere; here it would only be noise.
        inside = (z_spec >= 0) & (z_spec <= self.z_grid_[-1])
        if not inside.any():
            msg = (
                f"validation must hold redshifts from 0 to z_max = {self.z_grid_[-1]:.6g}, found "
                "none; raise z_max, or leave validation out."
            )
            raise InputError(msg)
        given = validation[2] if len(validation) > 2 else None
        reliability = _checked_reliability(given, len(X))
        return Rows(X, z_spec, np.ones(len(X)), reliability)[inside]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = True
        return tags


def _checked_reliability(given: ArrayLike | None, n_galaxies: int) -> NDArray[np.float64] | None:
    return None if given is None else check_reliability(given, n_galaxies)


def _make_grid(z_spec: FloatArray, z_max: float | None, n_z: int | None) -> NDArray[np.float64]:
    """Grid from 0 to `z_max`, or to 5 per cent in 1 + z beyond the largest redshift."""
    if z_max is None:
        z_max = 1.05 * (1 + float(np.nanmax(z_spec))) - 1
    return np.linspace(0, z_max, n_points(z_max) if n_z is None else n_z)
