"""Scoring: a catalogue of any size through a fitted model, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from photoz.catalogue import find_columns, find_files, iterate, to_array
from photoz.errors import InputError
from photoz.model import FittedModel
from photoz.pdf import FloatArray
from photoz.photometry import photometry_from_columns
from photoz.prediction import FLAGS, QUANTILE_LEVELS, PdfColumn, prediction_columns
from photoz.survey import Survey

__all__ = ["score_catalogue"]


def score_catalogue(
    model: FittedModel,
    catalogue: Sequence[Path],
    out: Path,
    *,
    survey: Survey | None = None,
    name: str = "photoz",
    pdf: PdfColumn = "quantiles",
    keep: Sequence[str] = (),
    overwrite: bool = False,
    chunk_size: int = 20_000,
    on_progress: Callable[[str, int, int | None], None] | None = None,
) -> dict[str, int]:
    """Write a catalogue's redshifts to a Parquet file, in memory that does not grow with it.

    Parameters
    ----------
    model
        A fitted model.
    catalogue
        Files, folders or glob patterns; read in order, as if they were one.
    out
        File to write; it appears under this name once it is complete.
    survey
        Where the columns are called otherwise than in the model's own survey.
    name, pdf
        As in `prediction_columns`.
    keep
        Further columns to carry over.
    overwrite
        Whether `out` may exist.
    chunk_size
        Galaxies predicted at a time; it does not change what comes out.
    on_progress
        Called with "galaxies", how many are done and None.

    Returns
    -------
    dict
        Number of galaxies, and of those with each kind of flag.

    Raises
    ------
    InputError
        If the catalogue cannot be used, or `out` exists already.
    """
    if out.suffix not in {".parquet", ".pq"}:
        msg = f"expected an output file that ends in .parquet, got {out.name}."
        raise InputError(msg)
    if out.exists() and not overwrite:
        msg = f"{out} exists; name another file or allow it to be overwritten (--overwrite)."
        raise InputError(msg)
    survey = survey or model.survey
    _check_survey(model, survey)
    files = find_files(list(catalogue))
    columns = _columns_to_read(files, survey, model.optional_bands, keep)
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    counts = {"galaxies": 0} | dict.fromkeys(FLAGS.values(), 0)
    writer: pq.ParquetWriter | None = None
    try:
        for chunk in iterate(files, columns, chunk_size, hdf5_group=survey.hdf5_group):
            first_row = counts["galaxies"]
            table = _score_chunk(model, chunk, survey, name, pdf, keep, first_row)
            if writer is None:
                writer = pq.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
            _count(counts, table[f"{name}_flag"].to_numpy())
            if on_progress is not None:
                on_progress("galaxies", counts["galaxies"], None)
        if writer is not None:
            writer.close()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return {key: value for key, value in counts.items() if value or key == "galaxies"}


def _columns_to_read(
    files: Sequence[Path], survey: Survey, optional_bands: Sequence[str], keep: Sequence[str]
) -> list[str]:
    """Columns that must be there, and those that are read if they are."""
    bands = [band for band in survey.bands if band not in optional_bands]
    needed = [*survey.columns_needed(bands), *keep]
    helpful = [*filter(None, [survey.id]), *survey.columns_needed()]
    found = find_columns(files, helpful, hdf5_group=survey.hdf5_group)
    return list(dict.fromkeys([*needed, *found]))


def _check_survey(model: FittedModel, survey: Survey) -> None:
    if survey.bands != model.survey.bands:
        msg = (
            f"the model was trained on the bands {', '.join(model.survey.bands)}, the survey has "
            f"{', '.join(survey.bands)}; give a survey with the same bands in that order."
        )
        raise InputError(msg)


def _score_chunk(
    model: FittedModel,
    chunk: pa.Table,
    survey: Survey,
    name: str,
    pdf: PdfColumn,
    keep: Sequence[str],
    first_row: int,
) -> pa.Table:
    arrays = {column: to_array(chunk[column]) for column in chunk.column_names}
    photometry, _ = photometry_from_columns(arrays, survey, optional_bands=model.optional_bands)
    columns: dict[str, Any] = {}
    if survey.id in chunk.column_names:
        columns[str(survey.id)] = chunk[survey.id]
    else:
        columns["objectId"] = np.arange(first_row, first_row + len(chunk))
    columns |= {column: chunk[column] for column in keep}
    for column, values in prediction_columns(model, photometry, name=name, pdf=pdf).items():
        columns[column] = _as_arrow(values)
    return pa.table(columns).replace_schema_metadata(_metadata(model, name))


def _as_arrow(values: FloatArray | NDArray[np.integer]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _metadata(model: FittedModel, name: str) -> dict[str, str]:
    """What a reader of the file has to know: levels, grid, flags, units and UCDs."""
    ucds = {
        f"{name}_{key}": ucd
        for key, ucd in {
            "z_mode": "src.redshift.phot",
            "z_median": "src.redshift.phot;stat.median",
            "z_mean": "src.redshift.phot;stat.mean",
            "z_std": "stat.stdev;src.redshift.phot",
            "flag": "meta.code.qual",
        }.items()
    }
    content = {
        "quantile_levels": QUANTILE_LEVELS,
        "z_grid": {"z_max": float(model.z_grid[-1]), "n_z": len(model.z_grid)},
        "flags": FLAGS,
        "units": {"redshifts": "dimensionless", "density": "per unit redshift"},
        "ucd": ucds,
    }
    return {f"photoz.{key}": json.dumps(value) for key, value in content.items()}


def _count(counts: dict[str, int], flag: NDArray[np.integer]) -> None:
    counts["galaxies"] += len(flag)
    for bit, meaning in FLAGS.items():
        counts[meaning] += int((flag & bit > 0).sum())
