"""Starts: the first trials of a search, before there is anything to learn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy.stats.qmc import LatinHypercube

from photoz.estimators.base import Choice, Range

__all__ = ["N_STARTS", "starts"]

N_STARTS = 10
"""Trials before the sampler learns from them: as many as TPE draws at random."""


def starts(
    space: Mapping[str, Range | Choice],
    defaults: Mapping[str, Any] | None,
    warm_start: Mapping[str, Any] | None,
    seed: int,
) -> list[dict[str, Any]]:
    """Parameters of the first trials.

    Behind those that are given comes a Latin hypercube: each range is cut into as many equal
    parts as there are trials, each of which has one, and every choice comes as often as any
    other. Independent draws may leave out one of two choices, and the sampler, which learns
    from them, seldom comes back to it.

    Parameters
    ----------
    space
        What may be tried.
    defaults
        Parameters of the first trial, moved into the space where they lie outside; the middle
        of a range, and the first choice, where there are none.
    warm_start
        Parameters of the second trial; what they lack in the space is as in the first.
    seed
        Seed of the hypercube.

    References
    ----------
    McKay, Beckman & Conover (1979), https://doi.org/10.2307/1268522
    """
    first = _starting_point(space, defaults or {})
    given = [first, {**first, **warm_start}] if warm_start else [first]
    if not space:
        return given
    shares = LatinHypercube(len(space), rng=seed).random(N_STARTS - len(given)).tolist()
    return given + [
        {name: _at(space[name], share) for name, share in zip(space, row, strict=True)}
        for row in shares
    ]


def _at(options: Range | Choice, share: float) -> Any:  # noqa: ANN401
    """Value at a share of the way through a range, or through the choices in order."""
    if isinstance(options, Choice):
        return options.options[int(share * len(options.options))]
    # Each integer has an equal part of its range, as the sampler has it.
    half = 0.5 if options.integer else 0.0
    low, high = options.low - half, options.high + half
    value = low * (high / low) ** share if options.log else low + (high - low) * share
    if options.integer:
        return min(max(round(value), int(options.low)), int(options.high))
    return min(max(value, options.low), options.high)


def _starting_point(
    space: Mapping[str, Range | Choice], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Defaults moved into the space; the middle of a range that has no default."""
    start: dict[str, Any] = {}
    for name, options in space.items():
        default = defaults.get(name)
        if isinstance(options, Choice):
            start[name] = default if default in options.options else options.options[0]
            continue
        if default is None:
            ends = options.low, options.high
            default = math.sqrt(math.prod(ends)) if options.log else sum(ends) / 2
        inside = min(max(default, options.low), options.high)
        start[name] = round(inside) if options.integer else float(inside)
    return start
