"""Row filters: conditions on columns, written as text, that can run no code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from photoz.columns import unmasked
from photoz.errors import InputError

__all__ = ["RowFilter"]

COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: np.float_power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
LOGIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.BitAnd: np.logical_and,
    ast.BitOr: np.logical_or,
    ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
}
GRAMMAR = (
    *(ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Tuple, ast.List, ast.Load),
    *(ast.In, ast.NotIn),
    *(*COMPARISONS, *ARITHMETIC, *LOGIC),
)
LARGEST = 9e18
"""Size of a result to which 64 bits hold integers, less than 2**63 by more than is rounded off."""
LONGEST = 2_000
"""Characters in a condition: more than people write, too few to exhaust the parser."""


@dataclass(frozen=True)
class RowFilter:
    """A condition on the columns of a catalogue.

    It may hold comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, numbers, text in
    quotes and names of columns; a name that is no Python name stands between backticks.
    A comparison with a missing value (NaN, None, masked) is false, but for ``!=`` and ``not in``;
    a missing truth value is neither true nor false, alone and under ``and``, ``or`` and ``not``.
    Integers are compared by every digit. Arithmetic with them is that of float64, also where it
    divides by 0; ``+ - * // %`` are exact if no integer is missing and no result beyond 9e18.
    In arithmetic truth values are 0 and 1.

    Parameters
    ----------
    text
        The condition, such as ``"zflag >= 3 and snr > 5"``.

    Attributes
    ----------
    columns
        Names of the columns that the condition needs.

    Raises
    ------
    InputError
        If the text is no such condition.

    Examples
    --------
    >>> keep = RowFilter("zflag in (3, 4) and `g-r` < 1.2")
    >>> keep.columns
    ('g-r', 'zflag')
    >>> keep({"zflag": np.array([3, 4, 1]), "g-r": np.array([0.3, np.nan, 0.3])})
    array([ True, False, False])
    """

    text: str
    columns: tuple[str, ...] = field(init=False)
    _tree: ast.expr = field(init=False, repr=False, compare=False)
    _names: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        quoted = list(dict.fromkeys(re.findall(r"`([^`]+)`", self.text)))
        source = self.text.strip()
        for k, name in enumerate(quoted):
            source = source.replace(f"`{name}`", f" _quoted_{k} ")
        if len(source) > LONGEST:
            found = f"{len(source)} characters"
            raise self._mistake(found)
        try:
            tree = ast.parse(source.strip(), mode="eval").body
            stand_ins = sorted(_names(tree))
        except _NotAllowedError as error:
            raise self._mistake(str(error)) from None
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            found = "text that is none"
            raise self._mistake(found) from None
        names = {f"_quoted_{k}": name for k, name in enumerate(quoted)}
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "_names", {name: names.get(name, name) for name in stand_ins})
        object.__setattr__(self, "columns", tuple(sorted(self._names.values())))

    def __call__(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Whether each row meets the condition, shape ``(n_rows,)``.

        Parameters
        ----------
        columns
            Arrays of shape ``(n_rows,)`` by name, masked where values are missing; those that
            the condition needs among them.
        """
        named = {name: _column(columns[column]) for name, column in self._names.items()}
        try:
            with np.errstate(all="ignore"):
                mask = np.ma.filled(_truth(_value(self._tree, named)), fill_value=False)
        except (_NotAllowedError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._mistake(str(error)) from None
        if mask.ndim != 1:
            found = "no column"
            raise self._mistake(found)
        return mask

    def _mistake(self, found: str) -> InputError:
        msg = (
            f"where: expected a condition on columns such as 'zflag >= 3 and snr > 5', found "
            f"{found} in {self.text[:100]!r}."
        )
        return InputError(msg)


class _NotAllowedError(Exception):
    """Part of a condition that the grammar does not have; the message names it."""


def _names(tree: ast.expr) -> set[str]:
    """Names in a condition, of which every part is checked to be in the grammar."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Constant):
            if not isinstance(node.value, bool | int | float | str):
                msg = f"the value {node.value!r}"
                raise _NotAllowedError(msg)
        elif not isinstance(node, GRAMMAR):
            msg = f"Python's {type(node).__name__.lower()!r}"
            raise _NotAllowedError(msg)
    return names


def _value(node: ast.AST, named: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Value of a part of a condition: a column, or an array of no dimension."""
    if isinstance(node, ast.Name):
        value = named[node.id]
    elif isinstance(node, ast.Constant):
        value = _constant(node.value)
    elif isinstance(node, ast.Compare):
        value = _chain(node, named)
    elif isinstance(node, ast.BoolOp):
        truths = [_value(part, named) for part in node.values]  # noqa: PD011 - no data frame
        value = reduce(partial(_decide, node.op), truths)
    elif isinstance(node, ast.UnaryOp):
        value = _apply(node.op, _value(node.operand, named))
    elif isinstance(node, ast.BinOp):
        value = _apply(node.op, _value(node.left, named), _value(node.right, named))
    else:
        msg = f"Python's {type(node).__name__.lower()!r}"
        raise _NotAllowedError(msg)
    return value


def _chain(node: ast.Compare, named: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Comparisons of each part with the next one, all of them true."""
    left, found = _value(node.left, named), np.array(True)
    for op, part in zip(node.ops, node.comparators, strict=True):
        if not isinstance(op, ast.In | ast.NotIn):
            right = _value(part, named)
            found = found & _compare(op, left, right)
            left = right
            continue
        if part is not node.comparators[-1]:
            msg = "a comparison of what stands behind 'in'"
            raise _NotAllowedError(msg)
        is_in = _is_in(left, _options(part, named))
        found = found & (~is_in if isinstance(op, ast.NotIn) else is_in)
    return found


def _column(values: ArrayLike) -> NDArray[Any]:
    return values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)


def _constant(value: object) -> NDArray[Any]:
    """Constant as numpy has it: a power of Python's own integers could take for ever."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float(value)
    return np.asarray(value)


def _options(node: ast.expr, named: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Values that stand behind ``in``, each on its own; a column is one of them."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List) else [node]
    return [_value(part, named) for part in parts]


def _compare(op: ast.cmpop, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.bool_]:
    _check_kinds(left, right)
    # What is missing compares as NaN does.
    missing = _missing(left) | _missing(right)
    found = np.asarray(COMPARISONS[type(op)](_bare(left), _bare(right)))
    return found | missing if isinstance(op, ast.NotEq) else found & ~missing


def _is_in(value: NDArray[Any], options: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Whether each value is one of the options, of which some may be columns.

    One after the other: numpy joins integers of two kinds, and integers and floats, as floats.
    """
    bare = _bare(value)
    found = np.zeros(bare.shape, dtype=bool)
    for option in options:
        _check_kinds(value, option)
        known = _bare(option)[~_missing(option)]
        if bare.dtype.kind in "iu" and known.dtype.kind in "iu":
            # What the type of the values cannot hold is none of them.
            limits = np.iinfo(bare.dtype)
            known = known[(known >= limits.min) & (known <= limits.max)].astype(bare.dtype)
        found |= np.isin(bare, known)
    found &= ~_missing(value)
    return found


def _check_kinds(left: NDArray[Any], right: NDArray[Any]) -> None:
    if _is_text(left) != _is_text(right):
        msg = "a comparison of text with numbers"
        raise _NotAllowedError(msg)


def _missing(value: NDArray[Any]) -> NDArray[np.bool_]:
    """Where integers and truth values are masked, or text is None; NaN is a number here."""
    mask = np.ma.getmaskarray(value)
    return mask | pd.isna(np.ma.getdata(value)) if _is_text(value) else mask


def _bare(value: NDArray[Any]) -> NDArray[Any]:
    """Plain array, with something to compare by where a value is missing."""
    bare = np.ma.getdata(value)
    return np.where(pd.isna(bare), "", bare) if _is_text(value) else bare


def _apply(op: ast.AST, *values: NDArray[Any]) -> NDArray[Any]:
    if type(op) in LOGIC:
        return _decide(op, *values)
    if any(_is_text(value) for value in values):
        msg = "arithmetic with text"
        raise _NotAllowedError(msg)
    return _calculate(op, *map(unmasked, values))


def _decide(op: ast.AST, *values: NDArray[Any]) -> NDArray[Any]:
    """Kleene's logic: what comes out is missing where the missing truth values decide it."""
    truths = [_truth(value) for value in values]
    low, high = (
        LOGIC[type(op)](*(np.ma.filled(truth, fill_value=guess) for truth in truths))
        for guess in (False, True)
    )
    return np.ma.masked_array(low, mask=low != high)


def _calculate(op: ast.AST, *values: NDArray[Any]) -> NDArray[Any]:
    """Arithmetic of float64, of integers exact if 64 bits hold them and what comes out."""
    floats = [x.astype(np.float64) if x.dtype.kind in "iub" else x for x in values]
    result = np.asarray(ARITHMETIC[type(op)](*floats))
    is_whole = not isinstance(op, ast.Div | ast.Pow) and all(
        x.dtype.kind in "iub" and int(x.max(initial=0)) < 2**63 for x in values
    )
    # A division by 0 leaves no number, and integers would hide it.
    if not is_whole or not (np.abs(result) < LARGEST).all():
        return result
    return np.asarray(ARITHMETIC[type(op)](*(x.astype(np.int64) for x in values)))


def _is_text(value: NDArray[Any]) -> bool:
    return value.dtype.kind in "OSU"


def _truth(value: NDArray[Any]) -> NDArray[np.bool_]:
    """Truth values, masked where missing."""
    truth = _column(value)
    if truth.dtype != bool:
        msg = "numbers or text where a comparison belongs (& and | need brackets around theirs)"
        raise _NotAllowedError(msg)
    return truth
