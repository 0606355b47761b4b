"""Finalists: the best trials of a search, told apart by how they do out of fold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from photoz.trials import Trial

__all__ = ["best_finalist"]

Made = TypeVar("Made")


def best_finalist(
    judge: Callable[[Trial], tuple[float, Made]], trials: Sequence[Trial], n_finalists: int
) -> tuple[Trial, Made]:
    """The best of the first few trials by fits that leave out one fold after the other.

    Trials are smaller than the fit that is made of the best of them, and scored on the few
    galaxies that the search has favoured them by.

    Parameters
    ----------
    judge
        Scores a trial, the lower the better, and returns what it has made for that.
    trials
        Trials of a search, at least one of them complete.
    n_finalists
        How many of them, the best first, are judged.

    Returns
    -------
    Trial
        The best by that score; of equal ones, the best of the search.
    object
        What was made to judge it.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    first, *others = sorted(complete, key=_in_search)[:n_finalists]
    lowest, made = judge(first)
    best = first, made
    for trial in others:
        score, made = judge(trial)
        # Only what belongs to the best is kept: densities of all galaxies are large.
        if _or_last(score) < _or_last(lowest):
            lowest, best = score, (trial, made)
    return best


def _in_search(trial: Trial) -> tuple[float, int]:
    return _or_last(trial.value), trial.number


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
