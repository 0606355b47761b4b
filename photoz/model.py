"""PhotozModel: survey contract, features, estimator and calibration as one thing to fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.augment import Augmentation
from photoz.calibration import Calibration
from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.features import PhotometricFeatures
from photoz.identity import Labels, fingerprints
from photoz.occupancy import Occupancy
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.photometry import Photometry, State
from photoz.survey import Survey
from photoz.weights import check_reliability, check_weight, which_count

if TYPE_CHECKING:  # imported with the estimator itself
    from photoz.estimators.base import OnStep, PhotozEstimator

__all__ = ["FittedModel", "PhotozModel"]


class FittedModel(Protocol):
    """What predicts p(z) from photometry: a `PhotozModel` or a blend of several."""

    provenance: dict[str, Any]

    @property
    def survey(self) -> Survey:
        """Survey whose photometry the model expects."""

    @property
    def z_grid(self) -> FloatArray:
        """Redshift grid of the predictions, shape ``(n_z,)``."""

    @property
    def optional_bands(self) -> tuple[str, ...]:
        """Bands that may be missing at prediction."""

    def predict_pdf(self, photometry: Photometry, *, calibrated: bool = True) -> RedshiftPDF:
        """Redshift densities of galaxies."""

    def outside_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy lies outside the training range in any band, or in its colours."""


