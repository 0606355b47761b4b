"""FITS files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from photoz.catalogue.base import TableFile, slices, to_array, to_table
from photoz.errors import InputError

__all__ = ["FitsTable"]


class FitsTable(TableFile):
    """The first table of a FITS file, read from disk slice by slice unless compressed."""

    kind = "FITS"

    def names(self) -> list[str]:
        """Names of the table's columns."""
        with self._open() as table:
            return [str(name) for name in table.columns.names]

    @property
    def n_rows(self) -> int:
        """Number of rows that the table's header declares."""
        with self._open() as table:
            return int(table.header["NAXIS2"])

    def batches(
        self, columns: Sequence[str], batch_size: int, first: int = 0
    ) -> Iterator[pa.Table]:
        """Slices of the table."""
        with self._open() as table:
            if not self._is_mapped:
                yield from slices(_to_table(self.path, table, columns), batch_size, first)
                return
            header, kind, start = table.header.copy(), type(table), table.fileinfo()["datLoc"]
        # Unsigned integers are stored with an offset, which would make them floats.
        options = {"uint": True} if kind is fits.BinTableHDU else {}
        width, n_rows = header["NAXIS1"], header["NAXIS2"]
        # Values of variable length lie behind the rows, out of reach.
        header["PCOUNT"] = 0
        with self.path.open("rb") as stream:
            stream.seek(start + first * width)
            for row in range(first, max(n_rows, 1), batch_size):
                header["NAXIS2"] = min(batch_size, n_rows - row)
                rows = stream.read(width * header["NAXIS2"])
                # A small file in memory: astropy's memory maps grow with the file.
                data = header.tostring().encode("ascii") + _padded(rows)
                yield _to_table(self.path, kind.fromstring(data, **options), columns)

    def after_failure(self, row: int, batch_size: int) -> int | None:
        """Row behind the slice."""
        return row + batch_size if row + batch_size < self.n_rows else None

    def write(self, table: pa.Table) -> None:
        """Write one binary table."""
        arrays = {name: to_array(table.column(name)) for name in table.column_names}
        text = {name: array.astype(str) for name, array in arrays.items() if array.dtype == object}
        Table({**arrays, **text}).write(self.path, format="fits", overwrite=True)

    @property
    def _is_mapped(self) -> bool:
        return self.path.suffix.lower() not in (".gz", ".bz2")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with warnings.catch_warnings():
            # A file cut off is reported below; smaller departures do no harm here.
            warnings.simplefilter("ignore", VerifyWarning)
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(self.path, memmap=self._is_mapped) as hdus:
                tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
                if not tables:
                    kinds = ", ".join(type(hdu).__name__ for hdu in hdus)
                    msg = (
                        f"{self.path}: expected a FITS file with a table, found only {kinds}; "
                        "choose another file, or fetch it again if it was cut off."
                    )
                    raise InputError(msg)
                self._check_size(tables[0])
                yield tables[0]

    def _check_size(self, table: Any) -> None:  # noqa: ANN401 - astropy has no types
        expected = table.fileinfo()["datLoc"] + table.size
        found = self.path.stat().st_size
        if self._is_mapped and found < expected:
            msg = (
                f"{self.path}: expected a table that ends at byte {expected}, found "
                f"{found} bytes; the file was cut off: fetch it again."
            )
            raise InputError(msg)


def _padded(data: bytes) -> bytes:
    """Data of a FITS file come in blocks of 2880 bytes."""
    return data + bytes(-len(data) % 2880)


def _is_lengthy(code: str) -> bool:
    """Whether a column holds as many values as each row likes; a number may stand first."""
    return code.lstrip("0123456789").startswith(("P", "Q"))


def _to_table(path: Path, hdu: Any, columns: Sequence[str]) -> pa.Table:  # noqa: ANN401
    lengthy = [c.name for c in hdu.columns if c.name in columns and _is_lengthy(c.format)]
    if lengthy:
        msg = (
            f"{path}: column {lengthy[0]!r} must hold the same number of values in every row, "
            "found a number that varies; mend the column or do without it."
        )
        raise InputError(msg)
    arrays = {name: np.asarray(hdu.data[name]) for name in columns}
    text = [name for name, array in arrays.items() if array.dtype.kind == "U"]
    # Blanks at the end of a text are padding.
    arrays |= {name: np.char.rstrip(arrays[name]) for name in text}
    # Integers have no NaN; TNULL names the one in the file that stands for it.
    masks = {
        column.name: arrays[column.name] == _scaled_null(column)
        for column in hdu.columns
        if column.name in arrays and isinstance(column.null, int)
    }
    return to_table(path, arrays, masks)


def _scaled_null(column: Any) -> int | float:  # noqa: ANN401 - astropy has no types
    """What astropy makes of the value that stands for a missing one."""
    null: int | float = column.null * (column.bscale or 1) + (column.bzero or 0)
    return null
