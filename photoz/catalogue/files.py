"""Files of a catalogue: where they are, what reads them, and what their folders tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

from photoz.catalogue.base import TableFile
from photoz.columns import missing_columns
from photoz.errors import InputError

__all__ = [
    "FORMATS",
    "Paths",
    "SourceFile",
    "describe",
    "explained",
    "find_files",
    "one_line",
    "open_table",
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

NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What the name of a folder says where a partition column has no value."""


@dataclass(frozen=True, eq=False)
class SourceFile:
    """One file of a catalogue.

    Parameters
    ----------
    path
        Where it is.
    stored
        Names of its columns.
    in_folders
        Columns that stand in the names of its folders, with their one value; a stored column
        of the same name counts in their place.
    n_rows
        Number of its rows, or None where only reading them would tell.
    damage
        Why it cannot be read, or empty.
    """

    path: Path
    stored: tuple[str, ...] = ()
    in_folders: Mapping[str, str | None] = field(default_factory=dict)
    n_rows: int | None = None
    damage: str = ""

    @classmethod
    def look_at(cls, path: Path, hdf5_group: str | None) -> SourceFile:
        """Read the head of a file.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        with explained(path):
            table = open_table(path, hdf5_group)
            stored = tuple(table.names())
            folders = _partition_texts(path).items()
            in_folders = {name: text for name, text in folders if name not in stored}
            return cls(path, stored, in_folders, table.n_rows)

    @property
    def names(self) -> list[str]:
        """Names of all its columns."""
        return [*self.stored, *self.in_folders]

    def match(self, name: str) -> str | None:
        """Name in the file of a column; FITS tells readers not to mind upper and lower case."""
        if name in self.names:
            return name
        alike = [other for other in self.names if other.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 and open_table(self.path).kind == "FITS" else None

    def resolve(self, columns: Sequence[str] | None) -> dict[str, str]:
        """Names in the file of the columns wanted, and the names they were asked for by.

        Raises
        ------
        InputError
            If it lacks a column, or has several of that name.
        """
        asked = self.names if columns is None else columns
        found = {name: self.match(name) for name in asked}
        if None in found.values():
            wanted = [name if match is None else match for name, match in found.items()]
            msg = f"{self.path}: {missing_columns(wanted, self.names)}; name columns that exist."
            raise InputError(msg)
        twice = [name for name, match in found.items() if self.stored.count(str(match)) > 1]
        if twice:
            msg = (
                f"{self.path}: expected one column {twice[0]!r}, found several; rename all but "
                "one."
            )
            raise InputError(msg)
        return {match: name for name, match in found.items() if match is not None}


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
        return _files_in(path)
    if any(sign in str(path) for sign in "*?["):
        anchor = Path(path.anchor)
        try:
            found = sorted(anchor.glob(str(path.relative_to(anchor))))
        except ValueError as error:
            msg = f"{paths}: expected a pattern of files, such as folder/*.parquet ({error})."
            raise InputError(msg) from error
        files = [file for file in found if _is_file(file)]
        # A pattern may also name the folders of a partition.
        files = files or [file for folder in found for file in _files_in(folder)]
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


def open_table(path: Path, group: str | None = None) -> TableFile:
    """Table of a file, by the end of its name.

    Raises
    ------
    InputError
        If the format is unknown.
    """
    place = _place(path)
    if place is None:
        msg = (
            f"{path}: unknown format; the name of a catalogue ends in one of {', '.join(FORMATS)}."
        )
        raise InputError(msg)
    module, _, name = place.partition(":")
    table: TableFile = getattr(import_module(module), name)(path, group)
    return table


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged file into one line."""
    kind = open_table(path).kind
    if path.exists() and path.stat().st_size == 0:
        msg = f"{path}: expected {kind}, found an empty file; fetch or write it again."
        raise InputError(msg)
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make a reader raise anything
        msg = (
            f"{path}: expected {kind}, found a file that cannot be read as that "
            f"({one_line(error)}); it may be cut off or of another format: fetch or write it "
            "again."
        )
        raise InputError(msg) from error


def one_line(error: Exception) -> str:
    """What an error says, in one short line."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    printable = "".join(sign if sign.isprintable() else " " for sign in line)
    return printable[:200].rstrip(". ")


def _files_in(folder: Path) -> list[Path]:
    known = sorted(file for file in _all_files(folder) if _place(file) is not None)
    kinds = {open_table(file).kind for file in known}
    if len(kinds) == 1:
        return known
    found = " and ".join(sorted(kinds)) or "none"
    msg = f"{folder}: expected a folder with catalogue files of one format, found {found}."
    raise InputError(msg)


def _all_files(folder: Path) -> Iterator[Path]:
    """Files in a folder and those below it, links included, but for hidden ones."""
    for root, folders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        folders[:] = [
            name for name in folders if not _is_hidden(name) and not _is_circle(here / name)
        ]
        paths = (here / name for name in names if not _is_hidden(name))
        yield from filter(_is_file, paths)


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link to one that is lost: that one shall be told."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_circle(folder: Path) -> bool:
    """Whether it is a link to a folder above it."""
    above = (parent.resolve() for parent in folder.absolute().parents)
    return folder.is_symlink() and folder.resolve() in above


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _place(path: Path) -> str | None:
    name = path.name.lower()
    return next((place for suffix, place in FORMATS.items() if name.endswith(suffix)), None)


def _partition_texts(path: Path) -> dict[str, str | None]:
    """Columns that stand in the names of a file's folders, as in ``field=deep/part0.parquet``.

    Returns
    -------
    dict
        Value of each column in every row of the file; None where it has none.
    """
    pairs = [part.partition("=") for part in path.parts[:-1]]
    return {
        unquote(name): None if value == NO_VALUE else unquote(value)
        for name, sign, value in pairs
        if sign and name
    }
