"""Gaussian mixtures on a grid, evaluated where they are not negligible."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part
from photoz.kernels.elementary import TINY, exp2, log2
from photoz.kernels.rows import Block, Row

__all__ = ["evaluate_mixtures"]

_VECTOR = 8
_ROOT_HALF_LOG2_E = np.float32(math.sqrt(0.5 / math.log(2)))
_TWICE_LN_2 = np.float32(2 * math.log(2))


@kernel
def evaluate_mixtures(
    weights: NDArray[np.float32],
    means: NDArray[np.float32],
    sigmas: NDArray[np.float32],
    block: Block,
) -> int:
    """Evaluate mixtures, cut off at the ends of the grid; see `RedshiftPDF.from_mixture`.

    Parameters
    ----------
    weights, means, sigmas
        Shape ``(n_rows, n_components)``.
    block
        Where to write.

    Returns
    -------
    int
        Number of a row that is no mixture, -1 if all are.
    """
    n_components = weights.shape[1]
    ramp = np.arange(block.density.shape[1]).astype(np.float32)
    paces, heights, half = np.empty((3, n_components), dtype=np.float32)
    for row in range(len(weights)):
        if not _prepare(weights[row], sigmas[row], block, paces, heights, half):
            return row
        low, high = block.n_z, 0
        for k in range(n_components):
            centre = means[row, k] / np.float32(block.step)
            if half[k] > 0 and -half[k] < centre < block.n_z + half[k]:
                low = min(low, max(int(centre - half[k]), 0))
                high = max(high, min(int(centre + half[k]) + 2, block.n_z))
        if low >= high:
            return row
        for i in range(high - low):
            block.density[row, np.uint64(low + i)] = 0
        for k in range(n_components):
            centre = means[row, k] / np.float32(block.step)
            if half[k] > 0 and -half[k] < centre < block.n_z + half[k]:
                first = max(int(centre - half[k]), 0)
                end = min(int(centre + half[k]) + 2, block.n_z)
                start = (np.float32(first) - centre) * paces[k]
                _add(block.density, row, first, end - first, ramp, heights[k], start, paces[k])
        block.support[row, 0], block.support[row, 1] = low, high
    return -1


@part
def _prepare(weights: Row, sigmas: Row, block: Block, paces: Row, heights: Row, half: Row) -> bool:
    """Find slope, height and half width, in steps of the grid, of each component.

    Returns
    -------
    bool
        Whether the numbers can be used.
    """
    total = np.float32(0)
    narrowest = np.float32(2 * block.step)
    inverse_step = np.float32(1 / block.step)
    least = np.float32(2 * block.negligible)
    for k in range(len(weights)):
        sigma = max(sigmas[k], narrowest) * inverse_step
        paces[k] = _ROOT_HALF_LOG2_E / sigma
        heights[k] = weights[k] / sigma
        # Beyond t standard deviations lies less than exp(-t^2 / 2) / 2 of a Gaussian.
        excess = _TWICE_LN_2 * log2(max(weights[k] / least, TINY))
        half[k] = sigma * np.sqrt(max(excess, np.float32(0)))
        total += heights[k] + half[k]
    return total < np.inf


@part
def _add(
    density: NDArray[np.float32],
    row: int,
    first: int,
    n: int,
    ramp: Row,
    height: np.float32,
    start: np.float32,
    pace: np.float32,
) -> None:
    """Add a Gaussian to some points, and perhaps to a few after them."""
    for i in range((n + _VECTOR - 1) // _VECTOR * _VECTOR):
        t = start + pace * ramp[i]
        density[row, np.uint64(first + i)] += height * exp2(-t * t)
