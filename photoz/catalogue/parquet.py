"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from photoz.catalogue.base import TableFile, TableWriter

__all__ = ["ParquetTable", "ParquetWriter"]

ROW_GROUP_BYTES = 2**25
"""Size of a row group in memory: readers take one at a time."""


class ParquetTable(TableFile):
    """A Parquet file; only the columns that are asked for are read."""

    kind = "Parquet"

    def names(self) -> list[str]:
        """Names in the file's schema."""
        return list(pq.read_schema(self.path).names)

    @property
    def n_rows(self) -> int:
        """Number of rows that the file's end declares."""
        return int(pq.read_metadata(self.path).num_rows)

    def batches(
        self, columns: Sequence[str], batch_size: int, first: int = 0
    ) -> Iterator[pa.Table]:
        """Batches of the row groups, one after the other."""
        with pq.ParquetFile(self.path) as file:
            if file.metadata.num_rows == 0:
                yield pa.schema([file.schema_arrow.field(name) for name in columns]).empty_table()
            for group, (start, end) in enumerate(_row_groups(file)):
                n_before = max(first - start, 0)
                if n_before >= end - start:
                    continue
                for batch in file.iter_batches(batch_size, [group], list(columns)):
                    rest, n_before = batch.slice(n_before), max(n_before - len(batch), 0)
                    if len(rest):
                        yield pa.Table.from_batches([rest]).select(list(columns))

    def schema(self, columns: Sequence[str]) -> pa.Schema:
        """Types in the file's schema."""
        schema = pq.read_schema(self.path)
        return pa.schema([schema.field(name) for name in columns])

    def after_failure(self, row: int, batch_size: int) -> int | None:  # noqa: ARG002
        """First row of the next row group."""
        with pq.ParquetFile(self.path) as file:
            return next((start for start, _ in _row_groups(file) if start > row), None)

    def write(self, table: pa.Table) -> None:
        """Write one file, with the table's metadata."""
        pq.write_table(table, self.path)


class ParquetWriter(TableWriter):
    """A Parquet file that grows table by table, in row groups of one size whatever the tables."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        # Measurements hardly repeat: looking for it takes longer than all the rest.
        repeating = [part.name for part in schema if not _is_number(part.type)]
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", use_dictionary=repeating or False
        )
        self._group_size = max(ROW_GROUP_BYTES // sum(_width(part.type) for part in schema), 1)
        self._waiting: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        """Add rows; those of a row group that is not full wait in memory."""
        self._waiting.append(table)
        while sum(map(len, self._waiting)) >= self._group_size:
            whole = pa.concat_tables(self._waiting)
            self._writer.write_table(whole.slice(0, self._group_size), self._group_size)
            self._waiting = [whole.slice(self._group_size)]

    def close(self) -> None:
        """Write the last row group and the file's end."""
        try:
            if any(map(len, self._waiting)):
                self._writer.write_table(pa.concat_tables(self._waiting), self._group_size)
        finally:
            self._writer.close()


def _width(dtype: pa.DataType) -> int:
    """Bytes that a value takes, about."""
    if pa.types.is_fixed_size_list(dtype):
        return int(_width(dtype.value_type) * dtype.list_size)
    return max(dtype.bit_width // 8, 1) if pa.types.is_primitive(dtype) else 16


def _is_number(dtype: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(dtype):
        return _is_number(dtype.value_type)
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _row_groups(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """First row of every row group, and the row behind its last."""
    metadata = file.metadata
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    ends = [*accumulate(sizes)]
    return [(end - size, end) for end, size in zip(ends, sizes, strict=True)]
