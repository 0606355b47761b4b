"""Versions: what the registry holds, as a person wants to see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as RegisteredVersion
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from photoz.errors import InputError
from photoz.tracking.paging import pages
from photoz.tracking.registry import PREFIX

__all__ = ["ModelVersion", "list_versions", "registered_models"]


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Parameters
    ----------
    model, version
        Name of the registered model, and the version.
    aliases
        Its aliases.
    family
        Name of the estimator.
    created
        When it was registered (ISO 8601, UTC).
    run_id
        Run that it came from.
    metrics
        Held-out metrics by name; empty where the run is gone.
    description
        How it became what it is, and what it is good for.
    """

    model: str
    version: str
    aliases: tuple[str, ...]
    family: str
    created: str
    run_id: str
    metrics: dict[str, float]
    description: str

    @property
    def grounds(self) -> str:
        """How it got its alias: the newest line of its description."""
        return self.description.partition("\n")[0]


def list_versions(client: MlflowClient, name: str | None = None) -> list[ModelVersion]:
    """Versions of the registered models of this package, newest first.

    Parameters
    ----------
    client
        Client of the current store.
    name
        Name of a registered model, with or without ``photoz-``; all if left out.

    Raises
    ------
    InputError
        If there is no such model.
    """
    models = registered_models(client)
    ours = sorted(models)
    if name is not None:
        full = name if name.startswith(PREFIX) else PREFIX + name
        if full not in ours:
            known = ", ".join(ours) or "none"
            msg = f"no registered model {full}; there are: {known}."
            raise InputError(msg)
        ours = [full]
    return [
        _describe(client, version, models[model].aliases)
        for model in ours
        for version in sorted(
            pages(client.search_model_versions, filter_string=f"name = '{model}'"),
            key=lambda it: -int(it.version),
        )
    ]


def registered_models(client: MlflowClient) -> dict[str, RegisteredModel]:
    """Registered models of this package by name."""
    found = pages(client.search_registered_models, filter_string=f"name LIKE '{PREFIX}%'")
    return {model.name: model for model in found}


def _describe(
    client: MlflowClient, found: RegisteredVersion, aliases: Mapping[str, str]
) -> ModelVersion:
    created = datetime.fromtimestamp(found.creation_timestamp / 1e3, tz=UTC)
    try:
        metrics = client.get_run(found.run_id).data.metrics
    except MlflowException:  # the run was deleted for good
        metrics = {}
    return ModelVersion(
        model=found.name,
        version=str(found.version),
        aliases=tuple(alias for alias, of in aliases.items() if str(of) == str(found.version)),
        family=found.tags.get("family", ""),
        created=created.isoformat(timespec="seconds"),
        run_id=found.run_id,
        metrics={
            key.removeprefix("test/"): value
            for key, value in metrics.items()
            if key.startswith("test/")
        },
        description=found.description or "",
    )
