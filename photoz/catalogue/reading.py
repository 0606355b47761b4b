"""Reading: the galaxies of a file, converted, filtered and counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from photoz.catalogue.base import to_array, to_masked
from photoz.catalogue.files import Paths, describe
from photoz.catalogue.galaxies import Catalogue, known_rows, reasons, training_rows
from photoz.catalogue.tables import find_columns, read_columns
from photoz.catalogue.where import RowFilter
from photoz.columns import as_numbers, by_name, missing_columns, unmasked
from photoz.errors import InputError
from photoz.photometry import photometry_from_columns
from photoz.survey import Survey

__all__ = ["from_columns", "read", "read_known"]


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
            named = {name: to_masked(table.column(name)) for name in row_filter.columns}
            catalogue = catalogue.without(~row_filter(named), f"where: {where}")
        return training_rows(catalogue, optional_bands) if training else catalogue
    except InputError as error:
        msg = f"{describe(paths)}: {error}"
        raise InputError(msg) from None


def read_known(paths: Paths, survey: Survey, *, optional_bands: Collection[str] = ()) -> Catalogue:
    """Read the galaxies of known redshift, on which a model can be evaluated.

    Any number of them will do, without identities and coordinates.

    Parameters
    ----------
    paths, survey, optional_bands
        As in `read`.

    Returns
    -------
    Catalogue
        The rows with a redshift above 0 and an observed band.

    Raises
    ------
    InputError
        If a file cannot be read, a column is missing or holds something else than it
        should, or there is no such galaxy.
    """
    measured = survey.model_copy(update={"id": None, "coordinates": None})
    catalogue = read(paths, measured, columns=[survey.redshift], optional_bands=optional_bands)
    n_rows, catalogue = len(catalogue), known_rows(catalogue)
    if len(catalogue) == 0:
        msg = (
            f"{describe(paths)}: expected a galaxy with a redshift and an observed band, found "
            f"none in {n_rows} rows; dropped: {reasons(catalogue)}; mend the catalogue or the "
            "survey."
        )
        raise InputError(msg)
    return catalogue


def from_columns(
    columns: Any,  # noqa: ANN401 - whatever holds named columns
    survey: Survey,
    *,
    training: bool = False,
    optional_bands: Collection[str] = (),
) -> Catalogue:
    """Take a catalogue from columns that are in memory already.

    Parameters
    ----------
    columns
        Columns of shape ``(n_galaxies,)`` by name, in a mapping, a data frame, a structured
        array or a table of astropy or pyarrow; those that `survey` does not name are ignored.
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
    columns = by_name(columns)
    needed, helpful = _columns_of(survey, optional_bands, training=training)
    if not set(needed) <= set(columns):
        msg = f"{missing_columns(needed, columns)}; name the right ones in the survey."
        raise InputError(msg)
    arrays = {name: unmasked(columns[name]) for name in [*needed, *helpful] if name in columns}
    n_rows = len(next(iter(arrays.values()), ()))
    catalogue = _convert(arrays, n_rows, survey, (), optional_bands)
    return training_rows(catalogue, optional_bands) if training else catalogue


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
