"""Finalists: the best trials of a search, told apart by densities of galaxies unseen by fits."""

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
    """The best of the first few trials by a closer look than the search could afford.

    Trials are smaller than the fit that is made of the best of them, and are scored on the
    validation galaxies alone, which the search has favoured them by.

    Parameters
    ----------
    judge
        Scores a trial, the lower the better, and returns what it has made for that.
    trials
        Trials of a search, at least one of them complete.
    n_finalists
        How many of them, the best first, are judged; equal parameters count once.

    Returns
    -------
    Trial
        The best by that score; of equal ones, the best of the search.
    object
        What was made to judge it.
    """
    finalists: list[Trial] = []
    for trial in sorted((trial for trial in trials if trial.state == "complete"), key=_in_search):
        if all(trial.parameters != other.parameters for other in finalists):
            finalists.append(trial)
    first, *others = finalists[:n_finalists]
    lowest, best = judge(first), first
    for trial in others:
        judged = judge(trial)
        if _or_last(judged[0]) < _or_last(lowest[0]):
            lowest, best = judged, trial
        del judged  # densities of all galaxies are large, and the next ones are on their way
    return best, lowest[1]


def _in_search(trial: Trial) -> tuple[float, int]:
    return _or_last(trial.value), trial.number


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
