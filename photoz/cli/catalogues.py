"""Commands that use a model: predict, evaluate, export."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from photoz.cli.app import (
    ERR,
    OUT,
    AsJson,
    Bars,
    Quiet,
    SurveyOption,
    app,
    load_fitted,
    progress_bars,
    warn,
)
from photoz.errors import InputError

__all__ = ["evaluate", "export", "predict"]

_SKIPPED = 3
_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".7z", ".rar")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    catalogue: Annotated[
        list[Path],
        typer.Argument(
            help="Catalogue: files, folders (Hive partitions too) or quoted patterns; or one HATS "
            "catalogue."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File to write; folder, of a HATS catalogue.")
    ],
    survey: SurveyOption = None,
    pdf: Annotated[
        Literal["quantiles", "grid", "mixture", "none"],
        typer.Option(help="Form of p(z) to add; mixture: of boosting or a network."),
    ] = "quantiles",
    output: Annotated[
        Literal["parquet", "fits", "hdf5", "qp"] | None,
        typer.Option("--format", help="Format of the output; by its name if left out."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Column to carry over; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="Start of the column names.")] = "photoz",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Threads (HATS: processes) that compute; one per processor."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask cluster for a HATS catalogue, such as tcp://HOST:8786."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the same command, if it was interrupted.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out what cannot be read; exit with status 3."),
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Add redshifts with p(z) to a catalogue of any size.

    The output appears under its name once it is complete.
    """
    # The workers keep the processors busy; threads of the libraries would only wait for them.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from photoz.scoring import score_catalogue
    from photoz.survey import load_survey

    shared: dict[str, Any] = {
        "survey": load_survey(survey) if survey else None,
        "name": name,
        "pdf": pdf,
        "keep": keep or (),
        "overwrite": overwrite,
        "resume": resume,
    }
    skipped: tuple[str, ...] = ()
    is_hats = any(_is_hats(path) for path in catalogue)
    if is_hats and len(catalogue) == 1 and output is None and not skip_bad:
        from photoz.environment import processors

        counts = _score_hats(
            model,
            catalogue[0],
            out,
            **shared,
            workers=workers or processors(),
            scheduler=scheduler,
            progress=not quiet and ERR.is_terminal,
        )
    elif is_hats or scheduler is not None:
        msg = (
            "a Dask cluster (--scheduler) takes one HATS catalogue, which is written as one: "
            f"expected that alone, without --format and --skip-bad, got {catalogue[0]}."
        )
        raise InputError(msg)
    else:
        with progress_bars(quiet=quiet, rate=True) as bar:
            scored = score_catalogue(
                load_fitted(model),
                catalogue,
                out,
                **shared,
                output=output,
                skip_bad=skip_bad,
                workers=workers,
                on_progress=Bars(bar),
                on_message=warn,
            )
        counts, skipped = {"galaxies": scored.n_galaxies, **scored.flagged}, scored.skipped
    _warn_of_strangers(counts)
    if as_json:
        typer.echo(json.dumps({**counts, "skipped": skipped}))
    else:
        typer.echo(f"{out}: " + ", ".join(f"{value} {key}" for key, value in counts.items()))
    if skipped:
        raise typer.Exit(_SKIPPED)


def _warn_of_strangers(counts: Mapping[str, int]) -> None:
    """Warn of a catalogue that is unlike the galaxies of the training."""
    from photoz.prediction import FLAGS

    outside, n_galaxies = counts.get(FLAGS[4], 0), counts["galaxies"]
    if 2 * outside > n_galaxies:
        warn(
            f"{outside} of {n_galaxies} galaxies lie outside those of the training; if that is no "
            "surprise, their redshifts are guesses, else check unit, zero point and extinction"
        )


def _is_hats(path: Path) -> bool:
    """Whether a folder is a HATS catalogue, or a collection of one with its margin."""
    names = ("collection.properties", "hats.properties", "properties")
    return any((path / name).is_file() for name in names)


def _score_hats(model: str, *arguments: Any, **options: Any) -> dict[str, int]:  # noqa: ANN401
    try:
        from photoz.adapters.lsdb import score_hats
    except ImportError as error:
        msg = f"a HATS catalogue needs further packages ({error}): pip install 'photoz[lsdb]'."
        raise InputError(msg) from error
    if model.startswith("models:/"):
        from photoz.tracking import fetch_bundle

        return score_hats(fetch_bundle(model), *arguments, **options)
    return score_hats(model, *arguments, **options)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    catalogue: Annotated[list[Path], typer.Argument(help="Catalogue with redshifts.")],
    survey: SurveyOption = None,
    with_seen: Annotated[
        bool, typer.Option("--with-seen", help="Score galaxies of the training too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score a model on galaxies of known redshift that are new to it."""
    import numpy as np

    from photoz.catalogue import read_known
    from photoz.evaluation import evaluate as evaluate_densities
    from photoz.prediction import survey_for
    from photoz.survey import load_survey

    fitted = load_fitted(model)
    described = survey_for(fitted, load_survey(survey) if survey else None)
    galaxies = read_known(catalogue, described, optional_bands=fitted.optional_bands)
    for band in galaxies.photometry.unobserved_bands:
        columns = " and ".join(described.band_columns(band).names())
        warn(f"band {band} is observed in no row ({columns}); if it should be, mend the survey")
    seen = fitted.seen_in_training(galaxies.photometry)
    n_seen = int(seen.sum())
    if n_seen:
        fate = "scored all the same" if with_seen else "left out"
        warn(f"{n_seen} of {len(galaxies)} galaxies were seen in the model's training; {fate}")
    if not with_seen:
        galaxies = galaxies[~seen]
    if len(galaxies) == 0:
        msg = (
            "expected galaxies that are new to the model, found none: all were seen in its "
            "training; take others, or score them all the same (--with-seen)."
        )
        raise InputError(msg)
    result = evaluate_densities(
        np.asarray(galaxies.z_spec), fitted.predict_pdf(galaxies.photometry)
    )
    if as_json:
        counts = {
            "n_seen_in_training": n_seen,
            "dropped": galaxies.dropped,
            "implausible": galaxies.implausible,
        }
        typer.echo(json.dumps({**result.to_dict(), **counts}))
        return
    table = Table("metric", "value", "95 % interval", title=f"{len(galaxies)} galaxies")
    for metric, value in result.metrics.items():
        low, high = result.intervals[metric]
        table.add_row(metric, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
    OUT.print(table)
    for reason, count in galaxies.dropped.items():
        typer.echo(f"left out: {count} ({reason})")
    for what, count in galaxies.implausible.items():
        typer.echo(f"not observed: {count} measurements ({what})")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="Bundle, or models:/NAME@ALIAS of MLflow.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory, or file ending in .zip.")],
) -> None:
    """Write a model as a bundle, after checking that it predicts as it did when it was fitted."""
    from photoz.bundle import save_model

    if out.name.lower().endswith(_ARCHIVES):
        msg = f"{out}: a bundle is a directory or a file ending in .zip; name one of these."
        raise InputError(msg)
    typer.echo(str(save_model(load_fitted(model), out)))
