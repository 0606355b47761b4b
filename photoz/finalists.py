"""Finalists: the best trials of a search, told apart by fits as large as the final one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from photoz.environment import processors
from photoz.trials import Scored, Trial

__all__ = ["best_finalist"]


def best_finalist(
    objective: Callable[[Mapping[str, Any]], Scored], trials: Sequence[Trial], n_finalists: int
) -> Trial:
    """The best of the first few trials by fits of full size.

    Trials are smaller than the fit that is made of the best of them, and scored on few galaxies.

    Parameters
    ----------
    objective
        Fits one choice of parameters in full, and scores it as the search does.
    trials
        Trials of a search, at least one of them complete.
    n_finalists
        How many of them, the best first, are fitted again.

    Returns
    -------
    Trial
        The trial with what the fit of full size has tuned. Its value is that of the search.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    finalists = sorted(complete, key=_in_search)[:n_finalists]
    with ThreadPoolExecutor(processors()) as pool:
        scores = list(pool.map(lambda trial: objective(trial.parameters), finalists))
    finals = zip(finalists, scores, strict=True)
    best, scored = min(finals, key=lambda final: _or_last(final[1].value))
    return replace(best, tuned=scored.tuned)


def _in_search(trial: Trial) -> tuple[float, int]:
    return _or_last(trial.value), trial.number


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
