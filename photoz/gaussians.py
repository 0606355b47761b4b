"""Gaussian mixtures in redshift, written out on a grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["on_grid"]

Floats = NDArray[np.floating]

_BLOCK = 64
"""Galaxies whose components are written out on the grid at once."""


def on_grid(grid: NDArray[np.float32], weights: Floats, means: Floats, sigmas: Floats) -> Floats:
    """Relative densities of Gaussian mixtures, shape ``(n_galaxies, n_z)``.

    Parameters
    ----------
    grid
        Redshifts of shape ``(n_z,)``, uniform.
    weights, means, sigmas
        Parameters of shape ``(n_galaxies, n_components)``; means and standard deviations in
        redshift, the latter widened to two steps of the grid.
    """
    narrowest = 2 * (grid[1] - grid[0])
    parts = weights, means, sigmas
    density = np.zeros((len(weights), len(grid)), dtype=np.float32)
    single = [part.T.astype(np.float32) for part in parts]
    for weight, mean, sigma in zip(
        single[0], single[1], np.maximum(single[2], narrowest), strict=True
    ):
        term = (grid - mean[:, np.newaxis]) / sigma[:, np.newaxis]
        np.square(term, out=term)
        term *= -0.5
        np.exp(term, out=term)
        term *= (weight / sigma)[:, np.newaxis]
        density += term
    beyond = ~(density.max(axis=1, initial=0) > 0)
    if beyond.any():
        return _with_tails(density, beyond, grid, *(part[beyond] for part in parts))
    return density


def _with_tails(
    density: Floats,
    beyond: NDArray[np.bool_],
    grid: Floats,
    weights: Floats,
    means: Floats,
    sigmas: Floats,
) -> Floats:
    """Weights of mixtures, those with no more than a far tail on the grid by their logarithms."""
    exact = density.astype(np.float64)
    narrowest = 2 * (grid[1] - grid[0])
    # A few galaxies at a time: their components on the grid may take gigabytes.
    for start in range(0, len(weights), _BLOCK):
        rows = slice(start, start + _BLOCK)
        sigma = np.maximum(sigmas[rows], narrowest).astype(np.float64)[:, :, np.newaxis]
        with np.errstate(divide="ignore"):  # a component without weight
            log_weight = np.log(weights[rows].astype(np.float64))[:, :, np.newaxis]
        distance = (grid - means[rows][:, :, np.newaxis]) / sigma
        exponent = log_weight - np.log(sigma) - 0.5 * distance**2
        known = np.isfinite(exponent).any(axis=(1, 2))
        exponent = exponent[known]
        exact[np.flatnonzero(beyond)[rows][known]] = np.exp(
            exponent - exponent.max(axis=(1, 2), keepdims=True)
        ).sum(axis=1)
    return exact
