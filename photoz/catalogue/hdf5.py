"""HDF5 files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from photoz.catalogue.base import TableFile, TableWriter, to_array, to_table
from photoz.catalogue.plain import PlainColumn, plain_columns
from photoz.errors import InputError

__all__ = [
    "GrowingFile",
    "Hdf5Columns",
    "Hdf5Table",
    "Hdf5Writer",
    "named_columns",
    "write_notes",
]

CHUNK_BYTES = 2**20
"""Size of the pieces in which a growing data set lies in its file."""


class Hdf5Table(TableFile):
    """A group with one data set per column, or one data set of records, in an HDF5 file."""

    kind = "HDF5"

    def names(self) -> list[str]:
        """Names of the data sets, or of the fields of the records."""
        with self._open() as place:
            if isinstance(place, h5py.Dataset):
                return list(place.dtype.names)
            return [name for name, item in place.items() if _is_column(item)]

    @property
    def n_rows(self) -> int:
        """Number of rows, if the columns are of one length."""
        with self._open() as place:
            if isinstance(place, h5py.Dataset):
                return len(place)
            return max(len(item) for item in place.values() if _is_column(item))

    def batches(
        self, columns: Sequence[str], batch_size: int, first: int = 0
    ) -> Iterator[pa.Table]:
        """Slices of the data sets."""
        with self._open() as place:
            if isinstance(place, h5py.Dataset):
                n_rows = len(place)
            else:
                n_rows = self._common_length({name: len(place[name]) for name in columns})
            for start in range(first, max(n_rows, 1), batch_size):
                rows = slice(start, start + batch_size)
                source = place[rows] if isinstance(place, h5py.Dataset) else place
                yield to_table(self.path, {name: _read(source[name], rows) for name in columns})

    def after_failure(self, row: int, batch_size: int) -> int | None:
        """Row behind the slice."""
        return row + batch_size if row + batch_size < self.n_rows else None

    def write(self, table: pa.Table) -> None:
        """Write one data set per column."""
        with h5py.File(self.path, "w") as file:
            place = file.require_group(self.group) if self.group else file
            for name in table.column_names:
                array = to_array(table.column(name))
                dtype = h5py.string_dtype() if array.dtype == object else None
                place.create_dataset(name, data=array, dtype=dtype)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with h5py.File(self.path) as file:
            found = ["/"] if _holds_columns(file) else []
            file.visititems(lambda name, item: _note(found, name, item))
            wanted = self.group and (self.group.strip("/") or "/")
            if wanted is None and (len(found) == 1 or found[:1] == ["/"]):
                wanted = found[0]
            if wanted not in found:
                expected = f"the group {self.group!r}" if self.group else "one group of columns"
                msg = (
                    f"{self.path}: expected {expected}, found {', '.join(found) or 'none'}; "
                    "name the right one as hdf5_group."
                )
                raise InputError(msg)
            yield file[wanted]

    def _common_length(self, lengths: dict[str, int]) -> int:
        if len(set(lengths.values())) != 1:
            found = ", ".join(f"{name}: {length}" for name, length in lengths.items())
            msg = (
                f"{self.path}: expected columns of one length, found {found}; name the right ones."
            )
            raise InputError(msg)
        return next(iter(lengths.values()))


class GrowingFile:
    """An HDF5 file that is written, and that fails as other files do where the disk is full.

    The library itself crashes when it closes a file that it could not write to.

    Parameters
    ----------
    path
        File to write.

    Attributes
    ----------
    root
        The uppermost group.
    """

    def __init__(self, path: Path) -> None:
        self._stream = _Stream(path, "w+")
        self.root = h5py.File(self._stream, "w")

    def check(self) -> None:
        """Raise what an attempt to write has raised."""
        if self._stream.failure is not None:
            raise self._stream.failure

    def close(self) -> None:
        """Write what is left, and close the file."""
        with self._stream:
            self.root.close()
        self.check()


class _Stream(io.FileIO):
    """A file that keeps its first failure to write, and from then on writes nothing."""

    failure: OSError | None = None

    def write(self, content: Any) -> int:  # noqa: ANN401 - whatever has bytes
        rest = memoryview(content)
        size = rest.nbytes
        try:
            while rest.nbytes and self.failure is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.failure is None else 0
        except OSError as error:
            self.failure = error
            return 0


class Hdf5Columns:
    """Data sets that grow together, one per column.

    Parameters
    ----------
    places
        Group and name of the data set of each column.
    """

    def __init__(self, places: Sequence[tuple[PlainColumn, h5py.Group, str]]) -> None:
        self._sets = [(column, _empty(column, group, name)) for column, group, name in places]

    def append(self, table: pa.Table) -> None:
        """Add the rows of a table."""
        for column, dataset in self._sets:
            n_before = len(dataset)
            dataset.resize(n_before + len(table), axis=0)
            dataset[n_before:] = column.values(table)


class Hdf5Writer(TableWriter):
    """An HDF5 file with one growing data set per column; what is known of them as attributes."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        columns = named_columns(schema, "HDF5")
        self._file = GrowingFile(path)
        root = self._file.root
        write_notes(root, schema)
        self._columns = Hdf5Columns([(column, root, column.name) for column in columns])

    def write(self, table: pa.Table) -> None:
        """Add rows to every data set."""
        self._columns.append(table)
        self._file.check()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def named_columns(schema: pa.Schema, kind: str) -> list[PlainColumn]:
    """Columns of a table whose names are names of data sets; see `plain_columns`.

    Raises
    ------
    InputError
        If a name, or the type of a column, has no place in HDF5.
    """
    for name in schema.names:
        if name in ("", ".") or "/" in name:
            msg = (
                f"column {name!r} cannot be written to HDF5, where / stands for a group; leave "
                "it out, or write Parquet."
            )
            raise InputError(msg)
    return plain_columns(schema, kind)


def write_notes(place: h5py.Group, schema: pa.Schema) -> None:
    """Keep the metadata of a table as attributes."""
    for key, value in (schema.metadata or {}).items():
        place.attrs[key.decode()] = value.decode()


def _empty(column: PlainColumn, group: h5py.Group, name: str) -> h5py.Dataset:
    shape = () if column.width is None else (column.width,)
    dtype = h5py.string_dtype() if column.is_text else column.dtype
    n_rows = max(CHUNK_BYTES // ((column.width or 1) * column.dtype.itemsize), 1)
    dataset = group.create_dataset(
        name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(n_rows, *shape)
    )
    dataset.attrs.update(column.notes)
    if column.null is not None and column.width is None:
        dataset.attrs["missing_value"] = np.array(column.null, column.dtype)
    return dataset


def _is_column(item: Any) -> bool:  # noqa: ANN401 - h5py has no types
    return isinstance(item, h5py.Dataset) and item.ndim > 0 and item.dtype.names is None


def _holds_columns(item: Any) -> bool:  # noqa: ANN401 - h5py has no types
    if isinstance(item, h5py.Dataset):
        return item.dtype.names is not None
    return any(_is_column(part) for part in item.values())


def _note(found: list[str], name: str, item: Any) -> None:  # noqa: ANN401 - h5py has no types
    if _holds_columns(item):
        found.append(name)


def _read(column: Any, rows: slice) -> NDArray[Any]:  # noqa: ANN401 - h5py has no types
    """Rows of a data set; the columns of records have been cut out already."""
    if not isinstance(column, h5py.Dataset):
        return np.asarray(column)
    is_text = h5py.check_string_dtype(column.dtype) is not None
    return np.asarray(column.asstr("utf-8", "replace")[rows] if is_text else column[rows])
