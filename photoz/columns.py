"""Columns of a catalogue: numbers out of whatever a file held, and names that were meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InputError

__all__ = [
    "as_masked",
    "as_numbers",
    "as_words",
    "by_name",
    "missing_columns",
    "suggest",
    "unmasked",
]

MISSING_WORDS = {"", "-", "--", "n/a", "na", "nan", "none", "null", "masked"}
"""Words that stand for no number where numbers are written as text."""

LONGEST_LIST = 30
"""Names in a message; the tables of surveys have hundreds of columns."""


def as_numbers(values: Sequence[Any] | NDArray[Any], name: str) -> NDArray[np.floating]:
    """Turn a column into numbers.

    Parameters
    ----------
    values
        Column of shape ``(n_galaxies,)``: numbers of any kind, byte order and container,
        with missing values or without, or text that spells numbers.
    name
        Name of the column, for the error message.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        Native float32 where that is what the column holds, else float64; NaN where a value
        is missing. It may be the column itself: copy it before writing to it.

    Raises
    ------
    InputError
        If a value is no number, with its row and the value, or if the column holds more
        than one value per row.
    """
    if isinstance(values, np.ndarray):
        values = unmasked(values)
    else:
        series = pd.Series(values)
        if pd.api.types.is_numeric_dtype(series.dtype):
            plain: NDArray[np.float64] = series.to_numpy(dtype=np.float64, na_value=np.nan)
            return plain
        values = series.to_numpy()
    if values.ndim != 1:
        msg = (
            f"column {name!r} must hold one number per row, it holds {values.shape[1:]}; "
            "write each into a column of its own."
        )
        raise InputError(msg)
    if values.dtype.kind in "fiub":  # floats, integers with and without sign, booleans
        kept = (
            np.float32 if values.dtype.kind == "f" and values.dtype.itemsize == 4 else np.float64
        )
        return values.astype(kept, copy=False)
    if values.dtype.kind not in "OSU":
        msg = f"column {name!r} must hold numbers, it holds {values.dtype}."
        raise InputError(msg)
    return _parse(pd.Series(values.astype(object), dtype=object), name)


def unmasked(values: ArrayLike) -> NDArray[Any]:
    """Plain array, with NaN (text and objects: None) in place of what is masked.

    Masks are as in `as_masked`. A unit is left out: what the numbers of a column mean is for the
    survey to say, as it is where they come from a file.
    """
    values = as_masked(values)
    if not isinstance(values, np.ma.MaskedArray):
        return values
    mask = np.ma.getmaskarray(values)
    if not mask.any():
        return np.asarray(values.data)
    if values.dtype.kind not in "fiub":
        objects = np.array(values.data, dtype=object)
        objects[mask] = None
        return objects
    is_float = values.dtype.kind == "f"
    numbers = np.array(values.data, dtype=None if is_float else np.float64)
    numbers[mask] = np.nan
    return numbers


def as_masked(values: ArrayLike) -> NDArray[Any]:
    """Numpy's masked array where there is a mask, of numpy or astropy, else a plain array.

    A list may hold arrays of which some are masked.
    """
    if isinstance(values, np.ma.MaskedArray):
        return values
    if isinstance(values, list | tuple) and any(map(_has_mask, values)):
        parts = [as_masked(part) for part in values]
        mask = np.array([np.ma.getmaskarray(part) for part in parts])
        return np.ma.MaskedArray(np.array([np.ma.getdata(part) for part in parts]), mask=mask)
    if not _has_mask(values):
        return np.asarray(values)
    masked: Any = values
    return np.ma.MaskedArray(np.asarray(masked.unmasked), mask=np.asarray(masked.mask))


def _has_mask(values: object) -> bool:
    if isinstance(values, np.ma.MaskedArray):
        return True
    return all(getattr(values, name, None) is not None for name in ("unmasked", "mask"))


def as_words(values: NDArray[Any]) -> NDArray[np.str_]:
    """Values as text, ``unknown`` where there is none."""
    # As objects, so that integers keep every digit beside masked ones.
    objects = unmasked(values.astype(object))
    words = ["unknown" if pd.isna(value) else str(value) for value in objects.flat]
    return np.array(words, dtype=np.str_).reshape(values.shape)


def by_name(table: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever holds named columns
    """Columns by name, out of a mapping, a data frame, a structured array or a table.

    Tables are those of astropy and pyarrow.

    Raises
    ------
    InputError
        If it is something else.
    """
    if isinstance(table, np.ndarray) and table.dtype.names is not None:
        return {name: table[name] for name in table.dtype.names}
    if hasattr(table, "to_pandas") and hasattr(table, "column_names"):
        table = table.to_pandas()
    is_known = isinstance(table, Mapping | pd.DataFrame)
    names: Any = table if is_known else getattr(table, "colnames", None)
    if names is None:
        msg = (
            "expected columns by name (a mapping, a data frame, a structured array, a table of "
            f"astropy or pyarrow), got {type(table).__name__}; convert it to one of these."
        )
        raise InputError(msg)
    return {name: table[name] for name in names}


def _parse(values: pd.Series[Any], name: str) -> NDArray[np.float64]:
    """Numbers out of objects: text, decimals, None."""
    text = values.map(_decode)
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for row in np.flatnonzero(np.isnan(numbers) & ~text.isna().to_numpy()):
        value = text.iloc[row]
        if str(value).strip().casefold() not in MISSING_WORDS:
            msg = (
                f"column {name!r} must hold numbers, row {row} (the first is 0) holds {value!r}; "
                "mend it or leave it empty."
            )
            raise InputError(msg)
    return numbers


def _decode(value: object) -> object:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def missing_columns(wanted: Collection[str], names: Collection[str]) -> str:
    """Say which columns are wanted but missing, and what is there, closest names first.

    Parameters
    ----------
    wanted
        Names of columns; at least one of them is missing.
    names
        Names of the columns that there are.
    """
    missing = [name for name in wanted if name not in names]
    # A column that is wanted for itself is not the one that was meant.
    others = [name for name in names if name not in wanted]
    hints = [f"{name!r}{suggest(name, others)}" for name in missing]
    meant = missing[0].casefold()
    near = sorted(
        names,
        key=lambda name: (
            name in wanted,
            -SequenceMatcher(None, meant, name.casefold()).ratio(),
        ),
    )
    shown = ", ".join(near[:LONGEST_LIST]) or "none"
    more = f" and {len(near) - LONGEST_LIST} more" if len(near) > LONGEST_LIST else ""
    columns = "column" if len(missing) == 1 else "columns"
    return f"expected the {columns} {', '.join(hints)}, found {shown}{more}"


def suggest(name: str, known: Collection[str]) -> str:
    """Say which known name was perhaps meant: ``" (did you mean 'x'?)"``, or nothing."""
    folded = {other.casefold(): other for other in known}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
