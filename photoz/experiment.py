"""The whole flow of an experiment: read, split, search, fit, calibrate, test, track, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from photoz.family import Family
from photoz.outcome import Outcome, blend_families
from photoz.plots import plot_evaluation, plot_search
from photoz.results import Results
from photoz.samples import Samples, load_samples
from photoz.search import Trial
from photoz.settings import FLOORS, Experiment
from photoz.tracking import ROW_LOSSES, EstimatorRun, TrackedData, Tracking, row_losses

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
        data=_tracked_data(experiment, samples),
        metric=experiment.search.metric,
    )
    versions: dict[str, str] = {}

    def finish(outcome: Outcome, tracked: EstimatorRun) -> None:
        bundle = results.add(outcome, tracked.run_id)
        _track(outcome, tracked, samples, experiment.search.metric)
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


def _tracked_data(experiment: Experiment, samples: Samples) -> TrackedData:
    table = experiment.catalogue
    sizes = samples.summary()
    return TrackedData(
        name=table.dataset or experiment.name,
        source=table.dataset or ", ".join(table.path or ()),
        sha256=samples.sha256,
        split_sha256=samples.split_sha256,
        n_rows={
            "training": sizes["n_train"],
            "validation": sizes["n_validation"],
            "test": sizes["n_test"],
        },
        columns=[*samples.survey.columns_needed(), samples.survey.redshift],
    )


def _on_trial(
    family: Family, tracked: EstimatorRun, on_progress: OnProgress | None
) -> Callable[[Trial], None]:
    def on_trial(trial: Trial) -> None:
        tracked.log_trial(trial)
        if on_progress is not None:
            on_progress(family.name, trial.number + 1, family.n_trials)

    return on_trial


def _track(outcome: Outcome, tracked: EstimatorRun, samples: Samples, metric: str) -> None:
    tracked.log_parameters(outcome.parameters)
    # The held-out metrics first: MLflow shows them in the order of logging.
    tracked.log_metrics("test", outcome.test.metrics, outcome.test.intervals)
    tracked.log_metrics("validation", outcome.validation.metrics)
    seconds = {"fit_seconds": outcome.fit_seconds}
    figures = {f"plots/{key}.png": plot for key, plot in plot_evaluation(outcome.test).items()}
    if outcome.search is not None:
        seconds["search_seconds"] = outcome.search.seconds
        history = [(trial.number, trial.value, trial.state) for trial in outcome.search.trials]
        figures["plots/search.png"] = plot_search(history, metric)
    tracked.log_metrics("time", seconds)
    rows, groups = outcome.held_back.rows, samples.fitted_groups
    tracked.log_artifacts(
        {
            **figures,
            "evaluation.json": outcome.test.to_dict(),
            ROW_LOSSES: row_losses(
                samples.fitted_id[rows],
                outcome.validation.losses,
                None if groups is None else groups[rows],
            ),
        }
    )
