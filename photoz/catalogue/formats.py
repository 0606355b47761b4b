"""File formats: the columns of Parquet, FITS, HDF5, CSV, ECSV and VOTable files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from photoz.errors import InputError

__all__ = ["COMPRESSED", "FORMATS", "Format", "to_array"]


@dataclass(frozen=True)
class Format:
    """How to read and write one file format.

    Parameters
    ----------
    name
        Name for messages.
    suffixes
        Ends of file names, in lower case.
    names
        ``names(path, group)``: names of the columns of a file.
    chunks
        ``chunks(path, columns, chunk_size, group)``: the file in tables of at most
        `chunk_size` rows; at least one, if only an empty one.
    write
        ``write(table, path, group)``; None where a format is only read.
    """

    name: str
    suffixes: tuple[str, ...]
    names: Callable[[Path, str | None], list[str]]
    chunks: Callable[[Path, Sequence[str], int, str | None], Iterator[pa.Table]]
    write: Callable[[pa.Table, Path, str | None], None] | None = None


def _parquet_names(path: Path, group: str | None) -> list[str]:  # noqa: ARG001 - HDF5's
    return list(pq.read_schema(path).names)


def _parquet_chunks(
    path: Path,
    columns: Sequence[str],
    chunk_size: int,
    group: str | None,  # noqa: ARG001
) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        if file.metadata.num_rows == 0:
            yield schema.empty_table()
        for batch in file.iter_batches(chunk_size, columns=list(columns)):
            yield pa.Table.from_batches([batch]).select(list(columns))


def _parquet_write(table: pa.Table, path: Path, group: str | None) -> None:  # noqa: ARG001
    pq.write_table(table, path)


def _csv_names(path: Path, group: str | None) -> list[str]:  # noqa: ARG001
    with _open_csv(path, None) as reader:
        return list(reader.schema.names)


def _csv_chunks(
    path: Path,
    columns: Sequence[str],
    chunk_size: int,
    group: str | None,  # noqa: ARG001
) -> Iterator[pa.Table]:
    with _open_csv(path, _csv_types(path, columns)) as reader:
        yield from _rechunk(reader, reader.schema, chunk_size)


def _open_csv(path: Path, types: dict[str, pa.DataType] | None) -> pacsv.CSVStreamingReader:
    return pacsv.open_csv(
        path,
        parse_options=pacsv.ParseOptions(delimiter=_delimiter(path)),
        convert_options=pacsv.ConvertOptions(
            include_columns=list(types or ()), column_types=types or {}, strings_can_be_null=True
        ),
    )


def _csv_types(path: Path, columns: Sequence[str]) -> dict[str, pa.DataType]:
    """Types that hold every value of a file; pyarrow would look at its first rows only."""
    ladder = [pa.int64(), pa.uint64(), pa.float64(), pa.string()]
    step = dict.fromkeys(columns, 0)
    with _open_csv(path, dict.fromkeys(columns, pa.string())) as reader:
        for batch in reader:
            for name in columns:
                text = pc.utf8_trim_whitespace(batch.column(name))
                while not _casts(text, ladder[step[name]]):
                    step[name] += 1
    return {name: ladder[k] for name, k in step.items()}


def _casts(text: pa.Array, dtype: pa.DataType) -> bool:
    try:
        text.cast(dtype)
    except pa.ArrowInvalid:
        return False
    return True


def _rechunk(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, chunk_size: int
) -> Iterator[pa.Table]:
    """Tables of `chunk_size` rows, the last one shorter, whatever the size of the batches."""
    waiting = schema.empty_table()
    is_first = True
    for batch in batches:
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while len(waiting) > chunk_size:
            yield waiting.slice(0, chunk_size)
            waiting, is_first = waiting.slice(chunk_size), False
    if len(waiting) or is_first:
        yield waiting


def _csv_write(table: pa.Table, path: Path, group: str | None) -> None:  # noqa: ARG001
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    if nested:
        msg = f"CSV holds one value per field, {', '.join(nested)} has several; write Parquet."
        raise InputError(msg)
    pacsv.write_csv(table, path, pacsv.WriteOptions(delimiter=_delimiter(path)))


def _fits_names(path: Path, group: str | None) -> list[str]:  # noqa: ARG001
    with _open_fits(path) as (table, _):
        return [str(name) for name in table.columns.names]


def _fits_chunks(
    path: Path,
    columns: Sequence[str],
    chunk_size: int,
    group: str | None,  # noqa: ARG001
) -> Iterator[pa.Table]:
    start, n_rows = 0, 1
    while start < n_rows or start == 0:
        # Opened anew for each chunk: pages of a memory map count as memory until it closes.
        with _open_fits(path) as (table, is_mapped):
            n_rows = len(table.data)
            stop = start + chunk_size if is_mapped else n_rows
            rows = table.data[start:stop]
            nulls = {column.name: column.null for column in table.columns}
            chunk = pa.table({name: _from_fits(rows[name], nulls[name]) for name in columns})
        yield from _rechunk(chunk.to_batches(), chunk.schema, chunk_size)
        start = max(stop, 1)


@contextmanager
def _open_fits(path: Path) -> Iterator[tuple[Any, bool]]:
    """First table of a FITS file, and whether it is read from disk piece by piece."""
    from astropy.io import fits
    from astropy.io.fits.verify import VerifyWarning
    from astropy.utils.exceptions import AstropyUserWarning

    is_mapped = path.suffix.lower() not in COMPRESSED
    with warnings.catch_warnings():
        # Both are said below in our own words: not standard, or cut off.
        warnings.simplefilter("ignore", VerifyWarning)
        warnings.simplefilter("ignore", AstropyUserWarning)
        with fits.open(path, memmap=is_mapped) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            if not tables:
                kinds = ", ".join(type(hdu).__name__ for hdu in hdus)
                msg = f"{path}: expected a FITS file with a table, found only {kinds}."
                raise InputError(msg)
            place = tables[0].fileinfo()
            expected = place["datLoc"] + tables[0].size
            if is_mapped and path.stat().st_size < expected:
                msg = (
                    f"{path}: expected a table that ends at byte {expected}, found only "
                    f"{path.stat().st_size} bytes; the file was cut off: fetch it again."
                )
                raise InputError(msg)
            yield tables[0], is_mapped


def _from_fits(values: Any, null: int | None) -> pa.Array:  # noqa: ANN401 - no types in astropy
    array = np.asarray(values)
    mask = array == null if null is not None and array.dtype.kind in "iu" else None
    return _to_arrow(array, mask)


def _fits_write(table: pa.Table, path: Path, group: str | None) -> None:  # noqa: ARG001
    from astropy.table import Table

    columns = {name: to_array(table.column(name)) for name in table.column_names}
    text = {name: array.astype(str) for name, array in columns.items() if array.dtype == object}
    Table({**columns, **text}).write(path, format="fits", overwrite=True)


def _hdf5_names(path: Path, group: str | None) -> list[str]:
    import h5py

    with h5py.File(path) as file:
        place = _hdf5_place(file, path, group)
        if isinstance(place, h5py.Dataset):
            return list(place.dtype.names)
        return [name for name, item in place.items() if isinstance(item, h5py.Dataset)]


def _hdf5_place(file: Any, path: Path, group: str | None) -> Any:  # noqa: ANN401 - h5py's
    """Group of one data set per column, or one data set of records, that holds the columns."""
    import h5py

    groups: list[str] = []
    file.visititems(lambda name, item: groups.append(name) if _holds_columns(item) else None)
    groups += [""] if _holds_columns(file) else []
    if group is not None and group.strip("/") in groups:
        return file[group.strip("/") or "/"]
    if group is None and ("" in groups or len(groups) == 1):
        return file[groups[0] if "" not in groups else "/"]
    known = ", ".join(repr(name or "/") for name in groups) or "none"
    expected = "one group of columns" if group is None else f"the group {group!r}"
    msg = f"{path}: expected {expected}, found {known}; name the right one as hdf5_group."
    raise InputError(msg)


def _holds_columns(item: Any) -> bool:  # noqa: ANN401 - h5py's
    import h5py

    if isinstance(item, h5py.Dataset):
        return item.dtype.names is not None
    return any(isinstance(part, h5py.Dataset) and part.ndim for part in item.values())


def _hdf5_chunks(
    path: Path, columns: Sequence[str], chunk_size: int, group: str | None
) -> Iterator[pa.Table]:
    import h5py

    with h5py.File(path) as file:
        place = _hdf5_place(file, path, group)
        is_records = isinstance(place, h5py.Dataset)
        sizes = {"rows": len(place)} if is_records else {n: len(place[n]) for n in columns}
        if len(set(sizes.values())) != 1:
            msg = f"{path}: expected columns of one length, found {sizes}."
            raise InputError(msg)
        n_rows = next(iter(sizes.values()))
        for start in range(0, max(n_rows, 1), chunk_size):
            rows = slice(start, start + chunk_size)
            if is_records:
                records = place[rows]
                yield pa.table({name: _to_arrow(records[name]) for name in columns})
            else:
                yield pa.table(
                    {name: _to_arrow(_hdf5_rows(place[name], rows)) for name in columns}
                )


def _hdf5_rows(dataset: Any, rows: slice) -> NDArray[Any]:  # noqa: ANN401 - h5py's
    import h5py

    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return np.asarray(dataset.asstr()[rows] if is_text else dataset[rows])


def _hdf5_write(table: pa.Table, path: Path, group: str | None) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        place = file.require_group(group) if group else file
        for name in table.column_names:
            array = to_array(table.column(name))
            if array.dtype == object:
                place.create_dataset(name, data=array, dtype=h5py.string_dtype())
            else:
                place.create_dataset(name, data=array)


def _astropy_names(path: Path, group: str | None) -> list[str]:  # noqa: ARG001
    return [str(name) for name in _read_astropy(path).colnames]


def _astropy_chunks(
    path: Path,
    columns: Sequence[str],
    chunk_size: int,
    group: str | None,  # noqa: ARG001
) -> Iterator[pa.Table]:
    source = _read_astropy(path)
    table = pa.table({name: _from_masked(source[name]) for name in columns})
    yield from _rechunk(table.to_batches(), table.schema, chunk_size)


def _read_astropy(path: Path) -> Any:  # noqa: ANN401 - no types in astropy
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    kind = "ascii.ecsv" if path.suffix.lower() == ".ecsv" else "votable"
    with warnings.catch_warnings():
        # Departures from the VOTable standard are common and do no harm here.
        warnings.simplefilter("ignore", AstropyWarning)
        return Table.read(path, format=kind)


def _from_masked(column: Any) -> pa.Array:  # noqa: ANN401 - no types in astropy
    mask = np.asarray(column.mask) if hasattr(column, "mask") else None
    return _to_arrow(np.asarray(column), mask)


def _to_arrow(array: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> pa.Array:
    """Arrow array of a native copy; rows of a matrix become lists of fixed size."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.ndim > 1:
        width = int(np.prod(array.shape[1:]))
        return pa.FixedSizeListArray.from_arrays(_to_arrow(array.reshape(-1)), width)
    native = array.astype(array.dtype.newbyteorder("="))
    values = native.tolist() if native.dtype.kind in "OU" else native
    return pa.array(values, mask=mask)


