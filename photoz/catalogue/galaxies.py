"""Galaxies of a catalogue, and which of them a fit or an evaluation can use."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.photometry import Photometry

__all__ = ["Catalogue", "check_enough", "known_rows", "reasons", "training_rows"]

FEWEST = 50
"""Training galaxies below which no model can be fitted, validated and tested."""

LARGEST_REDSHIFT = 20.0
"""No spectroscopic redshift lies above it."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Galaxies of a catalogue.

    Parameters
    ----------
    photometry
        Fluxes, errors and states.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``, NaN where unknown; None if the
        catalogue has no such column.
    object_id
        Identities of shape ``(n_galaxies,)``, of the type they have in the file; row numbers
        from 0 if the survey names no column.
    ra, dec
        Sky coordinates (degrees) of shape ``(n_galaxies,)``, or None.
    extra
        Further columns that were asked for, of shape ``(n_galaxies,)``.
    dropped
        Number of rows that were left out, by reason.
    implausible
        Number of values that were taken as missing though not declared so, by column.
    """

    photometry: Photometry
    z_spec: NDArray[np.float64] | None
    object_id: NDArray[Any]
    ra: NDArray[np.float64] | None = None
    dec: NDArray[np.float64] | None = None
    extra: dict[str, NDArray[Any]] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    implausible: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.photometry)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Catalogue:
        def take(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else values[rows]

        return replace(
            self,
            photometry=self.photometry[rows],
            z_spec=take(self.z_spec),
            object_id=self.object_id[rows],
            ra=take(self.ra),
            dec=take(self.dec),
            extra={name: values[rows] for name, values in self.extra.items()},
        )

    def without(self, rows: NDArray[np.bool_], reason: str) -> Catalogue:
        """Leave out some rows and say why."""
        if not rows.any():
            return self
        dropped = {**self.dropped, reason: int(rows.sum())}
        return replace(self[~rows], dropped=dropped)


def known_rows(catalogue: Catalogue) -> Catalogue:
    """Rows with a redshift and an observed band; the others are counted."""
    z_spec = np.asarray(catalogue.z_spec, dtype=np.float64)
    # A placeholder such as 99 would stretch the redshift grid of every model.
    is_placeholder = z_spec > LARGEST_REDSHIFT
    usable = (z_spec > 0) & ~is_placeholder
    catalogue = catalogue.without(~(usable | is_placeholder), "redshift missing or not above 0")
    is_placeholder = is_placeholder[usable | is_placeholder]
    catalogue = catalogue.without(is_placeholder, f"redshift above {LARGEST_REDSHIFT:g}")
    return catalogue.without(catalogue.photometry.n_observed == 0, "no band observed")


def training_rows(catalogue: Catalogue, optional_bands: Collection[str]) -> Catalogue:
    """Rows to learn from, if there are enough of them and every band that must be is in use."""
    n_wanted = len(catalogue)
    catalogue = known_rows(catalogue)
    check_enough(catalogue, n_wanted)
    unused = catalogue.photometry.unobserved_bands
    bands = [band for band in unused if band not in optional_bands]
    if bands:
        msg = (
            f"band {', '.join(bands)} is observed in no row{_found(catalogue)}; mend the "
            "catalogue, or leave it out of bands."
        )
        raise InputError(msg)
    return catalogue


def check_enough(catalogue: Catalogue, n_wanted: int = 0) -> None:
    """Raise `InputError` if too few rows are left to train, or fewer than half of the wanted."""
    if len(catalogue) < FEWEST or 2 * len(catalogue) < n_wanted:
        n_rows = len(catalogue) + sum(catalogue.dropped.values())
        msg = (
            f"expected at least {FEWEST} usable rows{' and half of all' if n_wanted else ''}, "
            f"found {len(catalogue)} of {n_rows}; dropped: {reasons(catalogue)}; "
            "mend the catalogue or the survey."
        )
        raise InputError(msg)


def reasons(catalogue: Catalogue) -> str:
    """Why rows were dropped, and what was found in their place."""
    counts = "; ".join(f"{n} {reason}" for reason, n in catalogue.dropped.items()) or "none"
    return f"{counts}{_found(catalogue)}"


def _found(catalogue: Catalogue) -> str:
    found = "; ".join(f"{n} {what}" for what, n in catalogue.implausible.items())
    return f" ({found})" if found else ""
