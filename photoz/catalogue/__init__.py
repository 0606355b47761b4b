"""Catalogues: files of any format, converted to photometry, filtered, counted and written."""

from photoz.catalogue.base import TableWriter, to_array
from photoz.catalogue.files import Paths, find_files
from photoz.catalogue.galaxies import Catalogue, check_enough
from photoz.catalogue.reading import from_columns, read, read_known
from photoz.catalogue.stream import Chunk, Place, Skipped, Source
from photoz.catalogue.tables import column_names, find_columns, iterate, read_columns, write
from photoz.catalogue.where import RowFilter
from photoz.catalogue.writing import (
    OutputFormat,
    QpLayout,
    open_writer,
    output_format,
    text_widths,
)

__all__ = [
    "Catalogue",
    "Chunk",
    "OutputFormat",
    "Paths",
    "Place",
    "QpLayout",
    "RowFilter",
    "Skipped",
    "Source",
    "TableWriter",
    "check_enough",
    "column_names",
    "find_columns",
    "find_files",
    "from_columns",
    "iterate",
    "open_writer",
    "output_format",
    "read",
    "read_columns",
    "read_known",
    "text_widths",
    "to_array",
    "write",
]
