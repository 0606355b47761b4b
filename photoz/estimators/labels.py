"""Labels: redshifts of which some may be wrong, and what is known of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photoz.estimators.base import Rows
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["Labels", "n_of_z_at", "trust"]

_LOWEST_DENSITY = 1e-4
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Labels:
    """Redshifts of galaxies, and how far they can be trusted.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``, on the grid.
    reliability
        Probability r that each is right, shape ``(n_galaxies,)``; None if all are.
    n_of_z
        Density of wrong redshifts at each of them, shape ``(n_galaxies,)``.
    """

    z_spec: FloatArray
    reliability: FloatArray | None = None
    n_of_z: FloatArray | None = None

    @classmethod
    def of(cls, rows: Rows, z_grid: FloatArray) -> Labels:
        """Labels of rows, wrong ones following the n(z) of all of them."""
        n_of_z = None if rows.reliability is None else n_of_z_at(rows, z_grid)
        return cls(rows.z_spec, rows.reliability, n_of_z)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> Labels:
        return Labels(
            self.z_spec[rows],
            None if self.reliability is None else self.reliability[rows],
            None if self.n_of_z is None else self.n_of_z[rows],
        )

    def log_loss(self, density: FloatArray) -> float:
        """Mean of -ln(r p + (1 - r) n) for densities p at the redshifts, with a floor."""
        if self.reliability is not None and self.n_of_z is not None:
            density = self.reliability * density + (1 - self.reliability) * self.n_of_z
        return float(-np.log(np.maximum(density, _LOWEST_DENSITY)).mean())


def n_of_z_at(rows: Rows, z_grid: FloatArray) -> FloatArray:
    """Smoothed density of the redshifts of all rows at each row's own.

    Parameters
    ----------
    rows
        Rows of a training or validation set.
    z_grid
        Redshift grid of shape ``(n_z,)``.

    Returns
    -------
    ndarray of shape (n_galaxies,)
    """
    nearest = np.rint(rows.z_spec / z_grid[1]).astype(np.intp)
    counts: FloatArray = np.zeros((1, len(z_grid)))
    np.add.at(counts[0], nearest, rows.weight)
    width = max(2 * z_grid[1], rows.z_spec.std() * len(rows) ** -0.2)
    pz = RedshiftPDF.from_mixture(z_grid, counts, z_grid[np.newaxis], np.full_like(counts, width))
    return np.asarray(np.interp(rows.z_spec, z_grid, pz.density[0]))


def trust(density: FloatArray, labels: Labels, weight: FloatArray) -> FloatArray:
    """Probability that each redshift is right, given densities that hold wrong ones as well.

    The densities were learned from all redshifts alike, so they are r p(z) + (1 - r) n(z) with
    the mean of r. This is the step of expectation of that likelihood.

    Parameters
    ----------
    density
        Densities at the redshifts, each learned without it; shape ``(n_galaxies,)``.
    labels
        The redshifts, with reliability and n(z).
    weight
        Weights that the densities were learned with, shape ``(n_galaxies,)``.

    Returns
    -------
    ndarray of shape (n_galaxies,)
    """
    reliability, n_of_z = np.asarray(labels.reliability), np.asarray(labels.n_of_z)
    share = float(np.average(1 - reliability, weights=weight))
    p = np.maximum(density - share * n_of_z, 0) / max(1 - share, _LEAST)
    right = reliability * p + _LEAST
    probability: FloatArray = right / (right + (1 - reliability) * n_of_z)
    return probability
