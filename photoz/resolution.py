"""How narrow a density may be: what a transformation of p(z) must leave the grid able to show."""

from __future__ import annotations

import numpy as np

from photoz.pdf import FloatArray

__all__ = ["TINY", "keep_resolved", "normalise", "sharpness"]

TINY = np.float32(1e-30)
"""Smallest density whose logarithm is taken."""

# Drop of ln p within one step of the peak of a Gaussian of two steps, twice over.
_TWO_STEPS = np.float32(0.25)
# Peaks below this share of the highest one are not looked at.
_NOTABLE = np.float32(np.log(0.05))
# Height times step of a Gaussian of two steps that holds a tenth of the probability.
_LOWEST_SHARP_PEAK = 0.02


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


def sharpness(density: FloatArray, step: float) -> FloatArray:
    """Curvature of ln p at the sharpest notable peak; 1 is a Gaussian of two steps (1 sigma).

    Parameters
    ----------
    density
        Densities of shape ``(n_galaxies, n_z)``.
    step
        Distance between two points of the grid.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        0 where no peak is high enough to be so sharp.
    """
    result = np.zeros(len(density), dtype=np.float32)
    rows = np.flatnonzero(density.max(axis=1, initial=0) * step > _LOWEST_SHARP_PEAK)
    log_density = np.log(np.maximum(density[rows], TINY))
    rise = np.diff(log_density, axis=1)
    floor = log_density.max(axis=1, keepdims=True, initial=-np.inf) + _NOTABLE
    peak = (rise[:, :-1] >= 0) & (rise[:, 1:] <= 0) & (log_density[:, 1:-1] > floor)
    curvature = np.where(peak, rise[:, :-1] - rise[:, 1:], 0)
    result[rows] = curvature.max(axis=1, initial=0) / _TWO_STEPS
    return result


def keep_resolved(density: FloatArray, step: float, before: FloatArray) -> FloatArray:
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
        Sharpness of each row that may be kept in any case, shape ``(n_galaxies,)``.
    """
    allowed = np.maximum(before, 1)
    now = sharpness(density, step)
    rows = np.flatnonzero(now > allowed)
    power = (allowed[rows] / now[rows])[:, np.newaxis]
    density[rows] = normalise(np.maximum(density[rows], TINY) ** power, step)
    return density
