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
    log_factors
        What is weighted: ln (p_k + ε) of each member less its maximum and, as the last, the
        redshift in units of `z_scale`; shape ``(n_members + 1, n_galaxies, n_z)``.
    log_ends
        The same at the two points of the grid that enclose z_spec, shape
        ``(n_members + 1, n_galaxies, 2)``.
    share
        Weight of these two points, both 0 beyond the grid; shape ``(n_galaxies, 2)``.
    truth
        The redshifts.
    step
        Distance between two points of the grid.
    z_scale
        Standard deviation of the redshifts of the grid.
    """

    log_factors: NDArray[np.float32]
    log_ends: FloatArray
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
        z_scale = float(grid.std())
        log_factors = np.empty((len(pzs) + 1, *pzs[0].density.shape), dtype=np.float32)
        for k, pz in enumerate(pzs):
            np.log(pz.density + np.float32(epsilon), out=log_factors[k])
            log_factors[k] -= log_factors[k].max(axis=1, keepdims=True)
        log_factors[-1] = (grid - grid.mean()) / z_scale
        cell, share = enclosing_points(grid, truth.z_spec)
        rows = np.arange(len(truth))[:, np.newaxis]
        log_ends = log_factors[:, rows, cell].astype(np.float64)
        return cls(log_factors, log_ends, share, truth, pzs[0].step, z_scale)

    def weights(self, rows: NDArray[np.integer]) -> FloatArray:
        """Weights of the best log score of some rows, nearer to equal ones the fewer they are.

        Parameters
        ----------
        rows
            Numbers of galaxies.

        Returns
        -------
        ndarray of shape (n_members + 1,)
            Weights of the members, then the tilt (per unit redshift).
        """
        n_factors = len(self.log_factors)
        flat = self.log_factors[:, rows].reshape(n_factors, -1)
        ends, share, truth = self.log_ends[:, rows], self.share[rows], self.truth[rows]
        n_members = n_factors - 1
        before = np.array([1 / n_members] * n_members + [0.0])
        if len(rows) == 0:
            return before
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
            away = weights - before
            value = -truth.log_score(density).mean() + 0.5 * prior * away @ away
            return float(value), gradient / len(rows) + prior * away

        found = minimize(
            loss,
            before,
            jac=True,
            bounds=Bounds([0.0] * n_members + [-np.inf], np.inf),
            method="L-BFGS-B",
            options={"ftol": 1e-6},  # single precision cannot tell closer scores apart
        )
        weights: FloatArray = found.x
        weights[-1] /= self.z_scale
        return weights
