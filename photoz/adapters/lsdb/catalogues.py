"""Catalogues: lazy predictions of LSDB catalogues."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lsdb

from photoz.adapters.lsdb.partitions import fingerprint, load_once, predict_partition
from photoz.columns import missing_columns
from photoz.errors import InputError
from photoz.model import FittedModel
from photoz.prediction import PdfColumn, check_kept, survey_for
from photoz.survey import Survey

__all__ = ["check_columns", "coordinates", "predict"]


def predict(
    catalog: lsdb.Catalog,
    model: str | Path,
    *,
    survey: Survey | None = None,
    name: str = "photoz",
    pdf: PdfColumn = "quantiles",
    keep: Sequence[str] = (),
) -> lsdb.Catalog:
    """Redshifts of the galaxies of an LSDB catalogue, computed when that is asked for.

    Parameters
    ----------
    catalog
        Catalogue with the columns of the model's survey.
    model
        Bundle, a directory or a ``.zip`` file, at a path that every worker can read: the
        path is sent to them, not the model.
    survey
        As in `photoz.prediction.survey_for`.
    name
        Start of the names of the new columns: lower-case letters and digits.
    pdf
        Form of p(z) to add. As in Rubin's DP1 it is a nested column: ``<name>_ens_20`` with
        the 20 quantiles ``locs`` at `photoz.prediction.QUANTILE_LEVELS`, or with ``"grid"``
        ``<name>_ens_interp`` with ``xvals`` and ``yvals``; ``"none"`` adds none.
    keep
        Further columns to carry over.

    Returns
    -------
    Catalog
        Lazy, with the same partitions and rows: coordinates, the id of the survey, `keep`
        and the columns that `photoz.prediction.prediction_columns` describes.

    Raises
    ------
    InputError
        If a column that the model needs is missing, the bundle cannot be used, or p(z) is
        asked for as mixtures.
    """
    if pdf == "mixture":
        msg = "a HATS catalogue holds p(z) as quantiles or on a grid, got pdf 'mixture'."
        raise InputError(msg)
    check_kept(keep, name)
    place = str(Path(model).absolute())
    sha256 = fingerprint(place)
    known = load_once(place, sha256)
    survey = survey_for(known, survey)
    names = list(catalog.columns)
    check_columns(known, survey, names, keep)
    carried = [survey.id] if survey.id in names else []
    return catalog.map_partitions(
        predict_partition,
        place,
        sha256,
        survey,
        name,
        pdf,
        list(dict.fromkeys([*carried, *coordinates(catalog), *keep])),
        catalog.hc_structure.catalog_info.total_rows or 0,
    )


def check_columns(
    model: FittedModel, survey: Survey, names: Sequence[str], keep: Sequence[str]
) -> None:
    """Raise `InputError` unless there is a column for everything that is needed.

    Parameters
    ----------
    model
        The bands that it can do without need no columns.
    survey
        What the columns are called.
    names
        The columns that there are.
    keep
        Further columns that are wanted.
    """
    needed = survey.columns_needed([b for b in survey.bands if b not in model.optional_bands])
    wanted = [*needed, *keep]
    if not set(wanted) <= set(names):
        msg = f"{missing_columns(wanted, names)}; name the right ones in the survey."
        raise InputError(msg)


def coordinates(catalog: lsdb.Catalog) -> tuple[str, str]:
    """Columns of right ascension and declination."""
    info = catalog.hc_structure.catalog_info
    return info.ra_column, info.dec_column
