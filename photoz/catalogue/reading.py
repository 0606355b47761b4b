"""Catalogue: the galaxies of a file, converted, filtered and counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from photoz.catalogue.base import to_array
from photoz.catalogue.files import Paths, describe
from photoz.catalogue.tables import find_columns, read_columns
from photoz.catalogue.where import RowFilter
from photoz.columns import as_numbers, missing_columns, unmasked
from photoz.errors import InputError
from photoz.photometry import Photometry, photometry_from_columns
from photoz.survey import Survey

__all__ = ["Catalogue", "from_columns", "read"]

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


def read(
    paths: Paths,
    survey: Survey,
    *,
    columns: Sequence[str] = (),
    where: str | None = None,
    training: bool = False,
    optional_bands: Collection[str] = (),
) -> Catalogue:
    """Read a catalogue as its survey describes it.

    Parameters
    ----------
    paths
        A file, a folder, a glob pattern, or a list of these: Parquet, FITS, HDF5, CSV, ECSV
        or VOTable.
    survey
        Says what the columns mean.
    columns
        Names of further columns, for `Catalogue.extra`.
    where
        Condition on columns that rows must meet, such as ``"zflag >= 3"``.
    training
        Whether every row must have a redshift above 0 and an observed band: others are
        dropped, and so little or so one-sided a rest that no model can be trained is an
        error. Otherwise every row is kept.
    optional_bands
        Bands of which columns may be missing; such a band is not observed.

    Returns
    -------
    Catalogue

    Raises
    ------
    InputError
        If a file cannot be read, a column is missing or holds something else than it
        should, or what is left cannot train a model.
    """
    row_filter = RowFilter(where) if where else None
    needed, helpful = _columns_of(survey, optional_bands, training=training)
    needed += [*columns, *(row_filter.columns if row_filter else ())]
    helpful = find_columns(paths, helpful, hdf5_group=survey.hdf5_group)
    _check_errors(helpful, survey, describe(paths))
    wanted = list(dict.fromkeys([*needed, *helpful]))
    table = read_columns(paths, wanted, hdf5_group=survey.hdf5_group)
    arrays = {name: to_array(table.column(name)) for name in wanted}
    try:
        catalogue = _convert(arrays, len(table), survey, columns, optional_bands)
        if row_filter:
            catalogue = _drop(catalogue, ~row_filter(arrays), f"where: {where}")
        return _training_rows(catalogue, optional_bands) if training else catalogue
    except InputError as error:
        msg = f"{describe(paths)}: {error}"
        raise InputError(msg) from None


def from_columns(
    columns: Mapping[str, Any],
    survey: Survey,
    *,
    training: bool = False,
    optional_bands: Collection[str] = (),
) -> Catalogue:
    """Take a catalogue from columns that are in memory already.

    Parameters
    ----------
    columns
        Columns of shape ``(n_galaxies,)`` by name; those that `survey` does not name are
        ignored.
    survey, training, optional_bands
        As in `read`.

    Returns
    -------
    Catalogue

    Raises
    ------
    InputError
        If a column is missing or holds something else than it should, or what is left
        cannot train a model.
    """
    needed, helpful = _columns_of(survey, optional_bands, training=training)
    if not set(needed) <= set(columns):
        msg = f"{missing_columns(needed, columns)}; name the right ones in the survey."
        raise InputError(msg)
    arrays = {name: unmasked(columns[name]) for name in [*needed, *helpful] if name in columns}
    n_rows = len(next(iter(arrays.values()), ()))
    catalogue = _convert(arrays, n_rows, survey, (), optional_bands)
    return _training_rows(catalogue, optional_bands) if training else catalogue


def _columns_of(
    survey: Survey, optional_bands: Collection[str], *, training: bool
) -> tuple[list[str], list[str]]:
    """Columns that a catalogue must have, and those that are read if it has them."""
    bands = [band for band in survey.bands if band not in optional_bands]
    needed = survey.columns_needed(bands)
    helpful = survey.columns_needed()
    needed += [survey.id] if survey.id is not None else []
    truth = [survey.redshift, *(survey.coordinates or ())]
    (needed if training else helpful).extend(truth)
    return needed, helpful


def _check_errors(found: Collection[str], survey: Survey, where: str) -> None:
    """Tell who has magnitudes and no errors at all that a number will do."""
    bands = [survey.band_columns(band) for band in survey.bands]
    errors = [names.error for names in bands if isinstance(names.error, str)]
    magnitudes = {names.magnitude for names in bands}
    if errors and magnitudes <= set(found) and not set(errors) & set(found):
        msg = (
            f"{where}: expected the errors of the magnitudes in {', '.join(errors)}, found none "
            'of these columns; name them by error = "..." in the survey, or give a number (mag) '
            "that every magnitude is taken to have, such as error = 0.05."
        )
        raise InputError(msg)


def _convert(
    arrays: dict[str, NDArray[Any]],
    n_rows: int,
    survey: Survey,
    columns: Sequence[str],
    optional_bands: Collection[str],
) -> Catalogue:
    photometry, implausible = photometry_from_columns(
        arrays, survey, optional_bands=optional_bands
    )
    numbers = {
        name: np.array(as_numbers(arrays[name], name), dtype=np.float64)
        for name in (survey.redshift, *(survey.coordinates or ()))
        if name in arrays
    }
    ra, dec = survey.coordinates or ("", "")
    return Catalogue(
        photometry,
        z_spec=numbers.get(survey.redshift),
        object_id=np.arange(n_rows) if survey.id is None else _identities(arrays, survey.id),
        ra=numbers.get(ra) if dec in numbers else None,
        dec=numbers.get(dec) if ra in numbers else None,
        extra={name: arrays[name] for name in columns},
        implausible=implausible,
    )


def _identities(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    identities = arrays[name]
    n_missing = int(pd.isna(identities).sum())
    if n_missing:
        msg = (
            f"column {name!r} must identify every row, {n_missing} of {len(identities)} rows have "
            "no value; fill them in, or leave id out of the survey."
        )
        raise InputError(msg)
    return identities


def _drop(catalogue: Catalogue, rows: NDArray[np.bool_], reason: str) -> Catalogue:
    """Leave out some rows and say why."""
    if not rows.any():
        return catalogue
    dropped = {**catalogue.dropped, reason: int(rows.sum())}
    return replace(catalogue[~rows], dropped=dropped)


def _training_rows(catalogue: Catalogue, optional_bands: Collection[str]) -> Catalogue:
    """Rows to learn from, if there are enough of them and every band that must be is in use."""
    n_rows, n_wanted = len(catalogue) + sum(catalogue.dropped.values()), len(catalogue)
    z_spec = np.asarray(catalogue.z_spec, dtype=np.float64)
    # A placeholder such as 99 would stretch the redshift grid of every model.
    is_placeholder = z_spec > LARGEST_REDSHIFT
    usable = (z_spec > 0) & ~is_placeholder
    catalogue = _drop(catalogue, ~(usable | is_placeholder), "redshift missing or not above 0")
    is_placeholder = is_placeholder[usable | is_placeholder]
    catalogue = _drop(catalogue, is_placeholder, f"redshift above {LARGEST_REDSHIFT:g}")
    catalogue = _drop(catalogue, catalogue.photometry.n_observed == 0, "no band observed")
    counts = "; ".join(f"{n} {reason}" for reason, n in catalogue.dropped.items()) or "none"
    found = "; ".join(f"{n} {what}" for what, n in catalogue.implausible.items())
    if len(catalogue) < FEWEST or 2 * len(catalogue) < n_wanted:
        msg = (
            f"expected at least {FEWEST} usable rows and half of all, found "
            f"{len(catalogue)} of {n_rows}; dropped: {counts}{f' ({found})' if found else ''}; "
            "mend the catalogue or the survey."
        )
        raise InputError(msg)
    unused = catalogue.photometry.unobserved_bands
    bands = [band for band in unused if band not in optional_bands]
    if bands:
        msg = (
            f"band {', '.join(bands)} is observed in no row"
            f"{f' ({found})' if found else ''}; mend the catalogue, or leave it out of bands."
        )
        raise InputError(msg)
    return catalogue