class PhotozModel:
    """A photo-z model from catalogue photometry to calibrated p(z).

    Parameters
    ----------
    survey
        The columns, units and sentinels that the model expects.
    features
        Settings of the feature matrix; a fit learns each band's depth.
    augment
        The noisy copies that the estimator is trained with. Listed noise needs an
        estimator that sees the errors: without error features `depth_scale` counts as 0.
    estimator
        Estimator of p(z) from the feature matrix.
    calibration
        What makes p(z) honest, learned on galaxies that the fit has not seen.

    Attributes
    ----------
    optional_bands
        Bands that training saw unobserved or dropped out.
    training_range
        Lowest and highest luptitude (AB mag) of each band among the training galaxies.
    occupancy
        Where in the joint space of colours and magnitude the training galaxies lie; None in
        models with a single band, and in bundles of photoz before it was learned.
    seen
        Sorted `fingerprints` of the training galaxies, and of those by which conformal coverage
        was learned, or None where they are not known.
    provenance
        Where the model comes from: hashes of data and split, seed, date, versions, metrics.

    Examples
    --------
    >>> import photoz
    >>> mock = photoz.make_mock_catalogue(600, random_state=0)
    >>> model = photoz.PhotozModel(
    ...     photoz.load_survey("lsst"),
    ...     photoz.PhotometricFeatures(errors=True),
    ...     photoz.Augmentation(noise_copies=1),
    ...     photoz.ForestPhotoz(n_trees=10, z_max=3, random_state=0),
    ... )
    >>> model.fit(mock.photometry[:500], mock.z_spec[:500]).predict_pdf(mock.photometry[500:])
    RedshiftPDF(100 galaxies, 751 redshifts from 0 to 3)
    """

    def __init__(
        self,
        survey: Survey,
        features: PhotometricFeatures,
        augment: Augmentation,
        estimator: PhotozEstimator,
        calibration: Calibration | None = None,
    ) -> None:
        self.survey = survey
        self.features = features
        self.augment = augment
        self.estimator = estimator
        self.calibration = calibration
        self.optional_bands: tuple[str, ...] = ()
        self.training_range: dict[str, tuple[float, float]] = {}
        self.occupancy: Occupancy | None = None
        self.seen: Labels | None = None
        self.provenance: dict[str, Any] = {}

    def fit(
        self,
        photometry: Photometry,
        z_spec: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation: tuple[Photometry, ArrayLike]
        | tuple[Photometry, ArrayLike, ArrayLike | None]
        | None = None,
        on_step: OnStep | None = None,
        reliability: ArrayLike | None = None,
    ) -> Self:
        """Learn from galaxies of known redshift.

        Parameters
        ----------
        photometry
            Photometry of the training galaxies, in the survey's bands.
        z_spec
            Their spectroscopic redshifts, shape ``(n_galaxies,)``.
        sample_weight
            Their weights, shape ``(n_galaxies,)``; equal if left out.
        validation
            Photometry and redshifts of other galaxies, to stop early, and, if a third array
            is there, how reliable each redshift is; no copies are made of them.
        on_step
            Called now and then with the step and the validation loss, NaN without validation;
            may raise to end the fit.
        reliability
            Probability that each redshift is right, one for all or of shape
            ``(n_galaxies,)``.

        Raises
        ------
        InputError
            If something else than photometry of the survey's bands is given, if there is not one
            redshift, weight and reliability for each galaxy, if no galaxy counts, or as
            `PhotozEstimator.fit` says.
        """
        _check_photometry(photometry)
        photometry.check_columns(self.survey.bands, self.survey.extra)
        # Before the copies are made, which are not what the user has given.
        self.estimator.check_parameters()
        n_galaxies = len(photometry)
        redshift = _one_each(z_spec, n_galaxies, "z_spec")
        weight = _checked_weight(sample_weight, n_galaxies)
        right = None if reliability is None else check_reliability(reliability, n_galaxies)
        counts = which_count(n_galaxies, weight, right)
        if not counts.any():
            msg = (
                "expected galaxies of weight and reliability above 0 to fit, found none among "
                f"{n_galaxies}; bring galaxies that count."
            )
            raise InputError(msg)
        if not counts.all():  # others must not shape the inputs either
            photometry, redshift = photometry[counts], redshift[counts]
            weight = None if weight is None else weight[counts]
            right = None if right is None else right[counts]
        self.features.fit(photometry, self.survey.depth)
        self._describe_training(photometry)
        augment = self.augment if self.features.errors else replace(self.augment, depth_scale=0)
        photometry = photometry.with_depth(self.features.depth_)
        copies, rows = augment.apply(photometry, self.estimator.random_state)
        self.estimator.fit(
            self.features.transform(copies),
            redshift[rows],
            None if weight is None else weight[rows],
            validation=None
            if validation is None
            else (self.features.transform(validation[0]), *validation[1:]),
            on_step=on_step,
            reliability=None if right is None else right[rows],
        )
        return self

    def predict_pdf(self, photometry: Photometry, *, calibrated: bool = True) -> RedshiftPDF:
        """Redshift densities of galaxies.

        Parameters
        ----------
        photometry
            Photometry in the survey's bands.
        calibrated
            Whether the calibration, if there is one, is applied.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        self.check_fitted()
        _check_photometry(photometry)
        X = self.features.transform(photometry)
        pz = self.estimator.predict_pdf(X)
        return self.calibration.apply(pz, X) if calibrated and self.calibration else pz

    @property
    def z_grid(self) -> FloatArray:
        """Redshift grid of the predictions, shape ``(n_z,)``."""
        self.check_fitted()
        return self.estimator.z_grid_

    def check_fitted(self) -> None:
        """Raise scikit-learn's `NotFittedError` unless the model has been fitted or loaded."""
        self.estimator.check_fitted()

    def outside_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy lies outside the training range in any band, or in its colours.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        """
        self.check_fitted()
        low, high = np.array([self.training_range[band] for band in photometry.bands]).T
        luptitude = photometry.luptitude(self.features.depth_)
        outside: NDArray[np.bool_] = ((luptitude < low) | (luptitude > high)).any(axis=1)
        if self.occupancy is not None:
            outside |= self.occupancy.is_outside(luptitude)
        return outside

    def seen_in_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy is one that the fit has seen, as far as that is known.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        """
        if self.seen is None:
            return np.zeros(len(photometry), dtype=bool)
        return np.isin(fingerprints(photometry), self.seen)

    def remember(self, photometry: Photometry) -> None:
        """Count galaxies as seen, beside those that are `seen` already."""
        found = np.unique(fingerprints(photometry))
        before = found[:0] if self.seen is None else self.seen
        self.seen = np.union1d(before, found[found > 0])

    def restore(self, content: Mapping[str, Any]) -> Self:
        """Take over the learned state that `learned` described, and the provenance beside it."""
        self.optional_bands = tuple(content["optional_bands"])
        self.training_range = {
            band: (low, high) for band, (low, high) in content["training_range"].items()
        }
        occupancy = content.get("occupancy")
        self.occupancy = Occupancy.from_dict(occupancy) if occupancy else None
        learned = self.learned()
        self.provenance = {key: part for key, part in content.items() if key not in learned}
        return self

    def learned(self) -> dict[str, Any]:
        """What the fit learned of the survey, as JSON can hold it."""
        return {
            "optional_bands": list(self.optional_bands),
            "training_range": {band: list(ends) for band, ends in self.training_range.items()},
            "occupancy": self.occupancy.to_dict() if self.occupancy else None,
        }

    def _describe_training(self, photometry: Photometry) -> None:
        observed = photometry.state != State.NOT_OBSERVED
        incomplete = ~observed.all(axis=0) | (self.augment.band_dropout > 0)
        bands = photometry.bands
        self.optional_bands = tuple(
            band for band, flag in zip(bands, incomplete, strict=True) if flag
        )
        luptitude = photometry.luptitude(self.features.depth_)
        # Of a band that no galaxy was observed in, every value lies outside.
        lowest = np.where(observed, luptitude, np.inf).min(axis=0)
        highest = np.where(observed, luptitude, -np.inf).max(axis=0)
        self.training_range = dict(
            zip(bands, zip(lowest.tolist(), highest.tolist(), strict=True), strict=True)
        )
        self.occupancy = Occupancy.learn(luptitude) if len(bands) > 1 else None
        self.seen = None
        self.remember(photometry)


def _check_photometry(photometry: object) -> None:
    if not isinstance(photometry, Photometry):
        msg = (
            f"expected a Photometry, found a {type(photometry).__name__}; make a catalogue with "
            "photoz.catalogue.from_columns or photoz.catalogue.read, and take its photometry."
        )
        raise InputError(msg)


def _one_each(values: ArrayLike, n_galaxies: int, name: str) -> NDArray[Any]:
    array = unmasked(values)
    if array.shape != (n_galaxies,):
        msg = (
            f"{name} must hold one value for each of the {n_galaxies} galaxies, got shape "
            f"{array.shape}; choose the same rows of both."
        )
        raise InputError(msg)
    return array


def _checked_weight(sample_weight: ArrayLike | None, n_galaxies: int) -> FloatArray | None:
    """Weights as they were given, for the estimator to normalise among all copies."""
    if sample_weight is None:
        return None
    check_weight(sample_weight, n_galaxies)
    return np.asarray(sample_weight, dtype=np.float64)
