"""Evaluation: how good the p(z) of galaxies of known redshift is, overall and in cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from photoz.bootstrap import (
    Comparison,
    Losses,
    bootstrap_intervals,
    compare,
    group_labels,
    losses,
)
from photoz.cells import Cell, make_cells, photometric_conditions
from photoz.columns import as_words, unmasked
from photoz.errors import InputError
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.point_metrics import equal_number_bins

__all__ = [
    "Cell",
    "Comparison",
    "Evaluation",
    "NOfZ",
    "TomographicBin",
    "compare",
    "evaluate",
    "photometric_conditions",
]

Z_PHOT = "z_phot"
"""Name of the condition that every evaluation has: the median of p(z)."""


@dataclass(frozen=True)
class TomographicBin:
    """Mean redshifts of the galaxies between two values of z_phot.

    Parameters
    ----------
    low, high
        Smallest and largest z_phot (median of p(z)) of the bin.
    n_galaxies
        Number of galaxies.
    mean_z_spec, mean_pz
        Mean of the truth, and of the stacked p(z).
    standard_error
        1-sigma sampling error of ``mean_pz - mean_z_spec``.
    """

    low: float
    high: float
    n_galaxies: int
    mean_z_spec: float
    mean_pz: float
    standard_error: float

    @property
    def bias(self) -> float:
        """Error of the mean redshift over 1 + z."""
        return (self.mean_pz - self.mean_z_spec) / (1 + self.mean_z_spec)


@dataclass(frozen=True, eq=False)
class NOfZ:
    """Redshift distribution of the galaxies: truth and stacked p(z), per unit redshift.

    Parameters
    ----------
    z_grid, stacked
        Grid and mean p(z), both of shape ``(n_z,)``.
    edges, truth
        Edges of shape ``(n_bins + 1,)`` and histogram of z_spec of shape ``(n_bins,)``.
    """

    z_grid: FloatArray
    stacked: FloatArray
    edges: FloatArray
    truth: FloatArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    Parameters
    ----------
    n_galaxies, n_off_grid
        Number of galaxies, and of those whose truth lies beyond the redshift grid.
    metrics
        Value of every metric by name.
    intervals
        95 per cent interval of every metric by name.
    cells
        Tables: three equal-number cells per numeric condition, one per value of others.
    curves
        Finer cells of the numeric conditions, to be drawn.
    tomography
        Mean redshifts in five equal-number bins of z_phot.
    n_of_z
        Redshift distributions.
    losses
        Per-galaxy truths, point redshifts, PIT and losses, for plots and comparisons.
    """

    n_galaxies: int
    n_off_grid: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    cells: tuple[Cell, ...]
    curves: tuple[Cell, ...]
    tomography: tuple[TomographicBin, ...]
    n_of_z: NOfZ
    losses: Losses

    @property
    def worst_cell(self) -> Cell:
        """The cell that is miscovered most, beyond what chance explains."""
        return max(self.cells, key=lambda cell: cell.miscoverage)

    def curve(self, condition: str) -> tuple[Cell, ...]:
        """Cells of one curve in rising order; none if nothing was known of the condition."""
        return tuple(cell for cell in self.curves if cell.condition == condition)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, all but the per-galaxy arrays."""
        return {
            "n_galaxies": self.n_galaxies,
            "n_off_grid": self.n_off_grid,
            "metrics": dict(self.metrics),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "worst_cell": asdict(self.worst_cell),
            "cells": [asdict(cell) for cell in self.cells],
            "curves": [asdict(cell) for cell in self.curves],
            "tomography": [{**asdict(b), "bias": b.bias} for b in self.tomography],
            "n_of_z": {name: x.tolist() for name, x in vars(self.n_of_z).items()},
        }


def evaluate(
    z_spec: ArrayLike,
    pz: RedshiftPDF,
    *,
    groups: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    conditions: Mapping[str, ArrayLike] | None = None,
) -> Evaluation:
    """Evaluate p(z) against spectroscopic redshifts.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``; beyond the grid they are scored
        as misses and counted.
    pz
        Predicted densities of the same galaxies, in the same order.
    groups
        Group of each galaxy (sky cell, field), shape ``(n_galaxies,)``: groups are then
        resampled whole.
    n_bootstrap, random_state
        Number and seed of the resamples. Cells take a fifth of the number.
    conditions
        What is known of each galaxy without the truth, by a name with its unit: arrays of
        shape ``(n_galaxies,)``, numbers (NaN where unknown) or words. `z_phot` is added.
        Binning by the truth is not offered: the exact posterior would fail it.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        If there is no galaxy, or the lengths disagree.

    Examples
    --------
    >>> pz = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((50, 201)))
    >>> result = evaluate(np.linspace(0.01, 1.99, 50), pz)
    >>> round(result.metrics["coverage_68"], 2)
    0.68
    """
    table = losses(z_spec, pz)
    groups = None if groups is None else group_labels(groups)
    known = {name: _plain(x) for name, x in (conditions or {}).items()} | {Z_PHOT: table.z_phot}
    checked = {f"condition {name!r}": values for name, values in known.items()}
    if groups is not None:
        checked["groups"] = groups
    for name, values in checked.items():
        if values.shape != table.z_spec.shape:
            msg = f"{name} must have shape {table.z_spec.shape}, got {values.shape}."
            raise InputError(msg)

    numeric = {name: x for name, x in known.items() if np.issubdtype(x.dtype, np.number)}
    n_fine = int(np.clip(len(table) // 100, 1, 10))
    settings: dict[str, Any] = {"groups": groups, "random_state": random_state}
    coarse = {**settings, "n_bootstrap": max(n_bootstrap // 5, 1)}
    return Evaluation(
        n_galaxies=len(table),
        n_off_grid=int(np.sum((table.z_spec < 0) | (table.z_spec > pz.z_grid[-1]))),
        metrics=table.metrics(),
        intervals=bootstrap_intervals(table, n_bootstrap=n_bootstrap, **settings),
        cells=make_cells(table, known, 3, **coarse),
        curves=make_cells(table, numeric, n_fine, **coarse),
        tomography=_tomography(table),
        n_of_z=_n_of_z(table.z_spec, pz),
        losses=table,
    )


def _plain(values: ArrayLike) -> NDArray[Any]:
    """Numbers, NaN where missing, or words."""
    plain = unmasked(values)
    if plain.dtype != object:
        return plain
    known = [None if pd.isna(value) else value for value in plain.flat]
    if all(value is None or isinstance(value, Real | Decimal) for value in known):
        numbers = [np.nan if value is None else float(value) for value in known]
        return np.array(numbers, dtype=np.float64).reshape(plain.shape)
    return as_words(plain)


def _tomography(table: Losses, n_bins: int = 5) -> tuple[TomographicBin, ...]:
    in_bin = equal_number_bins(table.z_phot, n_bins)
    bins = []
    for number in range(in_bin.max() + 1):
        inside = table[in_bin == number]
        bins.append(
            TomographicBin(
                low=float(inside.z_phot.min()),
                high=float(inside.z_phot.max()),
                n_galaxies=len(inside),
                mean_z_spec=float(inside.z_spec.mean()),
                mean_pz=float(inside.z_mean.mean()),
                standard_error=float((inside.z_mean - inside.z_spec).std() / len(inside) ** 0.5),
            )
        )
    return tuple(bins)


def _n_of_z(z_spec: FloatArray, pz: RedshiftPDF, n_rows: int = 1000) -> NOfZ:
    # Stacked a few galaxies at a time: float64 copies of all densities need not fit in memory.
    total = np.zeros(len(pz.z_grid))
    for start in range(0, len(pz), n_rows):
        total += pz.density[start : start + n_rows].sum(axis=0, dtype=np.float64)
    n_bins = int(np.clip(len(pz) ** 0.5, 10, 60))
    counts, edges = np.histogram(z_spec, bins=n_bins, range=(0, pz.z_grid[-1]))
    truth = counts / len(z_spec) / np.diff(edges)
    return NOfZ(pz.z_grid, total / len(pz), edges, truth)
