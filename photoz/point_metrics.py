"""Metrics of point redshifts: pure functions of ``(z_spec, z_phot)``, truth first.

Redshifts have shape ``(n_galaxies,)``. All metrics but `catastrophic_fraction` are of
``dz = (z_phot - z_spec) / (1 + z_spec)``, all are dimensionless, and NaN without galaxies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.pdf import FloatArray

__all__ = [
    "POINT_METRICS",
    "bias",
    "catastrophic_fraction",
    "check_z_spec",
    "equal_number_bins",
    "ks_of_uniform",
    "normalised_error",
    "outlier_fraction",
    "outlier_fraction_lsst",
    "rmse",
    "sigma_iqr",
    "sigma_nmad",
    "value_or_nan",
]


def normalised_error(z_spec: ArrayLike, z_phot: ArrayLike) -> FloatArray:
    """Errors dz = (z_phot - z_spec) / (1 + z_spec) of each galaxy, shape ``(n_galaxies,)``.

    Raises
    ------
    InputError
        If the shapes disagree, or a redshift is not finite or a `z_spec` not above -1.
    """
    z_phot = np.asarray(unmasked(z_phot), dtype=np.float64)
    z_spec = check_z_spec(z_spec, z_phot.shape)
    if not np.isfinite(z_phot).all():
        msg = f"z_phot must be finite, found {np.sum(~np.isfinite(z_phot))} values that are not."
        raise InputError(msg)
    return (z_phot - z_spec) / (1 + z_spec)


def bias(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Median of dz. Best at 0; above it redshifts come out too high.

    References
    ----------
    LSST Science Book (2009), section 3.8, https://arxiv.org/abs/0912.0201

    Examples
    --------
    >>> bias([0.0, 1.0, 3.0], [0.1, 1.4, 3.0])
    0.1
    """
    return value_or_nan(np.median, normalised_error(z_spec, z_phot))


