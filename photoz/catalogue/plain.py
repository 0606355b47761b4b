"""Plain columns: what formats without Arrow's types can hold of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from photoz.errors import InputError

__all__ = ["PlainColumn", "plain_columns", "text_width"]

_DIGITS = 18
"""Decimal digits that every integer of 64 bits has."""


@dataclass(frozen=True, eq=False)
class PlainColumn:
    """A column of numbers, truth values or text.

    Parameters
    ----------
    name
        Its name.
    dtype
        Type of its values; objects for text.
    width
        Number of values in the list that each row holds; None where it is no list.
    null
        Of integers the value that stands for a missing one; else None.
    notes
        What is known of it: ``unit``, ``ucd``, ``description``.
    """

    name: str
    dtype: np.dtype[Any]
    width: int | None = None
    null: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether the values are text."""
        return self.dtype.kind == "O"

    def values(self, table: pa.Table) -> NDArray[Any]:
        """Values of a table's rows.

        Missing numbers are NaN, missing integers the value that `null` says, missing text is
        empty.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, width)

        Raises
        ------
        InputError
            If a truth value or a list is missing, for which there is no such value.
        """
        column = table.column(self.name)
        if column.null_count and (self.width is not None or self.dtype.kind == "b"):
            msg = (
                f"column {self.name!r} must have a value in every row, {column.null_count} are "
                "missing; write Parquet."
            )
            raise InputError(msg)
        if self.width is not None:
            parts = [chunk.flatten() for chunk in column.chunks]
            column = pa.chunked_array(parts, column.type.value_type)
        if self.is_text:
            filled = pc.fill_null(column.cast(pa.string()), "")
            return np.array(filled.to_pylist(), dtype=object)
        numbers = column.cast(pa.from_numpy_dtype(self.dtype))
        if numbers.null_count:
            missing = np.nan if self.null is None else self.null
            numbers = pc.fill_null(numbers, pa.scalar(missing, numbers.type))
        values: NDArray[Any] = numbers.to_numpy()
        return values if self.width is None else values.reshape(len(table), self.width)


def plain_columns(schema: pa.Schema, kind: str) -> list[PlainColumn]:
    """Columns of a table, as a format can hold them that knows numbers and text only.

    Parameters
    ----------
    schema
        Schema of the table; what the metadata of its fields say is kept as notes.
    kind
        Name of the format, for the message.

    Raises
    ------
    InputError
        If a column is of another type.
    """
    return [_plain(part, kind) for part in schema]


def text_width(column: pa.ChunkedArray) -> int:
    """Bytes of the longest text in a column."""
    longest = pc.max(pc.binary_length(column.cast(pa.string()))).as_py()
    return int(longest or 0)


def _plain(part: pa.Field, kind: str) -> PlainColumn:
    notes = {key.decode(): value.decode() for key, value in (part.metadata or {}).items()}
    dtype, width = part.type, None
    if pa.types.is_fixed_size_list(dtype):
        dtype, width = dtype.value_type, dtype.list_size
    if pa.types.is_dictionary(dtype):
        dtype = dtype.value_type
    if pa.types.is_decimal(dtype) and dtype.scale == 0:  # a float would lose digits
        dtype = pa.int64() if dtype.precision <= _DIGITS else pa.string()
    if pa.types.is_integer(dtype):
        limits = np.iinfo(dtype.to_pandas_dtype())
        null = int(limits.min if limits.min < 0 else limits.max)
        return PlainColumn(part.name, np.dtype(dtype.to_pandas_dtype()), width, null, notes)
    if pa.types.is_floating(dtype) or pa.types.is_boolean(dtype):
        return PlainColumn(part.name, np.dtype(dtype.to_pandas_dtype()), width, notes=notes)
    if pa.types.is_decimal(dtype) or pa.types.is_null(dtype):
        return PlainColumn(part.name, np.dtype(np.float64), width, notes=notes)
    is_text = pa.types.is_string(dtype) or pa.types.is_large_string(dtype)
    if (is_text or pa.types.is_temporal(dtype)) and width is None:
        return PlainColumn(part.name, np.dtype(object), notes=notes)
    msg = (
        f"column {part.name!r} of type {part.type} cannot be written to {kind}, which holds "
        "numbers and text; leave it out, or write Parquet."
    )
    raise InputError(msg)
