"""Quantiles back to a cumulative distribution: smooth, monotone and with light tails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["cumulative_of_quantiles"]

Floats = NDArray[np.float64]

_BLOCK = 512
_TINY = 1e-300


def cumulative_of_quantiles(z: Floats, levels: Floats, quantiles: Floats) -> Floats:
    """Cumulative distributions that pass through given quantiles.

    The level, as the score of a normal distribution, is a monotone cubic of the redshift
    (Fritsch & Carlson 1980) and goes on straight beyond the outermost quantiles: a Gaussian
    comes back exactly, and every tail is that of a Gaussian, squeezed into the range of `z`.

    Parameters
    ----------
    z
        Rising redshifts of shape ``(n_z,)`` at which to evaluate; no probability lies beyond
        the first and the last.
    levels
        Rising probabilities between 0 and 1, both excluded, shape ``(n_levels,)``.
    quantiles
        Rising redshifts at these levels, shape ``(n_galaxies, n_levels)``.

    Returns
    -------
    ndarray of shape (n_galaxies, n_z)

    References
    ----------
    Fritsch & Carlson (1980), https://doi.org/10.1137/0717021
    """
    score = ndtri(levels)
    result = np.empty((len(quantiles), len(z)))
    for start in range(0, len(quantiles), _BLOCK):
        rows = slice(start, start + _BLOCK)
        free = ndtr(_interpolate(z, quantiles[rows], score))
        low, high = free[:, :1], free[:, -1:]
        first, last = quantiles[rows, :1], quantiles[rows, -1:]
        below = levels[0] * (free - low) / np.maximum(levels[0] - low, _TINY)
        above = (1 - levels[-1]) * (high - free) / np.maximum(high - levels[-1], _TINY)
        result[rows] = np.where(z < first, below, np.where(z > last, 1 - above, free))
    result[:, 0], result[:, -1] = 0, 1
    return result


def _interpolate(z: Floats, x: Floats, y: Floats) -> Floats:
    """Monotone cubics through the points of each row, shape ``(n_rows, n_z)``."""
    rows = np.arange(len(x))[:, np.newaxis]
    width = np.diff(x, axis=1)
    slope = np.diff(y) / width
    tangent = _tangents(slope)
    last = x.shape[1] - 2
    cell = np.clip((x[:, np.newaxis, :] <= z[:, np.newaxis]).sum(axis=2) - 1, 0, last)
    t = (z - x[rows, cell]) / width[rows, cell]
    inside = np.clip(t, 0, 1)
    left, right = tangent[rows, cell], tangent[rows, cell + 1]
    rise, h = y[cell + 1] - y[cell], width[rows, cell]
    b, c = 3 * rise - h * (2 * left + right), h * (left + right) - 2 * rise
    value = y[cell] + inside * (h * left + inside * (b + inside * c))
    value += h * np.where(t < 0, left * t, right * (t - inside))
    return np.asarray(value)


def _tangents(slope: Floats) -> Floats:
    """Slopes at the points that keep the cubics monotone, shape ``(n_rows, n_points)``."""
    before, after = slope[:, :-1], slope[:, 1:]
    middle = 2 / (1 / before + 1 / after)
    return np.concatenate([slope[:, :1], middle, slope[:, -1:]], axis=1)
