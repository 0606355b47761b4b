"""Pool weights: what each member of a pool is worth by the log score of redshifts unseen by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

from photoz.log_score import Truth
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.resolution import TINY, enclosing_points

__all__ = ["LogLinearFit", "linear_weights"]


def linear_weights(at_truth: FloatArray, truth: Truth, n_steps: int = 300) -> FloatArray:
    """Weights, of sum one, of the linear pool with the best log score.

    They are found by expectation and maximisation.

    Parameters
    ----------
    at_truth
        Density of each member at z_spec, shape ``(n_galaxies, n_members)``.
    truth
        The redshifts.
    n_steps
        Steps; each of them improves the score.

    Returns
    -------
    ndarray of shape (n_members,)
    """
    n_members = at_truth.shape[1]
    weights = np.full(n_members, 1 / n_members)
    for _ in range(n_steps):
        pooled = at_truth @ weights
        responsible = truth.slope(pooled) / np.maximum(pooled, 1e-30)
        improved = weights * (responsible @ at_truth)
        if improved.sum() == 0:
            break  # no galaxy counts, or none has any density at its redshift
        weights = improved / improved.sum()
    return weights


@dataclass(frozen=True, eq=False)
class LogLinearFit:
    """What the fit of log-linear weights needs to know of the members' densities.

    Parameters
    ----------
    log_density
        ln (p_k + ε) less its maximum, shape ``(n_members, n_galaxies, n_z)``.
    log_ends
        The same at the two points of the grid that enclose z_spec, shape
        ``(n_members, n_galaxies, 2)``.
    share
        Weight of these two points, both 0 beyond the grid; shape ``(n_galaxies, 2)``.
    truth
        The redshifts.
    step
        Distance between two points of the grid.
    """

    log_density: NDArray[np.float32]
    log_ends: FloatArray
    share: FloatArray
    truth: Truth
    step: float

    @classmethod
    def of(cls, pzs: Sequence[RedshiftPDF], truth: Truth, epsilon: float) -> LogLinearFit:
        """Take logarithms once for all fits.

        Parameters
        ----------
        pzs
            Densities of each member, of the same galaxies on the same grid.
        truth
            The redshifts.
        epsilon
            ε of the pool (per unit redshift).
        """
        grid = pzs[0].z_grid
        log_density = np.stack([np.log(pz.density + np.float32(epsilon)) for pz in pzs])
        log_density -= log_density.max(axis=2, keepdims=True)
        cell, share = enclosing_points(grid, truth.z_spec)
        rows = np.arange(len(truth))[:, np.newaxis]
        log_ends = log_density[:, rows, cell].astype(np.float64)
        return cls(log_density, log_ends, share, truth, pzs[0].step)

    def weights(self, rows: NDArray[np.integer]) -> FloatArray:
        """Weights of the best log score of some rows, nearer to equal ones the fewer they are.

        Parameters
        ----------
        rows
            Numbers of galaxies.

        Returns
        -------
        ndarray of shape (n_members,)
        """
        n_members = len(self.log_density)
        flat = self.log_density[:, rows].reshape(n_members, -1)
        ends, share, truth = self.log_ends[:, rows], self.share[rows], self.truth[rows]
        if len(rows) == 0:
            return np.full(n_members, 1 / n_members)
        prior = 4 / len(rows)

        def loss(weights: FloatArray) -> tuple[float, FloatArray]:
            pooled = np.exp(weights.astype(np.float32) @ flat).reshape(len(rows), -1)
            pooled[:, [0, -1]] *= 0.5
            norm = self.step * pooled.sum(axis=1, dtype=np.float64)
            terms = share * np.exp(np.tensordot(weights, ends, axes=1)) / norm[:, np.newaxis]
            density = terms.sum(axis=1)
            slope = truth.slope(density)
            pooled *= (slope * self.step / norm).astype(np.float32)[:, np.newaxis]
            terms *= (slope / np.maximum(density, TINY))[:, np.newaxis]
            gradient = flat @ pooled.ravel() - np.tensordot(ends, terms, axes=2)
            away = weights - 1 / n_members
            value = -truth.log_score(density).mean() + 0.5 * prior * away @ away
            return float(value), gradient / len(rows) + prior * away

        found = minimize(
            loss,
            np.full(n_members, 1 / n_members),
            jac=True,
            bounds=Bounds(0, np.inf),
            method="L-BFGS-B",
            options={"ftol": 1e-6},  # single precision cannot tell closer scores apart
        )
        weights: FloatArray = found.x
        return weights
