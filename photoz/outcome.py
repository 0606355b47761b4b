"""Outcome: a fitted, calibrated model with the one evaluation on the held-out galaxies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from photoz.cells import photometric_conditions
from photoz.evaluation import Evaluation, evaluate
from photoz.importance import Importance, permutation_importance
from photoz.model import FittedModel
from photoz.pdf import RedshiftPDF
from photoz.progress import OnProgress
from photoz.protocol import Candidate, HeldBack, add_conformal
from photoz.samples import Samples
from photoz.search import SearchResult
from photoz.training import blend_models

__all__ = ["Outcome", "RunnerUp", "blend_families", "test_model"]


@dataclass(frozen=True, eq=False)
class RunnerUp:
    """Next to the best choice of a family's parameters; a blend fits and pools it as well.

    Parameters
    ----------
    candidate
        The choice.
    held_back
        Uncalibrated densities of the fitted galaxies by fits that have not seen them.
    """

    candidate: Candidate
    held_back: HeldBack


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one estimator.

    Parameters
    ----------
    name
        Name of the estimator.
    parameters
        Parameters of the final fit.
    model
        The final fit with its calibration.
    held_back
        Uncalibrated densities of the fitted galaxies by fits that have not seen them.
    validation
        Evaluation of those densities, calibrated by what the other folds teach.
    test
        The one evaluation of the held-out galaxies.
    fit_seconds
        Wall time of the final fit.
    importance
        What each band is worth, for galaxies that a fit has not seen.
    search
        The trials; None for a blend, which has none.
    runners_up
        The next best choices of parameters, where a blend is to pool them.
    """

    name: str
    parameters: dict[str, Any]
    model: FittedModel
    held_back: HeldBack
    validation: Evaluation
    test: Evaluation
    fit_seconds: float
    importance: tuple[Importance, ...]
    search: SearchResult | None = None
    runners_up: tuple[RunnerUp, ...] = ()

    @property
    def learning_curve(self) -> dict[int, float]:
        """Loss of the training rows by step of the final fit, where the estimator keeps it."""
        estimator = getattr(self.model, "estimator", None)
        curve: dict[int, float] = getattr(estimator, "learning_curve_", {})
        return curve

    def entry(self, bundle: str | None, run_id: str | None) -> dict[str, Any]:
        """The estimator's part of ``report.json``."""
        found = self.search
        others = [dict(other.candidate.parameters) for other in self.runners_up]
        return {
            "parameters": self.parameters,
            "validation": self.validation.metrics,
            "test": self.test.metrics,
            "test_interval": {key: list(ends) for key, ends in self.test.intervals.items()},
            "fit_seconds": self.fit_seconds,
            "search_seconds": found.seconds if found else 0.0,
            "trials": len(found.trials) if found else 0,
            "timed_out": found.timed_out if found else False,
            "bundle": bundle,
            "mlflow_run_id": run_id,
            **({"runners_up": others} if others else {}),
        }


def test_model(
    name: str,
    parameters: Mapping[str, Any],
    model: FittedModel,
    held_back: HeldBack,
    validated: RedshiftPDF,
    *,
    samples: Samples,
    fit_seconds: float,
    seed: int,
) -> Outcome:
    """Evaluate the held-back densities and, once, the held-out galaxies.

    Parameters
    ----------
    name, parameters
        Name and parameters of the estimator.
    model
        The final fit with its calibration.
    held_back
        Uncalibrated densities of fitted galaxies by fits that have not seen them.
    validated
        Those of complete galaxies, calibrated by what the other folds teach.
    samples
        The galaxies.
    fit_seconds
        Wall time of the final fit.
    seed
        Seed of the bootstrap.
    """
    known = held_back.complete.sample
    return Outcome(
        name=name,
        parameters=dict(parameters),
        model=model,
        held_back=held_back,
        validation=evaluate(known.z_spec, validated, random_state=seed),
        test=evaluate(
            samples.test.z_spec,
            model.predict_pdf(samples.test.photometry),
            groups=samples.test_groups,
            random_state=seed,
            conditions=photometric_conditions(samples.test.photometry),
        ),
        fit_seconds=fit_seconds,
        importance=_importance(held_back, samples, seed),
    )


def blend_families(
    members: Mapping[str, Outcome],
    samples: Samples,
    seed: int,
    on_progress: OnProgress = lambda *_: None,
) -> Outcome:
    """Fit the runners-up of families, pool all fits, calibrate the pool and test it.

    Parameters
    ----------
    members
        Outcomes of the families to pool, by name.
    samples
        The galaxies.
    seed
        Seed of the bootstrap.
    on_progress
        Called with the name of a runner-up that is fitted, how many steps are done, and how many
        there are.
    """
    started = time.perf_counter()
    models: dict[str, FittedModel] = {}
    densities: dict[str, HeldBack] = {}
    for family, member in members.items():
        models[family], densities[family] = member.model, member.held_back
        for place, other in enumerate(member.runners_up, start=2):
            name = f"{family}_{place}"
            tell = partial(on_progress, f"{name}, final fit for the blend")
            models[name] = other.candidate.fit(samples.fitted, tell)
            densities[name] = other.held_back
    model, held_back, validated = blend_models(models, densities)
    if samples.kept is not None:
        add_conformal(model, samples.kept)
    return test_model(
        "blend",
        {"pooled": list(model.members), **model.pool.to_dict()},
        model,
        held_back,
        validated,
        samples=samples,
        fit_seconds=time.perf_counter() - started,
        seed=seed,
    )


def _importance(held_back: HeldBack, samples: Samples, seed: int) -> tuple[Importance, ...]:
    asked = samples.fitted[held_back.unseen]
    return permutation_importance(
        held_back.model, asked.photometry, asked.z_spec, random_state=seed
    )
