"""Runs: the MLflow experiment of an experiment file, with a run per estimator."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

import photoz
from photoz.environment import (
    git_commit,
    installed_distributions,
    machine,
    peak_memory,
    user_name,
)
from photoz.process import is_gone, process_name, uninterrupted
from photoz.tracking.contents import Content, TrackedData
from photoz.tracking.estimator_run import EstimatorRun, Shared, shown
from photoz.tracking.pages import page_tags, run_colour
from photoz.tracking.registry import METRIC_TAG, PREFIX, VERSION_TAG, Verdict, promote
from photoz.tracking.store import MLRUNS, Store

__all__ = ["Tracking"]


class Tracking:
    """The MLflow experiment that the runs of one experiment file go to.

    Parameters
    ----------
    uri
        Tracking URI or folder; if empty ``MLFLOW_TRACKING_URI``, else `mlruns`.
    name
        Name of the experiment; the registered model is ``photoz-NAME``.
    data
        The galaxies.
    metric
        Name of the metric that the search minimises.
    mlruns
        Folder of the store where nothing else is said.

    Attributes
    ----------
    folder
        Folder of this machine that goes with the store.
    experiment_id
        Id of the experiment in MLflow.
    common_tags
        Tags that all its runs share.

    Raises
    ------
    InputError
        If the store cannot be reached or used.
    """

    def __init__(
        self, uri: str, name: str, *, data: TrackedData, metric: str, mlruns: Path = MLRUNS
    ) -> None:
        self.name = name
        self.data = data
        self.metric = metric
        self._store = Store.find(uri, mlruns)
        self.folder = self._store.folder
        self.experiment_id = self._store.experiment(name).experiment_id
        self._client = self._store.client()
        with self._store.explained():
            for key, value in page_tags(metric).items():
                self._client.set_experiment_tag(self.experiment_id, key, value)
            self._end_abandoned()
        self.common_tags: dict[str, Any] = {
            "dataset": data.name,
            "data_sha256": data.sha256,
            "split_sha256": data.split_sha256,
            VERSION_TAG: photoz.__version__,
            "mlflow.user": user_name(),
        }
        if commit := git_commit():
            self.common_tags |= {"git_commit": commit, "mlflow.source.git.commit": commit}
        self._shared = Shared(
            self._client, self.experiment_id, self.model_name, data, metric, self.common_tags
        )
        self._environment: dict[str, Content] = {
            "environment/machine.json": machine(),
            "environment/constraints.txt": installed_distributions(),
        }

    @property
    def model_name(self) -> str:
        """Name of the registered model."""
        return f"{PREFIX}{self.name}"

    @contextmanager
    def run(self, estimator: str) -> Iterator[EstimatorRun]:
        """Run of one estimator, which fails or is killed if the block that it is open for does.

        Parameters
        ----------
        estimator
            Name of the estimator.
        """
        client = self._client
        tags = {
            **self.common_tags,
            "family": estimator,
            "stage": "final",
            METRIC_TAG: self.metric,
            "process": process_name(os.getpid()),
            "mlflow.source.name": "photoz experiment",
            "mlflow.source.type": "LOCAL",
            **run_colour(estimator),
        }
        run_id = ""
        try:
            with uninterrupted():
                created = client.create_run(self.experiment_id, tags=tags, run_name=estimator)
                run_id = created.info.run_id
                client.log_inputs(run_id, datasets=self.data.inputs())
                run = EstimatorRun(self._shared, run_id, estimator)
                run.log_artifacts(self._environment)
            with self._watched(run_id):
                yield run
            client.set_terminated(run_id, "FINISHED")
        except Exception as error:
            if run_id:
                client.set_tag(run_id, "error", shown(f"{type(error).__name__}: {error}"))
                client.set_terminated(run_id, "FAILED")
            raise
        except BaseException:
            # What interrupts goes on, whatever the store says: the next start ends the runs.
            with suppress(MlflowException):
                self._end_own()
            raise

    @contextmanager
    def _watched(self, run_id: str) -> Iterator[None]:
        """Let MLflow measure the machine meanwhile."""
        watch = SystemMetricsMonitor(run_id, tracking_uri=self._store.uri)
        watch.start()
        try:
            yield
        finally:
            with uninterrupted(), suppress(MlflowException):
                watch.finish()
                self._client.log_metric(
                    run_id, "system/process_peak_memory_megabytes", peak_memory()
                )

    def promote(self, version: str) -> Verdict:
        """Make a version the champion of the registered model if it is shown to be better."""
        return promote(self._client, self.model_name, version)

    @uninterrupted()
    def _end_own(self) -> None:
        """End what this process has begun, as killed."""
        mine = f"attributes.status = 'RUNNING' AND tags.process = '{process_name(os.getpid())}'"
        for run in self._client.search_runs([self.experiment_id], mine):
            self._client.set_terminated(run.info.run_id, "KILLED")

    def _end_abandoned(self) -> None:
        """End the runs of processes that were killed, which would seem to run for ever."""
        running = self._client.search_runs([self.experiment_id], "attributes.status = 'RUNNING'")
        for run in running:
            process = run.data.tags.get("process")
            if process and is_gone(process, one_machine=self._store.database is not None):
                self._client.set_terminated(run.info.run_id, "KILLED")
