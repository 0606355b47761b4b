"""FITS files that grow table by table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from photoz.catalogue.base import TableWriter
from photoz.catalogue.plain import PlainColumn, plain_columns
from photoz.errors import InputError

__all__ = ["FitsWriter"]

BLOCK = 2880
"""Bytes; parts of a FITS file fill whole blocks."""

CODES = {"b": "L", "u1": "B", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
"""FITS's letter for the types that it has."""

WIDER = {"i1": "i2", "u2": "i4", "u4": "i8", "f2": "f4"}
"""The type that holds the values of one that FITS does not have."""

LONGEST = 68
"""Letters of a name that fit into a card."""

OFFSET = 2**63
"""What FITS takes off large integers without a sign, to have them as integers with one."""


class FitsWriter(TableWriter):
    """A FITS file with one binary table.

    Parameters
    ----------
    path
        File to write.
    schema
        Schema of the tables. Units, UCDs and descriptions of its fields become the cards
        TUNITn, TUCDn and TCOMMn; its own metadata cards of up to eight letters.
    text_widths
        Bytes of the longest text in each column of text.
    """

    def __init__(self, path: Path, schema: pa.Schema, text_widths: Mapping[str, int]) -> None:
        columns = plain_columns(schema, "FITS")
        self._columns = [(column, _stored(column, text_widths)) for column in columns]
        self._header = _header(self._columns, schema.metadata or {})
        self._dtype = np.dtype([(column.name, *kind) for column, kind in self._columns])
        self._stream = path.open("wb")
        self._stream.write(_bytes(fits.PrimaryHDU().header))
        self._start = self._stream.tell()
        self._stream.write(_bytes(self._header))

    def write(self, table: pa.Table) -> None:
        """Add rows behind the others."""
        rows = np.empty(len(table), self._dtype)
        for column, _ in self._columns:
            rows[column.name] = _encoded(column, column.values(table))
        self._header["NAXIS2"] += len(rows)
        self._stream.write(rows.tobytes())

    def close(self) -> None:
        """Fill the last block, and put the number of rows into the header."""
        with self._stream:
            self._stream.write(bytes(-self._stream.tell() % BLOCK))
            self._stream.seek(self._start)
            self._stream.write(_bytes(self._header))


def _stored(column: PlainColumn, text_widths: Mapping[str, int]) -> tuple[str, tuple[int, ...]]:
    """Type and shape of a column's values in the file."""
    if column.is_text:
        return f"S{max(text_widths.get(column.name, 0), 1)}", ()
    shape = () if column.width is None else (column.width,)
    if column.dtype.kind == "b":
        return "S1", shape
    code = column.dtype.str[1:]
    return ">" + WIDER.get(code, "i8" if code == "u8" else code), shape


def _header(
    columns: Sequence[tuple[PlainColumn, tuple[str, tuple[int, ...]]]],
    metadata: Mapping[bytes, bytes],
) -> fits.Header:
    described = [_described(column, code) for column, (code, _) in columns]
    header = fits.BinTableHDU.from_columns(described, nrows=0).header
    for number, (column, _) in enumerate(columns, 1):
        for card, note in (("TUCD", "ucd"), ("TCOMM", "description")):
            if column.notes.get(note):
                header[f"{card}{number}"] = _ascii(column.notes[note])
    for key, value in metadata.items():
        name = key.decode().rpartition(".")[2].replace("_", "")[:8].upper()
        header[name] = _ascii(value.decode())
    return header


def _described(column: PlainColumn, code: str) -> fits.Column:
    is_plain = column.name.isascii() and column.name.isprintable()
    if not is_plain or not 0 < len(column.name) <= LONGEST:
        msg = (
            f"column {column.name!r} must have an ASCII name of 1 to {LONGEST} letters to be "
            "written to FITS; leave it out, or write Parquet."
        )
        raise InputError(msg)
    n_values = code[1:] if column.is_text else (column.width or "")
    letter = "A" if column.is_text else CODES["b" if code == "S1" else code[1:]]
    is_large = column.dtype.str[1:] == "u8"
    has_null = column.null is not None and column.width is None and not is_large
    return fits.Column(
        column.name,
        f"{n_values}{letter}",
        unit=_ascii(column.notes.get("unit", "")) or None,
        null=column.null if has_null else None,
        bzero=OFFSET if is_large else None,
    )


def _encoded(column: PlainColumn, values: NDArray[Any]) -> NDArray[Any]:
    if column.is_text:
        try:
            return np.char.encode(values.astype(str), "ascii")
        except UnicodeEncodeError as error:
            msg = (
                f"column {column.name!r} must hold ASCII text to be written to FITS, found "
                f"{str(error.object)!r}; leave it out, or write Parquet."
            )
            raise InputError(msg) from error
    if column.dtype.kind == "b":
        return np.where(values, b"T", b"F")
    if column.dtype.str[1:] == "u8":
        return (values ^ np.uint64(OFFSET)).view(np.int64)
    return values


def _ascii(note: str) -> str:
    """A note in the letters that a card may hold; others by their number."""
    return note.encode("ascii", "backslashreplace").decode()


def _bytes(header: fits.Header) -> bytes:
    text: str = header.tostring()
    return text.encode("ascii")
