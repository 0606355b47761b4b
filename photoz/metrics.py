"""Metrics of p(z), and those of point redshifts: pure functions, truth first.

`z_spec` has shape ``(n_galaxies,)``, in the order of `pz`. A truth beyond the grid is scored:
density 0, PIT 1, and the CRPS adds its distance. Without galaxies a metric is NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InputError
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.point_metrics import (
    POINT_METRICS,
    bias,
    catastrophic_fraction,
    check_z_spec,
    equal_number_bins,
    ks_of_uniform,
    outlier_fraction,
    outlier_fraction_lsst,
    rmse,
    sigma_iqr,
    sigma_nmad,
    value_or_nan,
)

__all__ = [
    "DENSITY_METRICS",
    "PIT_EVENTS",
    "POINT_METRICS",
    "bias",
    "catastrophic_fraction",
    "cde_loss",
    "cde_loss_per_galaxy",
    "coverage_68",
    "coverage_95",
    "crps",
    "crps_per_galaxy",
    "in_chunks",
    "log_loss",
    "log_loss_per_galaxy",
    "outlier_fraction",
    "outlier_fraction_lsst",
    "pit",
    "pit_ks",
    "pit_outlier_fraction",
    "rmse",
    "score",
    "sigma_iqr",
    "sigma_nmad",
    "tomographic_bias",
]

_CHUNK = 2**18
"""Values of density that are worked on at a time."""

PIT_EVENTS: dict[str, Callable[[FloatArray], NDArray[np.bool_]]] = {
    "pit_outlier_fraction": lambda pit: (pit < 1e-4) | (pit > 1 - 1e-4),
    "coverage_68": lambda pit: (pit >= 0.16) & (pit <= 0.84),
    "coverage_95": lambda pit: (pit >= 0.025) & (pit <= 0.975),
}
"""Metrics that are shares of galaxies, and which galaxies they count, from their PIT."""


def cde_loss(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    r"""Conditional density estimation (CDE) loss of p(z), per unit redshift.

    .. math:: L = \frac{1}{N} \sum_i \left[ \int p_i(z)^2 \, dz - 2 p_i(z_i) \right]

    The smaller the better; a sharp, well-placed p(z) is far below zero. The loss is the
    integrated squared error up to a constant set by the galaxies alone, so compare it only
    between estimators scored on the same galaxies. The integral is trapezoidal, as in RAIL.

    References
    ----------
    Izbicki & Lee (2017), https://arxiv.org/abs/1704.08095

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((1, 201)))
    >>> round(cde_loss([0.7], flat), 6)
    -0.5
    """
    return value_or_nan(np.mean, cde_loss_per_galaxy(z_spec, pz))


def cde_loss_per_galaxy(z_spec: ArrayLike, pz: RedshiftPDF) -> FloatArray:
    """Terms of `cde_loss` (per unit redshift), shape ``(n_galaxies,)``."""

    def loss(pz: RedshiftPDF, z_spec: FloatArray) -> FloatArray:
        squared = np.square(pz.density, dtype=np.float64)
        return np.trapezoid(squared, dx=pz.step, axis=1) - 2 * pz.at(z_spec)

    return in_chunks(loss, pz, z_spec)


def crps(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    r"""Continuous ranked probability score of p(z), a redshift.

    .. math:: S = \frac{1}{N} \sum_i \int \left( F_i(z) - 1[z \ge z_i] \right)^2 dz

    The smaller the better, least 0; abs(z_phot - z_spec) for a p(z) without width. F is the
    cumulative distribution, exact for a density linear between the points of the grid.

    References
    ----------
    Gneiting & Raftery (2007), https://doi.org/10.1198/016214506000001437;
    Polsterer et al. (2016), https://arxiv.org/abs/1608.08016

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> round(crps([1.0, 3.0], flat), 6)  # 1 / 6 in the middle, 2 / 3 + 1 beyond the end
    0.916667
    """
    return value_or_nan(np.mean, crps_per_galaxy(z_spec, pz))


def crps_per_galaxy(z_spec: ArrayLike, pz: RedshiftPDF) -> FloatArray:
    """Terms of `crps` (redshift), shape ``(n_galaxies,)``."""
    return in_chunks(_crps, pz, z_spec)


def log_loss(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Logarithmic score -mean ln max(p(z_spec), 1e-4). The smaller the better, at most 9.21.

    The floor keeps one galaxy of p = 0 from deciding alone.

    References
    ----------
    Gneiting & Raftery (2007), https://doi.org/10.1198/016214506000001437

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 1, 101), np.ones((1, 101)))
    >>> abs(round(log_loss([0.3], flat), 6))
    0.0
    """
    return value_or_nan(np.mean, log_loss_per_galaxy(z_spec, pz))


def log_loss_per_galaxy(z_spec: ArrayLike, pz: RedshiftPDF) -> FloatArray:
    """Terms of `log_loss`, shape ``(n_galaxies,)``."""
    return -np.log(np.maximum(in_chunks(RedshiftPDF.at, pz, z_spec), 1e-4))


def pit(z_spec: ArrayLike, pz: RedshiftPDF) -> FloatArray:
    """Probability integral transforms CDF(z_spec) from 0 to 1, shape ``(n_galaxies,)``.

    Uniform if p(z) is calibrated, though not only then: so is n(z) given to every galaxy.

    References
    ----------
    Dawid (1984), https://doi.org/10.2307/2981683

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> pit([0.5, 2.5], flat).round(6)
    array([0.25, 1.  ])
    """
    return in_chunks(RedshiftPDF.cdf, pz, z_spec)


