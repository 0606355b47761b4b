"""Run: what one estimator of an experiment tells MLflow, with a run below it per trial."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, Metric, Param

from photoz.errors import without_password
from photoz.process import process_name, uninterrupted
from photoz.tracking.contents import Content, TrackedData, write_content
from photoz.tracking.models import log_bundle
from photoz.tracking.pages import HEADLINES, metrics_table, run_colour
from photoz.tracking.registry import register

if TYPE_CHECKING:  # the search needs Optuna, which a machine that only predicts lacks
    from photoz.search import Trial

__all__ = ["EstimatorRun", "Shared", "shown"]


@dataclass(frozen=True, eq=False)
class Shared:
    """What all runs of an experiment share.

    Parameters
    ----------
    client
        Client of the store.
    experiment_id
        Id of the experiment in MLflow.
    model_name
        Name of the registered model.
    data
        The galaxies.
    metric
        Name of the metric that the search minimises.
    tags
        Tags of every run.
    """

    client: MlflowClient
    experiment_id: str
    model_name: str
    data: TrackedData
    metric: str
    tags: Mapping[str, Any]


class EstimatorRun:
    """Run of one estimator; made by `Tracking.run`.

    MLflow groups metrics by what stands before a slash, in charts as in tables; hence names
    such as ``test/cde_loss``.

    Attributes
    ----------
    run_id
        Its id in MLflow.
    """

    def __init__(self, shared: Shared, run_id: str, estimator: str) -> None:
        self.run_id = run_id
        self._shared = shared
        self._client = shared.client
        self._estimator = estimator
        self._best = math.inf
        self._headline = ""
        self._card = ""
        self._of_model: list[Metric] = []

    @uninterrupted()
    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log parameters, each of which can be given once."""
        self._client.log_batch(self.run_id, params=_params(parameters))

    @uninterrupted()
    def log_metrics(
        self,
        part: str,
        metrics: Mapping[str, float],
        intervals: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Log metrics all at once.

        Parameters
        ----------
        part
            Galaxies that the metrics are of, ``validation`` or ``test``; or a group of
            metrics that are of none, such as ``time``. It begins their names.
        metrics
            Values by name.
        intervals
            95 % intervals by name, logged as ``PART_interval/NAME_low`` and ``..._high``.
        """
        named = {f"{part}/{name}": value for name, value in metrics.items()}
        for name, (low, high) in (intervals or {}).items():
            named[f"{part}_interval/{name}_low"] = low
            named[f"{part}_interval/{name}_high"] = high
        data = self._shared.data
        dataset = data.part(part) if part in data.n_rows else None
        logged = _metrics(named, dataset=dataset)
        self._client.log_batch(self.run_id, logged)
        self._of_model += logged if dataset else []
        if part == "test":
            self._describe(metrics, intervals or {})

    @uninterrupted()
    def log_curve(self, name: str, curve: Mapping[int, float]) -> None:
        """Log a metric that changes with the step; nothing if there is no step."""
        if curve:
            now = _milliseconds()
            points = [Metric(name, float(value), now, step) for step, value in curve.items()]
            self._client.log_batch(self.run_id, points)

    def describe(self, card: str) -> None:
        """Put a model card (Markdown) on top of the run's page, and beside its model."""
        self._card = without_password(card)
        self._client.set_tag(self.run_id, "mlflow.note.content", self._card)
        self.log_artifacts({"model_card.md": self._card})

    @uninterrupted()
    def log_trial(self, trial: Trial) -> None:
        """Log a trial as a run below this one, and the best value so far as a curve."""
        client, metric = self._client, self._shared.metric
        now = _milliseconds()
        tags = {
            **self._shared.tags,
            **run_colour(self._estimator),
            "mlflow.parentRunId": self.run_id,
            "family": self._estimator,
            "stage": "trial",
            "state": trial.state,
            "process": process_name(os.getpid()),
            **({} if trial.error is None else {"error": shown(trial.error)}),
        }
        run_id = client.create_run(
            self._shared.experiment_id,
            start_time=now - int(1e3 * trial.seconds),
            tags=tags,
            run_name=f"{self._estimator} trial {trial.number}",
        ).info.run_id
        values = {"trials/seconds": trial.seconds}
        if trial.value is not None:
            values[f"trials/{metric}"] = trial.value
        tuned = {f"tuned.{name}": value for name, value in trial.tuned.items()}
        client.log_batch(run_id, _metrics(values), _params({**trial.parameters, **tuned}))
        client.set_terminated(run_id, "FAILED" if trial.state == "failed" else "FINISHED", now)
        if trial.state == "complete" and trial.value is not None:
            self._best = min(self._best, trial.value)
            best = {f"trials/best_{metric}": self._best}
            client.log_batch(self.run_id, _metrics(best, step=trial.number + 1))

    @uninterrupted()
    def log_artifacts(self, contents: Mapping[str, Content]) -> None:
        """Log files.

        Parameters
        ----------
        contents
            What each file holds, by its name in the run, folders included.
        """
        with tempfile.TemporaryDirectory(prefix="photoz-") as directory:
            for name, content in contents.items():
                file = Path(directory) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                write_content(file, content)
            self._client.log_artifacts(self.run_id, directory)

    @uninterrupted()
    def log_model(self, bundle: Path) -> str:
        """Log a bundle as a model and register it, with the estimator's name as its alias.

        Call it after the metrics, which MLflow then shows with the model.

        Parameters
        ----------
        bundle
            Directory of the bundle.

        Returns
        -------
        str
            Version of the registered model.
        """
        shared, client = self._shared, self._client
        model_id = log_bundle(
            bundle,
            client=client,
            experiment_id=shared.experiment_id,
            run_id=self.run_id,
            family=self._estimator,
        )
        client.log_batch(self.run_id, [_of_model(metric, model_id) for metric in self._of_model])
        version = register(
            client,
            shared.model_name,
            model_id,
            run_id=self.run_id,
            family=self._estimator,
            description="\n\n".join(filter(None, (self._headline, self._card))),
        )
        client.set_registered_model_alias(shared.model_name, self._estimator, version)
        return version

    def _describe(
        self, metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
    ) -> None:
        """Put the held-out metrics at the top of the run's page, and beside its model."""
        note = metrics_table(metrics, intervals, self._shared.data.n_rows["test"])
        self._client.set_tag(self.run_id, "mlflow.note.content", note)
        self._headline = ", ".join(
            f"{name} {metrics[name]:.4g}" for name in HEADLINES if name in metrics
        )


def _metrics(
    values: Mapping[str, float], *, step: int = 0, dataset: Dataset | None = None
) -> list[Metric]:
    now = _milliseconds()
    of = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
    return [Metric(name, float(value), now, step, **of) for name, value in values.items()]


def _of_model(metric: Metric, model_id: str) -> Metric:
    """The same metric, of the same moment, which MLflow then links to the model."""
    return Metric(
        metric.key,
        metric.value,
        metric.timestamp,
        metric.step,
        model_id=model_id,
        dataset_name=metric.dataset_name,
        dataset_digest=metric.dataset_digest,
    )


def _params(values: Mapping[str, Any]) -> list[Param]:
    return [Param(name, shown(str(value))) for name, value in values.items()]


def shown(text: str) -> str:
    """Text as MLflow may show it: without passwords, and no longer than it takes."""
    return without_password(text)[:5000]


def _milliseconds() -> int:
    return int(1e3 * time.time())
