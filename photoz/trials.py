"""Trials: what a search tries, what came of each, and the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from photoz.estimators.base import OnStep

__all__ = ["Objective", "Scored", "SearchResult", "Trial"]


@dataclass(frozen=True)
class Scored:
    """What one trial reached.

    Parameters
    ----------
    value
        Score of the trial, the lower the better.
    tuned
        Parameters that the fit chose by itself, such as the step at which it stopped.
    """

    value: float
    tuned: dict[str, Any] = field(default_factory=dict)


Objective = Callable[[dict[str, Any], OnStep], Scored]
"""Fits and scores one choice of parameters; tells `OnStep` of its progress where it can."""


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Parameters
    ----------
    number
        Place in the study, from 0; killed trials are repeated and leave no gap.
    state
        ``complete``, ``pruned`` or ``failed``.
    parameters
        The values that were tried.
    value
        The score; the last loss reported where pruned; None where failed.
    seconds
        Wall time.
    error
        What was raised where failed.
    tuned
        Parameters that the fit chose by itself.
    curve
        Losses that the fit reported on its way, by step.
    """

    number: int
    state: str
    parameters: dict[str, Any]
    value: float | None
    seconds: float
    error: str | None = None
    tuned: dict[str, Any] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search and the best of them.

    Parameters
    ----------
    best
        The complete trial of the lowest value, or what a closer look preferred.
    trials
        All finished trials, in order.
    seconds
        Wall time of the trials, those of earlier, interrupted processes included, and of that
        look.
    timed_out
        Whether the time ran out before the trials did.
    importance
        Share of each parameter in what tells the best trials from the others; empty where
        there are too few to tell.
    """

    best: Trial
    trials: tuple[Trial, ...]
    seconds: float
    timed_out: bool
    importance: dict[str, float] = field(default_factory=dict)
