"""Finalists: the best trials of a search, told apart by densities of galaxies unseen by fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from photoz.trials import Trial

__all__ = ["judge_finalists"]

Made = TypeVar("Made")


def judge_finalists(
    judge: Callable[[Trial], tuple[float, Made]], trials: Sequence[Trial], n_finalists: int
) -> list[tuple[Trial, Made]]:
    """The first few trials by a closer look than the search could afford, the best first.

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
    list of (Trial, object)
        The trials by that score, each with what was made to judge it; of equal ones, the better
        of the search comes first.
    """
    finalists: list[Trial] = []
    for trial in sorted((trial for trial in trials if trial.state == "complete"), key=_in_search):
        if all(trial.parameters != other.parameters for other in finalists):
            finalists.append(trial)
    judged = [(trial, *judge(trial)) for trial in finalists[:n_finalists]]
    judged.sort(key=lambda entry: _or_last(entry[1]))
    return [(trial, made) for trial, _, made in judged]


def _in_search(trial: Trial) -> tuple[float, int]:
    return _or_last(trial.value), trial.number


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
