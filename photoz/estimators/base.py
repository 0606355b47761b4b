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
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from photoz.errors import InputError
from photoz.estimators.limits import Limits, OneOf
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.resolution import n_points

__all__ = ["Choice", "OnStep", "PhotozEstimator", "Point", "Range", "Rows", "Validation"]

OnStep = Callable[[int, float], None]
"""Called with the step of a fit and the validation loss so far; may raise to end the fit."""

Validation = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike | None]
"""Features, redshifts and, if known, reliabilities of galaxies that are not fitted."""

Point = Literal["median", "mode", "mean"]


_GRID_LIMITS = {
    "z_max": Limits(0, above=True, none="to follow from the training redshifts"),
    # The forest keeps the redshifts of its leaves as two bytes each.
    "n_z": Limits(3, 2**16, whole=True, none="for steps of 0.004 or finer"),
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
    """

    low: float
    high: float
    log: bool = False

    @property
    def integer(self) -> bool:
        """Whether only integers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """Values that a search may try, in no order."""

    options: tuple[bool | int | float | str, ...]


@dataclass(frozen=True)
class Rows:
    """Checked rows of a training or validation set.

    Parameters
    ----------
    X
        Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``, on the grid.
    weight
        Sample weights of shape ``(n_galaxies,)``, of mean one.
    reliability
        Probability that each redshift is right, shape ``(n_galaxies,)``; None if all are.
    """

    X: NDArray[np.float32]
    z_spec: NDArray[np.float64]
    weight: NDArray[np.float64]
    reliability: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
        reliability = None if self.reliability is None else self.reliability[rows]
        return Rows(self.X[rows], self.z_spec[rows], self.weight[rows], reliability)


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
    def check_parameter(cls, name: str, value: object) -> None:
        """Tell whether a parameter may have a value, before anything is fitted.

        Raises
        ------
        InputError
            If it may not.
        """
        limits = {**_GRID_LIMITS, **cls.limits}
        if name in limits:
            limits[name].check(name, value)

    @classmethod
    def trial_parameters(cls) -> dict[str, Any]:
        """Parameters that make the fits of a search cheaper and leave its order intact."""
        return {}

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
            Called with the step and the validation loss; may raise to end the fit.
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
        """
        for name, value in self.get_params(deep=False).items():
            self.check_parameter(name, value)
        features, target = validate_data(
            self,
            X,
            y,
            dtype=np.float32,
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
            y_numeric=True,
        )
        z_spec = np.asarray(target, dtype=np.float64)
        self.z_grid_ = _make_grid(z_spec, self.z_max, self.n_z)
        self.tuned_ = {}
        _check_on_grid(z_spec, self.z_grid_[-1])
        weight = _check_weight(sample_weight, len(z_spec))
        train = Rows(features, z_spec, weight, _check_reliability(reliability, len(z_spec)))
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
        check_is_fitted(self)
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
        check_is_fitted(self)
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            "parameters": self.get_params(deep=False),
            "tuned": self.tuned_,
            "z_max": float(self.z_grid_[-1]),
            "n_z": len(self.z_grid_),
            "n_features": self.n_features_in_,
        }
        (directory / "estimator.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
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
        z_spec = np.asarray(validation[1], dtype=np.float64)
        if len(X) != len(z_spec) or len(X) == 0:
            msg = (
                f"validation must hold as many features as redshifts, got {len(X)}, {len(z_spec)}."
            )
            raise ValueError(msg)
        # A truth beyond the grid is scored as a miss elsewhere; here it would only be noise.
        inside = (z_spec >= 0) & (z_spec <= self.z_grid_[-1])
        given = validation[2] if len(validation) > 2 else None
        reliability = _check_reliability(given, len(X))
        return Rows(X, z_spec, np.ones(len(X)), reliability)[inside]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = True
        return tags


def _make_grid(z_spec: FloatArray, z_max: float | None, n_z: int | None) -> NDArray[np.float64]:
    """Grid from 0 to `z_max`, or to 5 per cent in 1 + z beyond the largest redshift."""
    if z_max is None:
        z_max = 1.05 * (1 + float(np.nanmax(z_spec))) - 1
    return np.linspace(0, z_max, n_points(z_max) if n_z is None else n_z)


def _check_on_grid(z_spec: FloatArray, z_max: float) -> None:
    if (z_spec < 0).any():
        msg = f"Negative values in data: y must hold redshifts from 0, found {z_spec.min():.6g}."
        raise InputError(msg)
    if (z_spec > z_max).any():
        msg = (
            f"y must hold redshifts up to z_max = {z_max:.6g}, found {z_spec.max():.6g}; "
            "raise z_max or leave those galaxies out."
        )
        raise InputError(msg)


def _check_weight(sample_weight: ArrayLike | None, n_galaxies: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n_galaxies)
    weight: NDArray[np.float64] = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weight.shape != (n_galaxies,) or (weight < 0).any() or not weight.sum() > 0:
        msg = (
            f"sample_weight must have shape ({n_galaxies},), no negative value and not all zero, "
            f"got shape {weight.shape} and sum {weight.sum():.6g}."
        )
        raise InputError(msg)
    normalised: NDArray[np.float64] = weight / weight.mean()
    return normalised


def _check_reliability(
    reliability: ArrayLike | None, n_galaxies: int
) -> NDArray[np.float64] | None:
    if reliability is None:
        return None
    value = np.asarray(reliability, dtype=np.float64)
    if value.shape != (n_galaxies,) or not ((value >= 0) & (value <= 1)).all():
        msg = f"reliability must hold {n_galaxies} probabilities between 0 and 1."
        raise InputError(msg)
    return value
