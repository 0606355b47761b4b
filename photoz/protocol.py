"""The protocol of an honest number: search, out-of-fold p(z), calibration, final fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, single_models
from photoz.calibration import Calibration
from photoz.conformal import ConformalMap
from photoz.environment import processors
from photoz.estimators import get_estimator
from photoz.estimators.base import OnStep
from photoz.features import PhotometricFeatures
from photoz.log_score import Truth
from photoz.metrics import pit, score
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.progress import Tell, steps_of
from photoz.sample import FittedSamples, Sample
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

    def fit(self, sample: Sample, tell: Tell | None = None) -> PhotozModel:
        """Fit with all parameters as they are; nothing stops early.

        Parameters
        ----------
        sample
            Rows to fit.
        tell
            Called with the progress of the fit.
        """
        model = self.model()
        with steps_of(1, model.estimator.n_steps, tell) as (on_step,):
            return _fit(model, sample, on_step=on_step)

    def trial(
        self,
        train: Sample,
        validation: Sample,
        metric: str,
        on_step: OnStep,
    ) -> Scored:
        """Score a cheaper fit to training rows, uncalibrated, on validation rows.

        Where copies lose bands, the score is the mean over complete validation rows and the
        same rows without one random band each.

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
        validation = self.as_used(validation)
        _fit(model, train, validation=validation, on_step=on_step)
        pz = model.predict_pdf(validation.photometry, calibrated=False)
        return Scored(_score(metric, validation, pz), model.estimator.tuned_)

    def as_used(self, sample: Sample) -> Sample:
        """Galaxies as predictions will meet them: where bands may be missing, also without one."""
        drops_bands = self.parameters.get("augment.band_dropout", 0) > 0
        return sample.with_missing_bands(self.seed) if drops_bands else sample

    def fit_folds(self, samples: Sequence[Sample], tell: Tell | None = None) -> list[PhotozModel]:
        """Fits for out-of-fold predictions, with what the family can spare for them.

        Parameters
        ----------
        samples
            Rows of each fit.
        tell
            Called with the progress of all fits together.
        """
        models = [self.model(get_estimator(self.family).fold_parameters()) for _ in samples]
        n_steps = models[0].estimator.n_steps
        # Networks train in one thread each; a fit gives the same whatever runs beside it.
        with steps_of(len(samples), n_steps, tell) as on_steps:
            with ThreadPoolExecutor(processors()) as pool:
                fits = [
                    pool.submit(_fit, model, sample, on_step=on_step)
                    for model, sample, on_step in zip(models, samples, on_steps, strict=True)
                ]
            return [fit.result() for fit in fits]


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
    sample
        The galaxies as they were predicted.
    n_complete
        How many of them, from the first, have all their bands. The rest are the same
        galaxies again, each without one band; they teach, and are not evaluated.
    model
        The last of the fits that made them.
    unseen
        Fitted galaxies that this model has not seen, to ask it more.
    """

    pz: RedshiftPDF
    rows: NDArray[np.integer]
    folds: NDArray[np.integer]
    sample: Sample
    n_complete: int
    model: FittedModel
    unseen: NDArray[np.integer]

    @property
    def complete(self) -> HeldBack:
        """The galaxies with all their bands."""
        first = np.arange(self.n_complete)
        return replace(
            self,
            pz=self.pz[first],
            rows=self.rows[first],
            folds=self.folds[first],
            sample=self.sample[first],
        )

    def score(self, metric: str) -> float:
        """Score as that of a trial, the lower the better.

        Parameters
        ----------
        metric
            Name of the metric.
        """
        return _score(metric, self.sample, self.pz)


def hold_back(candidate: Candidate, samples: FittedSamples, tell: Tell | None = None) -> HeldBack:
    """Densities to learn a calibration from.

    Five folds give one for every fitted galaxy; where there are many, a fit to the training
    rows gives one for every validation row.

    Parameters
    ----------
    candidate
        What to fit.
    samples
        The galaxies.
    tell
        Called with the progress of the fits.
    """
    n_galaxies, folds = len(samples.fitted), samples.folds
    everyone = candidate.as_used(samples.fitted)
    galaxy = np.arange(len(everyone)) % n_galaxies
    fits = [(samples.fitted[folds != fold], folds == fold) for fold in np.unique(folds)]
    if samples.has_many_rows:
        fits = [(samples.train, samples.is_validation)]
    places = [np.flatnonzero(is_unseen[galaxy]) for _, is_unseen in fits]

    models = candidate.fit_folds([fitted for fitted, _ in fits], tell)
    place = np.sort(np.concatenate(places))
    density = np.empty((len(place), len(models[0].z_grid)), dtype=np.float32)
    for model, own in zip(models, places, strict=True):
        pz = model.predict_pdf(everyone.photometry[own], calibrated=False)
        density[np.searchsorted(place, own)] = pz.density
    return HeldBack(
        pz=RedshiftPDF(models[0].z_grid, density),
        rows=galaxy[place],
        folds=folds[galaxy[place]],
        sample=everyone[place],
        n_complete=int((place < n_galaxies).sum()),
        model=models[-1],
        unseen=np.flatnonzero(fits[-1][1]),
    )


def calibrate(
    features: PhotometricFeatures, held_back: HeldBack
) -> tuple[Calibration, RedshiftPDF]:
    """Learn a calibration, and show what it does to galaxies it was not learned from.

    Parameters
    ----------
    features
        Fitted features of the model that is to be calibrated.
    held_back
        Its uncalibrated densities.

    Returns
    -------
    Calibration
        Learned from all densities.
    RedshiftPDF
        The densities of complete galaxies, each fold calibrated by what the others teach.
    """
    galaxies = held_back.sample
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
    validated = Calibration.cross_fit(*arguments, **settings)
    return Calibration.fit(*arguments, **settings), validated[: held_back.n_complete]


def add_conformal(model: PhotozModel | PhotozBlend, kept: Sample) -> None:
    """Put the map of finite-sample coverage behind a model's calibration.

    The galaxies count as seen from then on: the map was fixed by them, so that its coverage of
    them proves nothing.

    Parameters
    ----------
    model
        A fitted and calibrated model.
    kept
        Galaxies that neither its fit, nor its calibration, nor the choice of its parameters has
        seen.
    """
    pits = pit(kept.z_spec, model.predict_pdf(kept.photometry))
    model.calibration = replace(
        model.calibration or Calibration(), conformal=ConformalMap.fit(pits)
    )
    for member in single_models(model):
        member.remember(kept.photometry)


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
    validation: Sample | None = None,
    on_step: OnStep | None = None,
) -> PhotozModel:
    unseen = None
    if validation is not None:
        unseen = (validation.photometry, validation.z_spec, validation.reliability)
    return model.fit(
        sample.photometry,
        sample.z_spec,
        sample.weight,
        validation=unseen,
        on_step=on_step,
        reliability=sample.reliability,
    )


def _score(metric: str, sample: Sample, pz: RedshiftPDF) -> float:
    """Metric of densities; redshifts that may be wrong have the likelihood r p + (1 - r) n(z)."""
    if metric == "log_loss" and sample.reliability is not None:
        truth = Truth.of(pz, sample.z_spec, reliability=sample.reliability)
        return -float(truth.log_score(pz.at(truth.z_spec)).mean())
    return score(metric, sample.z_spec, pz)


def _table(parameters: Mapping[str, Any], table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {
        key.removeprefix(prefix): value
        for key, value in parameters.items()
        if key.startswith(prefix)
    }
