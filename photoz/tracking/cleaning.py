"""Cleaning: runs that came to nothing, removed once they are old."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from photoz.tracking.paging import pages
from photoz.tracking.registry import VERSION_TAG

__all__ = ["OldRun", "find_old_runs", "remove_run"]

# A store may hold the runs of others, which are none of our business.
_OURS = f"tags.{VERSION_TAG} LIKE '%'"

# How MLflow is asked for what came to nothing.
_FILTERS = {
    "failed": "attributes.status = 'FAILED'",
    "killed": "attributes.status = 'KILLED'",
    "pruned": "tags.state = 'pruned'",
}


@dataclass(frozen=True)
class OldRun:
    """A run that came to nothing.

    Parameters
    ----------
    run_id, name, experiment
        The run, its name and that of its experiment.
    reason
        ``failed``, ``killed``, ``pruned``, or ``trial`` for a trial of such a run.
    ended
        When it ended (ISO 8601, UTC).
    places
        Folders on this machine that hold its artifacts and its models.
    model_ids
        Models that it logged.
    """

    run_id: str
    name: str
    experiment: str
    reason: str
    ended: str
    places: tuple[Path, ...]
    model_ids: tuple[str, ...]


def find_old_runs(client: MlflowClient, age: timedelta) -> list[OldRun]:
    """Runs that failed, were killed or pruned, and ended longer ago than `age`.

    Runs that this package did not make are left alone. The trials of a run go with it. A run
    that a registered model came from stays, with its model.

    Parameters
    ----------
    client
        Client of the store.
    age
        Runs that ended since are left alone.
    """
    before = int(1e3 * (datetime.now(UTC) - age).timestamp())
    kept = {version.run_id for version in pages(client.search_model_versions)}
    found: dict[str, OldRun] = {}
    for experiment in pages(client.search_experiments):
        for reason, condition in _FILTERS.items():
            asked = f"{condition} AND {_OURS} AND attributes.end_time < {before}"
            for run in _runs(client, experiment, asked):
                if run.info.run_id in kept:
                    continue
                below = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
                trials = [
                    trial
                    for trial in _runs(client, experiment, below)
                    if trial.info.run_id not in kept
                ]
                for gone, why in ((run, reason), *((trial, "trial") for trial in trials)):
                    if gone.info.run_id not in found:
                        found[gone.info.run_id] = _old_run(client, experiment, gone, why)
    return list(found.values())


def remove_run(client: MlflowClient, run: OldRun) -> None:
    """Delete a run and its models, and its files where they lie on this machine.

    MLflow keeps the entry of a deleted run until ``mlflow gc`` empties its bin.
    """
    for model_id in run.model_ids:
        client.delete_logged_model(model_id)
    client.delete_run(run.run_id)
    for place in run.places:
        shutil.rmtree(place, ignore_errors=True)


def _old_run(client: MlflowClient, experiment: Experiment, run: Run, reason: str) -> OldRun:
    models = pages(
        client.search_logged_models,
        experiment_ids=[experiment.experiment_id],
        filter_string=f"source_run_id = '{run.info.run_id}'",
    )
    # Artifacts lie in a folder of the run, or of the model, that holds nothing else.
    uris = {run.info.run_id: run.info.artifact_uri}
    uris |= {model.model_id: model.artifact_location for model in models}
    places = [_local_folder(uri, name) for name, uri in uris.items()]
    ended = run.info.end_time or run.info.start_time
    return OldRun(
        run.info.run_id,
        run.info.run_name,
        experiment.name,
        reason,
        datetime.fromtimestamp(ended / 1e3, tz=UTC).isoformat(timespec="seconds"),
        tuple(place for place in places if place is not None),
        tuple(name for name in uris if name != run.info.run_id),
    )


def _local_folder(uri: str, name: str) -> Path | None:
    """Folder called `name` above the artifacts; None where there is none on this machine."""
    parsed = urlparse(uri)
    if parsed.scheme not in ("", "file"):
        return None
    folder = Path(unquote(parsed.path)).parent
    return folder if folder.name == name and folder.is_dir() else None


def _runs(client: MlflowClient, experiment: Experiment, condition: str) -> Iterator[Run]:
    return pages(
        client.search_runs,
        experiment_ids=[experiment.experiment_id],
        filter_string=condition,
    )
