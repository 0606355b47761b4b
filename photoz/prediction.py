"""Prediction: what a catalogue gets for each galaxy, from its p(z) and its photometry."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.kernels import Compiled
from photoz.mixture_form import mixtures_of
from photoz.model import FittedModel
from photoz.pdf import FloatArray
from photoz.photometry import Photometry, State
from photoz.summaries import Summaries, summarise
from photoz.survey import Survey

__all__ = [
    "FLAGS",
    "QUANTILE_LEVELS",
    "PdfColumn",
    "check_case",
    "check_kept",
    "prediction_columns",
    "survey_for",
]

PdfColumn = Literal["none", "quantiles", "grid", "mixture"]

QUANTILE_LEVELS = (
    *(0.001, 0.01, 0.025, 0.05, 0.1, 0.16, 0.25, 0.33, 0.4, 0.467),
    *(0.533, 0.6, 0.67, 0.75, 0.84, 0.9, 0.95, 0.975, 0.99, 0.999),
)
"""Levels of the compact form of p(z): 20 quantiles."""

FLAGS = {
    1: "a band was not observed",
    2: "a band was not detected",
    4: "a band, or a pair of colours, lies outside those of the training galaxies",
    8: "over 1 % of p(z) is in the last two steps of the grid",
    16: "p(z) is over a tenth of its peak in separate ranges",
    32: "no usable photometry: the redshifts are NaN",
}
"""Meaning of each bit of the column ``<name>_flag``."""

_MADE = (
    *("z_mode", "z_median", "z_mean", "z_std", "z_err68_low", "z_err68_high", "z_err95_low"),
    *("z_err95_high", "odds", "flag", "quantiles", "density", "mixture", "ens_20", "ens_interp"),
)
"""How the names of columns of predictions end, those of HATS catalogues among them."""

_EDGE_PROBABILITY = 0.01
_INTERVALS = {
    "z_median": 0.5,
    "z_err68_low": 0.16,
    "z_err68_high": 0.84,
    "z_err95_low": 0.025,
    "z_err95_high": 0.975,
}


def survey_for(model: FittedModel, survey: Survey | None) -> Survey:
    """Survey with which a catalogue is read for a model.

    Parameters
    ----------
    model
        A fitted model.
    survey
        Where the columns are called otherwise than in the model's own survey. Further input
        columns are called as in training: those that it does not list are taken over.

    Raises
    ------
    InputError
        If its bands or further inputs are not those of the model.
    """
    own = model.survey
    if survey is None:
        return own
    if survey.bands != own.bands:
        msg = (
            f"the model was trained on the bands {', '.join(own.bands)}, the survey has "
            f"{', '.join(survey.bands)}; give a survey with the same bands in that order."
        )
        raise InputError(msg)
    if survey.extra and {*survey.extra} != {*own.extra}:
        msg = (
            f"the model was trained with extra = {[*own.extra]}, the survey has extra = "
            f"{[*survey.extra]}; leave extra out of the survey, or write that of the model."
        )
        raise InputError(msg)
    return Survey(**{**dict(survey), "extra": own.extra})


def check_kept(keep: Collection[str], name: str) -> None:
    """Raise `InputError` where a column to carry over would be lost to one of a prediction.

    Parameters
    ----------
    keep
        Names of columns of the catalogue.
    name
        Start of the names of the prediction's columns.
    """
    lost = [column for column in keep if column in {f"{name}_{end}" for end in _MADE}]
    if lost:
        msg = (
            f"the column {lost[0]!r} of the catalogue cannot be kept beside the prediction's own "
            "of that name; do not keep it, or begin those names otherwise (--name)."
        )
        raise InputError(msg)


def check_case(keep: Collection[str], name: str) -> None:
    """Raise `InputError` where names of an output differ only in case, for formats like FITS.

    Parameters
    ----------
    keep
        Names of columns of the catalogue that are carried over.
    name
        Start of the names of the prediction's columns.
    """
    known = {column.casefold(): column for column in (f"{name}_{end}" for end in _MADE)}
    for column in dict.fromkeys(keep):
        other = known.setdefault(column.casefold(), column)
        if other != column:
            msg = (
                f"expected columns that FITS can tell apart, found {other!r} and {column!r}, "
                "which differ only in case; keep one of them, or write Parquet."
            )
            raise InputError(msg)


def prediction_columns(
    model: FittedModel,
    photometry: Photometry,
    *,
    name: str = "photoz",
    pdf: PdfColumn = "none",
    compiled: Compiled | None = None,
) -> dict[str, FloatArray | NDArray[np.integer]]:
    """Redshifts, their intervals and flags of galaxies, in the columns of Rubin's DP1.

    Parameters
    ----------
    model
        A fitted model.
    photometry
        Photometry of the galaxies in the model's bands.
    name
        Start of every column name: lower-case letters and digits.
    pdf
        Form of p(z) to add: ``"quantiles"`` at `QUANTILE_LEVELS`, ``"grid"`` for the
        density on the model's grid, ``"mixture"`` for what `mixtures_of` gives, or
        ``"none"``.
    compiled
        The same model in compiled code, where that is to be used.

    Returns
    -------
    dict
        Arrays of shape ``(n_galaxies,)``; quantiles of shape ``(n_galaxies, 20)``,
        densities (per unit redshift) of shape ``(n_galaxies, n_z)``. A galaxy without
        usable photometry has NaN throughout and bit 32 of its flag set.

    Raises
    ------
    InputError
        If `name` or `pdf` is not of the form above, or the model gives no mixtures.
    """
    if pdf not in get_args(PdfColumn):
        msg = f"pdf must be one of {', '.join(get_args(PdfColumn))}, got {pdf!r}."
        raise InputError(msg)
    if not (name.isascii() and name.isalnum() and name[0].isalpha() and name.lower() == name):
        msg = f"a model's name must be lower-case letters and digits, got {name!r}."
        raise InputError(msg)
    usable = (photometry.state != State.NOT_OBSERVED).any(axis=1)
    some, with_density = photometry if usable.all() else photometry[usable], pdf == "grid"
    levels = sorted({*_INTERVALS.values(), *(QUANTILE_LEVELS if pdf == "quantiles" else ())})
    found = (
        compiled.summaries(some, levels, with_density=with_density)
        if compiled
        else summarise(model.predict_pdf(some), levels, with_density=with_density)
    )
    columns = {f"{name}_{key}": value for key, value in _columns(found, levels, pdf).items()}
    if pdf == "mixture":
        columns[f"{name}_mixture"] = mixtures_of(model, some)
    spread: dict[str, FloatArray | NDArray[np.integer]] = {
        key: _spread(value, usable) for key, value in columns.items()
    }
    flag = _photometry_flags(compiled or model, photometry)
    flag[usable] |= _pdf_flags(found)
    flag[~usable] |= 32
    spread[f"{name}_flag"] = flag
    return spread


def _columns(found: Summaries, levels: list[float], pdf: PdfColumn) -> dict[str, FloatArray]:
    interval = {key: found.quantiles[:, levels.index(level)] for key, level in _INTERVALS.items()}
    columns: dict[str, FloatArray] = {
        "z_mode": found.mode,
        "z_median": interval.pop("z_median"),
        "z_mean": found.mean,
        "z_std": found.std,
        **interval,
        "odds": found.odds,
    }
    if pdf == "quantiles":
        wanted = [levels.index(level) for level in QUANTILE_LEVELS]
        columns["quantiles"] = found.quantiles[:, wanted].astype(np.float32)
    elif pdf == "grid":
        columns["density"] = found.density
    return columns


def _spread(values: FloatArray, usable: NDArray[np.bool_]) -> FloatArray:
    """Values of usable galaxies on the rows of all, NaN elsewhere."""
    if usable.all():
        return values
    spread = np.full((len(usable), *values.shape[1:]), np.nan, dtype=values.dtype)
    spread[usable] = values
    return spread


def _photometry_flags(model: FittedModel | Compiled, photometry: Photometry) -> NDArray[np.int32]:
    not_observed = (photometry.state == State.NOT_OBSERVED).any(axis=1)
    not_detected = (photometry.state == State.NOT_DETECTED).any(axis=1)
    outside = model.outside_training(photometry)
    return np.asarray(not_observed * 1 + not_detected * 2 + outside * 4, dtype=np.int32)


def _pdf_flags(found: Summaries) -> NDArray[np.int32]:
    at_edge, has_more = found.beyond > _EDGE_PROBABILITY, found.n_peaks > 1
    return np.asarray(at_edge * 8 + has_more * 16, dtype=np.int32)
