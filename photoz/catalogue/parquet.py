"""Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

    def chunks(self, columns: Sequence[str], chunk_size: int) -> Iterator[pa.Table]:
        """Batches of the row groups, one after the other."""
        with pq.ParquetFile(self.path) as file:
            schema = pa.schema([file.schema_arrow.field(name) for name in columns])
            if file.metadata.num_rows == 0:
                yield schema.empty_table()
            for batch in file.iter_batches(chunk_size, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))

    def write(self, table: pa.Table) -> None:
        """Write one file, with the table's metadata."""
        pq.write_table(table, self.path)
