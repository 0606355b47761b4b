"""The whole flow of an experiment: read, split, search, fit, calibrate, test, track, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from photoz.family import Family
from photoz.outcome import Outcome, blend_families
from photoz.record import record, tracked_data
from photoz.results import Results
from photoz.samples import load_samples
from photoz.search import Trial
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
        Called after every trial with the estimator, the trials done and their number.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        If the catalogue or the settings cannot be used.
    RuntimeError
        If every trial of an estimator failed.
    """
    samples = load_samples(experiment)
    tracking = Tracking(
        experiment.tracking.uri,
        experiment.name,
        data=tracked_data(experiment, samples),
        metric=experiment.search.metric,
    )
    versions: dict[str, str] = {}

    def finish(outcome: Outcome, tracked: EstimatorRun) -> None:
        bundle = results.add(outcome, tracked.run_id)
        record(outcome, tracked, experiment, samples)
        # Whoever fetches a registered model must not get the galaxies that trained it.
        if outcome.name not in FLOORS:
            versions[outcome.name] = tracked.log_model(bundle)

    with Results(directory, experiment, samples) as results:
        for name in (*experiment.families, *FLOORS):
            with tracking.run(name) as tracked:
                family = Family(name, experiment, samples)
                found, candidate = family.search(
                    storage=experiment.search.storage
                    or tracking.folder / f"{experiment.name}.optuna.log",
                    on_trial=_on_trial(family, tracked, on_progress),
                )
                finish(family.finish(found, candidate), tracked)
        if experiment.blend_members:
            with tracking.run("blend") as tracked:
                members = {name: results.outcomes[name] for name in experiment.blend_members}
                finish(blend_families(members, samples, experiment.seed), tracked)
        results.registered = tracking.promote(versions[results.champion]).to_dict()
        return results.finish()


def _on_trial(
    family: Family, tracked: EstimatorRun, on_progress: OnProgress | None
) -> Callable[[Trial], None]:
    def on_trial(trial: Trial) -> None:
        tracked.log_trial(trial)
        if on_progress is not None:
            on_progress(family.name, trial.number + 1, family.n_trials)

    return on_trial
