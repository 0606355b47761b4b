"""Extension: beyond the end of a range, where the best of a search lies there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from photoz.estimators.base import Choice, Range
from photoz.trials import Objective, Trial

__all__ = ["extend"]

# The last tenth of a range is its end: a best trial there says that it may be too short.
_END = 0.9
# Share of the score that a doubling must gain.
_WORTHWHILE = 0.005


def extend(objective: Objective, space: Mapping[str, Range | Choice], best: Trial) -> Trial:
    """Double the parameters of the best trial that lie at the end of their range, if that pays.

    Every doubling that lowers the score by half a percent of its size or more is followed by
    another one, as far as `Range.beyond` allows.

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
        if isinstance(options, Choice) or not _is_at_end(best.parameters[name], options):
            continue
        while options.high < 2 * best.parameters[name] <= options.beyond * options.high:
            parameters = {**best.parameters, name: 2 * best.parameters[name]}
            scored = objective(parameters, lambda _step, _loss: None)
            if best.value is None or scored.value > best.value - _WORTHWHILE * abs(best.value):
                break
            best = replace(best, parameters=parameters, value=scored.value, tuned=scored.tuned)
    return best


def _is_at_end(value: float, options: Range) -> bool:
    low, high = options.low, options.high
    end = low * (high / low) ** _END if options.log else low + _END * (high - low)
    return value >= end
