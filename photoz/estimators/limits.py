"""Limits: which values a parameter of an estimator may have, told before anything is fitted."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral, Real

from photoz.errors import InputError

__all__ = ["Limits", "OneOf"]


@dataclass(frozen=True)
class Limits:
    """Numbers that a parameter may be.

    Parameters
    ----------
    low, high
        Ends of the range; `high` is included, `low` unless `above` says otherwise.
    above
        Whether the number must be above `low`.
    whole
        Whether only whole numbers will do.
    none
        What None stands for, where it is allowed.
    """

    low: float
    high: float = math.inf
    above: bool = False
    whole: bool = False
    none: str = ""

    def check(self, name: str, value: object) -> None:
        """Raise InputError if `value` is none of these."""
        if value is None and self.none:
            return
        if not self._holds(value):
            msg = f"{name} must be {self._expected}, got {value!r}."
            raise InputError(msg)

    def _holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        return (
            math.isfinite(number)
            and (number > self.low if self.above else number >= self.low)
            and number <= self.high
        )

    @property
    def _expected(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        ends = [f"above {self.low:g}" if self.above else f"at least {self.low:g}"]
        if self.high < math.inf:
            ends.append(f"at most {self.high:g}")
        none = f", or None {self.none}" if self.none else ""
        return f"{kind}, {' and '.join(ends)}{none}"


@dataclass(frozen=True)
class OneOf:
    """Words that a parameter may be."""

    words: Collection[str]

    def check(self, name: str, value: object) -> None:
        """Raise InputError if `value` is none of these."""
        if value not in self.words:
            msg = f"{name} must be one of {', '.join(self.words)}, got {value!r}."
            raise InputError(msg)
