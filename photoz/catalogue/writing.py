"""Writing: which format an output has, and the writer of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from photoz.catalogue.base import TableWriter
from photoz.catalogue.plain import plain_columns, text_width
from photoz.catalogue.stream import Chunk, Source
from photoz.errors import InputError

__all__ = ["OutputFormat", "QpLayout", "open_writer", "output_format", "text_widths"]

OutputFormat = Literal["parquet", "fits", "hdf5", "qp"]

SUFFIXES: dict[OutputFormat, tuple[str, ...]] = {
    "parquet": (".parquet", ".parq", ".pq"),
    "fits": (".fits", ".fit"),
    "qp": (".qp.hdf5", ".hdf5", ".h5"),
    "hdf5": (".hdf5", ".h5", ".hdf", ".he5"),
}
"""Ends of a file's name that go with each format."""

WRITERS: dict[OutputFormat, str] = {
    "parquet": "photoz.catalogue.parquet:ParquetWriter",
    "fits": "photoz.catalogue.fits_writer:FitsWriter",
    "hdf5": "photoz.catalogue.hdf5:Hdf5Writer",
    "qp": "photoz.catalogue.qp_file:QpWriter",
}
"""The class that writes each format; imported only when it is met."""


@dataclass(frozen=True, eq=False)
class QpLayout:
    """What of a table is what to qp.

    Parameters
    ----------
    pdf
        Column of lists with the quantiles or the densities.
    levels
        Probabilities of the quantiles, shape ``(n_levels,)``; None for densities.
    z_grid
        Redshifts of the densities, shape ``(n_z,)``.
    renamed
        Other names of some columns in qp's ancillary table.
    """

    pdf: str
    levels: Sequence[float] | None
    z_grid: NDArray[np.floating]
    renamed: Mapping[str, str]


def output_format(path: Path, wanted: OutputFormat | None = None) -> OutputFormat:
    """Format of a file that is to be written.

    Parameters
    ----------
    path
        Its name; the end says the format where none is `wanted`: ``.hdf5`` is a table in HDF5,
        ``.qp.hdf5`` a qp ensemble.
    wanted
        The format.

    Raises
    ------
    InputError
        If the name has another end, or is not text.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        msg = f"{str(path)!a}: expected a path that is text in UTF-8; name another output."
        raise InputError(msg) from error
    name = path.name.lower()
    if wanted is None:
        ends = {**SUFFIXES, "qp": (".qp.hdf5",)}
        found: list[OutputFormat] = [kind for kind, end in ends.items() if name.endswith(end)]
        if found:
            return found[0]
    elif name.endswith(SUFFIXES[wanted]):
        return wanted
    kinds = get_args(OutputFormat) if wanted is None else (wanted,)
    known = "; ".join(f"{kind}: {', '.join(SUFFIXES[kind])}" for kind in kinds)
    msg = f"{path}: expected a file whose name ends as its format does ({known}); rename it."
    raise InputError(msg)


def open_writer(
    path: Path,
    kind: OutputFormat,
    schema: pa.Schema,
    *,
    text_widths: Mapping[str, int] | None = None,
    layout: QpLayout | None = None,
) -> TableWriter:
    """Begin a file that grows table by table.

    Parameters
    ----------
    path
        File to write, whatever its name ends in.
    kind
        Its format.
    schema
        Schema of the tables. The metadata of its fields may hold a ``unit``, a ``ucd`` and a
        ``description``.
    text_widths
        For FITS: bytes of the longest text in each column of text.
    layout
        For qp: what of the table is what.

    Raises
    ------
    InputError
        If the format cannot hold a column.
    """
    module, _, name = WRITERS[kind].partition(":")
    options: dict[OutputFormat, Sequence[Any]] = {"fits": [text_widths or {}], "qp": [layout]}
    writer: TableWriter = getattr(import_module(module), name)(
        path, schema, *options.get(kind, [])
    )
    return writer


def text_widths(source: Source, columns: Sequence[str]) -> dict[str, int]:
    """Bytes of the longest text in each of the columns that hold text, for `open_writer`.

    FITS files say how wide a column is before its first row, so the catalogue is read for it.

    Raises
    ------
    InputError
        If FITS cannot hold a column, or the catalogue cannot be read.
    """
    widths: dict[str, int] = {}
    for chunk in source.chunks(columns, 100_000):
        if isinstance(chunk, Chunk):
            texts = [c.name for c in plain_columns(chunk.table.schema, "FITS") if c.is_text]
            # A column without any value in one file may be text in the next.
            if not texts and pa.null() not in chunk.table.schema.types:
                break
            for name in texts:
                width = text_width(chunk.table.column(name))
                widths[name] = max(width, widths.get(name, 0))
    return widths
