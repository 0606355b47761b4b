"""Commands that use a model: predict, evaluate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

from photoz.cli.app import OUT, AsJson, Bars, Quiet, SurveyOption, app, load_fitted, progress_bars

__all__ = ["evaluate", "export", "predict"]


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

    with progress_bars(quiet=quiet) as bar:
        counts = score_catalogue(
            load_fitted(model),
            catalogue,
            out,
            survey=load_survey(survey) if survey else None,
            name=name,
            pdf=pdf,
            keep=keep or (),
            overwrite=overwrite,
            on_progress=Bars(bar),
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

    fitted = load_fitted(model)
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
    OUT.print(table)
    for reason, count in galaxies.dropped.items():
        typer.echo(f"left out: {count} ({reason})")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory, or file ending in .zip.")],
) -> None:
    """Write a model as a bundle, after checking that it predicts as it did when it was fitted."""
    from photoz.bundle import save_model

    typer.echo(str(save_model(load_fitted(model), out)))
