"""A calibration on the density of one galaxy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import part
from photoz.kernels.elementary import TINY, exp2, log2
from photoz.kernels.rows import Row, accumulate, clear, padded

__all__ = ["Steps", "calibrate", "flatten", "integral", "may_be_sharp", "sharpness"]

_LN_2 = math.log(2)
_LARGEST_LOG_BETA = math.log(5)
# As in `photoz.resolution`, which says what they mean.
_TWO_STEPS = np.float32(0.25)
_NEARLY = np.float32(0.85 * 0.25)
_NOTABLE = np.float32(0.02)


class Steps(NamedTuple):
    """What a calibration does to one density.

    Parameters
    ----------
    tempered
        Whether the density is raised to a power β.
    slope, centre, scale
        Of ln β in the log width of the density; the rest of it is known beforehand.
    mapped
        Whether the cumulative distribution F is mapped.
    powers
        Coefficients of log2 g' in powers of 2 F − 1, that of the highest first.
    positions, levels
        Values of F, and what they become at last, linearly between; empty for no such map.
    """

    tempered: bool
    slope: float
    centre: float
    scale: float
    mapped: bool
    powers: tuple[np.float32, ...]
    positions: NDArray[np.float64]
    levels: NDArray[np.float64]


@part
def integral(p: Row, n: int) -> np.float32:
    """Trapezoidal rule, in steps of the grid."""
    total = np.float32(0)
    for i in range(padded(n)):
        total += p[i]
    return total - np.float32(0.5) * (p[0] + p[n - 1])


@part
def calibrate(
    p: Row, n: int, before: Row, logs: Row, step: float, steps: Steps, log_beta: float
) -> None:
    """Temper and map a density in place; no power and no g leave it narrower than the grid shows.

    Parameters
    ----------
    p, n
        Relative density, and how many points of it there are.
    before, logs
        Rows of the same shape to work in.
    step
        Distance between two points of the grid.
    steps
        What to do.
    log_beta
        ln β, but for the part that depends on the log width.
    """
    if steps.tempered:
        _temper(p, n, before, logs, step, steps, log_beta)
    if steps.mapped:
        _map(p, n, before, logs, steps.powers)
    if len(steps.positions) > 0:
        _conform(p, n, before, steps.positions, steps.levels)


@part
def _temper(
    p: Row, n: int, before: Row, logs: Row, step: float, steps: Steps, log_beta: float
) -> None:
    total, mean_log = np.float32(0), np.float32(0)
    for i in range(padded(n)):
        before[i] = p[i]
        logs[i] = log2(max(p[i], TINY))
        total += p[i]
        mean_log += p[i] * logs[i]
    total -= np.float32(0.5) * (p[0] + p[n - 1])
    mean_log -= np.float32(0.5) * (p[0] * logs[0] + p[n - 1] * logs[n - 1])
    entropy = math.log(total * step) - _LN_2 * mean_log / total
    log_beta += steps.slope * min(max((entropy - steps.centre) / steps.scale, -2.0), 2.0)
    log_beta = min(max(log_beta, -_LARGEST_LOG_BETA), _LARGEST_LOG_BETA)
    # Relative to the integral, so that no power leaves the range of float32.
    shift, beta = np.float32(math.log(total * step) / _LN_2), np.float32(math.exp(log_beta))
    for i in range(padded(n)):
        p[i] = exp2(beta * (logs[i] - shift))
    clear(p, n)
    if log_beta > 0:
        flatten_sharp(p, n, before)


@part
def _map(p: Row, n: int, before: Row, position: Row, powers: tuple[np.float32, ...]) -> None:
    total = accumulate(p, n, position)
    start = np.float32(0.5) * p[0]
    factor = np.float32(2 / (total - start - np.float32(0.5) * p[n - 1]))
    for i in range(padded(n)):
        f = (position[i] - np.float32(0.5) * p[i] - start) * factor - np.float32(1)
        series = powers[0]
        for k in range(1, len(powers)):
            series = series * f + powers[k]
        before[i] = p[i]
        p[i] *= exp2(series)
    flatten_sharp(p, n, before)


@part
def _conform(
    p: Row, n: int, gain: Row, positions: NDArray[np.float64], levels: NDArray[np.float64]
) -> None:
    """Give each cell between two points its new mass; see `photoz.conformal.ConformalMap`."""
    total = 0.0
    for i in range(n - 1):
        total += 0.5 * (np.float64(p[i]) + p[i + 1])
    piece, last, start = 0, len(positions) - 2, 0.0
    slope = (levels[1] - levels[0]) / (positions[1] - positions[0])
    for i in range(n - 1):
        mass = 0.5 * (np.float64(p[i]) + p[i + 1]) / total
        end = start + mass
        if piece == last or end <= positions[piece + 1]:
            gain[i] = slope
        else:
            before = levels[piece] + slope * (start - positions[piece])
            while piece < last and end > positions[piece + 1]:
                piece += 1
            rise = levels[piece + 1] - levels[piece]
            slope = rise / (positions[piece + 1] - positions[piece])
            gain[i] = (levels[piece] + slope * (end - positions[piece]) - before) / mass
        start = end
    # A point takes half of the change of either side.
    p[n - 1] *= gain[n - 2]
    for i in range(n - 2, 0, -1):
        p[i] *= np.float32(0.5) * (gain[i - 1] + gain[i])
    p[0] *= gain[0]


@part
def flatten_sharp(p: Row, n: int, before: Row) -> None:
    """Flatten, in place, a density that became narrower than two steps of the grid.

    See `photoz.resolution.keep_resolved`.
    """
    if may_be_sharp(p, n):
        now, allowed = sharpness(p, n), np.float32(1)
        if now > allowed:
            allowed = max(allowed, sharpness(before, n))
        if now > allowed:
            flatten(p, n, allowed / now)


@part
def may_be_sharp(p: Row, n: int) -> bool:
    """Whether `sharpness` may be above 1, told without logarithms, which take long."""
    notable = _NOTABLE * integral(p, n)
    found = np.float32(0)
    for i in range(padded(n) - 2):
        top = p[i + 1]
        bend = (top - p[i]) - (p[i + 2] - top)
        found += np.float32(1) if bend > _NEARLY * top and top > notable else np.float32(0)
    return found > 0


@part
def sharpness(p: Row, n: int) -> np.float32:
    """Curvature of ln p at the sharpest notable peak; see `photoz.resolution.sharpness`."""
    notable, sharpest = _NOTABLE * integral(p, n), np.float32(0)
    for i in range(n - 2):
        top = p[i + 1]
        if top > notable and top >= p[i] and top >= p[i + 2]:
            left, right = log2(max(p[i], TINY)), log2(max(p[i + 2], TINY))
            sharpest = max(sharpest, np.float32(2) * log2(top) - left - right)
    return np.float32(_LN_2) * sharpest / _TWO_STEPS


@part
def flatten(p: Row, n: int, power: np.float32) -> None:
    """Raise a density to a power, in place."""
    for i in range(padded(n)):
        p[i] = exp2(power * log2(max(p[i], TINY)))
    clear(p, n)
