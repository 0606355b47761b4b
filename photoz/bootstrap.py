"""Losses of each galaxy, and what resampling the galaxies says of their averages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.columns import as_masked, as_words, unmasked
from photoz.errors import InputError
from photoz.metrics import (
    PIT_EVENTS,
    POINT_METRICS,
    bias,
    cde_loss_per_galaxy,
    crps_per_galaxy,
    in_chunks,
    log_loss_per_galaxy,
    outlier_fraction,
    pit,
    sigma_nmad,
)
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.point_metrics import check_z_spec, ks_of_uniform, normalised_error

__all__ = ["Comparison", "Losses", "bootstrap_intervals", "compare", "group_labels", "losses"]

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Losses:
    """All that the metrics need of each galaxy; every array has shape ``(n_galaxies,)``.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts.
    z_phot, z_mode, z_mean
        Median, mode and mean of p(z).
    pit
        Probability integral transforms.
    cde_loss
        Terms of the CDE loss (per unit redshift).
    crps
        Continuous ranked probability scores (redshift).
    log_loss
        Logarithmic scores.
    """

    z_spec: FloatArray
    z_phot: FloatArray
    z_mode: FloatArray
    z_mean: FloatArray
    pit: FloatArray
    cde_loss: FloatArray
    crps: FloatArray
    log_loss: FloatArray

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Losses:
        return Losses(*(getattr(self, field.name)[rows] for field in fields(self)))

    def metrics(self) -> dict[str, float]:
        """Every metric by name: of the median, the density, and ``*_mode`` of the mode."""
        if len(self) == 0:
            msg = "metrics need at least one galaxy with a redshift, got none."
            raise InputError(msg)
        return {
            **{name: metric(self.z_spec, self.z_phot) for name, metric in POINT_METRICS.items()},
            "cde_loss": float(self.cde_loss.mean()),
            "crps": float(self.crps.mean()),
            "log_loss": float(self.log_loss.mean()),
            "pit_ks": ks_of_uniform(self.pit),
            **{name: float(event(self.pit).mean()) for name, event in PIT_EVENTS.items()},
            "bias_mode": bias(self.z_spec, self.z_mode),
            "sigma_nmad_mode": sigma_nmad(self.z_spec, self.z_mode),
            "outlier_fraction_mode": outlier_fraction(self.z_spec, self.z_mode),
        }


def losses(z_spec: ArrayLike, pz: RedshiftPDF) -> Losses:
    """Compute the losses of each galaxy, once for all metrics and all resamples.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    pz
        Predicted densities of the same galaxies, in the same order.
    """
    truth = check_z_spec(z_spec, (len(pz),))
    return Losses(
        truth,
        in_chunks(RedshiftPDF.median, pz),
        in_chunks(RedshiftPDF.mode, pz),
        in_chunks(RedshiftPDF.mean, pz),
        pit(truth, pz),
        cde_loss_per_galaxy(truth, pz),
        crps_per_galaxy(truth, pz),
        log_loss_per_galaxy(truth, pz),
    )


def bootstrap_intervals(
    table: Losses,
    *,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> dict[str, tuple[float, float]]:
    """95 per cent percentile bootstrap intervals of every metric.

    Parameters
    ----------
    table
        Losses of the galaxies.
    groups
        Group of each galaxy, shape ``(n_galaxies,)``: two groups or more are resampled whole,
        since their galaxies are not independent; else galaxies are. Those without one are a
        group.
    n_bootstrap, random_state
        Number and seed of the resamples.

    Returns
    -------
    dict of (low, high)
        Widened, if need be, to hold the value. For `pit_ks`, which resampling would push
        away from 0, the value +- 1.36 / sqrt(n_galaxies), cut at 0.
    """
    values = table.metrics()
    resample = _Resampler(table)
    draws = _draws(len(table), groups, n_bootstrap, random_state)
    samples = [resample.metrics(counts) for counts in draws]
    intervals = {}
    for name, value in values.items():
        if name == "pit_ks":
            margin = 1.36 / len(table) ** 0.5
            intervals[name] = (max(value - margin, 0.0), value + margin)
            continue
        low, high = np.percentile([sample[name] for sample in samples], _INTERVAL)
        intervals[name] = (min(float(low), value), max(float(high), value))
    return intervals


@dataclass(frozen=True)
class Comparison:
    """Difference of the mean losses of two models on the same galaxies.

    Parameters
    ----------
    difference
        Mean loss of the first less that of the second: below 0 the first is better.
    low, high
        95 per cent interval of the difference.
    probability_better
        Share of the resamples in which the first is better.
    n_galaxies
        Number of galaxies.
    """

    difference: float
    low: float
    high: float
    probability_better: float
    n_galaxies: int


def compare(
    losses_a: ArrayLike,
    losses_b: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
) -> Comparison:
    """Paired bootstrap of the difference between two models.

    Parameters
    ----------
    losses_a, losses_b
        Losses of the same galaxies in the same order, the smaller the better, shape
        ``(n_galaxies,)``; or ``(n_seeds, n_galaxies)`` for fits repeated with several
        seeds, whose variance is then added: the interval is that of one further fit each.
    groups, n_bootstrap, random_state
        As in `bootstrap_intervals`.

    Examples
    --------
    >>> galaxies = np.random.default_rng(0).normal(size=500)
    >>> compare(galaxies - 0.1, galaxies).probability_better
    1.0
    """
    a, b = (np.atleast_2d(np.asarray(unmasked(x), dtype=np.float64)) for x in (losses_a, losses_b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.size or not b.size:
        msg = (
            "losses of two models must be of the same galaxies, shape (n_galaxies,) or "
            f"(n_seeds, n_galaxies), got {np.shape(losses_a)} and {np.shape(losses_b)}."
        )
        raise InputError(msg)
    per_galaxy = a.mean(axis=0) - b.mean(axis=0)
    if not np.isfinite(per_galaxy).all():
        msg = (
            f"losses must be finite, {np.count_nonzero(~np.isfinite(per_galaxy))} of "
            f"{len(per_galaxy)} galaxies have others; leave them out of both models."
        )
        raise InputError(msg)
    draws = _draws(len(per_galaxy), groups, n_bootstrap, random_state)
    samples = np.array([count @ per_galaxy / count.sum() for count in draws])
    seeds = sum(x.mean(axis=1).var(ddof=1) for x in (a, b) if len(x) > 1)
    noise = np.random.default_rng([random_state, 1]).normal(size=n_bootstrap)
    samples += np.sqrt(seeds) * noise
    low, high = np.percentile(samples, _INTERVAL)
    return Comparison(
        difference=float(per_galaxy.mean()),
        low=float(low),
        high=float(high),
        probability_better=float(np.mean(samples < 0) + 0.5 * np.mean(samples == 0)),
        n_galaxies=len(per_galaxy),
    )


def group_labels(groups: ArrayLike) -> NDArray[Any]:
    """Labels of groups: objects as words, since long identities collapse as floats.

    No hashes, of another order: this order decides which groups a seed draws.
    """
    labels = as_masked(groups)
    has_objects = labels.dtype == object or np.ma.is_masked(labels)
    return as_words(labels) if has_objects else np.ma.getdata(labels)


class _Resampler:
    """Metrics of resampled galaxies, given how often each galaxy was drawn.

    Averages become one product of a vector with a matrix. Errors are sorted once: drawn with
    their counts they stay sorted, so that order statistics are looked up.
    """

    def __init__(self, table: Losses) -> None:
        dz = normalised_error(table.z_spec, table.z_phot)
        dz_mode = normalised_error(table.z_spec, table.z_mode)
        averages = {
            "cde_loss": table.cde_loss,
            "crps": table.crps,
            "log_loss": table.log_loss,
            "rmse": dz**2,
            "outlier_fraction": np.abs(dz) > 0.15,
            "outlier_fraction_mode": np.abs(dz_mode) > 0.15,
            "catastrophic_fraction": np.abs(table.z_phot - table.z_spec) > 1,
            **{name: event(table.pit) for name, event in PIT_EVENTS.items()},
        }
        self._names = tuple(averages)
        self._columns = np.column_stack([np.asarray(x, np.float64) for x in averages.values()])
        self._order, self._order_mode = np.argsort(dz), np.argsort(dz_mode)
        self._ordered, self._ordered_mode = dz[self._order], dz_mode[self._order_mode]

    def metrics(self, counts: NDArray[np.intp]) -> dict[str, float]:
        means = counts.astype(np.float64) @ self._columns / counts.sum()
        values = dict(zip(self._names, means.tolist(), strict=True))
        values["rmse"] = values["rmse"] ** 0.5
        dz = np.repeat(self._ordered, counts[self._order])
        dz_mode = np.repeat(self._ordered_mode, counts[self._order_mode])
        values["bias"], values["sigma_nmad"] = _median_and_nmad(dz)
        values["sigma_iqr"], values["outlier_fraction_lsst"] = _iqr_and_outliers(dz)
        values["bias_mode"], values["sigma_nmad_mode"] = _median_and_nmad(dz_mode)
        return values


def _median_and_nmad(ordered: FloatArray) -> tuple[float, float]:
    n = len(ordered)
    middle = ((n - 1) // 2, n // 2)
    median = 0.5 * (ordered[middle[0]] + ordered[middle[1]])
    # The k + 1 values closest to the median lie side by side: the farthest of them is the
    # k-th smallest deviation, so it is the least over all such windows.
    deviation = [np.maximum(median - ordered[: n - k], ordered[k:] - median).min() for k in middle]
    return float(median), 1.4826 * 0.5 * float(deviation[0] + deviation[1])


def _iqr_and_outliers(ordered: FloatArray) -> tuple[float, float]:
    low, high = (_quantile(ordered, level) for level in (0.25, 0.75))
    sigma = (high - low) / 1.349
    threshold = max(0.06, 3 * sigma)
    inside = np.searchsorted(ordered, threshold, "right") - np.searchsorted(ordered, -threshold)
    return sigma, 1 - float(inside) / len(ordered)


def _quantile(ordered: FloatArray, level: float) -> float:
    rank = level * (len(ordered) - 1)
    below, above = ordered[int(rank)], ordered[min(int(rank) + 1, len(ordered) - 1)]
    return float(below + (rank - int(rank)) * (above - below))


def _draws(
    n_galaxies: int, groups: ArrayLike | None, n_bootstrap: int, random_state: int
) -> Iterator[NDArray[np.intp]]:
    """Resamples: how often each galaxy is in each of them."""
    if n_bootstrap < 1:
        msg = f"n_bootstrap must be at least 1, got {n_bootstrap}."
        raise InputError(msg)
    generator = np.random.default_rng(random_state)
    labels = np.arange(n_galaxies) if groups is None else group_labels(groups)
    group = np.unique(labels, return_inverse=True)[1]
    if len(group) != n_galaxies:
        msg = f"groups must hold one value for each of {n_galaxies} galaxies, got {len(group)}."
        raise InputError(msg)
    if group.max() == 0:  # one group shows nothing of the spread between groups
        group = np.arange(n_galaxies)
    n_groups = int(group.max()) + 1
    for _ in range(n_bootstrap):
        drawn = generator.integers(n_groups, size=n_groups)
        yield np.bincount(drawn, minlength=n_groups)[group]
