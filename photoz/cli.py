"""The command ``photoz``: data, experiment, predict, evaluate, export, report, ui."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

# LightGBM and torch read this when they are imported: without it their threads wait busily.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import photoz
from photoz.errors import InputError

# Libraries that take seconds to import are imported by the command that needs them.
if TYPE_CHECKING:
    from photoz.blend import PhotozBlend
    from photoz.model import PhotozModel

__all__ = ["app", "main"]

app = typer.Typer(
    name="photoz",
    help="Photometric redshifts with calibrated p(z).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

_WRONG_INPUT = 2
_FAILURE = 1
_INTERRUPTED = 130
_SHOWN = {
    "cde_loss": "CDE loss",
    "crps": "CRPS",
    "sigma_nmad": "σ_NMAD",
    "outlier_fraction": "outliers",
    "pit_ks": "PIT KS",
    "coverage_68": "cover 68",
}

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
SurveyOption = Annotated[
    str | None,
    typer.Option("--survey", help="Survey name or TOML, where the columns are called otherwise."),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        _out.print(photoz.__version__)
        raise typer.Exit


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and split the data, fit nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search, test, track and export the models of an experiment file."""
    from photoz.experiment import run
    from photoz.samples import load_samples
    from photoz.settings import Experiment

    settings = Experiment.from_toml(file).replaced(catalogue=catalogue, test=test, trials=trials)
    if dry_run:
        typer.echo(load_samples(settings).describe())
        return
    results = output or Path("experiments/results") / settings.name
    with _progress(quiet=quiet) as bar:
        report = run(settings, results, on_progress=_Bars(bar))
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print_metrics(report)
        typer.echo(f"report: {results / 'report.html'}")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    catalogue: Annotated[list[Path], typer.Argument(help="Catalogue files.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    survey: SurveyOption = None,
    pdf: Annotated[
        Literal["quantiles", "grid", "none"], typer.Option(help="Form of p(z) to add.")
    ] = "quantiles",
    keep: Annotated[
        list[str] | None, typer.Option(help="Column to carry over; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="Start of the column names.")] = "photoz",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add redshifts with p(z) to a catalogue."""
    from photoz.scoring import score_catalogue
    from photoz.survey import load_survey

    with _progress(quiet=quiet) as bar:
        counts = score_catalogue(
            _load(model),
            catalogue,
            out,
            survey=load_survey(survey) if survey else None,
            name=name,
            pdf=pdf,
            keep=keep or (),
            overwrite=overwrite,
            on_progress=_Bars(bar),
        )
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        typer.echo(f"{out}: " + ", ".join(f"{value} {key}" for key, value in counts.items()))


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    catalogue: Annotated[list[Path], typer.Argument(help="Catalogue with redshifts.")],
    survey: SurveyOption = None,
    as_json: AsJson = False,
) -> None:
    """Score a model on galaxies of known redshift, which should be new to it."""
    from photoz.catalogue import read
    from photoz.evaluation import evaluate as evaluate_densities
    from photoz.survey import load_survey

    fitted = _load(model)
    galaxies = read(
        catalogue,
        load_survey(survey) if survey else fitted.survey,
        training=True,
        optional_bands=fitted.optional_bands,
    )
    result = evaluate_densities(
        np.asarray(galaxies.z_spec), fitted.predict_pdf(galaxies.photometry)
    )
    if as_json:
        typer.echo(json.dumps(result.to_dict()))
        return
    table = Table("metric", "value", "95 % interval", title=f"{len(galaxies)} galaxies")
    for metric, value in result.metrics.items():
        low, high = result.intervals[metric]
        table.add_row(metric, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
    _out.print(table)
    for reason, count in galaxies.dropped.items():
        typer.echo(f"left out: {count} ({reason})")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory, or file ending in .zip.")],
) -> None:
    """Write a model as a bundle, after checking that it predicts as it did when it was fitted."""
    from photoz.bundle import save_model

    typer.echo(str(save_model(_load(model), out)))


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="Results of an experiment.")],
    as_json: AsJson = False,
) -> None:
    """Print the held-out metrics of a finished experiment."""
    file = directory / "report.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"expected the results of an experiment, found no readable {file}: {error}."
        raise InputError(msg) from error
    if as_json:
        typer.echo(json.dumps(content))
        return
    _print_metrics(content)
    typer.echo(f"report: {directory / 'report.html'}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on the runs of this directory, for this machine only."""
    from photoz.tracking import page_address, serve

    typer.echo(f"MLflow: {page_address(port)}")
    serve(port)


def main() -> NoReturn:
    """Run the command line; exit with 2 for wrong input, 1 for a failure, 0 otherwise."""
    try:
        app()
    except InputError as error:
        _fail(error)
        sys.exit(_WRONG_INPUT)
    except (RuntimeError, OSError, MemoryError) as error:
        _fail(error)
        sys.exit(_FAILURE)
    except KeyboardInterrupt:
        _err.print("interrupted; the same command goes on with the search where it stopped")
        sys.exit(_INTERRUPTED)
    sys.exit(0)


def _fail(error: BaseException) -> None:
    one_line = " ".join(str(error).split()) or type(error).__name__
    _err.print(f"photoz: {one_line}", style="red", markup=False, highlight=False, soft_wrap=True)


def _load(model: str) -> PhotozModel | PhotozBlend:
    from photoz.bundle import load_model

    if model.startswith("models:/"):
        from photoz.tracking import fetch_bundle

        return load_model(fetch_bundle(model), verify=True)
    return load_model(model, verify=True)


def _progress(*, quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_err,
        disable=quiet or not _err.is_terminal,
    )


class _Bars:
    """One progress bar for each thing that is counted."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(self.tasks[what], completed=done, total=total)


def _print_metrics(content: dict[str, Any]) -> None:
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
    _out.print(table)
    typer.echo("±: half of the 95 % interval.  *: champion, the best on validation rows.")
