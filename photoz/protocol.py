"""The protocol of an honest number: search, out-of-fold p(z), calibration, final fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.augment import Augmentation
from photoz.estimators import get_estimator
from photoz.estimators.base import OnStep
from photoz.features import PhotometricFeatures
from photoz.metrics import score
from photoz.model import PhotozModel
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.photometry import Photometry
from photoz.search import Scored
from photoz.survey import Survey

__all__ = ["Candidate", "Sample", "default_parameters", "out_of_fold"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Galaxies of known redshift.

    Parameters
    ----------
    photometry
        Their photometry.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    weight
        Sample weights of shape ``(n_galaxies,)``, or None if all are equal.
    reliability
        Probability that each redshift is right, shape ``(n_galaxies,)``, or None.
    """

    photometry: Photometry
    z_spec: FloatArray
    weight: FloatArray | None = None
    reliability: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Sample:
        return replace(
            self,
            photometry=self.photometry[rows],
            z_spec=self.z_spec[rows],
            weight=None if self.weight is None else self.weight[rows],
            reliability=None if self.reliability is None else self.reliability[rows],
        )


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


def out_of_fold(candidate: Candidate, sample: Sample, folds: NDArray[np.integer]) -> RedshiftPDF:
    """Densities of galaxies by fits that have not seen them.

    Parameters
    ----------
    candidate
        What is fitted, once per fold.
    sample
        The galaxies.
    folds
        Fold of each galaxy, shape ``(n_galaxies,)``.
    """
    parts, rows = [], []
    for fold in np.unique(folds):
        inside = np.flatnonzero(folds == fold)
        model = candidate.fit_fold(sample[folds != fold])
        parts.append(model.predict_pdf(sample.photometry[inside], calibrated=False))
        rows.append(inside)
    order = np.argsort(np.concatenate(rows))
    return RedshiftPDF.concatenate(parts)[order]


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
