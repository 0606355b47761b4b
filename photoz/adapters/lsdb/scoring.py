"""Scoring: a HATS catalogue into a HATS catalogue, on as many processes as there are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import lsdb
import pyarrow.dataset as ds
from dask.distributed import Client, LocalCluster

import photoz
from photoz.adapters.lsdb.catalogues import check_columns, coordinates, predict
from photoz.adapters.lsdb.partitions import fingerprint, load_once
from photoz.errors import InputError
from photoz.integrity import check_replaceable
from photoz.model import FittedModel
from photoz.prediction import FLAGS, QUANTILE_LEVELS, PdfColumn, survey_for
from photoz.survey import Survey

__all__ = ["score_hats"]

_SETTINGS = "photoz.json"
_COLLECTION = "collection.properties"
"""What every HATS catalogue that was written here holds."""


def score_hats(
    model: str | Path,
    catalogue: Path,
    out: Path,
    *,
    survey: Survey | None = None,
    name: str = "photoz",
    pdf: PdfColumn = "quantiles",
    keep: Sequence[str] = (),
    workers: int = 0,
    scheduler: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
) -> dict[str, int]:
    """Write the redshifts of a HATS catalogue as a HATS catalogue.

    Parameters
    ----------
    model, survey, name, pdf, keep
        As in `predict`.
    catalogue
        Directory of a HATS catalogue or collection.
    out
        Directory to write; it appears under this name once it is complete.
    workers
        Processes of a Dask cluster on this machine; 0 computes in this process.
    scheduler
        Address of a running Dask cluster to use instead, such as ``tcp://host:8786``.
    overwrite
        Whether `out` may be a catalogue that was written earlier, which is replaced.
    resume
        Whether to go on with what an interrupted call with the same arguments has left.
    progress
        Whether to show a progress bar on stderr.

    Returns
    -------
    dict
        Number of galaxies, and of those with each kind of flag.

    Raises
    ------
    InputError
        If the catalogue or the model cannot be used, no cluster answers, `out` exists, or
        another command left what is to be resumed.
    """
    if catalogue.resolve().is_relative_to(out.resolve()):
        msg = f"{out} is or holds the catalogue itself, which would be lost; name another output."
        raise InputError(msg)
    if out.exists() and not overwrite:
        msg = f"{out} exists; name another directory or allow it to be overwritten (--overwrite)."
        raise InputError(msg)
    check_replaceable(out, _COLLECTION)
    place = str(Path(model).absolute())
    sha256 = fingerprint(place)
    known = load_once(place, sha256)
    survey = survey_for(known, survey)
    source = _open(catalogue, known, survey, keep)
    predicted = predict(source, model, survey=survey, name=name, pdf=pdf, keep=keep)
    settings = {
        "model": sha256,
        "catalogue": str(catalogue),
        "columns": {str(column): str(kind) for column, kind in predicted.dtypes.items()},
    }
    partial = _prepare(out, json.dumps(settings), resume=resume)
    with _cluster(workers, scheduler):
        predicted.write_catalog(
            partial,
            catalog_name=out.name,
            resume=resume,
            progress_bar=progress,
            error_if_empty=False,
            addl_hats_properties=_notes(known),
        )
    (partial / _SETTINGS).unlink()
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
    return _count(out / out.name / "dataset", f"{name}_flag")


def _open(
    catalogue: Path, model: FittedModel, survey: Survey, keep: Sequence[str]
) -> lsdb.Catalog:
    """Catalogue with no more columns than are needed."""
    try:
        whole = lsdb.open_catalog(catalogue)
    except (OSError, ValueError) as error:
        msg = f"{catalogue}: expected a HATS catalogue, found none that can be read ({error})."
        raise InputError(msg) from error
    names = list(whole.all_columns)
    check_columns(model, survey, names, keep)
    helpful = [name for name in (survey.id, *survey.columns_needed()) if name in names]
    columns = dict.fromkeys([*coordinates(whole), *helpful, *keep])
    return lsdb.open_catalog(catalogue, columns=list(columns))


def _prepare(out: Path, settings: str, *, resume: bool) -> Path:
    """Directory that takes the name of `out` at the end, marked with what is written there."""
    partial = out.with_name(f".{out.name}.partial")
    mark = partial / _SETTINGS
    if resume and mark.exists():
        if mark.read_text(encoding="utf-8") != settings:
            msg = (
                f"{partial} was left by a command with another model, catalogue or options; "
                "repeat that one, or start anew without --resume."
            )
            raise InputError(msg)
        return partial
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    mark.write_text(settings, encoding="utf-8")
    return partial


@contextmanager
def _cluster(workers: int, scheduler: str | None) -> Iterator[None]:
    """Let Dask compute on a cluster that runs, on one of our own, or in this process."""
    if scheduler is not None:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            msg = f"expected a Dask scheduler at {scheduler}, found none ({error}); start one."
            raise InputError(msg) from error
        with client:
            yield
    elif workers > 0:
        with (
            # A thread per process: each loads its own model and computes alone.
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as own,
            Client(own),
        ):
            yield
    else:
        with dask.config.set(scheduler="synchronous"):
            yield


def _notes(model: FittedModel) -> dict[str, str]:
    """What a reader of the catalogue has to know, as its properties can hold it."""
    return {
        "photoz_version": photoz.__version__,
        "photoz_flags": "; ".join(f"{bit}: {meaning}" for bit, meaning in FLAGS.items()),
        "photoz_quantile_levels": " ".join(map(str, QUANTILE_LEVELS)),
        "photoz_z_grid": f"{len(model.z_grid)} points from 0 to {model.z_grid[-1]}",
    }


def _count(dataset: Path, flag: str) -> dict[str, int]:
    counts = {"galaxies": 0} | dict.fromkeys(FLAGS.values(), 0)
    for batch in ds.dataset(dataset, format="parquet").to_batches(columns=[flag]):
        flags = batch.column(0).to_numpy()
        counts["galaxies"] += len(flags)
        for bit, meaning in FLAGS.items():
            counts[meaning] += int((flags & bit > 0).sum())
    return {key: value for key, value in counts.items() if value or key == "galaxies"}
