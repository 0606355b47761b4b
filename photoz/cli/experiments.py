"""Commands on data and experiments: data, experiment, report."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from photoz.cli.app import ERR, OUT, AsJson, Bars, Quiet, app, progress_bars
from photoz.errors import InputError

__all__ = ["data", "experiment", "report"]

_REPORT = "report.json"
_SHOWN = {
    "cde_loss": "CDE loss",
    "crps": "CRPS",
    "sigma_nmad": "σ_NMAD",
    "outlier_fraction": "outliers",
    "pit_ks": "PIT KS",
    "coverage_68": "cover 68",
}


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="Name of the set; all if left out.")] = None,
    directory: Annotated[Path, typer.Option(help="Where the files go.")] = Path("data"),
) -> None:
    """Fetch a named data set and check it."""
    from photoz.datasets import DATASETS, fetch

    for known in [name] if name else DATASETS:
        files = fetch(known, directory)
        for path in filter(None, (files.train, files.test)):
            typer.echo(f"{known}: {path}")


@app.command()
def experiment(
    file: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    output: Annotated[
        Path | None, typer.Option(help="Results go here; experiments/results/NAME if left out.")
    ] = None,
    catalogue: Annotated[Path | None, typer.Option(help="Read this catalogue instead.")] = None,
    test: Annotated[Path | None, typer.Option(help="Read this held-out file instead.")] = None,
    trials: Annotated[int | None, typer.Option(min=0, help="Trials per estimator.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes of this machine that search.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and split the data, fit nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search, test, track and export the models of an experiment file.

    The exit status is 0 only if every estimator was finished. A search that was interrupted
    goes on where it stopped. Where other machines search in the same database, or other
    processes in the same journal, the first to run the same file finishes the experiment; the
    others help to search.
    """
    if workers > 1:  # read as the libraries are imported, here and in the other processes
        from photoz.environment import processors

        threads = max(1, processors() // workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from photoz.experiment import run
    from photoz.samples import load_samples
    from photoz.settings import Experiment

    settings = Experiment.from_toml(file).replaced(catalogue=catalogue, test=test, trials=trials)
    if dry_run:
        typer.echo(load_samples(settings).describe())
        return
    results = output or Path("experiments/results") / settings.name
    with _stopped_by_signals(), progress_bars(quiet=quiet) as bar:
        report = run(settings, results, workers=workers, on_progress=Bars(bar))
    if report is None:
        typer.echo("helped to search; another process finishes this experiment", err=True)
        return
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print_metrics(report, _metrics_table(report))
        typer.echo(f"report: {results / 'report.html'}")
    for name, reason in report["failed"].items():
        ERR.print(f"{name} failed: {reason}", style="red", markup=False, soft_wrap=True)
    if report["failed"]:
        raise typer.Exit(1)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let a process that is told to end close its runs first, as Ctrl-C does."""

    def stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough
        raise KeyboardInterrupt(number)

    # What is ignored stays so: nohup lets a process outlive its terminal.
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    ]
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    except KeyboardInterrupt as stopped:
        raise typer.Exit(128 + (*stopped.args, signal.SIGINT)[0]) from stopped
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="Results of an experiment.")],
    as_json: AsJson = False,
) -> None:
    """Print the held-out metrics of a finished experiment."""
    directory = directory.parent if directory.name == _REPORT else directory
    file = directory / _REPORT
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        table = _metrics_table(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"expected the results of an experiment, found no readable {file}: {error!r}."
        raise InputError(msg) from error
    if as_json:
        typer.echo(json.dumps(content))
        return
    _print_metrics(content, table)
    typer.echo(f"report: {directory / 'report.html'}")


def _metrics_table(content: dict[str, Any]) -> Table:
    """Held-out metrics, each with half the width of its 95 % interval."""
    simulated = "simulated " if content["data"].get("simulated") else ""
    table = Table(
        "estimator",
        *_SHOWN.values(),
        title=f"{content['name']}: {content['data']['n_test']} held-out {simulated}galaxies",
    )
    for name, entry in content["estimators"].items():
        cells = []
        for metric in _SHOWN:
            low, high = entry["test_interval"][metric]
            half = (high - low) / 2
            digits = min(max(1 - math.floor(math.log10(half)), 0), 5) if half > 0 else 3
            cells.append(f"{entry['test'][metric]:.{digits}f}\n[dim]± {half:.{digits}f}[/dim]")
        mark = " *" if name == content["champion"] else ""
        table.add_row(f"{name}{mark}", *cells)
    return table


def _print_metrics(content: dict[str, Any], table: Table) -> None:
    OUT.print(table)
    typer.echo("±: half of the 95 % interval.  *: champion, the best on validation rows.")
    if registered := content.get("registered"):
        typer.echo("{model} version {version}, {alias}: {grounds}.".format(**registered))
