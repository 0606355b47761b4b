"""FITS files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from photoz.catalogue.base import TableFile, rechunk, to_array, to_arrow
from photoz.errors import InputError

__all__ = ["FitsTable"]


class FitsTable(TableFile):
    """The first table of a FITS file, read from disk slice by slice unless compressed."""

    kind = "FITS"

    def names(self) -> list[str]:
        """Names of the table's columns."""
        with self._open() as table:
            return [str(name) for name in table.columns.names]

    def chunks(self, columns: Sequence[str], chunk_size: int) -> Iterator[pa.Table]:
        """Slices of the table."""
        start, n_rows = 0, None
        while n_rows is None or start < n_rows:
            # Opened anew for each slice: a memory map's pages count as memory until it closes.
            with self._open() as table:
                n_rows = len(table.data)
                stop = start + chunk_size if self._is_mapped else n_rows
                chunk = _slice(table, columns, start, stop)
            yield from rechunk(chunk.to_batches(), chunk.schema, chunk_size)
            start = stop

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


def _slice(table: Any, columns: Sequence[str], start: int, stop: int) -> pa.Table:  # noqa: ANN401
    rows = table.data[start:stop]
    arrays = {name: np.asarray(rows[name]) for name in columns}
    # Integers have no NaN; TNULL names the value that stands for it.
    nulls = {column.name: column.null for column in table.columns}
    masks = {
        name: array == nulls[name]
        for name, array in arrays.items()
        if nulls[name] is not None and array.dtype.kind in "iu"
    }
    return pa.table({name: to_arrow(array, masks.get(name)) for name, array in arrays.items()})
