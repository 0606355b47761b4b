"""Scoring: a catalogue of any size through a fitted model, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from photoz.catalogue import find_columns, find_files, iterate, to_array
from photoz.errors import InputError
from photoz.model import FittedModel
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.photometry import Photometry, State, photometry_from_columns
from photoz.survey import Survey

__all__ = ["FLAGS", "QUANTILE_LEVELS", "PdfColumn", "prediction_columns", "score_catalogue"]

PdfColumn = Literal["none", "quantiles", "grid"]

QUANTILE_LEVELS = (
    *(0.001, 0.01, 0.025, 0.05, 0.1, 0.16, 0.25, 0.33, 0.4, 0.467),
    *(0.533, 0.6, 0.67, 0.75, 0.84, 0.9, 0.95, 0.975, 0.99, 0.999),
)
"""Levels of the compact form of p(z): 20 quantiles."""

FLAGS = {
    1: "a band was not observed",
    2: "a band was not detected",
    4: "a band lies outside the range of the training galaxies",
    8: "p(z) reaches the upper end of the grid",
    16: "p(z) has more than one peak",
    32: "no usable photometry: the redshifts are NaN",
}
"""Meaning of each bit of the column ``<name>_flag``."""

_EDGE_PROBABILITY = 0.01


def prediction_columns(
    model: FittedModel, photometry: Photometry, *, name: str = "photoz", pdf: PdfColumn = "none"
) -> dict[str, FloatArray | NDArray[np.integer]]:
    """Redshifts, their intervals and flags of galaxies, in the columns of Rubin's DP1.

    Parameters
    ----------
    model
        A fitted model.
    photometry
        Photometry of the galaxies in the model's bands.
    name
        Start of every column name: lower-case letters and digits.
    pdf
        Form of p(z) to add: ``"quantiles"`` at `QUANTILE_LEVELS`, ``"grid"`` for the
        density on the model's grid, or ``"none"``.

    Returns
    -------
    dict
        Arrays of shape ``(n_galaxies,)``; quantiles of shape ``(n_galaxies, 20)``,
        densities (per unit redshift) of shape ``(n_galaxies, n_z)``. A galaxy without
        usable photometry has NaN throughout and bit 32 of its flag set.

    Raises
    ------
    InputError
        If `name` or `pdf` is not of the form above.
    """
    if pdf not in get_args(PdfColumn):
        msg = f"pdf must be one of {', '.join(get_args(PdfColumn))}, got {pdf!r}."
        raise InputError(msg)
    if not (name.isascii() and name.isalnum() and name[0].isalpha() and name.lower() == name):
        msg = f"a model's name must be lower-case letters and digits, got {name!r}."
        raise InputError(msg)
    usable = (photometry.state != State.NOT_OBSERVED).any(axis=1)
    pz = model.predict_pdf(photometry[usable])
    columns = {f"{name}_{key}": value for key, value in _summaries(pz, pdf).items()}
    spread: dict[str, FloatArray | NDArray[np.integer]] = {
        key: _spread(value, usable) for key, value in columns.items()
    }
    flag = _photometry_flags(model, photometry)
    flag[usable] |= _pdf_flags(pz)
    flag[~usable] |= 32
    spread[f"{name}_flag"] = flag
    return spread


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


def _summaries(pz: RedshiftPDF, pdf: PdfColumn) -> dict[str, FloatArray]:
    low95, low68, median, high68, high95 = pz.quantiles([0.025, 0.16, 0.5, 0.84, 0.975]).T
    summaries = {
        "z_mode": pz.mode(),
        "z_median": median,
        "z_mean": pz.mean(),
        "z_std": pz.std(),
        "z_err68_low": low68,
        "z_err68_high": high68,
        "z_err95_low": low95,
        "z_err95_high": high95,
        "odds": pz.odds(),
    }
    if pdf == "quantiles":
        summaries["quantiles"] = pz.quantiles(QUANTILE_LEVELS).astype(np.float32)
    elif pdf == "grid":
        summaries["density"] = pz.density
    return summaries


def _spread(values: FloatArray, usable: NDArray[np.bool_]) -> FloatArray:
    """Values of usable galaxies on the rows of all, NaN elsewhere."""
    spread = np.full((len(usable), *values.shape[1:]), np.nan, dtype=values.dtype)
    spread[usable] = values
    return spread


def _photometry_flags(model: FittedModel, photometry: Photometry) -> NDArray[np.int32]:
    not_observed = (photometry.state == State.NOT_OBSERVED).any(axis=1)
    not_detected = (photometry.state == State.NOT_DETECTED).any(axis=1)
    outside = model.outside_training(photometry)
    return np.asarray(not_observed * 1 + not_detected * 2 + outside * 4, dtype=np.int32)


def _pdf_flags(pz: RedshiftPDF) -> NDArray[np.int32]:
    near_end = 1 - pz.cdf(pz.z_grid[-3]) > _EDGE_PROBABILITY
    return np.asarray(near_end * 8 + (pz.n_peaks() > 1) * 16, dtype=np.int32)
