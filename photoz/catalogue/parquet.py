"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import pyarrow as pa
import pyarrow.parquet as pq

from photoz.catalogue.base import TableFile

__all__ = ["ParquetTable"]


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

    def after_failure(self, row: int, batch_size: int) -> int | None:  # noqa: ARG002
        """First row of the next row group."""
        with pq.ParquetFile(self.path) as file:
            return next((start for start, _ in _row_groups(file) if start > row), None)

    def write(self, table: pa.Table) -> None:
        """Write one file, with the table's metadata."""
        pq.write_table(table, self.path)


def _row_groups(file: pq.ParquetFile) -> list[tuple[int, int]]:
    """First row of every row group, and the row behind its last."""
    metadata = file.metadata
    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    ends = [*accumulate(sizes)]
    return [(end - size, end) for end, size in zip(ends, sizes, strict=True)]
