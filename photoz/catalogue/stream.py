"""Stream: catalogue files as one sequence of rows, read in pieces, in order, from any place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from photoz.catalogue.base import common_type
from photoz.catalogue.files import Paths, SourceFile, explained, find_files, open_table
from photoz.errors import InputError

__all__ = ["Chunk", "Place", "Skipped", "Source"]


@dataclass(frozen=True)
class Place:
    """Where reading stands.

    Parameters
    ----------
    file
        Number of the file, from 0.
    row
        Number of the next row in it, from 0.
    """

    file: int = 0
    row: int = 0


@dataclass(frozen=True, eq=False)
class Chunk:
    """The next rows of a catalogue, all of one file.

    Parameters
    ----------
    table
        The rows.
    path
        Their file.
    first
        Number of the first of them in it, from 0.
    end
        Where reading goes on.
    """

    table: pa.Table
    path: Path
    first: int
    end: Place


@dataclass(frozen=True)
class Skipped:
    """Rows that could not be read.

    Parameters
    ----------
    what
        Which rows of which file, and why.
    """

    what: str


@dataclass(frozen=True, eq=False)
class Source:
    """Files that are read as if they were one.

    Parameters
    ----------
    files
        The files, in order.
    hdf5_group
        Group of the columns in HDF5 files; found by itself where there is only one.
    skip_bad
        Whether what cannot be read is left out and reported, in place of an error.
    """

    files: tuple[SourceFile, ...]
    hdf5_group: str | None = None
    skip_bad: bool = False

    @classmethod
    def open(
        cls, paths: Paths, *, hdf5_group: str | None = None, skip_bad: bool = False
    ) -> Source:
        """Look at the head of every file.

        Raises
        ------
        InputError
            If a file does not exist or cannot be read, or with `skip_bad` if none can.
        """
        files = []
        for path in find_files(paths):
            try:
                files.append(SourceFile.look_at(path, hdf5_group))
            except InputError as error:
                if not skip_bad:
                    raise
                files.append(SourceFile(path, damage=str(error)))
        if all(file.damage for file in files):
            msg = f"none of the files can be read; the first: {files[0].damage}"
            raise InputError(msg)
        return cls(tuple(files), hdf5_group, skip_bad)

    @property
    def readable(self) -> list[SourceFile]:
        """Files without damage."""
        return [file for file in self.files if not file.damage]

    @cached_property
    def partitions(self) -> dict[str, pa.DataType]:
        """Type of each column in the names of folders: integer if it is so everywhere."""
        texts: dict[str, list[str]] = {}
        for file in self.readable:
            for name, text in file.in_folders.items():
                texts.setdefault(name, []).extend([] if text is None else [text])
        return {
            name: pa.int64() if all(map(_is_integer, values)) and values else pa.string()
            for name, values in texts.items()
        }

    @property
    def n_rows(self) -> int | None:
        """Rows of all files that can be read, or None where only reading them would tell."""
        counts = [file.n_rows for file in self.readable]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def names(self) -> list[str]:
        """Names of the columns that every file has, in the order of the first."""
        first, *others = (file.names for file in self.readable)
        return [name for name in first if all(name in names for names in others)]

    def find(self, wanted: Iterable[str]) -> list[str]:
        """Those of the wanted columns that every file has."""
        files = self.readable
        return [
            name
            for name in dict.fromkeys(wanted)
            if all(file.match(name) is not None for file in files)
        ]

    def promoted(self, columns: Sequence[str]) -> dict[str, pa.DataType]:
        """Types that hold the values of every file, of those columns in which files differ.

        Parameters
        ----------
        columns
            Names of columns that every file has.

        Raises
        ------
        InputError
            If there is no such type, or (without `skip_bad`) a file is damaged.
        """
        found: dict[str, list[pa.DataType]] = {name: [] for name in columns}
        files = self.readable if columns else []
        for file in files if len(files) > 1 else []:
            try:
                types = self._types(file, columns)
            except InputError:
                if not self.skip_bad:
                    raise
                continue
            for name, dtype in types.items():
                if dtype not in found[name]:
                    found[name].append(dtype)
        return {name: common_type(name, types) for name, types in found.items() if len(types) > 1}

    def chunks(
        self, columns: Sequence[str] | None, chunk_size: int, start: Place | None = None
    ) -> Iterator[Chunk | Skipped]:
        """Read the rows piece by piece.

        Where a piece begins and ends depends on nothing but the files and `chunk_size`, so
        that reading can go on from the end of any of them.

        Parameters
        ----------
        columns
            Names of the columns to read; all that a file has if left out.
        chunk_size
            Largest number of rows of a piece.
        start
            Where to begin: the `Chunk.end` of the last piece that was read.

        Yields
        ------
        Chunk or Skipped
            The next rows, with the columns in the order asked for; of an empty file a chunk
            without rows.

        Raises
        ------
        InputError
            If a file is damaged (without `skip_bad`) or lacks a column.
        """
        if chunk_size < 1:
            msg = f"expected pieces of at least 1 row, got chunk_size = {chunk_size}; give more."
            raise InputError(msg)
        start = start or Place()
        for number in range(start.file, len(self.files)):
            file = self.files[number]
            if file.damage:
                yield Skipped(file.damage)
                continue
            wanted = file.resolve(columns)
            first = start.row if number == start.file else 0
            for item in self._file_chunks(number, list(wanted), chunk_size, first):
                if isinstance(item, Chunk):
                    table = item.table.rename_columns(list(wanted.values()))
                    yield replace(item, table=table)
                else:
                    yield item

    def _types(self, file: SourceFile, columns: Sequence[str]) -> dict[str, pa.DataType]:
        wanted = file.resolve(columns)
        stored = [name for name in wanted if name in file.stored]
        with explained(file.path):
            schema = (
                open_table(file.path, self.hdf5_group).schema(stored) if stored else pa.schema([])
            )
        return {
            asked: schema.field(name).type if name in stored else self.partitions[name]
            for name, asked in wanted.items()
        }

    def _file_chunks(
        self, number: int, wanted: list[str], chunk_size: int, first: int
    ) -> Iterator[Chunk | Skipped]:
        """Cut what a file gives, in batches of any size, into chunks of one size."""
        path = self.files[number].path
        waiting: list[pa.Table] = []
        n_waiting, is_first = 0, first == 0
        for item in self._file_batches(number, wanted, chunk_size, first):
            if isinstance(item, Skipped):
                yield item
                continue
            batch, row = item
            waiting, n_waiting = [*waiting, batch], n_waiting + len(batch)
            while n_waiting >= chunk_size:
                whole = pa.concat_tables(waiting)
                rest = whole.slice(chunk_size)
                waiting, n_waiting, is_first = [rest], len(rest), False
                end = Place(number, row - len(rest))
                yield Chunk(whole.slice(0, chunk_size), path, first, end)
                first = end.row
        if n_waiting or (is_first and waiting):
            yield Chunk(pa.concat_tables(waiting), path, first, Place(number + 1))

    def _file_batches(
        self, number: int, wanted: list[str], batch_size: int, first: int
    ) -> Iterator[tuple[pa.Table, int] | Skipped]:
        """Batches of a file with the row that follows each, and what had to be left out."""
        source = self.files[number]
        file = open_table(source.path, self.hdf5_group)
        # A column must be read, if only to count its rows.
        stored = [name for name in wanted if name in source.stored] or [source.stored[0]]
        row: int | None = first
        while row is not None:
            batches = file.batches(stored, batch_size, row)
            try:
                while True:
                    with explained(source.path):
                        batch = next(batches, None)
                    if batch is None:
                        return
                    row += len(batch)
                    yield self._with_partitions(batch, source).select(wanted), row
            except InputError as error:
                if not self.skip_bad:
                    raise
                after = file.after_failure(row, batch_size)
                rows = f"rows {row} to {'the end' if after is None else after - 1}"
                yield Skipped(f"{rows} (the first is 0): {error}")
                row = after

    def _with_partitions(self, batch: pa.Table, source: SourceFile) -> pa.Table:
        for name, text in source.in_folders.items():
            value = pa.scalar(text, pa.string()).cast(self.partitions[name])
            batch = batch.append_column(name, pa.repeat(value, len(batch)))
        return batch


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal() and abs(int(text)) < 2**63
