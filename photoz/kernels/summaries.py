"""Summaries of densities: calibrated, then the definitions of `photoz.pdf` in few passes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.calibrated import Steps, calibrate, integral
from photoz.kernels.compiling import kernel, part
from photoz.kernels.rows import LANES, Block, Row, accumulate, padded, peak_of, take_support
from photoz.summaries import Summaries

__all__ = ["summarise"]

_ODDS_WIDTH = 0.06
_PEAK_SHARE = np.float32(0.1)

# Points that a search of a level strides over at once; it then halves its steps.
_STRIDE = 8


@kernel
def summarise(
    block: Block,
    steps: Steps,
    log_beta: NDArray[np.float64],
    levels: NDArray[np.float64],
    out: Summaries,
    first: int,
) -> None:
    """Calibrate densities in place and write their summaries.

    Parameters
    ----------
    block
        Densities of unit integral.
    steps, log_beta
        Calibration: what is common to all, and ln β of each galaxy but for the part that
        depends on the log width, shape ``(n_rows,)``.
    levels
        Rising levels of the quantiles, shape ``(n_levels,)``.
    out, first
        Where to write, and the number of the first row there.
    """
    # Rows that begin a quarter of a page apart: else the processor takes a load from one for
    # a load of what it has just stored to another.
    work = np.empty((4, 1024 * ((block.n_z + LANES) // 1024 + 1) + 256), dtype=np.float32)
    p, before, logs, reached = work[0], work[1], work[2], work[3]
    # Taken apart once: every look into a tuple of arrays counts references.
    mode, mean, std, odds, beyond, n_peaks, quantiles, density = out
    for k in range(len(log_beta)):
        low, row = block.support[k, 0], first + k
        n = take_support(block, k, p)
        calibrate(p, n, before, logs, block.step, steps, log_beta[k])
        mode[row], mean[row], std[row], odds[row], beyond[row], n_peaks[row] = _summarise(
            p, n, reached, low, block.n_z, block.step
        )
        _invert(p, n, reached, low, block.step, levels, quantiles, row)
        if len(density):
            density[row] = 0
            factor = np.float32(1 / (block.step * integral(p, n)))
            for i in range(n):
                density[row, low + i] = factor * p[i]


@part
def _summarise(
    p: Row, n: int, reached: Row, low: int, n_z: int, step: float
) -> tuple[float, float, float, float, float, int]:
    """All but the quantiles. Within, redshifts are counted in steps from the support."""
    total = np.float64(accumulate(p, n, reached)) - 0.5 * (p[0] + p[n - 1])
    for i in range(padded(n)):
        reached[i] -= np.float32(0.5) * p[i]
    peak = peak_of(p, n)
    mode = peak + _vertex(p, n, peak, low, n_z)
    mean, std = _moments(p, n, peak)
    half = _ODDS_WIDTH * (1 / step + low + mode)
    upper = _below(p, n, reached, mode + half)
    odds = (upper - _below(p, n, reached, mode - half)) / total
    beyond = 1 - _below(p, n, reached, n_z - 3.0 - low) / total
    n_peaks = _count_peaks(p, n, _PEAK_SHARE * p[peak])
    return step * (low + mode), step * (low + mean), step * std, odds, beyond, n_peaks


@part
def _vertex(p: Row, n: int, peak: int, low: int, n_z: int) -> float:
    """Offset in steps of the vertex of the parabola through the peak and its neighbours."""
    if low + peak == 0 or low + peak == n_z - 1:
        return 0.0
    left = np.float64(p[peak - 1]) if peak > 0 else 0.0
    right = np.float64(p[peak + 1]) if peak + 1 < n else 0.0
    curvature = left - 2 * np.float64(p[peak]) + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0


@part
def _moments(p: Row, n: int, peak: int) -> tuple[float, float]:
    """Mean and standard deviation."""
    total, first, second = np.float32(0), np.float32(0), np.float32(0)
    x = np.float32(-peak)
    for i in range(padded(n)):
        total += p[i]
        first += p[i] * x
        second += p[i] * x * x
        x += np.float32(1)
    for end in (0, n - 1):
        x, half = np.float32(end - peak), np.float32(0.5) * p[end]
        total -= half
        first -= half * x
        second -= half * x * x
    mean = np.float64(first) / total
    return peak + mean, math.sqrt(max(np.float64(second) / total - mean**2, 0.0))


@part
def _below(p: Row, n: int, reached: Row, position: float) -> float:
    """Integral from the start of the support to a position."""
    cell = math.floor(position)
    if cell < 0:
        return 0.0
    start = 0.5 * np.float64(p[0])
    if cell >= n - 1:
        return reached[n - 1] - start
    offset = position - cell
    left, right = np.float64(p[cell]), np.float64(p[cell + 1])
    inside = left * offset + 0.5 * (right - left) * offset**2
    return reached[cell] - start + inside


@part
def _count_peaks(p: Row, n: int, threshold: np.float32) -> int:
    found = np.float32(1 if p[0] > threshold else 0)
    for i in range(padded(n) - 1):
        rises = p[i + 1] > threshold and p[i] <= threshold
        found += np.float32(1) if rises else np.float32(0)
    return int(found)


@part
def _invert(
    p: Row,
    n: int,
    reached: Row,
    low: int,
    step: float,
    levels: NDArray[np.float64],
    out: NDArray[np.float64],
    row: int,
) -> None:
    """Redshifts at which the cumulative distribution reaches the levels."""
    start = 0.5 * np.float64(p[0])
    total = np.float64(reached[n - 1]) - start
    for i in range(n - 1, n + _STRIDE):
        reached[np.uint64(i)] = np.inf
    cell = 0
    for k in range(len(levels)):
        wanted = levels[k] * total + start
        single = np.float32(wanted)
        while reached[np.uint64(cell + _STRIDE)] < single:
            cell += _STRIDE
        cell += 4 if reached[np.uint64(cell + 4)] < single else 0
        cell += 2 if reached[np.uint64(cell + 2)] < single else 0
        cell += 1 if reached[np.uint64(cell + 1)] < single else 0
        missing = max(wanted - reached[np.uint64(cell)], 0.0)
        left, right = np.float64(p[np.uint64(cell)]), np.float64(p[np.uint64(cell + 1)])
        # The stable root of left t + (right - left) t^2 / 2 = missing, in steps.
        root = left + math.sqrt(max(left**2 + 2 * (right - left) * missing, 0.0))
        offset = 2 * missing / root if root > 0 else 0.0
        out[row, k] = step * (low + cell + min(offset, 1.0))
