"""Tables in files of any format: their names, their rows in pieces, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pyarrow as pa

from photoz.catalogue.base import TableFile
from photoz.columns import missing_columns
from photoz.errors import InputError

__all__ = [
    "Paths",
    "column_names",
    "find_columns",
    "find_files",
    "iterate",
    "read_columns",
    "write",
]

FORMATS: dict[str, str] = {
    **dict.fromkeys((".parquet", ".parq", ".pq"), "photoz.catalogue.parquet:ParquetTable"),
    **dict.fromkeys(
        (".fits", ".fit", ".fits.gz", ".fit.gz", ".fits.bz2"), "photoz.catalogue.fits:FitsTable"
    ),
    **dict.fromkeys((".hdf5", ".h5", ".hdf", ".he5"), "photoz.catalogue.hdf5:Hdf5Table"),
    **dict.fromkeys(
        (".csv", ".csv.gz", ".csv.bz2", ".tsv", ".tsv.gz"), "photoz.catalogue.csv:CsvTable"
    ),
    **dict.fromkeys((".ecsv", ".ecsv.gz"), "photoz.catalogue.astropy_table:EcsvTable"),
    **dict.fromkeys(
        (".vot", ".votable", ".xml", ".vot.gz"), "photoz.catalogue.astropy_table:VoTable"
    ),
}
"""End of a file's name and the class that reads it; imported only when it is met."""

Paths = str | Path | Sequence[str | Path]
"""A file, a folder, a glob pattern, or a list of these."""


def find_files(paths: Paths) -> list[Path]:
    """Files that `paths` stands for, in order; those of a folder or pattern by name.

    Raises
    ------
    InputError
        If there are none, or one does not exist.
    """
    if not isinstance(paths, str | Path):
        files = [file for path in paths for file in find_files(path)]
        if not files:
            msg = "expected at least one catalogue file, got an empty list."
            raise InputError(msg)
        return files
    path = Path(paths).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        known = [file for file in sorted(path.rglob("*")) if _is_catalogue(file, path)]
        kinds = {_open(file).kind for file in known}
        if len(kinds) == 1:
            return known
        found = " and ".join(sorted(kinds)) or "none"
        msg = f"{path}: expected a folder with catalogue files of one format, found {found}."
        raise InputError(msg)
    if any(sign in str(path) for sign in "*?["):
        anchor = Path(path.anchor)
        files = sorted(f for f in anchor.glob(str(path.relative_to(anchor))) if f.is_file())
        if files:
            return files
        msg = f"{paths}: expected files that match, found none in {Path.cwd()}."
        raise InputError(msg)
    msg = f"{paths}: expected a catalogue file, found none; check the path."
    raise InputError(msg)


def describe(paths: Paths) -> str:
    """Name the files in a message."""
    names = [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def column_names(paths: Paths, *, hdf5_group: str | None = None) -> list[str]:
    """Names of the columns that every one of the files has, in the order of the first.

    Raises
    ------
    InputError
        If a file does not exist or cannot be read.
    """
    names = [_names(path, hdf5_group) for path in find_files(paths)]
    return [name for name in names[0] if all(name in others for others in names[1:])]


def find_columns(
    paths: Paths, wanted: Iterable[str], *, hdf5_group: str | None = None
) -> list[str]:
    """Those of the wanted columns that every one of the files has.

    Raises
    ------
    InputError
        If a file does not exist or cannot be read.
    """
    files = {path: _names(path, hdf5_group) for path in find_files(paths)}
    return [
        name
        for name in dict.fromkeys(wanted)
        if all(_match(path, name, names) is not None for path, names in files.items())
    ]


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
    files = find_files(paths)
    for path in files:
        wanted = _resolve(path, columns, hdf5_group)
        chunks = _open(path, hdf5_group).chunks(list(wanted), chunk_size)
        while True:
            with _explained(path):
                chunk = next(chunks, None)
            if chunk is None:
                break
            yield chunk.rename_columns(list(wanted.values()))


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
            f"differ ({_line(error)}); convert them."
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
    if not _open(path).is_written or not path.parent.is_dir():
        written = [suffix for suffix in FORMATS if _open(Path(suffix)).is_written]
        msg = (
            f"{path}: expected a file in a folder that exists, its name ending in one of "
            f"{', '.join(written)}; give another name."
        )
        raise InputError(msg)
    # Beside the target, because a file can only be moved atomically on its own disk.
    scratch = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        _open(scratch, hdf5_group).write(table)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _resolve(path: Path, columns: Sequence[str] | None, group: str | None) -> dict[str, str]:
    """Names in the file of the columns wanted, and the names they were asked for by."""
    names = _names(path, group)
    found = {name: _match(path, name, names) for name in (names if columns is None else columns)}
    if None in found.values():
        wanted = [name if match is None else match for name, match in found.items()]
        msg = f"{path}: {missing_columns(wanted, names)}; name columns that exist."
        raise InputError(msg)
    twice = [name for name, match in found.items() if names.count(str(match)) > 1]
    if twice:
        msg = f"{path}: expected one column {twice[0]!r}, found several; rename all but one."
        raise InputError(msg)
    return {match: name for name, match in found.items() if match is not None}


def _match(path: Path, name: str, names: Sequence[str]) -> str | None:
    """Name in the file of a column; FITS tells readers not to mind upper and lower case."""
    if name in names:
        return name
    alike = [other for other in names if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 and _open(path).kind == "FITS" else None


def _names(path: Path, group: str | None) -> list[str]:
    with _explained(path):
        return _open(path, group).names()


def _open(path: Path, group: str | None = None) -> TableFile:
    """Table of a file, by the end of its name."""
    place = _place(path)
    if place is None:
        msg = (
            f"{path}: unknown format; the name of a catalogue ends in one of {', '.join(FORMATS)}."
        )
        raise InputError(msg)
    module, _, name = place.partition(":")
    table: TableFile = getattr(import_module(module), name)(path, group)
    return table


def _place(path: Path) -> str | None:
    name = path.name.lower()
    return next((place for suffix, place in FORMATS.items() if name.endswith(suffix)), None)


def _is_catalogue(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    return path.is_file() and not is_hidden and _place(path) is not None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged file into one line."""
    kind = _open(path).kind
    if path.stat().st_size == 0:
        msg = f"{path}: expected {kind}, found an empty file; fetch or write it again."
        raise InputError(msg)
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        msg = (
            f"{path}: expected {kind}, found a file that cannot be read as that "
            f"({_line(error)}); it may be cut off or of another format: fetch or write it again."
        )
        raise InputError(msg) from error


def _line(error: Exception) -> str:
    """What an error says, in one short line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    printable = "".join(sign if sign.isprintable() else " " for sign in line)
    return printable[:200].rstrip(". ")
