"""Rows of densities on a grid, of which each is known to be negligible outside its support."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part

__all__ = ["LANES", "Block", "Row", "accumulate", "find_supports", "peak_of", "take_support"]

LANES = 32
"""Loops over a row do so many points at once: rows are filled up with zeros to a multiple."""

Row = NDArray[np.float32]


class Block(NamedTuple):
    """Relative densities of some galaxies on a common grid.

    Parameters
    ----------
    density
        Shape ``(n_rows, n_z + LANES)`` or wider, float32. Only the support is valid.
    support
        First point of each row's support and the one after its last, shape ``(n_rows, 2)``.
        The density at these ends counts as 0, unless they are ends of the grid.
    n_z, step
        Points of the grid, and distance between two of them.
    negligible
        Probability, and share of the peak, that a density may be wrong by.
    """

    density: NDArray[np.float32]
    support: NDArray[np.int64]
    n_z: int
    step: float
    negligible: float


@kernel
def find_supports(block: Block, n_rows: int) -> int:
    """Find the support of densities that are given on the whole grid.

    Returns
    -------
    int
        Number of a row that is no density, -1 if all are.
    """
    for row in range(n_rows):
        p = block.density[row]
        p[block.n_z :] = 0
        broken = np.float32(0)
        for i in range(block.n_z):
            broken += np.float32(0) if 0 <= p[i] < np.inf else np.float32(1)
        if broken > 0:
            return row
        top = p[peak_of(p, block.n_z)]
        low, high = 0, block.n_z
        if top == 0:  # nothing is known of this galaxy
            p[: block.n_z] = 1
        else:
            least = np.float32(block.negligible) * top
            while p[low] <= least:
                low += 1
            while p[high - 1] <= least:
                high -= 1
        block.support[row, 0] = max(low - 1, 0)
        block.support[row, 1] = min(high + 1, block.n_z)
    return -1


@part
def take_support(block: Block, row: int, p: Row) -> int:
    """Copy the support of a row, zeros after it, and return its number of points."""
    low, high = block.support[row, 0], block.support[row, 1]
    n = high - low
    for i in range(padded(n)):
        # An index without sign cannot count from the end, which allows whole vectors at once.
        p[i] = block.density[row, np.uint64(low + i)]
    clear(p, n)
    if low > 0:
        p[0] = 0
    if high < block.n_z:
        p[n - 1] = 0
    return n


@part
def padded(n: int) -> int:
    """Number of points when filled up."""
    return (n + LANES - 1) // LANES * LANES


@part
def clear(p: Row, n: int) -> None:
    """Zeros after a row's points."""
    for i in range(n, padded(n)):
        p[i] = 0


@part
def peak_of(p: Row, n: int) -> int:
    """Index of the highest density, the first of equal ones."""
    # Numbers that are not negative are in the order of their bits, which compare faster.
    bits, top, start = p.view(np.int32), np.int32(-1), 0
    for begin in range(0, n, LANES):
        highest = np.int32(-1)
        for i in range(LANES):
            highest = max(highest, bits[np.uint64(begin + i)])
        if highest > top:
            top, start = highest, begin
    while bits[start] != top:
        start += 1
    return start


@part
def accumulate(p: Row, n: int, out: NDArray[np.floating]) -> float:
    """Write the sum of each point and all before it, and return the sum of all."""
    zero = out.dtype.type(0)
    a, b, c, d = zero, zero, zero, zero
    # Four sums side by side: each addition has to wait for the one before.
    quarter = padded(n) // 4
    for i in range(quarter):
        i_b, i_c = np.uint64(quarter + i), np.uint64(2 * quarter + i)
        i_d = np.uint64(3 * quarter + i)
        a += p[i]
        b += p[i_b]
        c += p[i_c]
        d += p[i_d]
        out[i] = a
        out[i_b] = b
        out[i_c] = c
        out[i_d] = d
    for i in range(quarter):
        out[np.uint64(quarter + i)] += a
        out[np.uint64(2 * quarter + i)] += a + b
        out[np.uint64(3 * quarter + i)] += a + b + c
    return a + b + c + d