def pit_ks(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Greatest distance of PIT from uniform (Kolmogorov-Smirnov). The smaller the better.

    From 0 to 1; calibrated p(z) stays under 1.36 / sqrt(n_galaxies) in 95 per cent of samples.

    References
    ----------
    Schmidt et al. (2020), https://arxiv.org/abs/2001.03621

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> round(pit_ks([0.5, 1.0], flat), 6)
    0.5
    """
    return value_or_nan(ks_of_uniform, pit(z_spec, pz))


def pit_outlier_fraction(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Share of galaxies with PIT < 1e-4 or > 1 - 1e-4 (as `pit_ks`). Ideal is 2e-4.

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> pit_outlier_fraction([0.5, 2.5], flat)
    0.5
    """
    return value_or_nan(np.mean, PIT_EVENTS["pit_outlier_fraction"](pit(z_spec, pz)))


def coverage_68(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Share of galaxies with CDF(z_spec) in [0.16, 0.84]. Ideal is 0.68; less is too narrow.

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> coverage_68([0.2, 1.0], flat)
    0.5
    """
    return value_or_nan(np.mean, PIT_EVENTS["coverage_68"](pit(z_spec, pz)))


def coverage_95(z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Share of galaxies with CDF(z_spec) in [0.025, 0.975]. Ideal is 0.95; less is too narrow.

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> coverage_95([0.04, 1.0], flat)
    0.5
    """
    return value_or_nan(np.mean, PIT_EVENTS["coverage_95"](pit(z_spec, pz)))


def tomographic_bias(z_spec: ArrayLike, pz: RedshiftPDF, n_bins: int = 5) -> FloatArray:
    """Error of the mean redshift of n(z) in equal-number bins of the median of p(z).

    In each bin (mean of p(z) - mean z_spec) / (1 + mean z_spec), best at 0. Shape
    ``(n_bins,)``, shorter where medians are equal.

    References
    ----------
    LSST DESC Science Requirements Document (2018), https://arxiv.org/abs/1809.01669

    Examples
    --------
    >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((2, 201)))
    >>> tomographic_bias([0.5, 1.1], flat).round(6)
    array([0.111111])
    """
    z_spec = check_z_spec(z_spec, (len(pz),))
    in_bin = equal_number_bins(in_chunks(RedshiftPDF.median, pz), n_bins)
    n_galaxies = np.bincount(in_bin)
    truth = np.bincount(in_bin, z_spec) / n_galaxies
    stacked = np.bincount(in_bin, in_chunks(RedshiftPDF.mean, pz)) / n_galaxies
    return (stacked - truth) / (1 + truth)


DENSITY_METRICS: dict[str, Callable[[ArrayLike, RedshiftPDF], float]] = {
    f.__name__: f
    for f in (cde_loss, crps, log_loss, pit_ks, pit_outlier_fraction, coverage_68, coverage_95)
}
"""Metrics of p(z) by name."""


def score(metric: str, z_spec: ArrayLike, pz: RedshiftPDF) -> float:
    """Value of one metric by name; point metrics are of the median of p(z)."""
    if metric in DENSITY_METRICS:
        return DENSITY_METRICS[metric](z_spec, pz)
    if metric in POINT_METRICS:
        return POINT_METRICS[metric](z_spec, in_chunks(RedshiftPDF.median, pz))
    msg = f"unknown metric {metric!r}; known are {', '.join([*DENSITY_METRICS, *POINT_METRICS])}."
    raise InputError(msg)


def _crps(pz: RedshiftPDF, z_spec: FloatArray) -> FloatArray:
    # In a cell with cumulative c at its left and masses a, b = step x density at its ends,
    # F(u) = c + a u + (b - a) u^2 / 2 for u from 0 to 1; its integrals are polynomials.
    mass = pz.density * np.float64(pz.step)
    mass /= 0.5 * (mass[:, :1] + mass[:, -1:]) + mass[:, 1:-1].sum(axis=1, keepdims=True)
    a, b = mass[:, :-1], mass[:, 1:]
    half = 0.5 * (a + b)
    c = np.cumsum(half, axis=1) - half
    area = c + a / 3 + b / 6
    square = np.vecdot(c, 2 * area - c) + np.vecdot(a, 8 * a + 9 * b) / 60 + np.vecdot(b, b) / 20

    on_grid = np.clip(z_spec, 0, pz.z_grid[-1]) / pz.step
    cell = np.minimum(on_grid.astype(np.intp), a.shape[1] - 1)
    u = on_grid - cell
    rows = np.arange(len(pz))
    above = np.vecdot(area, np.arange(a.shape[1]) >= cell[:, np.newaxis])
    a, b, c = a[rows, cell], b[rows, cell], c[rows, cell]
    above -= c * u + a * u**2 / 2 + (b - a) * u**3 / 6
    # Above the truth (1 - F)^2 = F^2 + 1 - 2 F.
    inside = square + (len(pz.z_grid) - 1 - on_grid) - 2 * above
    score: FloatArray = pz.step * inside + np.abs(z_spec - pz.step * on_grid)
    return score


def in_chunks(
    function: Callable[..., FloatArray], pz: RedshiftPDF, z_spec: ArrayLike | None = None
) -> FloatArray:
    """Values of a function of some galaxies (and their truths), made in bounded memory."""
    truth = None if z_spec is None else check_z_spec(z_spec, (len(pz),))
    n_rows = max(1, _CHUNK // len(pz.z_grid))
    values = np.empty(len(pz))
    for start in range(0, len(pz), n_rows):
        rows = slice(start, start + n_rows)
        values[rows] = function(pz[rows], *(() if truth is None else (truth[rows],)))
    return values
