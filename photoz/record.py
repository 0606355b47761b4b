"""Record: what MLflow is told of an experiment's galaxies and of what became of its estimators."""

from __future__ import annotations

from typing import Any

from photoz.card import make_card
from photoz.outcome import Outcome
from photoz.plots import plot_evaluation, plot_importance, plot_search
from photoz.samples import Samples
from photoz.settings import Experiment
from photoz.tracking import ROW_LOSSES, EstimatorRun, TrackedData, row_losses

__all__ = ["record", "tracked_data"]


def tracked_data(experiment: Experiment, samples: Samples) -> TrackedData:
    """The galaxies of an experiment, as MLflow shows them."""
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


def record(
    outcome: Outcome, tracked: EstimatorRun, experiment: Experiment, samples: Samples
) -> None:
    """Tell MLflow what became of an estimator, all but its model.

    Parameters
    ----------
    outcome
        What became of it.
    tracked
        Its run.
    experiment, samples
        The experiment and its galaxies.
    """
    tracked.log_parameters(outcome.parameters)
    # The held-out metrics first: MLflow shows them in the order of logging.
    tracked.log_metrics("test", outcome.test.metrics, outcome.test.intervals)
    tracked.log_metrics("validation", outcome.validation.metrics)
    seconds = {"fit_seconds": outcome.fit_seconds}
    if outcome.search is not None:
        seconds["search_seconds"] = outcome.search.seconds
        tracked.log_curve("learning_curve/validation", outcome.search.best.curve)
    tracked.log_metrics("time", seconds)
    tracked.log_curve("learning_curve/training", outcome.learning_curve)
    tracked.log_metrics("importance", {item.name: item.log_loss for item in outcome.importance})
    tracked.describe(make_card(outcome, experiment, samples).to_markdown())
    tracked.log_artifacts(
        {
            "experiment.toml": experiment.source,
            "experiment.json": experiment.model_dump(mode="json", warnings="none"),
            "evaluation.json": outcome.test.to_dict(),
            ROW_LOSSES: _row_losses(outcome, samples),
            **_plots(outcome, experiment.search.metric),
        }
    )


def _row_losses(outcome: Outcome, samples: Samples) -> bytes:
    rows, groups = outcome.held_back.complete.rows, samples.fitted_groups
    return row_losses(
        samples.fitted_id[rows],
        outcome.validation.losses,
        None if groups is None else groups[rows],
    )


def _plots(outcome: Outcome, metric: str) -> dict[str, Any]:
    figures: dict[str, Any] = {
        f"plots/{key}.png": plot for key, plot in plot_evaluation(outcome.test).items()
    }
    figures["plots/importance_of_bands.png"] = plot_importance(outcome.importance)
    if outcome.search is not None:
        history = [(trial.number, trial.value, trial.state) for trial in outcome.search.trials]
        figures["plots/search.png"] = plot_search(history, metric)
        if outcome.search.importance:
            figures["search_importance.json"] = outcome.search.importance
    return figures
