"""TableFile: what every file format can do, and how columns pass between numpy and Arrow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from photoz.errors import InputError

__all__ = [
    "TableFile",
    "TableWriter",
    "common_type",
    "slices",
    "to_array",
    "to_arrow",
    "to_masked",
    "to_table",
]


@dataclass(frozen=True)
class TableFile(ABC):
    """A file with a table.

    Parameters
    ----------
    path
        Where the file is, or is to be.
    group
        Group of the columns, for formats that have groups; None finds it.
    """

    kind: ClassVar[str]
    """Name of the format, for messages."""

    is_written: ClassVar[bool] = True
    """Whether `write` works."""

    path: Path
    group: str | None = None

    @abstractmethod
    def names(self) -> list[str]:
        """Names of the columns."""

    @property
    def n_rows(self) -> int | None:
        """Number of rows; None where only reading them would tell."""
        return None

    @abstractmethod
    def batches(
        self, columns: Sequence[str], batch_size: int, first: int = 0
    ) -> Iterator[pa.Table]:
        """Rows from `first` on, in tables of at most `batch_size` rows.

        Of an empty file one empty table.
        """

    def schema(self, columns: Sequence[str]) -> pa.Schema:
        """Types of some columns."""
        return next(self.batches(columns, 1)).schema

    def after_failure(self, row: int, batch_size: int) -> int | None:  # noqa: ARG002
        """Row behind `row`, which cannot be read, from which on others perhaps can; or None."""
        return None

    def write(self, table: pa.Table) -> None:
        """Write a table, over what was there."""
        raise NotImplementedError


class TableWriter(ABC):
    """A file that grows table by table; as a context it is complete at the end."""

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Add rows; every table has the same schema."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        # The file is lost; what made it so is what counts.
        with suppress(OSError, RuntimeError, ValueError):
            self.close()


def common_type(name: str, types: Sequence[pa.DataType]) -> pa.DataType:
    """Type that holds the values of several, as `read_columns` promotes them.

    Raises
    ------
    InputError
        If there is none; it names the column.
    """
    # Files that know different words have no dictionary in common.
    plain = [t.value_type if pa.types.is_dictionary(t) else t for t in types]
    schemas = [pa.schema([(name, dtype)]) for dtype in plain]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(name).type
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        msg = (
            f"expected columns of the same type in every file, found {name!r} as "
            f"{' and '.join(map(str, types))}; convert them, or do not keep them."
        )
        raise InputError(msg) from error


def slices(table: pa.Table, batch_size: int, first: int = 0) -> Iterator[pa.Table]:
    """Rows of a table from `first` on, piece by piece; of an empty table one empty piece."""
    for start in range(first, max(len(table), 1), batch_size):
        yield table.slice(start, batch_size)


def to_arrow(array: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> pa.Array:
    """Arrow array of a native copy; rows of a matrix become lists of one size.

    Parameters
    ----------
    array
        Values of shape ``(n_rows,)`` or ``(n_rows, ...)``, of any byte order.
    mask
        Which values are missing, of the same shape.
    """
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.ndim > 1:
        flat_mask = None if mask is None else mask.reshape(-1)
        width = int(np.prod(array.shape[1:]))
        return pa.FixedSizeListArray.from_arrays(to_arrow(array.reshape(-1), flat_mask), width)
    native = array.astype(array.dtype.newbyteorder("="))
    return pa.array(native.tolist() if native.dtype.kind in "OU" else native, mask=mask)


def to_table(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    masks: Mapping[str, NDArray[np.bool_] | None] | None = None,
) -> pa.Table:
    """Table of what a file holds, each column as `to_arrow` gives it.

    Raises
    ------
    InputError
        If a column holds what Arrow has no type for, such as complex numbers.
    """
    columns = {}
    for name, array in arrays.items():
        try:
            columns[name] = to_arrow(array, (masks or {}).get(name))
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            msg = (
                f"{path}: column {name!r} must hold numbers, truth values or text, found "
                f"{array.dtype.name}; mend the column or do without it."
            )
            raise InputError(msg) from error
    return pa.table(columns)


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
    column = _plain(column)
    dtype = column.type
    if pa.types.is_boolean(dtype) and column.null_count:
        column = column.cast(pa.uint8())
    elif pa.types.is_fixed_size_list(dtype) and not column.null_count:
        values = pa.chunked_array([chunk.flatten() for chunk in column.chunks], dtype.value_type)
        return to_array(values).reshape(len(column), dtype.list_size)
    array: NDArray[Any] = column.to_numpy()
    return array


def to_masked(column: pa.ChunkedArray) -> NDArray[Any]:
    """As `to_array`, but integers and truth values keep their type where some are missing.

    Parameters
    ----------
    column
        Column of ``n_rows`` values.

    Returns
    -------
    ndarray of shape (n_rows,)
        A masked array where integers or truth values are missing.
    """
    column = _plain(column)
    is_exact = pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if not (is_exact and column.null_count):
        return to_array(column)
    filled = column.fill_null(pa.scalar(0).cast(column.type))
    return np.ma.masked_array(to_array(filled), column.is_null().to_numpy())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Column of a type that numpy has as well, if there is one."""
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        return column.cast(dtype.value_type)
    if pa.types.is_decimal(dtype) and dtype.scale == 0:
        return _whole(column)
    if pa.types.is_decimal(dtype) or pa.types.is_null(dtype):
        return column.cast(pa.float64())
    return column


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole decimals with every digit: databases export identities as these."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.string())
