"""Output: the file that grows, and what is counted on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from photoz.catalogue import OutputFormat, QpLayout, TableWriter, open_writer
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
    types
        Types of columns in which the files of the catalogue differ.
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
    types: Mapping[str, pa.DataType]
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
        """Rows with the types of the output.

        Raises
        ------
        InputError
            If a value has no place in them.
        """
        schema = self._promoted(table.schema) if self._schema is None else self._schema
        if table.schema.equals(schema):
            return table
        try:
            return table.cast(schema)
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

    def _promoted(self, schema: pa.Schema) -> pa.Schema:
        fields = [part.with_type(self.types.get(part.name, part.type)) for part in schema]
        return pa.schema(fields, schema.metadata)
