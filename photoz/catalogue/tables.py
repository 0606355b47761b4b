"""Tables in files of any format, read in pieces or whole, and written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from photoz.catalogue.files import FORMATS, Paths, describe, one_line, open_table
from photoz.catalogue.stream import Chunk, Source
from photoz.errors import InputError

__all__ = ["column_names", "find_columns", "iterate", "read_columns", "write"]


def column_names(paths: Paths, *, hdf5_group: str | None = None) -> list[str]:
    """Names of the columns that every one of the files has, in the order of the first.

    Raises
    ------
    InputError
        If a file does not exist or cannot be read.
    """
    return Source.open(paths, hdf5_group=hdf5_group).names()


def find_columns(
    paths: Paths, wanted: Iterable[str], *, hdf5_group: str | None = None
) -> list[str]:
    """Those of the wanted columns that every one of the files has.

    Raises
    ------
    InputError
        If a file does not exist or cannot be read.
    """
    return Source.open(paths, hdf5_group=hdf5_group).find(wanted)


def iterate(
    paths: Paths,
    columns: Sequence[str] | None = None,
    chunk_size: int = 100_000,
    *,
    hdf5_group: str | None = None,
) -> Iterator[pa.Table]:
    """Read files piece by piece, in memory that does not grow with them.

    VOTable, ECSV and compressed FITS files are the exception: each is read whole.

    Parameters
    ----------
    paths
        A file, a folder, a glob pattern, or a list of these.
    columns
        Names of the columns to read; all if left out.
    chunk_size
        Largest number of rows of a piece.
    hdf5_group
        Group of the columns in HDF5 files; found by itself where there is only one.

    Yields
    ------
    pyarrow.Table
        The next rows, with the columns in the order asked for; of an empty file one
        empty table.

    Raises
    ------
    InputError
        If a file does not exist, is damaged or lacks a column.
    """
    source = Source.open(paths, hdf5_group=hdf5_group)
    for chunk in source.chunks(columns, chunk_size):
        if isinstance(chunk, Chunk):
            yield chunk.table


def read_columns(
    paths: Paths, columns: Sequence[str] | None = None, *, hdf5_group: str | None = None
) -> pa.Table:
    """Read files whole; as `iterate`, in one table.

    Raises
    ------
    InputError
        If a file does not exist, is damaged, lacks a column, or the files disagree on the
        type of a column.
    """
    tables = list(iterate(paths, columns, 1_000_000, hdf5_group=hdf5_group))
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        msg = (
            f"{describe(paths)}: expected columns of the same type in every file, found that they "
            f"differ ({one_line(error)}); convert them."
        )
        raise InputError(msg) from error


def write(table: pa.Table, path: str | Path, *, hdf5_group: str | None = None) -> None:
    """Write a table in the format that the file's name ends in, or leave nothing behind.

    Parameters
    ----------
    table
        The rows to write.
    path
        Target, replaced if it exists.
    hdf5_group
        Group for the columns of an HDF5 file.

    Raises
    ------
    InputError
        If the format is not written, or cannot hold the table.
    """
    path = Path(path)
    if not open_table(path).is_written or not path.parent.is_dir():
        written = [suffix for suffix in FORMATS if open_table(Path(suffix)).is_written]
        msg = (
            f"{path}: expected a file in a folder that exists, its name ending in one of "
            f"{', '.join(written)}; give another name."
        )
        raise InputError(msg)
    # Beside the target, because a file can only be moved atomically on its own disk.
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        open_table(scratch, hdf5_group).write(table)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