def sigma_nmad(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Scatter 1.4826 median(abs(dz - median dz)). The smaller the better, least 0.

    Equal to the standard deviation for a Gaussian dz, and blind to outliers.

    References
    ----------
    Brammer, van Dokkum & Coppi (2008), https://arxiv.org/abs/0807.1533

    Examples
    --------
    >>> round(sigma_nmad([0.0, 0.0, 0.0], [0.1, 0.2, 0.9]), 6)
    0.14826
    """
    dz = normalised_error(z_spec, z_phot)
    return 1.4826 * value_or_nan(np.median, np.abs(dz - value_or_nan(np.median, dz)))


def sigma_iqr(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Scatter (P75 - P25) / 1.349 of dz. The smaller the better, least 0.

    References
    ----------
    LSST Science Book (2009), section 3.8, https://arxiv.org/abs/0912.0201

    Examples
    --------
    >>> round(sigma_iqr([0.0, 0.0, 0.0], [0.0, 0.1349, 0.2698]), 6)
    0.1
    """
    dz = normalised_error(z_spec, z_phot)
    return value_or_nan(lambda x: np.subtract(*np.percentile(x, [75, 25])) / 1.349, dz)


def outlier_fraction(z_spec: ArrayLike, z_phot: ArrayLike, threshold: float = 0.15) -> float:
    """Share of galaxies with abs(dz) > threshold. The smaller the better, from 0 to 1.

    References
    ----------
    Hildebrandt et al. (2010), https://arxiv.org/abs/1008.0658

    Examples
    --------
    >>> outlier_fraction([0.0, 1.0], [0.2, 1.2])
    0.5
    """
    return value_or_nan(np.mean, np.abs(normalised_error(z_spec, z_phot)) > threshold)


def outlier_fraction_lsst(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Share of galaxies with abs(dz) > max(0.06, 3 sigma_iqr). The smaller the better, 0 to 1.

    References
    ----------
    LSST Science Book (2009), section 3.8, https://arxiv.org/abs/0912.0201

    Examples
    --------
    >>> outlier_fraction_lsst(np.zeros(5), [0.0, 0.0, 0.0, 0.0, 0.07])
    0.2
    """
    threshold = max(0.06, 3 * sigma_iqr(z_spec, z_phot))
    return outlier_fraction(z_spec, z_phot, threshold)


def catastrophic_fraction(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Share of galaxies with abs(z_phot - z_spec) > 1. The smaller the better, from 0 to 1.

    References
    ----------
    Hildebrandt et al. (2010), https://arxiv.org/abs/1008.0658

    Examples
    --------
    >>> catastrophic_fraction([0.2, 0.5], [2.0, 0.6])
    0.5
    """
    dz = normalised_error(z_spec, z_phot)
    return value_or_nan(np.mean, np.abs(dz * (1 + np.asarray(z_spec))) > 1)


def rmse(z_spec: ArrayLike, z_phot: ArrayLike) -> float:
    """Root mean square of dz, outliers and bias included. The smaller the better, least 0.

    Examples
    --------
    >>> round(rmse([0.0, 1.0], [0.1, 0.8]), 6)
    0.1
    """
    return float(np.sqrt(value_or_nan(np.mean, normalised_error(z_spec, z_phot) ** 2)))


def equal_number_bins(values: ArrayLike, n_bins: int) -> NDArray[np.intp]:
    """Number of the bin of each value, shape ``(n_galaxies,)``, in bins of equal number.

    Values equal to 1e-9 share a bin, whatever the order of the rows; bins that stay empty by
    this are left out of the numbering, which starts at 0 and rises with the value.

    Raises
    ------
    InputError
        If a value is not finite.

    Examples
    --------
    >>> equal_number_bins([0.3, 0.1, 0.2, 0.4], 2)
    array([1, 0, 0, 1])
    """
    # Where all p(z) are alike, their medians still differ in the last digits.
    values = np.round(np.asarray(unmasked(values), dtype=np.float64), 9)
    if len(values) == 0:
        return np.empty(0, dtype=np.intp)
    if not np.isfinite(values).all():
        msg = (
            f"values to bin must be finite, found {np.sum(~np.isfinite(values))} that are not; "
            "leave them out."
        )
        raise InputError(msg)
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.unique(np.searchsorted(edges, values), return_inverse=True)[1]


def ks_of_uniform(values: FloatArray) -> float:
    """Greatest distance of the distribution of `values` from that uniform in 0 to 1."""
    ordered = np.sort(values)
    rank = np.arange(len(ordered)) / len(ordered)
    return float(np.maximum(ordered - rank, rank + 1 / len(ordered) - ordered).max())


def value_or_nan(function: Callable[[NDArray[Any]], Any], values: NDArray[Any]) -> float:
    """Value of a statistic of `values`, shape ``(n_galaxies,)``; NaN if there are none."""
    return float(function(values)) if len(values) else float("nan")


def check_z_spec(z_spec: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Redshifts as float64 of the given shape, or an error that says what is wrong."""
    z_spec = np.asarray(unmasked(z_spec), dtype=np.float64)
    if z_spec.shape != shape or len(shape) != 1:
        msg = f"z_spec must hold one redshift per galaxy, shape {shape}, got {z_spec.shape}."
        raise InputError(msg)
    wrong = ~(np.isfinite(z_spec) & (z_spec > -1))
    if wrong.any():
        msg = (
            f"z_spec must be finite and above -1, found {wrong.sum()} values that are not; "
            "leave out the galaxies without a redshift."
        )
        raise InputError(msg)
    return z_spec


POINT_METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    metric.__name__: metric
    for metric in (
        bias, sigma_nmad, sigma_iqr, outlier_fraction, outlier_fraction_lsst,
        catastrophic_fraction, rmse,
    )
}  # fmt: skip
"""Metrics of point redshifts by name."""