def to_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Numpy array of a column; numbers keep their type unless values are missing (then NaN).

    Parameters
    ----------
    column
        Column of ``n_rows`` values, or of lists of one size.

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_values)
    """
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        column = column.cast(dtype.value_type)
    elif pa.types.is_decimal(dtype) or pa.types.is_null(dtype):
        column = column.cast(pa.float64())
    elif pa.types.is_boolean(dtype) and column.null_count:
        column = column.cast(pa.uint8())
    elif pa.types.is_fixed_size_list(dtype) and not column.null_count:
        values = pa.chunked_array([chunk.flatten() for chunk in column.chunks], dtype.value_type)
        return to_array(values).reshape(len(column), dtype.list_size)
    array: NDArray[Any] = column.to_numpy()
    return array


COMPRESSED = (".gz", ".bz2", ".xz", ".fz")

FORMATS = (
    Format(
        "Parquet", (".parquet", ".parq", ".pq"), _parquet_names, _parquet_chunks, _parquet_write
    ),
    Format("FITS", (".fits", ".fit", ".fts"), _fits_names, _fits_chunks, _fits_write),
    Format("HDF5", (".hdf5", ".h5", ".hdf", ".he5"), _hdf5_names, _hdf5_chunks, _hdf5_write),
    Format("CSV", (".csv", ".tsv"), _csv_names, _csv_chunks, _csv_write),
    Format("ECSV", (".ecsv",), _astropy_names, _astropy_chunks),
    Format("VOTable", (".vot", ".votable", ".xml"), _astropy_names, _astropy_chunks),
)
"""The formats that are read, with the file names they go by; ``.gz`` may follow them."""


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","
