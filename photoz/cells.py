"""Cells: galaxies that are alike in something known without the truth, and their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.bootstrap import Losses, bootstrap_intervals
from photoz.errors import InputError
from photoz.photometry import Photometry, State
from photoz.point_metrics import equal_number_bins

__all__ = ["CELL_METRICS", "Cell", "make_cells", "photometric_conditions"]

CELL_METRICS = (
    "bias", "sigma_nmad", "outlier_fraction", "cde_loss", "crps", "pit_ks", "coverage_68",
    "coverage_95",
)  # fmt: skip
"""Metrics that are given per cell."""

_RARE = 50
"""Fewest galaxies of a pattern of missing bands that has a cell of its own."""


@dataclass(frozen=True)
class Cell:
    """Metrics of the galaxies that are alike in something known without the truth.

    Parameters
    ----------
    condition
        What they are alike in: a magnitude, a colour, `z_phot`, the missing bands.
    label
        Which of them these are.
    center
        Median of the condition in the cell; None where it is no number.
    n_galaxies
        Number of galaxies.
    metrics, intervals
        Values and 95 per cent bootstrap intervals by name.
    """

    condition: str
    label: str
    center: float | None
    n_galaxies: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @property
    def miscoverage(self) -> float:
        """Distance of coverage_68 from 0.68, less two of its standard errors.

        Above 0 the distance is more than chance; without the standard error the smallest
        cells would always look worst.
        """
        distance = abs(self.metrics["coverage_68"] - 0.68)
        return distance - float(2 * np.sqrt(0.68 * 0.32 / self.n_galaxies))


def make_cells(
    table: Losses,
    conditions: Mapping[str, NDArray[Any]],
    n_bins: int,
    *,
    groups: NDArray[np.generic] | None = None,
    n_bootstrap: int = 200,
    random_state: int = 0,
) -> tuple[Cell, ...]:
    """Metrics in the cells of each condition, in rising order.

    Parameters
    ----------
    table
        Losses of the galaxies.
    conditions
        Arrays of shape ``(n_galaxies,)`` by name: numbers are cut into `n_bins` cells of
        equal number and one of NaN, words make a cell each.
    n_bins
        Number of cells of a numeric condition; fewer where many values are equal.
    groups, n_bootstrap, random_state
        As in `bootstrap_intervals`.
    """
    cells = []
    for condition, values in conditions.items():
        for label, center, rows in _split(values, n_bins):
            inside = table[rows]
            metrics = inside.metrics()
            intervals = bootstrap_intervals(
                inside,
                groups=None if groups is None else groups[rows],
                n_bootstrap=n_bootstrap,
                random_state=random_state,
            )
            cells.append(
                Cell(
                    condition,
                    label,
                    center,
                    len(inside),
                    {name: metrics[name] for name in CELL_METRICS},
                    {name: intervals[name] for name in CELL_METRICS},
                )
            )
    return tuple(cells)


def photometric_conditions(
    photometry: Photometry, reference_band: str | None = None
) -> dict[str, NDArray[Any]]:
    """Conditions for `evaluate` that the photometry gives.

    Parameters
    ----------
    photometry
        Photometry of the galaxies.
    reference_band
        Band of the magnitude; by default i, else r, else the band detected most often.

    Returns
    -------
    dict of ndarray of shape (n_galaxies,)
        The reference magnitude and the colour of the band before it and it (AB mag; NaN
        without a positive flux), and in words which bands are missing.
    """
    bands, detected = photometry.bands, (photometry.state == State.DETECTED)
    often = bands[int(detected.sum(axis=0).argmax())]
    reference = reference_band or next((band for band in "ir" if band in bands), often)
    if reference not in bands:
        msg = f"reference_band must be one of {', '.join(bands)}, got {reference!r}."
        raise InputError(msg)
    magnitude = photometry.magnitude
    found: dict[str, NDArray[Any]] = {
        f"{reference} (AB mag)": magnitude[:, bands.index(reference)]
    }
    if len(bands) > 1:
        blue = min(max(bands.index(reference) - 1, 0), len(bands) - 2)
        found[f"{bands[blue]} - {bands[blue + 1]} (AB mag)"] = (
            magnitude[:, blue] - magnitude[:, blue + 1]
        )
    return {**found, "bands": _missing_bands(photometry)}


def _split(
    values: NDArray[Any], n_bins: int
) -> Iterator[tuple[str, float | None, NDArray[np.bool_]]]:
    """Label, centre and rows of each cell of a condition."""
    if not np.issubdtype(values.dtype, np.number):
        for word in np.unique(values):
            yield str(word), None, values == word
        return
    known = np.isfinite(values)
    in_bin = np.full(len(values), -1)
    in_bin[known] = equal_number_bins(values[known], n_bins)
    for number in range(in_bin.max() + 1):
        inside = values[in_bin == number]
        label = f"{inside.min():.4g} to {inside.max():.4g}"
        yield label, float(np.median(inside)), in_bin == number
    if not known.all():
        yield "unknown", None, ~known


def _missing_bands(photometry: Photometry) -> NDArray[np.str_]:
    patterns, pattern, count = np.unique(
        photometry.state, axis=0, return_inverse=True, return_counts=True
    )
    names = []
    for states, n_galaxies in zip(patterns, count, strict=True):
        parts = [
            f"{', '.join(b for b, s in zip(photometry.bands, states, strict=True) if s == state)}"
            f" not {verb}"
            for state, verb in ((State.NOT_DETECTED, "detected"), (State.NOT_OBSERVED, "observed"))
            if (states == state).any()
        ]
        rare = "rarer patterns" if n_galaxies < _RARE else "; ".join(parts)
        names.append(rare if parts else "all detected")
    return np.array(names, dtype=np.str_)[pattern.ravel()]
