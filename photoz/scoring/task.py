"""Task: what happens to each piece of a catalogue, and what the output says of its columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import photoz
from photoz.catalogue import Chunk, QpLayout, Source, to_array
from photoz.errors import InputError
from photoz.kernels import Compiled
from photoz.mixture_form import check_mixture
from photoz.model import FittedModel
from photoz.pdf import FloatArray
from photoz.photometry import photometry_from_columns
from photoz.prediction import FLAGS, QUANTILE_LEVELS, PdfColumn, check_kept, prediction_columns
from photoz.survey import Survey

__all__ = ["Task"]

PHOT = "src.redshift.phot"

_HEAD = 1000
"""Rows that are enough to see that a column holds something else."""

NOTES = {
    "z_mode": (PHOT, "redshift at the highest p(z)"),
    "z_median": (f"{PHOT};stat.median", "redshift at CDF .5"),
    "z_mean": (f"{PHOT};stat.mean", "mean redshift"),
    "z_std": (f"stat.stdev;{PHOT}", "standard deviation of the redshift"),
    "z_err68_low": (f"{PHOT};stat.min", "redshift at CDF .16"),
    "z_err68_high": (f"{PHOT};stat.max", "redshift at CDF .84"),
    "z_err95_low": (f"{PHOT};stat.min", "redshift at CDF .025"),
    "z_err95_high": (f"{PHOT};stat.max", "redshift at CDF .975"),
    "odds": ("stat.probability", "probability within mode +- 0.06 (1 + mode)"),
    "flag": ("meta.code.qual", "; ".join(f"{bit}: {text}" for bit, text in FLAGS.items())),
    "quantiles": (PHOT, "redshifts at the CDF levels of the file's metadata"),
    "density": ("stat.probability", "p(z) per unit redshift on the grid of the file's metadata"),
    "mixture": (PHOT, "weights, means and widths of Gaussians before calibration, and ln beta"),
}
"""UCD and description of each column of a prediction."""


@dataclass(frozen=True, eq=False)
class Task:
    """What to do with a catalogue.

    Parameters
    ----------
    model
        A fitted model.
    survey
        What the columns are called.
    name, pdf
        As in `prediction_columns`.
    keep
        Further columns to carry over.
    compiled
        The model in compiled code, if that is to be used.
    """

    model: FittedModel
    survey: Survey
    name: str
    pdf: PdfColumn
    keep: Sequence[str]
    compiled: Compiled | None = None

    def __post_init__(self) -> None:
        if self.pdf == "mixture":
            check_mixture(self.model)
        check_kept([*self.keep, *filter(None, [self.survey.id])], self.name)

    def columns(self, source: Source) -> list[str]:
        """Columns that must be there, and those that are read if they are."""
        survey, optional = self.survey, self.model.optional_bands
        bands = [band for band in survey.bands if band not in optional]
        needed = [*survey.columns_needed(bands), *self.keep]
        helpful = [*filter(None, [survey.id]), *survey.columns_needed()]
        columns = list(dict.fromkeys([*needed, *source.find(helpful)]))
        photometric = survey.columns_needed()
        if not set(photometric) & set(columns):
            msg = (
                f"expected columns of the survey, such as {', '.join(photometric[:4])}, found "
                "none of them; give the survey of this catalogue (--survey)."
            )
            raise InputError(msg)
        return columns

    def lacking(self, source: Source) -> list[str]:
        """Say which bands count as not observed, because files lack their columns."""
        told = []
        for band in self.model.optional_bands:
            needed = self.survey.columns_needed([band])
            found = source.find(needed)
            missing = [name for name in needed if name not in found]
            some = [n for n in missing if any(file.match(n) for file in source.readable)]
            reasons = {
                "there is no column": [name for name in missing if name not in some],
                "not every file has the column": some,
            }
            texts = [f"{text} {', '.join(names)}" for text, names in reasons.items() if names]
            if texts:
                told.append(f"band {band} counts as not observed: {'; '.join(texts)}")
        return told

    def id_column(self, columns: Sequence[str]) -> str:
        """Name of the output's first column: the survey's id, else ``objectId``."""
        return str(self.survey.id) if self.survey.id in columns else "objectId"

    def score(self, chunk: Chunk, first_row: int) -> pa.Table:
        """Output rows of a piece of the catalogue.

        Parameters
        ----------
        chunk
            The piece, with the columns that `columns` names.
        first_row
            Number of its first row, for a catalogue without ids.

        Raises
        ------
        InputError
            If a column that must hold numbers does not.
        """
        table, id_name = chunk.table, self.id_column(chunk.table.column_names)
        arrays = {column: to_array(table[column]) for column in table.column_names}
        optional = self.model.optional_bands
        try:
            photometry, _ = photometry_from_columns(arrays, self.survey, optional_bands=optional)
        except InputError as error:
            msg = f"{chunk.path}, rows {chunk.first} and following: {error}"
            raise InputError(msg) from None
        predicted = prediction_columns(
            self.model, photometry, name=self.name, pdf=self.pdf, compiled=self.compiled
        )
        numbers = pa.array(np.arange(first_row, first_row + len(table)))
        columns: dict[str, Any] = {id_name: numbers}
        columns |= {column: table[column] for column in self._kept(table)}
        columns |= {column: _as_arrow(values) for column, values in predicted.items()}
        # One batch: files of the same rows shall have the same bytes.
        return pa.table(columns, self._schema(columns, table.schema)).combine_chunks()

    def remark(self, chunk: Chunk, tell: Callable[[str], None]) -> None:
        """Tell of columns that seem to hold something else than the survey says, or of no ids.

        Parameters
        ----------
        chunk
            The first piece of a catalogue that has rows.
        tell
            Called with each column of which most values are implausible, and with what stands
            for ids that are not there.

        Raises
        ------
        InputError
            If for this reason most galaxies have no measurement at all.
        """
        head = chunk.table.slice(0, _HEAD)
        arrays = {column: to_array(head[column]) for column in head.column_names}
        photometry, implausible = photometry_from_columns(
            arrays, self.survey, optional_bands=self.model.optional_bands
        )
        doubts = [
            f"{what} in {count} of the first {len(head)} rows"
            for what, count in implausible.items()
            if 2 * count > len(head)
        ]
        if doubts and 2 * np.count_nonzero(photometry.n_observed == 0) > len(head):
            msg = (
                f"{chunk.path}: expected magnitudes between 0 and 50, or fluxes, with errors "
                f"above 0, found {', '.join(doubts)}; name unit, columns and sentinels in a "
                "survey (--survey)."
            )
            raise InputError(msg)
        for text in doubts:
            tell(f"{text}, not observed therefore; check the survey's unit and sentinels")
        id_name = self.id_column(chunk.table.column_names)
        if self.survey.id not in (None, id_name):
            is_kept = id_name in self.keep
            content = "is its own that is kept" if is_kept else "holds the numbers of its rows"
            tell(f"the catalogue has no column {self.survey.id!r}; {id_name} {content}")

    def layout(self, id_name: str) -> QpLayout:
        """What of the output is what to qp.

        Raises
        ------
        InputError
            If the output holds no p(z) of the kind that qp knows.
        """
        if self.pdf not in ("quantiles", "grid"):
            msg = (
                f"a qp ensemble holds p(z), got pdf {self.pdf!r}; ask for quantiles or a grid "
                "(--pdf)."
            )
            raise InputError(msg)
        is_grid = self.pdf == "grid"
        return QpLayout(
            f"{self.name}_{'density' if is_grid else 'quantiles'}",
            None if is_grid else QUANTILE_LEVELS,
            self.model.z_grid,
            {id_name: "object_id", f"{self.name}_z_mode": "zmode"},
        )

    def _kept(self, table: pa.Table) -> list[str]:
        carried = [self.survey.id] if self.survey.id in table.column_names else []
        return list(dict.fromkeys([*map(str, carried), *self.keep]))

    def _schema(self, columns: dict[str, Any], source: pa.Schema) -> pa.Schema:
        notes = {
            f"{self.name}_{key}": {"ucd": ucd, "description": text}
            for key, (ucd, text) in NOTES.items()
        }
        fields = [
            pa.field(name, column.type, metadata=notes.get(name) or _notes(source, name))
            for name, column in columns.items()
        ]
        return pa.schema(fields, self._metadata())

    def _metadata(self) -> dict[str, str]:
        """What a reader of the file has to know: levels, grid, flags, units and UCDs."""
        z_grid = self.model.z_grid
        content = {
            "version": photoz.__version__,
            "quantile_levels": QUANTILE_LEVELS,
            "z_grid": {"z_max": float(z_grid[-1]), "n_z": len(z_grid)},
            "flags": FLAGS,
            "units": {"redshifts": "dimensionless", "density": "per unit redshift"},
            "ucd": {f"{self.name}_{key}": ucd for key, (ucd, _) in NOTES.items()},
        }
        if self.pdf == "mixture":
            calibration = check_mixture(self.model).calibration
            content["mixture"] = {
                "calibration": calibration.reduced().to_dict() if calibration else None
            }
        return {f"photoz.{key}": json.dumps(value) for key, value in content.items()}


def _as_arrow(values: FloatArray | NDArray[np.integer]) -> pa.Array:
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def _notes(source: pa.Schema, name: str) -> dict[bytes, bytes]:
    """What the catalogue says of a column that is carried over."""
    place = source.get_field_index(name)
    metadata = source.field(place).metadata or {} if place >= 0 else {}
    return {key: value for key, value in metadata.items() if not key.startswith(b"PARQUET:")}
