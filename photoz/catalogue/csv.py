"""CSV and TSV files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from photoz.catalogue.base import TableFile
from photoz.errors import InputError

__all__ = ["CsvTable"]

TYPES = (pa.int64(), pa.uint64(), pa.float64(), pa.string())
"""Types of columns; the first one that holds every value is taken."""


SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""What stands between the columns of such files, and what it is called."""


class CsvTable(TableFile):
    """A file of comma-separated values, or of tab-separated ones if its name says ``.tsv``."""

    kind = "CSV"

    def names(self) -> list[str]:
        """Names in the header line.

        Raises
        ------
        InputError
            If the line is one name, in which other separators than the file's stand.
        """
        with self._open({}) as reader:
            names = list(reader.schema.names)
        others = [sign for sign in SEPARATORS if sign != self._delimiter and sign in names[0]]
        if len(names) == 1 and others:
            msg = (
                f"{self.path}: expected columns separated by {SEPARATORS[self._delimiter]}, found "
                f"{SEPARATORS[others[0]]}; write the file anew (commas go with the name .csv, "
                "tabs with .tsv)."
            )
            raise InputError(msg)
        return names

    def batches(
        self,
        columns: Sequence[str],
        batch_size: int,  # noqa: ARG002 - pyarrow's blocks of a megabyte are small enough
        first: int = 0,
    ) -> Iterator[pa.Table]:
        """Pieces of the file, read twice: for the types, then for the values."""
        n_before = first
        with self._open(self._types(columns)) as reader:
            if first == 0:
                yield reader.schema.empty_table()
            for batch in reader:
                rest, n_before = batch.slice(n_before), max(n_before - len(batch), 0)
                if len(rest):
                    yield pa.Table.from_batches([rest])

    def write(self, table: pa.Table) -> None:
        """Write a header line and the rows."""
        nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
        if nested:
            msg = f"CSV holds one value per field, {', '.join(nested)} has several; write Parquet."
            raise InputError(msg)
        with pa.output_stream(self.path, compression="detect") as stream:
            pacsv.write_csv(table, stream, pacsv.WriteOptions(delimiter=self._delimiter))

    @property
    def _delimiter(self) -> str:
        return "\t" if ".tsv" in self.path.suffixes else ","

    def _open(self, types: dict[str, pa.DataType]) -> pacsv.CSVStreamingReader:
        return pacsv.open_csv(
            self.path,
            parse_options=pacsv.ParseOptions(delimiter=self._delimiter),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(types), column_types=types, strings_can_be_null=True
            ),
        )

    def _types(self, columns: Sequence[str]) -> dict[str, pa.DataType]:
        """Type of each column that holds every value; pyarrow looks at the first rows only."""
        step = dict.fromkeys(columns, 0)
        with self._open(dict.fromkeys(columns, pa.string())) as reader:
            for batch in reader:
                for name in columns:
                    text = pc.utf8_trim_whitespace(batch.column(name))
                    while not _is_castable(text, TYPES[step[name]]):
                        step[name] += 1
        return {name: TYPES[k] for name, k in step.items()}


def _is_castable(text: pa.Array, dtype: pa.DataType) -> bool:
    # A number of so many digits is an identity, of which a float would lose some.
    if dtype == pa.float64() and pc.any(pc.match_substring_regex(text, r"^[+-]?\d{20,}$")).as_py():
        return False
    try:
        text.cast(dtype)
    except pa.ArrowInvalid:
        return False
    return True
