"""The protocol of an honest number: search, out-of-fold p(z), calibration, final fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.augment import Augmentation
from photoz.calibration import Calibration
from photoz.estimators import get_estimator
from photoz.estimators.base import OnStep
from photoz.features import PhotometricFeatures
from photoz.metrics import score
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.photometry import Photometry
from photoz.samples import Sample, Samples
from photoz.search import Scored
from photoz.survey import Survey

__all__ = ["Candidate", "HeldBack", "calibrate", "default_parameters", "hold_back"]


@dataclass(frozen=True)
class Candidate:
    """A family with one choice of all its parameters: everything but the galaxies.

    Parameters
    ----------
    family
        Name of the estimator.
    parameters
        Parameters of the estimator by name, those of the noisy copies as
        ``augment.NAME``, those of the features as ``features.NAME``.
    survey
        Survey of the photometry.
    seed
        Seed of the noisy copies and the estimator.
    """

    family: str
    parameters: Mapping[str, Any]
    survey: Survey
    seed: int

    def model(self, cheaper: Mapping[str, Any] | None = None) -> PhotozModel:
        """Unfitted model.

        Parameters
        ----------
        cheaper
            Numbers that replace larger ones of the estimator, to save time.
        """
        own = {key: value for key, value in self.parameters.items() if "." not in key}
        estimator = get_estimator(self.family)(**own, random_state=self.seed)
        current = estimator.get_params(deep=False)
        estimator.set_params(
            **{key: min(value, current[key]) for key, value in (cheaper or {}).items()}
        )
        return PhotozModel(
            self.survey,
            PhotometricFeatures(**_table(self.parameters, "features")),
            Augmentation(**_table(self.parameters, "augment")),
            estimator,
        )

    def fit(self, sample: Sample) -> PhotozModel:
        """Fit with all parameters as they are; nothing stops early."""
        return _fit(self.model(), sample)

    def trial(self, train: Sample, validation: Sample, metric: str, on_step: OnStep) -> Scored:
        """Score a cheaper fit to training rows, uncalibrated, on validation rows.

        Parameters
        ----------
        train, validation
            Rows to fit and rows to stop early and to score.
        metric
            Name of the metric, the lower the better.
        on_step
            Called with the progress of the fit; may raise to end it.
        """
        model = self.model(get_estimator(self.family).trial_parameters())
        _fit(model, train, validation=(validation.photometry, validation.z_spec), on_step=on_step)
        pz = model.predict_pdf(validation.photometry, calibrated=False)
        return Scored(score(metric, validation.z_spec, pz), model.estimator.tuned_)

    def fit_fold(self, sample: Sample) -> PhotozModel:
        """Fit for out-of-fold predictions, with what the family can spare for them."""
        return _fit(self.model(get_estimator(self.family).fold_parameters()), sample)


@dataclass(frozen=True, eq=False)
class HeldBack:
    """Densities of fitted galaxies, each by a fit that has not seen it.

    Parameters
    ----------
    pz
        Uncalibrated densities.
    rows
        Which of the fitted galaxies they belong to.
    folds
        Fold of each, shape ``(n_galaxies,)``, for what is learned from them in turn.
    model
        The last of the fits that made them.
    unseen
        Fitted galaxies that this model has not seen, to ask it more.
    """

    pz: RedshiftPDF
    rows: NDArray[np.integer]
    folds: NDArray[np.integer]
    model: FittedModel
    unseen: NDArray[np.integer]


def hold_back(candidate: Candidate, samples: Samples) -> HeldBack:
    """Densities to learn a calibration from.

    Five folds give one for every fitted galaxy; where there are many, a fit to the training
    rows gives one for every validation row.
    """
    sample = samples.fitted
    if samples.has_many_rows:
        rows = np.flatnonzero(samples.is_validation)
        model = candidate.fit_fold(samples.train)
        pz = model.predict_pdf(sample.photometry[rows], calibrated=False)
        return HeldBack(pz, rows, samples.folds[rows], model, rows)
    parts, rows_of_parts = [], []
    for fold in np.unique(samples.folds):
        inside = np.flatnonzero(samples.folds == fold)
        model = candidate.fit_fold(sample[samples.folds != fold])
        parts.append(model.predict_pdf(sample.photometry[inside], calibrated=False))
        rows_of_parts.append(inside)
    order = np.argsort(np.concatenate(rows_of_parts))
    pz = RedshiftPDF.concatenate(parts)[order]
    return HeldBack(pz, np.arange(len(sample)), samples.folds, model, inside)


def calibrate(
    features: PhotometricFeatures, held_back: HeldBack, sample: Sample
) -> tuple[Calibration, RedshiftPDF]:
    """Learn a calibration, and show what it does to galaxies it was not learned from.

    Parameters
    ----------
    features
        Fitted features of the model that is to be calibrated.
    held_back
        Its uncalibrated densities.
    sample
        The fitted galaxies.

    Returns
    -------
    Calibration
        Learned from all densities.
    RedshiftPDF
        The densities, each fold calibrated by what the other folds teach.
    """
    galaxies = sample[held_back.rows]
    arguments = (
        held_back.pz,
        galaxies.z_spec,
        features.transform(galaxies.photometry),
        held_back.folds,
    )
    settings: dict[str, Any] = {
        "magnitude_columns": range(len(features.bands_)),
        "sample_weight": galaxies.weight,
        "reliability": galaxies.reliability,
    }
    return (
        Calibration.fit(*arguments, **settings),
        Calibration.cross_fit(*arguments, **settings),
    )


def default_parameters(family: str) -> dict[str, Any]:
    """Parameters of a family as they are where nobody sets them, named as in `Candidate`."""
    return {
        **get_estimator(family)().get_params(deep=False),
        **{f"augment.{key}": value for key, value in Augmentation().to_dict().items()},
        "features.errors": PhotometricFeatures().errors,
    }


def _fit(
    model: PhotozModel,
    sample: Sample,
    *,
    validation: tuple[Photometry, FloatArray] | None = None,
    on_step: OnStep | None = None,
) -> PhotozModel:
    return model.fit(
        sample.photometry,
        sample.z_spec,
        sample.weight,
        validation=validation,
        on_step=on_step,
        reliability=sample.reliability,
    )


def _table(parameters: Mapping[str, Any], table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {
        key.removeprefix(prefix): value
        for key, value in parameters.items()
        if key.startswith(prefix)
    }
