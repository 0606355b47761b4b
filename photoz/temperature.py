"""Temperature: the power of p(z) that makes its width honest, and the table it is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from photoz.log_score import Truth
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.resolution import (
    TINY,
    blocks,
    enclosing_points,
    keep_resolved,
    normalise,
    sharpness,
)

__all__ = ["PowerTable", "Temperature"]

# Powers further than this from 1 are not believed.
_LOG_BETA = np.linspace(-np.log(5), np.log(5), 13)

# Fewer galaxies with, or without, a band say nothing of what its absence does.
_MIN_MISSING = 100


@dataclass(frozen=True, eq=False)
class PowerTable:
    """What a fit needs to know of p(z)^β, so that it never returns to the densities.

    Parameters
    ----------
    log_width
        Differential entropy of each density, shape ``(n_galaxies,)``.
    log_limit
        Largest ln β that leaves the density no narrower than two steps of the grid.
    log_ends, share
        ln p at the two points of the grid that enclose z_spec, and the weight of each
        (both 0 beyond the grid); shape ``(n_galaxies, 2)``.
    log_norm, norm_slope
        ln ∫ p^β dz and its derivative by ln β at a few ln β, shape ``(n_galaxies, n_beta)``.
    """

    log_width: FloatArray
    log_limit: FloatArray
    log_ends: FloatArray
    share: FloatArray
    log_norm: FloatArray
    norm_slope: FloatArray

    @classmethod
    def of(cls, pz: RedshiftPDF, z_spec: FloatArray) -> PowerTable:
        """Tabulate densities whose true redshifts are known."""
        parts = [_tabulate(pz.density[rows], pz.step) for rows in blocks(pz)]
        log_width, log_limit, log_norm, norm_slope = map(np.concatenate, zip(*parts, strict=True))
        points, share = enclosing_points(pz.z_grid, z_spec)
        ends = pz.density[np.arange(len(pz))[:, np.newaxis], points]
        log_ends = np.log(np.maximum(ends, TINY)).astype(np.float64)
        return cls(log_width, log_limit, log_ends, share, log_norm, norm_slope)

    def __len__(self) -> int:
        return len(self.log_width)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> PowerTable:
        return PowerTable(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def density(self, log_beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Density of p^β at z_spec, and the derivative of its logarithm by ln β.

        Parameters
        ----------
        log_beta
            ln β of each galaxy, shape ``(n_galaxies,)``.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        ndarray of shape (n_galaxies,)
        """
        limit = np.minimum(self.log_limit, _LOG_BETA[-1])
        held = np.clip(log_beta, _LOG_BETA[0], limit)
        log_norm, norm_slope = self._norm(held)
        beta = np.exp(held)[:, np.newaxis]
        terms = self.share * np.exp(beta * self.log_ends - log_norm[:, np.newaxis])
        density = terms.sum(axis=1)
        expected = (terms * beta * self.log_ends).sum(axis=1) / np.maximum(density, TINY)
        free = (held == log_beta) & (density > 0)
        return density, np.where(free, expected - norm_slope, 0)

    def _norm(self, log_beta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cubic Hermite interpolation of ln ∫ p^β dz, and its derivative."""
        width = _LOG_BETA[1] - _LOG_BETA[0]
        cell = np.clip(((log_beta - _LOG_BETA[0]) / width).astype(int), 0, len(_LOG_BETA) - 2)
        t = (log_beta - _LOG_BETA[cell]) / width
        rows = np.arange(len(t))
        left, right = self.log_norm[rows, cell], self.log_norm[rows, cell + 1]
        m_left, m_right = (width * self.norm_slope[rows, cell + k] for k in (0, 1))
        rise = right - left
        b, c = 3 * rise - 2 * m_left - m_right, m_left + m_right - 2 * rise
        value = left + t * (m_left + t * (b + t * c))
        return value, (m_left + t * (2 * b + t * 3 * c)) / width


@dataclass(frozen=True)
class Temperature:
    """Sharpens or widens each density: p(z) becomes p(z)^β, normalised.

    ln β is linear in a reference magnitude and in the log width (the differential entropy)
    of p(z), both standardised and held at the ends of the range that was learned from, and
    shifted for each band that is missing.

    Parameters
    ----------
    coefficients
        Constant, slope in magnitude and slope in log width of ln β, then its shift where each
        of the columns `missing` is NaN.
    columns
        Columns of X of which the magnitude is the mean, each less its `column_centres`.
        NaN is left out, and a galaxy without any of them has an average magnitude.
    column_centres
        Median of each of these columns.
    centres, scales
        Mean and standard deviation of magnitude and log width.
    missing
        Those of `columns` that some galaxies lacked and others had.
    """

    coefficients: tuple[float, ...] = (0.0, 0.0, 0.0)
    columns: tuple[int, ...] = ()
    column_centres: tuple[float, ...] = ()
    centres: tuple[float, ...] = (0.0, 0.0)
    scales: tuple[float, ...] = (1.0, 1.0)
    missing: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls, table: PowerTable, truth: Truth, X: FloatArray, columns: Sequence[int]
    ) -> Temperature:
        """Maximise the log score, drawn towards β = 1 where galaxies are few.

        Parameters
        ----------
        table, truth
            Densities and true redshifts of galaxies that the estimator has not seen.
        X
            Their features, shape ``(n_galaxies, n_features)``.
        columns
            Columns of X that are magnitudes.
        """
        identity = cls._standardised(X, table.log_width, columns)
        covariates = identity.covariates(X, table.log_width)
        # Standard deviation of ln β and of its slopes that is expected before any data.
        prior = np.array([0.5] + [0.2] * (covariates.shape[1] - 1)) ** -2 / len(truth)

        def loss(theta: FloatArray) -> tuple[float, FloatArray]:
            density, slope = table.density(covariates @ theta)
            value = -truth.log_score(density).mean() + 0.5 * prior @ theta**2
            gradient = -(truth.slope(density) * slope) @ covariates / len(truth)
            return float(value), gradient + prior * theta

        theta = minimize(loss, np.zeros(len(prior)), jac=True, method="BFGS").x
        return replace(identity, coefficients=tuple(theta.tolist()))

    @classmethod
    def _standardised(
        cls, X: FloatArray, log_width: FloatArray, columns: Sequence[int]
    ) -> Temperature:
        known = [int(column) for column in columns if not np.isnan(X[:, column]).all()]
        centres = tuple(float(np.nanmedian(X[:, column])) for column in known)
        raw = cls(columns=tuple(known), column_centres=centres)
        both = np.stack([raw._magnitude(X), log_width])
        n_missing = np.isnan(X[:, known]).sum(axis=0)
        varies = np.minimum(n_missing, len(X) - n_missing) >= _MIN_MISSING
        return replace(
            raw,
            missing=tuple(column for column, some in zip(known, varies, strict=True) if some),
            centres=tuple(both.mean(axis=1).tolist()),
            scales=tuple(np.maximum(both.std(axis=1), 1e-3).tolist()),
        )

    def apply(self, density: FloatArray, step: float, X: FloatArray) -> FloatArray:
        """Sharpen or widen a block of densities, none narrower than the grid can show.

        Parameters
        ----------
        density
            Densities of shape ``(n_galaxies, n_z)``.
        step
            Distance between two points of the grid.
        X
            Features of the same galaxies, shape ``(n_galaxies, n_features)``.
        """
        log_density = np.log(np.maximum(density, TINY))
        covariates = self.covariates(X, _entropy(density, log_density, step))
        log_beta = np.clip(covariates @ self.coefficients, _LOG_BETA[0], _LOG_BETA[-1])
        log_density *= np.exp(log_beta).astype(np.float32)[:, np.newaxis]
        tempered = normalise(np.exp(log_density, out=log_density), step)
        narrowed = np.flatnonzero(log_beta > 0)
        tempered[narrowed] = keep_resolved(tempered[narrowed], step, [density[narrowed]])
        return tempered

    def covariates(self, X: FloatArray, log_width: FloatArray) -> FloatArray:
        """One, magnitude and log width, standardised, and 1 for each missing column.

        Shape ``(n_galaxies, 3 + n_missing)``.
        """
        both = np.stack([self._magnitude(X), log_width], axis=1)
        # Beyond two standard deviations nothing was learned well enough to extrapolate.
        standard = np.clip((both - self.centres) / self.scales, -2, 2)
        absent = np.isnan(X[:, list(self.missing)])
        return np.column_stack([np.ones(len(standard)), standard, absent])

    def _magnitude(self, X: FloatArray) -> FloatArray:
        relative = X[:, list(self.columns)] - np.array(self.column_centres)
        known = ~np.isnan(relative)
        total = np.where(known, relative, 0).sum(axis=1)
        magnitude: FloatArray = total / np.maximum(known.sum(axis=1), 1)
        return magnitude


def _tabulate(
    density: FloatArray, step: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    log_density = np.log(np.maximum(density, TINY))
    norms, slopes = [], []
    for beta in np.exp(_LOG_BETA):
        power = np.exp(np.float32(beta) * log_density)
        norm = _integral(power, step)
        norms.append(np.log(norm))
        slopes.append(beta * _integral(power * log_density, step) / norm)
    log_norm, norm_slope = np.stack(norms, axis=1), np.stack(slopes, axis=1)
    entropy = _entropy(density, log_density, step)
    sharpest = sharpness(density, step, least=np.exp(_LOG_BETA[0]))
    log_limit = np.log(np.maximum(1 / np.maximum(sharpest, TINY), 1))
    return entropy, log_limit, log_norm, norm_slope


def _entropy(density: FloatArray, log_density: FloatArray, step: float) -> FloatArray:
    """Differential entropy −∫ p ln p dz of each density, shape ``(n_galaxies,)``."""
    return -_integral(density * log_density, step)


def _integral(values: FloatArray, step: float) -> FloatArray:
    ends = 0.5 * (values[:, 0] + values[:, -1])
    integral: FloatArray = step * (values.sum(axis=1) - ends).astype(np.float64)
    return integral
