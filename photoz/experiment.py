"""The whole flow of an experiment: read, split, search, fit, calibrate, test, track, export."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import photoz
from photoz.blend import PhotozBlend, Pool
from photoz.cells import photometric_conditions
from photoz.estimators.base import OnStep
from photoz.evaluation import evaluate
from photoz.model import FittedModel
from photoz.pdf import RedshiftPDF
from photoz.protocol import Candidate, HeldBack, calibrate, default_parameters, hold_back
from photoz.results import Outcome, Results
from photoz.samples import Samples, load_samples
from photoz.search import Scored, SearchResult, Trial, search, study_name
from photoz.settings import FLOORS, Experiment
from photoz.tracking import EstimatorRun, Tracking

__all__ = ["OnProgress", "run"]

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is counted, how many are done and, if known, out of how many."""


def run(
    experiment: Experiment, directory: Path, *, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Run an experiment and write its results.

    Parameters
    ----------
    experiment
        What to run.
    directory
        Where the results go: ``report.json``, ``report.html``, ``models/`` and
        ``test_predictions.parquet``. What stands there is replaced once all is complete.
    on_progress
        Called after every trial.

    Returns
    -------
    dict
        What ``report.json`` holds.
    """
    samples = load_samples(experiment)
    tracking = Tracking(experiment.tracking.uri, experiment.name)
    flow = _Flow(experiment, samples, tracking, on_progress or _ignore)
    with Results(directory, experiment, samples) as results:
        for family in (*experiment.families, *FLOORS):
            with tracking.run(family, **flow.tags(family)) as tracked:
                results.add(flow.family(family, tracked), tracked.run_id)
        if experiment.blend_members:
            with tracking.run("blend", **flow.tags("blend")) as tracked:
                results.add(flow.blend(results.outcomes), tracked.run_id)
        return results.finish()


@dataclass(frozen=True)
class _Flow:
    """The steps from a sample to a tested model, for one estimator after the other."""

    experiment: Experiment
    samples: Samples
    tracking: Tracking
    on_progress: OnProgress

    def tags(self, family: str) -> dict[str, Any]:
        return {"family": family, "samples": self.samples.summary()}

    def family(self, family: str, tracked: EstimatorRun) -> Outcome:
        """Search a family, then fit, calibrate and test the best of it."""
        found, candidate = self.search(family, tracked)
        held_back = hold_back(candidate, self.samples)
        started = time.perf_counter()
        model = candidate.fit(self.samples.fitted)
        seconds = time.perf_counter() - started
        validated = held_back.pz
        if family not in FLOORS:
            model.calibration, validated = calibrate(
                model.features, held_back, self.samples.fitted
            )
        tested = self.test(family, candidate.parameters, model, held_back, validated, seconds)
        return replace(tested, search=found)

    def blend(self, outcomes: dict[str, Outcome]) -> Outcome:
        """Pool the fitted families, then calibrate and test the pool."""
        names = self.experiment.blend_members
        members = [outcomes[name].held_back for name in names]
        sample = self.samples.fitted[members[0].rows]
        started = time.perf_counter()
        arguments = ([member.pz for member in members], sample.z_spec, members[0].folds)
        extra: dict[str, Any] = {
            "sample_weight": sample.weight,
            "reliability": sample.reliability,
        }
        pool = Pool.fit(*arguments, **extra)
        held_back = replace(members[0], pz=Pool.cross_fit(*arguments, **extra))
        model = PhotozBlend({name: outcomes[name].fitted_model() for name in names}, pool)
        model.calibration, validated = calibrate(model.features, held_back, self.samples.fitted)
        seconds = time.perf_counter() - started
        return self.test("blend", pool.to_dict(), model, held_back, validated, seconds)

    def search(self, family: str, tracked: EstimatorRun) -> tuple[SearchResult, Candidate]:
        """Search the parameters of a family on the validation rows."""
        experiment, samples = self.experiment, self.samples
        space, fixed = experiment.space(family)
        fixed.setdefault("z_max", samples.z_max)
        train, validation = samples.train, samples.validation
        settings = experiment.search

        def candidate(parameters: dict[str, Any]) -> Candidate:
            return Candidate(family, {**fixed, **parameters}, samples.survey, experiment.seed)

        def objective(parameters: dict[str, Any], on_step: OnStep) -> Scored:
            return candidate(parameters).trial(train, validation, settings.metric, on_step)

        def on_trial(trial: Trial) -> None:
            tracked.log_trial(trial)
            self.on_progress(family, trial.number + 1, max(settings.trials, 1) if space else 1)

        found = search(
            objective,
            space,
            study_name=study_name(
                f"{experiment.name}-{family}",
                {"data": samples.sha256, "split": samples.split_sha256, "fixed": fixed},
                {"space": space, "metric": settings.metric, "seed": experiment.seed},
                {"survey": samples.survey.model_dump(mode="json"), "version": photoz.__version__},
                {"where": experiment.catalogue.where, "weight": experiment.catalogue.weight},
                {"reliability": experiment.catalogue.reliability},
            ),
            storage=settings.storage or self.tracking.folder / "optuna.log",
            n_trials=settings.trials,
            timeout=settings.timeout,
            seed=experiment.seed,
            defaults={key: default_parameters(family)[key] for key in space},
            on_trial=on_trial,
        )
        return found, candidate({**found.best.parameters, **found.best.tuned})

    def test(
        self,
        name: str,
        parameters: Mapping[str, Any],
        model: FittedModel,
        held_back: HeldBack,
        validated: RedshiftPDF,
        fit_seconds: float,
    ) -> Outcome:
        """Score the held-back densities, then, once, the held-out galaxies."""
        samples = self.samples
        known = samples.fitted[held_back.rows]
        pz = model.predict_pdf(samples.test.photometry)
        return Outcome(
            name=name,
            parameters=dict(parameters),
            model=model,
            held_back=held_back,
            validation=evaluate(known.z_spec, validated, random_state=self.experiment.seed),
            test=evaluate(
                samples.test.z_spec,
                pz,
                groups=samples.test_groups,
                random_state=self.experiment.seed,
                conditions=photometric_conditions(samples.test.photometry),
            ),
            fit_seconds=fit_seconds,
        )


def _ignore(what: str, done: int, total: int | None) -> None:
    """Take no notice of progress."""
