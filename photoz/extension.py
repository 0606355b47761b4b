"""Extension: more of what costs time, from the best of a search on, as long as that pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from photoz.estimators.base import Choice, Range
from photoz.trials import Objective, Trial

__all__ = ["extend"]

# Share of the score that a doubling must gain: about what another seed changes.
_WORTHWHILE = 0.005


def extend(objective: Objective, space: Mapping[str, Range | Choice], best: Trial) -> Trial:
    """Double what the best trial has of parameters with `Range.beyond`, as long as that pays.

    A search rarely tries the far end of such a range together with the best of the others.
    Every doubling that lowers the score by half a percent of its size is followed by another.

    Parameters
    ----------
    objective
        What the search has minimised.
    space
        What it has tried.
    best
        The best that it has found.

    Returns
    -------
    Trial
        `best`, or what is better, under its number.
    """
    for name, options in space.items():
        if isinstance(options, Choice) or options.beyond is None:
            continue
        while 2 * best.parameters[name] <= options.beyond:
            parameters = {**best.parameters, name: 2 * best.parameters[name]}
            scored = objective(parameters, lambda _step, _loss: None)
            # NaN is no gain.
            if best.value is None or not (
                scored.value <= best.value - _WORTHWHILE * abs(best.value)
            ):
                break
            best = replace(best, parameters=parameters, value=scored.value, tuned=scored.tuned)
    return best
