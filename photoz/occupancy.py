"""Occupancy: where in the joint space of colours and magnitude the training galaxies lie."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray

__all__ = ["Occupancy"]

RESOLUTIONS = (64, 48, 32, 24, 16, 12, 8)
"""Cells along an axis, the finest first."""

FLAGGED_SHARE = 0.01
"""Share of galaxies like those of the training that may count as outside."""

MOST_ROWS = 100_000
"""Rows that are enough to learn from."""


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Which cells of every plane of two axes hold training galaxies.

    The axes are the colours of adjacent bands and the magnitude of the middle band. A galaxy
    is outside if in any of the planes it lies in a cell without training galaxies around it:
    so are combinations of colours that never occurred, though each band, and each colour, lies
    within its range. It is a shadow of the training sample of some kilobytes, and holds none
    of its rows.

    Parameters
    ----------
    low, width
        Lower end of each axis and width of its cells (AB mag), shape ``(n_axes,)``.
    occupied
        Whether there are training galaxies in or next to each cell, shape
        ``(n_planes, n_cells, n_cells)``; the planes are all pairs of axes, in order.
    """

    low: FloatArray
    width: FloatArray
    occupied: NDArray[np.bool_]

    @classmethod
    def learn(cls, luptitude: FloatArray) -> Occupancy:
        """Learn from training galaxies.

        The cells are the finest ones of which at most one galaxy in a hundred has no other
        galaxy around it; then as many neighbours are asked for as the same share has not.

        Parameters
        ----------
        luptitude
            Luptitudes (AB mag) of the training galaxies, shape ``(n_galaxies, n_bands)``, NaN
            where not observed.
        """
        every = max(-(-len(luptitude) // MOST_ROWS), 1)
        axes = _axes(luptitude[::every])
        low, high = np.array([_ends(axis) for axis in axes.T]).T
        for n_cells in RESOLUTIONS:
            width = (high - low) / n_cells
            planes = list(_planes(_cells(axes, low, width, n_cells), n_cells))
            counts = [_count_around(plane, n_cells) for plane in planes]
            # A galaxy is no neighbour of its own.
            neighbours = np.min([c[p] - 1 for c, p in zip(counts, planes, strict=True)], axis=0)
            needed = np.quantile(neighbours, FLAGGED_SHARE, method="lower")
            if needed >= 1:
                break
        inner = np.reshape(counts, (-1, n_cells + 2, n_cells + 2))[:, :n_cells, :n_cells]
        return cls(low, width, inner >= max(needed, 1))

    def is_outside(self, luptitude: FloatArray) -> NDArray[np.bool_]:
        """Whether galaxies lie where the training has none; bands not observed do not count.

        Parameters
        ----------
        luptitude
            Luptitudes (AB mag), shape ``(n_galaxies, n_bands)``, NaN where not observed.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        """
        n_cells = self.occupied.shape[1]
        cells = _cells(_axes(luptitude), self.low, self.width, n_cells)
        inside = np.ones(len(luptitude), dtype=bool)
        for plane, occupied in zip(_planes(cells, n_cells), self.table(), strict=True):
            inside &= occupied.ravel()[plane]
        return ~inside

    def table(self) -> NDArray[np.bool_]:
        """Planes with two further cells on each axis: for what was not observed, and beyond.

        Shape ``(n_planes, n_cells + 2, n_cells + 2)``.
        """
        table = np.pad(self.occupied, ((0, 0), (0, 2), (0, 2)), constant_values=True)
        table[:, -1], table[:, :, -1] = False, False
        return table

    def to_dict(self) -> dict[str, Any]:
        """Content as JSON can hold it."""
        return {
            "low": self.low.tolist(),
            "width": self.width.tolist(),
            "n_cells": self.occupied.shape[1],
            "occupied": base64.b64encode(np.packbits(self.occupied).tobytes()).decode(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Occupancy:
        """Rebuild what `to_dict` described."""
        low, width = (np.array(content[key], dtype=np.float64) for key in ("low", "width"))
        n_cells, n_planes = content["n_cells"], len(low) * (len(low) - 1) // 2
        packed = np.frombuffer(base64.b64decode(content["occupied"]), dtype=np.uint8)
        bits = np.unpackbits(packed, count=n_planes * n_cells**2)
        return cls(low, width, bits.astype(bool).reshape(n_planes, n_cells, n_cells))


def _axes(luptitude: FloatArray) -> FloatArray:
    """Colours of adjacent bands and the magnitude of the middle band (AB mag)."""
    middle = luptitude.shape[1] // 2
    return np.column_stack([-np.diff(luptitude, axis=1), luptitude[:, middle]])


def _ends(axis: FloatArray) -> tuple[float, float]:
    """Range with room around all but the outermost galaxies."""
    known = axis[np.isfinite(axis)]
    if len(known) == 0:
        return 0.0, 1.0
    low, high = np.quantile(known, [0.005, 0.995])
    room = max((high - low) / 4, 0.1)
    return float(low - room), float(high + room)


def _cells(axes: FloatArray, low: FloatArray, width: FloatArray, n_cells: int) -> NDArray[np.intp]:
    """Cell of each galaxy on each axis; `n_cells` where not observed, one more where beyond."""
    place = (axes - low) / width
    beyond = np.where(np.isnan(place), n_cells, n_cells + 1)
    inside = (place >= 0) & (place < n_cells)
    return np.where(inside, place, beyond).astype(np.intp)


def _planes(cells: NDArray[np.intp], n_cells: int) -> Iterator[NDArray[np.intp]]:
    """Cell of each galaxy in the plane of each pair of axes, as one number."""
    for one, other in combinations(cells.T, 2):
        yield one * (n_cells + 2) + other


def _count_around(plane: NDArray[np.intp], n_cells: int) -> NDArray[np.intp]:
    """Galaxies in and next to each cell of a plane, as `_planes` numbers them."""
    side = n_cells + 2
    counts = np.bincount(plane, minlength=side**2).reshape(side, side)
    inner = np.pad(counts[:n_cells, :n_cells], 1)
    around = np.zeros((side, side), dtype=np.intp)
    shifts = range(3)
    around[:n_cells, :n_cells] = sum(
        inner[i : i + n_cells, j : j + n_cells] for i in shifts for j in shifts
    )
    # A plane says nothing of a galaxy that was not observed in one of its bands.
    around[n_cells], around[:, n_cells] = len(plane) + 1, len(plane) + 1
    around[-1], around[:, -1] = 0, 0
    return around.ravel()
