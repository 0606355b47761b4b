"""Row filters: conditions on columns, written as text, that can run no code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from photoz.errors import InputError

__all__ = ["RowFilter"]

COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: np.isin,
    ast.NotIn: lambda value, options: ~np.isin(value, options),
}
ARITHMETIC: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: np.float_power,  # integers would wrap around
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
    *(*COMPARISONS, *ARITHMETIC, *LOGIC),
)
LONGEST = 2_000
"""Characters in a condition: more than people write, too few to exhaust the parser."""


@dataclass(frozen=True)
class RowFilter:
    """A condition on the columns of a catalogue.

    It may hold comparisons, ``and``, ``or``, ``not``, ``in``, arithmetic, numbers, text in
    quotes and names of columns; a name that is no Python name stands between backticks.
    A comparison with a missing value (NaN, None, masked) is false, but for ``!=`` and ``not in``;
    a missing truth value is neither true nor false.

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
                mask = _truth(_value(self._tree, named))
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


def _value(node: ast.AST, named: Mapping[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - any dtype
    """Value of a part of a condition: an array, a number or a text."""
    if isinstance(node, ast.Name):
        value: Any = named[node.id]
    elif isinstance(node, ast.Constant):
        value = _constant(node.value)
    elif isinstance(node, ast.Tuple | ast.List):
        parts = [_value(part, named) for part in node.elts]
        value = np.ma.array(parts) if any(map(np.ma.is_masked, parts)) else np.array(parts)
    elif isinstance(node, ast.Compare):
        values = [_value(part, named) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, pairwise(values), strict=True)
        value = reduce(np.logical_and, [_compare(op, *pair) for op, pair in pairs])
    elif isinstance(node, ast.BoolOp):
        value = reduce(
            LOGIC[type(node.op)],
            [
                _truth(_value(p, named))
                for p in ast.iter_child_nodes(node)
                if isinstance(p, ast.expr)
            ],
        )
    elif isinstance(node, ast.UnaryOp):
        value = _apply(node.op, _value(node.operand, named))
    elif isinstance(node, ast.BinOp):
        value = _apply(node.op, _value(node.left, named), _value(node.right, named))
    else:
        msg = f"Python's {type(node).__name__.lower()!r}"
        raise _NotAllowedError(msg)
    return value


def _column(values: Any) -> NDArray[Any]:  # noqa: ANN401 - any dtype
    return values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)


def _constant(value: object) -> Any:  # noqa: ANN401 - any dtype
    """Constant as numpy has it: a power of Python's own integers could take for ever."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float(value)
    return value if isinstance(value, str) else np.asarray(value)


def _compare(op: ast.cmpop, left: Any, right: Any) -> Any:  # noqa: ANN401 - any dtype
    if _is_text(left) != _is_text(right):
        msg = "a comparison of text with numbers"
        raise _NotAllowedError(msg)
    is_listed = isinstance(op, ast.In | ast.NotIn)
    options = np.ma.compressed(right) if is_listed and np.ma.is_masked(right) else right
    # What is missing compares as NaN does.
    missing = _missing(left) if is_listed else _missing(left) | _missing(right)
    found = COMPARISONS[type(op)](_bare(left), _bare(options))
    return found | missing if isinstance(op, ast.NotEq | ast.NotIn) else found & ~missing


def _missing(value: Any) -> Any:  # noqa: ANN401 - any dtype
    """Where integers and truth values are masked, or text is None; NaN is a number here."""
    mask = np.ma.getmaskarray(value)
    return mask | pd.isna(np.ma.getdata(value)) if _is_text(value) else mask


def _bare(value: Any) -> Any:  # noqa: ANN401 - any dtype
    """Plain array, with something to compare by where a value is missing."""
    bare = np.ma.getdata(value)
    return np.where(pd.isna(bare), "", bare) if _is_text(value) else bare


def _apply(op: ast.AST, *values: Any) -> Any:  # noqa: ANN401 - any dtype
    if isinstance(op, ast.BitAnd | ast.BitOr):
        return LOGIC[type(op)](*map(_truth, values))
    if isinstance(op, ast.Not | ast.Invert):
        result = LOGIC[type(op)](*map(_truth, values))
    elif any(_is_text(value) for value in values):
        msg = "arithmetic with text"
        raise _NotAllowedError(msg)
    else:
        # By the bare numbers: numpy's masked ones also hide what a division by 0 gives.
        result = ARITHMETIC[type(op)](*map(np.ma.getdata, values))
    missing = reduce(np.logical_or, map(_missing, values))
    return np.ma.masked_array(result, missing) if missing.any() else result


def _is_text(value: Any) -> bool:  # noqa: ANN401 - any dtype
    return np.asarray(value).dtype.kind in "OSU"


def _truth(value: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - any dtype
    truth = np.ma.filled(value, fill_value=False)
    if truth.dtype != bool:
        msg = "numbers or text where a comparison belongs (& and | need brackets around theirs)"
        raise _NotAllowedError(msg)
    return truth
