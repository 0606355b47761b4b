"""Commands on what MLflow keeps: models, promote, ui."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from photoz.cli.app import OUT, AsJson, app
from photoz.errors import InputError

if TYPE_CHECKING:
    from photoz.tracking import ModelVersion

__all__ = ["models", "promote", "ui"]

_SHOWN = {"log_loss": "log loss", "cde_loss": "CDE loss", "crps": "CRPS", "sigma_nmad": "σ_NMAD"}
_NOT_PROMOTED = 1

ModelName = Annotated[
    str | None, typer.Argument(help="Registered model, with or without photoz-.")
]


@app.command()
def models(name: ModelName = None, as_json: AsJson = False) -> None:
    """List the registered models: versions, aliases, and held-out metrics."""
    from photoz.tracking import Store, list_versions

    with Store.find().opened() as client:
        versions = list_versions(client, name)
    if as_json:
        typer.echo(json.dumps([asdict(version) for version in versions]))
        return
    table = Table("model", "version", "aliases", "family", "registered", *_SHOWN.values())
    for version in versions:
        metrics = (version.metrics.get(metric) for metric in _SHOWN)
        table.add_row(
            version.model,
            version.version,
            ", ".join(version.aliases),
            version.family,
            version.created[:16].replace("T", " "),
            *("–" if value is None else f"{value:.4g}" for value in metrics),
        )
    OUT.print(table)
    for version in versions:
        if {"champion", "challenger"} & set(version.aliases):
            typer.echo(f"{version.model} version {version.version}: {version.grounds}")


@app.command()
def promote(
    name: ModelName = None,
    version: Annotated[
        str | None, typer.Option(help="Version; the challenger if left out.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make it the champion without a comparison.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion if its out-of-fold losses are shown to be better.

    Exits with 1 where it stays the challenger.
    """
    from photoz.environment import user_name
    from photoz.tracking import Store, list_versions
    from photoz.tracking import promote as decide

    with Store.find().opened() as client:
        chosen = _choose(list_versions(client, name), version)
        by_hand_of = user_name() if force else ""
        verdict = decide(client, chosen.model, chosen.version, by_hand_of=by_hand_of)
    if as_json:
        typer.echo(json.dumps(verdict.to_dict()))
    else:
        typer.echo(str(verdict))
    if verdict.alias != "champion":
        raise typer.Exit(_NOT_PROMOTED)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on the runs of this directory, for this machine only."""
    from photoz.tracking import page_address, serve

    typer.echo(f"MLflow: {page_address(port)}")
    serve(port)


def _choose(versions: list[ModelVersion], version: str | None) -> ModelVersion:
    """The version that is meant, of the one model that is meant."""
    models = list(dict.fromkeys(found.model for found in versions))
    if len(models) != 1:
        msg = f"expected the name of a registered model; there are: {', '.join(models) or 'none'}."
        raise InputError(msg)
    for found in versions:
        if found.version == version or (version is None and "challenger" in found.aliases):
            return found
    numbers = ", ".join(found.version for found in versions)
    what = f"no version {version}" if version else "no challenger; give --version"
    msg = f"{models[0]} has {what}; the versions are: {numbers}."
    raise InputError(msg)
