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
    """What the fit of a log-linear pool needs to know of the members' densities.

    Parameters
    ----------
    log_density
        ln (p_k + ε) less its maximum, shape ``(n_members, n_galaxies, n_z)``.
    relative_z
        What the tilt weighs: the points of the grid less their mean, in units of `z_scale`;
        shape ``(n_z,)``.
    ends
        Both of these at the two points of the grid that enclose z_spec, `relative_z` as the
        last; shape ``(n_members + 1, n_galaxies, 2)``.
    share
        Weight of these two points, both 0 beyond the grid; shape ``(n_galaxies, 2)``.
    truth
        The redshifts.
    step
        Distance between two points of the grid.
    z_scale
        Standard deviation of the points of the grid: a tilt that is large in its units would lift
        the little that ε leaves at the far end of a long grid, and is held back.
    """

    log_density: NDArray[np.float32]
    relative_z: NDArray[np.float32]
    ends: FloatArray
    share: FloatArray
    truth: Truth
    step: float
    z_scale: float

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
        z_scale = float(grid.std())
        relative_z = ((grid - grid.mean()) / z_scale).astype(np.float32)
        cell, share = enclosing_points(grid, truth.z_spec)
        rows = np.arange(len(truth))[:, np.newaxis]
        ends = np.concatenate([log_density[:, rows, cell], relative_z[cell][np.newaxis]])
        return cls(
            log_density, relative_z, ends.astype(np.float64), share, truth, pzs[0].step, z_scale
        )

    def coefficients(self, rows: NDArray[np.integer]) -> FloatArray:
        """Weights and tilt of the best log score of some rows.

        The fewer they are, the nearer to equal weights and no tilt.

        Parameters
        ----------
        rows
            Numbers of galaxies.

        Returns
        -------
        ndarray of shape (n_members + 1,)
            Weights of the members, then the tilt (per unit redshift).
        """
        n_members = len(self.log_density)
        before = np.array([1 / n_members] * n_members + [0.0])
        if len(rows) == 0:
            return before
        flat = self.log_density[:, rows].reshape(n_members, -1)
        ends, share, truth = self.ends[:, rows], self.share[rows], self.truth[rows]
        prior = 4 / len(rows)

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            *weights, tilt = theta.astype(np.float32)
            pooled = (np.array(weights) @ flat).reshape(len(rows), -1)
            pooled += tilt * self.relative_z
            top = pooled.max(axis=1, keepdims=True)
            pooled = np.exp(pooled - top)
            pooled[:, [0, -1]] *= 0.5
            norm = self.step * pooled.sum(axis=1, dtype=np.float64)
            terms = share * np.exp(np.tensordot(theta, ends, axes=1) - top) / norm[:, np.newaxis]
            density = terms.sum(axis=1)
            slope = truth.slope(density)
            pooled *= (slope * self.step / norm).astype(np.float32)[:, np.newaxis]
            terms *= (slope / np.maximum(density, TINY))[:, np.newaxis]
            expected = [*(flat @ pooled.ravel()), pooled.sum(axis=0) @ self.relative_z]
            gradient = (expected - np.tensordot(ends, terms, axes=2)) / len(rows)
            away = theta - before
            value = -truth.log_score(density).mean() + 0.5 * prior * away @ away
            return float(value), gradient + prior * away

        found = minimize(
            loss,
            before,
            jac=True,
            bounds=Bounds([0.0] * n_members + [-np.inf], np.inf),
            method="L-BFGS-B",
            options={"ftol": 1e-6},  # single precision cannot tell closer scores apart
        )
        coefficients: FloatArray = found.x
        coefficients[-1] /= self.z_scale
        return coefficients
