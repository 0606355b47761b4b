"""Commands on what MLflow keeps: models, promote, doctor, clean, ui."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from photoz.cli.app import OUT, AsJson, app
from photoz.errors import InputError, without_password

if TYPE_CHECKING:
    from photoz.tracking import ModelVersion

__all__ = ["clean", "doctor", "models", "promote", "ui"]

_SHOWN = {"log_loss": "log loss", "cde_loss": "CDE loss", "crps": "CRPS", "sigma_nmad": "σ_NMAD"}
_NOT_PROMOTED = 1
_HOURS = {"h": 1, "d": 24, "w": 168}
_LONGEST = 4

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
    for model in dict.fromkeys(version.model for version in versions):
        OUT.print(_table(model, [version for version in versions if version.model == model]))
    for version in versions:
        if {"champion", "challenger"} & set(version.aliases):
            typer.echo(f"{version.model} version {version.version}: {version.grounds}")


def _table(model: str, versions: list[ModelVersion]) -> Table:
    """Versions of one model, without cutting a word on lines of 80 characters."""
    table = Table(title=model, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("aliases", min_width=len("challenger"))
    for name in ("family", "registered", *_SHOWN.values()):
        table.add_column(name, no_wrap=True)
    for version in versions:
        metrics = (version.metrics.get(metric) for metric in _SHOWN)
        table.add_row(
            f"v{version.version}",
            ", ".join(version.aliases),
            version.family,
            version.created[:10],
            *("–" if value is None else f"{value:.4g}" for value in metrics),
        )
    return table


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
def doctor(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be mended, mend nothing.")
    ] = False,
) -> None:
    """Find artifacts again after mlruns/ was moved or copied."""
    from photoz.tracking import Store, find_moves, mend

    store = Store.find()
    if store.database is None or not store.database.exists():
        found = f"no {store.database}" if store.database else without_password(store.uri)
        msg = (
            f"expected the database of a store on this machine, found {found}; run it where "
            "mlruns/ is."
        )
        raise InputError(msg)
    moves = find_moves(store.database)
    if not dry_run:
        mend(store.database, moves)
    for move in moves:
        typer.echo(f"{'would mend' if dry_run else 'mended'} {move}")
    if not moves:
        typer.echo(f"every artifact of {store.folder} lies where it should")


@app.command()
def clean(
    older_than: Annotated[
        str, typer.Option(help="Age of what is removed: a number and h, d or w.")
    ] = "30d",
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; else it is only listed.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of all results.")] = Path(
        "experiments/results"
    ),
) -> None:
    """Remove old failed, killed and pruned runs, and folders left unfinished.

    Registered models, and the runs that they came from, always stay.
    """
    from photoz.results import abandoned_folders
    from photoz.tracking import Store, find_old_runs, remove_run

    age = _age(older_than)
    begun_before = (datetime.now(UTC) - age).timestamp()
    folders = [it for it in abandoned_folders(results) if it.stat().st_mtime < begun_before]
    verb = "removed" if yes else "would remove"
    with Store.find().opened() as client:
        runs = find_old_runs(client, age)
        for run in runs:
            if yes:
                remove_run(client, run)
            typer.echo(f"{verb} {run.reason} run {run.name} of {run.experiment}, {run.ended}")
    for folder in folders:
        if yes:
            shutil.rmtree(folder)
        typer.echo(f"{verb} unfinished {folder}")
    hint = "" if yes or not (runs or folders) else "; --yes does it"
    typer.echo(f"{verb} {len(runs)} runs and {len(folders)} folders{hint}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; this machine only if left out.")
    ] = "127.0.0.1",
) -> None:
    """Open MLflow on the runs of this directory, for this machine unless told otherwise."""
    from photoz.tracking import Store, experiment_addresses, is_local, page_address, serve

    if not is_local(host):
        warning = (
            f"warning: MLflow asks for no password: whoever reaches {host}:{port} can read, "
            "change and delete every run and model. Safer: leave --host out, and reach it with "
            f"ssh -L {port}:127.0.0.1:{port}."
        )
        typer.echo(warning, err=True)
    typer.echo(f"MLflow: {page_address(port, host)}")
    store = Store.find()
    if store.database is not None and store.database.exists():
        with store.opened() as client:
            for name, address in experiment_addresses(client, port, host).items():
                typer.echo(f"{name}: {address}")
    serve(port, host=host)


def _age(text: str) -> timedelta:
    """Time such as 30d, 12h or 2w."""
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.isdigit() and len(number) <= _LONGEST
    if unit not in _HOURS or not is_number:
        msg = f"expected an age such as 30d, 12h or 2w, got {text!r}."
        raise InputError(msg)
    return timedelta(hours=int(number) * _HOURS[unit])


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
