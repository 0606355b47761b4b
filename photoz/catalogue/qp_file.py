"""Files of p(z) in the layout of the package qp, written without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from photoz.catalogue.base import TableWriter
from photoz.catalogue.hdf5 import GrowingFile, Hdf5Columns, named_columns, write_notes
from photoz.catalogue.writing import QpLayout
from photoz.errors import InputError

__all__ = ["QpWriter"]

QUANTILES = {
    "pdf_name": b"quant",
    "pdf_version": 0,
    "pdf_constructor_name": b"piecewise_linear",
    "ensure_extent": True,
}
DENSITIES = {"pdf_name": b"interp", "pdf_version": 0}


class QpWriter(TableWriter):
    """A qp ensemble that grows table by table.

    qp knows no galaxy without p(z): NaN becomes the flat density of which nothing is known.
    """

    def __init__(self, path: Path, schema: pa.Schema, layout: QpLayout) -> None:
        columns = named_columns(schema, "qp")
        names = [layout.renamed.get(column.name, column.name) for column in columns]
        for column, known in zip(columns, names, strict=True):
            if names.count(known) > 1 and known == column.name:
                msg = (
                    f"column {known!r} cannot be written to qp beside its own of that name; "
                    "leave it out, or write Parquet."
                )
                raise InputError(msg)
        z_max = layout.z_grid[-1]
        if layout.levels is None:
            name, meta = "yvals", {**DENSITIES, "xvals": layout.z_grid}
            self._unknown = np.full(len(layout.z_grid), 1 / z_max)
        else:
            name, meta = "locs", {**QUANTILES, "quants": np.array(layout.levels)}
            self._unknown = z_max * np.array(layout.levels)
        self._pdf = layout.pdf
        self._file = GrowingFile(path)
        root = self._file.root
        write_notes(root, schema)
        groups = {key: root.create_group(key) for key in ("meta", "data", "ancil")}
        for key, value in meta.items():
            groups["meta"][key] = np.array(value)[np.newaxis]
        self._columns = Hdf5Columns(
            [
                (column, groups["data"], name)
                if column.name == layout.pdf
                else (column, groups["ancil"], known)
                for column, known in zip(columns, names, strict=True)
            ]
        )

    def write(self, table: pa.Table) -> None:
        """Add rows to every data set."""
        place = table.column_names.index(self._pdf)
        column = table.column(place)
        filled = self._filled(column)
        self._columns.append(table.set_column(place, table.schema.field(place), filled))
        self._file.check()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _filled(self, column: pa.ChunkedArray) -> pa.Array:
        values: NDArray[Any] = np.concatenate([c.flatten().to_numpy() for c in column.chunks])
        rows = values.reshape(len(column), len(self._unknown))
        filled = np.where(np.isnan(rows), self._unknown.astype(rows.dtype), rows)
        return pa.FixedSizeListArray.from_arrays(pa.array(filled.ravel()), rows.shape[1])
