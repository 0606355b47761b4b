"""ECSV and VOTable files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning

from photoz.catalogue.base import TableFile, slices, to_table

__all__ = ["EcsvTable", "VoTable"]


class AstropyTable(TableFile):
    """A file that astropy reads, whole."""

    is_written = False
    astropy_format: ClassVar[str]

    def names(self) -> list[str]:
        """Names of the columns."""
        return [str(name) for name in self._table().colnames]

    def batches(
        self, columns: Sequence[str], batch_size: int, first: int = 0
    ) -> Iterator[pa.Table]:
        """Pieces of the table, once it is read."""
        source = self._table()
        masks = {name: getattr(source[name], "mask", None) for name in columns}
        table = to_table(
            self.path,
            {name: np.asarray(source[name]) for name in columns},
            {name: None if mask is None else np.asarray(mask) for name, mask in masks.items()},
        )
        yield from slices(table, batch_size, first)

    def _table(self) -> Any:  # noqa: ANN401 - astropy has no types
        with warnings.catch_warnings():
            # Departures from the VOTable standard are common and do no harm here.
            warnings.simplefilter("ignore", AstropyWarning)
            return Table.read(self.path, format=self.astropy_format)


class EcsvTable(AstropyTable):
    """An ECSV file."""

    kind = "ECSV"
    astropy_format = "ascii.ecsv"


class VoTable(AstropyTable):
    """The first table of a VOTable file."""

    kind = "VOTable"
    astropy_format = "votable"
