"""Flags of photometry: whether galaxies lie where the training has none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part

__all__ = ["Known", "find_outside"]


class Known(NamedTuple):
    """What is known of the training galaxies.

    Parameters
    ----------
    low, high
        Range of luptitudes (AB mag) in each band, shape ``(n_bands,)``.
    axis_low, axis_width
        Axes of the `Occupancy`, shape ``(n_axes,)``; none where that was not learned.
    table
        What `Occupancy.table` gives, shape ``(n_planes, n_cells + 2, n_cells + 2)``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    axis_low: NDArray[np.float64]
    axis_width: NDArray[np.float64]
    table: NDArray[np.bool_]


@kernel
def find_outside(luptitude: NDArray[np.float64], known: Known, outside: NDArray[np.bool_]) -> None:
    """Say of each galaxy whether it lies outside; see `PhotozModel.outside_training`.

    Parameters
    ----------
    luptitude
        Luptitudes (AB mag), NaN where not observed, shape ``(n_galaxies, n_bands)``.
    known
        The training galaxies.
    outside
        Where to write, shape ``(n_galaxies,)``.
    """
    n_bands, n_axes = luptitude.shape[1], len(known.axis_low)
    cells = np.empty(n_axes, dtype=np.int64)
    for row in range(len(luptitude)):
        found = False
        for band in range(n_bands):
            value = luptitude[row, band]
            found |= value < known.low[band] or value > known.high[band]
        for axis in range(n_axes):
            # Colours of adjacent bands, then the magnitude of the middle band.
            value = luptitude[row, axis if axis < n_bands - 1 else n_bands // 2]
            if axis < n_bands - 1:
                value -= luptitude[row, axis + 1]
            place = (value - known.axis_low[axis]) / known.axis_width[axis]
            cells[axis] = _cell(place, known.table.shape[1] - 2)
        plane = 0
        for one in range(n_axes):
            for other in range(one + 1, n_axes):
                found |= not known.table[plane, cells[one], cells[other]]
                plane += 1
        outside[row] = found


@part
def _cell(place: float, n_cells: int) -> int:
    if np.isnan(place):
        return n_cells
    return int(place) if 0 <= place < n_cells else n_cells + 1
