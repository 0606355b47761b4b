"""Training: a calibrated model from galaxies of known redshift, without a search or a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from photoz.blend import PhotozBlend, Pool
from photoz.catalogue import Catalogue, check_enough
from photoz.columns import suggest
from photoz.errors import InputError
from photoz.estimators import get_estimator, registered_estimators
from photoz.identity import uniform
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.protocol import Candidate, HeldBack, calibrate, default_parameters, hold_back
from photoz.sample import FittedSamples, Sample
from photoz.settings import FLOORS
from photoz.split import add_counts, check_parts, distinct_rows, folds
from photoz.survey import Survey

__all__ = ["blend_models", "train_model"]

_VALIDATION = 0.2


def train_model(
    galaxies: Catalogue,
    survey: Survey,
    families: Sequence[str] = ("boosting",),
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    seed: int = 0,
) -> PhotozModel | PhotozBlend:
    """Fit a model to all galaxies and calibrate it by fits that have not seen them.

    What a fit chooses on validation galaxies (when to stop, how much to smooth) is chosen on
    a fifth of the galaxies; then five folds give each galaxy a p(z) to learn the calibration
    from, and the final fit sees all.

    Parameters
    ----------
    galaxies
        Galaxies read for training. As in an experiment, photometric twins under another id and
        rows that repeat an earlier one are left out. Twins are known by three measured bands or
        more, and so are repeats where the survey declares no id.
    survey
        The survey they were read with.
    families
        Estimators to fit; more than one are blended.
    parameters
        Parameters that differ from the defaults, by family; those of the noisy copies as
        ``augment.NAME``, those of the features as ``features.NAME``.
    seed
        Seed of everything that is drawn.

    Returns
    -------
    PhotozModel or PhotozBlend
        Its provenance says which rows were left out.

    Raises
    ------
    InputError
        If a family or a parameter is unknown, or too few galaxies are left.
    ModuleNotFoundError
        If a library that only fits need is missing.
    """
    given = parameters or {}
    _check_families([*families, *given])
    samples, dropped = _samples(galaxies, survey, seed)
    survey = samples.with_depths(survey)
    models: dict[str, PhotozModel] = {}
    held_back: dict[str, HeldBack] = {}
    for family in families:
        candidate = _candidate(family, given.get(family, {}), samples, survey, seed)
        held_back[family] = hold_back(candidate, samples)
        models[family] = candidate.fit(samples.fitted)
    model: PhotozModel | PhotozBlend
    if len(models) > 1:
        model, _, _ = blend_models(models, held_back)
    else:
        ((family, model),) = models.items()
        model.calibration, _ = calibrate(model.features, held_back[family])
    model.provenance = {
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_fitted": len(samples.fitted),
        "dropped": dropped,
    }
    return model


def blend_models(
    models: Mapping[str, FittedModel], held_back: Mapping[str, HeldBack]
) -> tuple[PhotozBlend, HeldBack, RedshiftPDF]:
    """Pool fitted models and calibrate the pool; those of no weight are left out.

    Parameters
    ----------
    models
        Final fits by name.
    held_back
        Uncalibrated densities of the fitted galaxies by fits that have not seen them, for
        each model.

    Returns
    -------
    PhotozBlend
        The calibrated blend.
    HeldBack
        Pooled densities, each fold with the weights that the other folds teach.
    RedshiftPDF
        Those of complete galaxies, calibrated by what the other folds teach.
    """
    first = next(iter(held_back.values()))
    densities = [held_back[name].pz for name in models]
    arguments = (densities, first.sample.z_spec, first.folds)
    weights: dict[str, Any] = {
        "sample_weight": first.sample.weight,
        "reliability": first.sample.reliability,
    }
    pool = Pool.fit(*arguments, **weights)
    used = [name for name, weight in zip(models, pool.weights, strict=True) if weight > 0]
    pool = replace(pool, weights=tuple(weight for weight in pool.weights if weight > 0))
    unseen = PhotozBlend(_single({name: held_back[name].model for name in used}), pool)
    pooled = replace(first, pz=Pool.cross_fit(*arguments, **weights), model=unseen)
    blend = PhotozBlend(_single({name: models[name] for name in used}), pool)
    blend.calibration, validated = calibrate(blend.features, pooled)
    return blend, pooled, validated


def _single(models: Mapping[str, FittedModel]) -> dict[str, PhotozModel]:
    for name, model in models.items():
        if not isinstance(model, PhotozModel):
            msg = f"only single models can be pooled, {name} is a blend."
            raise TypeError(msg)
    return {name: model for name, model in models.items() if isinstance(model, PhotozModel)}


def _check_families(families: Sequence[str]) -> None:
    known = [name for name in registered_estimators() if name not in FLOORS]
    for family in families:
        if family not in known:
            hint = suggest(family, known)
            msg = f"unknown estimator {family!r}{hint}; there are {', '.join(known)}."
            raise InputError(msg)
        get_estimator(family).load_libraries()


def _samples(
    galaxies: Catalogue, survey: Survey, seed: int
) -> tuple[FittedSamples, dict[str, int]]:
    """What is fitted, and how many rows are not, by reason."""
    # The twin of a galaxy under another id would sit in another fold and know its redshift.
    rows, keys, dropped = distinct_rows(galaxies, declared_ids=survey.id is not None)
    galaxies = replace(galaxies[rows], dropped=add_counts(galaxies.dropped, dropped))
    check_enough(galaxies)
    is_validation = uniform(keys, f"split {seed}") < _VALIDATION
    parts = {"train": rows[~is_validation], "validation": rows[is_validation]}
    check_parts(parts, galaxies.dropped)
    samples = FittedSamples(
        fitted=Sample(galaxies.photometry, np.asarray(galaxies.z_spec, dtype=np.float64)),
        is_validation=is_validation,
        folds=folds(keys, seed=seed),
    )
    return samples, galaxies.dropped


def _candidate(
    family: str, given: Mapping[str, Any], samples: FittedSamples, survey: Survey, seed: int
) -> Candidate:
    """Family with its parameters, among them what one fit chooses on validation galaxies."""
    defaults = default_parameters(family)
    for key in given:
        if key not in defaults:
            msg = (
                f"unknown parameter {key!r} of {family}{suggest(key, defaults)}; "
                f"there are {', '.join(defaults)}."
            )
            raise InputError(msg)
    chosen = {**defaults, "z_max": samples.z_max, "n_z": samples.n_z, **given}
    chosen.pop("random_state")
    candidate = Candidate(family, chosen, survey, seed)
    scored = candidate.trial(samples.train, samples.validation, "log_loss", _go_on)
    return replace(candidate, parameters={**chosen, **scored.tuned})


def _go_on(step: int, loss: float) -> None:
    """No fit is ended from outside."""
