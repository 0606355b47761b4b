"""How narrow a density may be: what a transformation of p(z) must leave the grid able to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray, RedshiftPDF

__all__ = [
    "TINY",
    "blocks",
    "enclosing_points",
    "keep_resolved",
    "n_points",
    "normalise",
    "sharpness",
]

TINY = np.float32(1e-30)
"""Smallest density whose logarithm is taken."""

# One block of densities fits into a processor's cache.
_BLOCK_ELEMENTS = 2**18
# Drop of ln p within one step of the peak of a Gaussian of two steps, twice over.
_TWO_STEPS = np.float32(0.25)
# Height times step of a Gaussian of two steps that holds a tenth of the probability; lower
# peaks, such as the bumps of a forest's wide p(z), weigh too little to need resolving.
_NOTABLE = 0.02
# No density is narrower than two steps: a broad survey's grid must not blur its best galaxies.
_STEP = 0.004
_N_Z_LIMITS = (301, 2001)


def n_points(z_max: float) -> int:
    """Points of a redshift grid from 0 to `z_max`: steps of 0.004 or finer, within reason."""
    return int(np.clip(np.ceil(z_max / _STEP) + 1, *_N_Z_LIMITS))


def blocks(pz: RedshiftPDF) -> list[slice]:
    """Rows of `pz` in pieces that fit into a processor's cache."""
    size = max(1, _BLOCK_ELEMENTS // len(pz.z_grid))
    return [slice(start, start + size) for start in range(0, len(pz), size)]


def enclosing_points(z_grid: FloatArray, z: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The two points of the grid around each redshift, and the weight of each.

    A density that is linear between the points has at `z` the weighted mean of its values
    at these two.

    Parameters
    ----------
    z_grid
        Grid of shape ``(n_z,)``.
    z
        Redshifts of shape ``(n_galaxies,)``.

    Returns
    -------
    ndarray of shape (n_galaxies, 2)
        Indices of the points.
    ndarray of shape (n_galaxies, 2)
        Their weights, both 0 beyond the grid.
    """
    position = z / z_grid[1]
    left = np.clip(position.astype(np.intp), 0, len(z_grid) - 2)
    inside = (z >= 0) & (z <= z_grid[-1])
    right = np.clip(position - left, 0, 1)
    weight = np.stack([1 - right, right], axis=1) * inside[:, np.newaxis]
    return left[:, np.newaxis] + np.array([0, 1]), weight


def normalise(density: FloatArray, step: float) -> FloatArray:
    """Divide densities by their integrals, in place.

    Parameters
    ----------
    density
        Positive relative densities of shape ``(n_galaxies, n_z)``.
    step
        Distance between two points of the grid.
    """
    ends = density[:, :1] + density[:, -1:]
    density /= step * (density.sum(axis=1, keepdims=True) - 0.5 * ends)
    return density


def sharpness(density: FloatArray, step: float, least: float = 1.0) -> FloatArray:
    """Curvature of ln p at the sharpest notable peak; 1 is a Gaussian of two steps (1 sigma).

    Parameters
    ----------
    density
        Densities of shape ``(n_galaxies, n_z)``.
    step
        Distance between two points of the grid.
    least
        Sharpness of interest.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        May be 0 where it is below `least`.
    """
    result = np.zeros(len(density), dtype=np.float32)
    rows = _nearly_sharp(density, step, least)
    log_density = np.log(np.maximum(density[rows], TINY))
    rise = np.diff(log_density, axis=1)
    peak = (rise[:, :-1] >= 0) & (rise[:, 1:] <= 0) & (density[rows, 1:-1] > _NOTABLE / step)
    curvature = np.where(peak, rise[:, :-1] - rise[:, 1:], 0)
    result[rows] = curvature.max(axis=1, initial=0) / _TWO_STEPS
    return result


def keep_resolved(density: FloatArray, step: float, before: Sequence[FloatArray]) -> FloatArray:
    """Flatten, in place, what became narrower than two steps of the grid.

    A row whose sharpest peak is narrower than two steps, and narrower than it was before,
    is raised to the power at which it no longer is.

    Parameters
    ----------
    density
        Densities of shape ``(n_galaxies, n_z)``.
    step
        Distance between two points of the grid.
    before
        What they were made of: densities of the same shape.
    """
    rows = _nearly_sharp(density, step, 1.0)
    now = sharpness(density[rows], step)
    allowed = np.max(
        [np.ones(len(rows)), *(sharpness(part[rows], step) for part in before)], axis=0
    )
    narrower = now > allowed
    rows, power = rows[narrower], (allowed / np.maximum(now, 1))[narrower, np.newaxis]
    flattened = np.maximum(density[rows], TINY) ** power.astype(density.dtype)
    density[rows] = normalise(flattened, step)
    return density


def _nearly_sharp(density: FloatArray, step: float, least: float) -> NDArray[np.intp]:
    """Rows with a peak that may be so sharp, told without logarithms, which take long."""
    rise = np.diff(density, axis=1)
    bend = rise[:, :-1] - rise[:, 1:]
    top = density[:, 1:-1]
    # At a peak the drop of p to both sides is at least .88 of that of ln p, if that is small:
    # 1 - exp(-x) > .88 x up to x = .25, of which the sum may lie on one side.
    found = bend > np.float32(0.85 * least) * _TWO_STEPS * top
    found &= top > np.float32(_NOTABLE / step)
    return np.flatnonzero(found.any(axis=1))
