"""Output: the file that grows, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from photoz.catalogue import OutputFormat, QpLayout, TableWriter, open_writer, to_array
from photoz.errors import InputError
from photoz.prediction import FLAGS

__all__ = ["Output"]


@dataclass(eq=False)
class Output:
    """A growing output file, complete when its context is left without an error.

    Parameters
    ----------
    path
        File to write.
    kind
        Its format.
    flag
        Name of the column of flags.
    text_widths, layout
        As `open_writer` needs them.

    Attributes
    ----------
    n_rows
        Rows so far.
    flagged
        Number of rows with each bit of `FLAGS`.
    """

    path: Path
    kind: OutputFormat
    flag: str
    text_widths: Mapping[str, int]
    layout: QpLayout | None
    n_rows: int = 0
    flagged: dict[int, int] = field(default_factory=lambda: dict.fromkeys(FLAGS, 0))
    _writer: TableWriter | None = None
    _schema: pa.Schema | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written, not even that there are no rows."""
        return self._writer is None

    def conformed(self, table: pa.Table) -> pa.Table:
        """Rows with the types that the first ones had.

        Raises
        ------
        InputError
            If a value has no place in them.
        """
        if self._schema is None or table.schema.equals(self._schema):
            return table
        try:
            _check_digits(table, self._schema)
            return table.cast(self._schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            msg = (
                "expected columns of the same type in every file, found that they differ "
                f"({error}); convert them, or do not keep them."
            )
            raise InputError(msg) from error

    def add(self, table: pa.Table) -> None:
        """Write rows, which are `conformed`, and count them."""
        if self._writer is None:
            self._schema = table.schema
            self._writer = open_writer(
                self.path,
                self.kind,
                table.schema,
                text_widths=self.text_widths,
                layout=self.layout,
            )
        self._writer.write(table)
        self.n_rows += len(table)
        flag = table[self.flag].to_numpy()
        for bit in self.flagged:
            self.flagged[bit] += int((flag & bit > 0).sum())

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, *details)


def _check_digits(table: pa.Table, schema: pa.Schema) -> None:
    """Arrow refuses to cut off integers, but not floats."""
    for part in schema:
        column, types = table[part.name], (table[part.name].type, part.type)
        if not all(map(pa.types.is_floating, types)):
            continue
        rounded = to_array(column.cast(part.type)).astype(np.float64)
        if not np.array_equal(rounded, to_array(column).astype(np.float64), equal_nan=True):
            msg = f"{part.name!r} would be rounded from {column.type} to {part.type}"
            raise pa.ArrowInvalid(msg)
