"""Photometry: AB flux, 1-sigma error and state of every measurement of every galaxy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.columns import as_numbers, suggest
from photoz.errors import InputError
from photoz.pdf import FloatArray
from photoz.survey import Survey

__all__ = ["ZERO_POINT", "Photometry", "State", "photometry_from_columns"]

ZERO_POINT = 31.4
"""AB magnitude of a flux of 1 nJy."""

MAGNITUDE_LIMIT = 50.0
"""Magnitudes and extinctions from here on are no measurements but undeclared sentinels."""


class State(IntEnum):
    """What is known of one galaxy in one band."""

    NOT_OBSERVED = 0
    NOT_DETECTED = 1
    DETECTED = 2


@dataclass(frozen=True, eq=False)
class Photometry:
    """Fluxes of `n_galaxies` galaxies in `n_bands` bands.

    Parameters
    ----------
    bands
        Names of the bands, in the order of the columns below.
    flux
        AB flux (nJy) of shape ``(n_galaxies, n_bands)``: any sign where detected, 0 where
        not detected, NaN where not observed.
    flux_error
        1-sigma error of the flux (nJy), same shape: above 0 where detected; where not
        detected the depth of the band, or NaN as long as that is not known; NaN where not
        observed.
    state
        `State` of each measurement, same shape.
    extra
        Further inputs that are no fluxes (size, shape, seeing), of shape
        ``(n_galaxies, n_extra)``, NaN where unknown.
    extra_names
        Names of the columns of `extra`.
    """

    bands: tuple[str, ...]
    flux: FloatArray
    flux_error: FloatArray
    state: NDArray[np.uint8]
    extra: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    extra_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.extra_names and self.extra.shape != (len(self.flux), 0):
            object.__setattr__(self, "extra", np.empty((len(self.flux), 0)))
        shape = (len(self.flux), len(self.bands))
        for name in ("flux", "flux_error", "state"):
            if getattr(self, name).shape != shape:
                msg = f"{name} must have shape {shape}, got {getattr(self, name).shape}."
                raise ValueError(msg)
        if self.extra.shape != (shape[0], len(self.extra_names)):
            msg = (
                f"extra must have shape {(shape[0], len(self.extra_names))}, "
                f"got {self.extra.shape}."
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> Photometry:
        return replace(
            self,
            flux=self.flux[rows],
            flux_error=self.flux_error[rows],
            state=self.state[rows],
            extra=self.extra[rows],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Photometry]) -> Photometry:
        """Stack photometry of the same bands, in the order given."""
        first = parts[0]
        if any((p.bands, p.extra_names) != (first.bands, first.extra_names) for p in parts):
            msg = "photometry can only be stacked if it has the same bands and extra columns."
            raise ValueError(msg)
        return replace(
            first,
            flux=np.concatenate([part.flux for part in parts]),
            flux_error=np.concatenate([part.flux_error for part in parts]),
            state=np.concatenate([part.state for part in parts]),
            extra=np.concatenate([part.extra for part in parts]),
        )

    @property
    def n_observed(self) -> NDArray[np.intp]:
        """Number of bands in which each galaxy was observed, shape ``(n_galaxies,)``."""
        observed: NDArray[np.intp] = np.count_nonzero(self.state, axis=1)
        return observed

    @property
    def magnitude(self) -> FloatArray:
        """AB magnitudes, NaN where the flux is not positive; shape ``(n_galaxies, n_bands)``."""
        positive = np.where(self.flux > 0, self.flux, np.nan)
        magnitude: FloatArray = ZERO_POINT - 2.5 * np.log10(positive)
        return magnitude

    @property
    def magnitude_error(self) -> FloatArray:
        """1-sigma errors of `magnitude` (AB mag), NaN where that is NaN."""
        positive = np.where(self.flux > 0, self.flux, np.nan)
        error: FloatArray = 2.5 / np.log(10) * self.flux_error / positive
        return error

    def luptitude(self, softening: FloatArray) -> FloatArray:
        """Asinh magnitudes (AB mag), finite for a flux of any sign.

        Parameters
        ----------
        softening
            Flux b (nJy) of each band, shape ``(n_bands,)``, below which the scale turns
            from logarithmic to linear.

        References
        ----------
        Lupton, Gunn & Szalay (1999), https://arxiv.org/abs/astro-ph/9903081
        """
        asinh = np.arcsinh(self.flux / (2 * softening)) + np.log(softening)
        luptitude: FloatArray = ZERO_POINT - 2.5 / np.log(10) * asinh
        return luptitude

    def with_depth(self, depth: FloatArray) -> Photometry:
        """Give measurements that were not detected the band's depth as their error.

        Parameters
        ----------
        depth
            1-sigma flux error (nJy) of each band, shape ``(n_bands,)``. Errors that are
            known already stay as they are.
        """
        unknown = (self.state == State.NOT_DETECTED) & np.isnan(self.flux_error)
        return replace(self, flux_error=np.where(unknown, depth, self.flux_error))


def photometry_from_columns(
    columns: Mapping[str, Any], survey: Survey, *, optional_bands: Collection[str] = ()
) -> tuple[Photometry, dict[str, int]]:
    """Convert the columns of a catalogue to fluxes, errors and states.

    Parameters
    ----------
    columns
        Columns of shape ``(n_galaxies,)`` by name; those that `survey` does not name are
        ignored. Anything that numpy or pandas calls numbers is accepted.
    survey
        Says what the columns mean.
    optional_bands
        Bands of which columns may be missing; such a band is not observed.

    Returns
    -------
    photometry : Photometry
        Corrected for extinction, if the survey says how.
    implausible : dict
        What was found that is neither plausible nor declared as missing, and how often.
        Such a measurement is not observed. Plausible is an error above 0 with a magnitude
        between 0 and 50 or a finite flux, and an extinction between -1 and 50 mag.

    Raises
    ------
    InputError
        If a column is missing or holds something else than numbers.
    """
    columns = {name: columns[name] for name in columns}  # a DataFrame becomes a mapping
    present = [
        band for band in survey.bands
        if band not in optional_bands or set(survey.band_columns(band).names()) <= set(columns)
    ]  # fmt: skip
    _check_present(columns, survey, present)
    n_galaxies = len(next(iter(columns.values()))) if columns else 0
    shape = (n_galaxies, len(survey.bands))
    flux, flux_error = np.full(shape, np.nan), np.full(shape, np.nan)
    state = np.full(shape, State.NOT_OBSERVED, dtype=np.uint8)
    implausible: dict[str, int] = {}
    for band in present:
        k = survey.bands.index(band)
        flux[:, k], flux_error[:, k], state[:, k] = _read_band(columns, survey, band, implausible)
    extra = [as_numbers(columns[name], name) for name in survey.extra]
    extra_values = np.stack(extra, axis=1) if extra else np.empty((n_galaxies, 0))
    photometry = Photometry(
        survey.bands, flux, flux_error, state, extra_values, tuple(survey.extra)
    )
    return photometry, implausible


def _check_present(columns: Mapping[str, Any], survey: Survey, bands: Collection[str]) -> None:
    missing = [name for name in survey.columns_needed(bands) if name not in columns]
    if missing:
        hints = [f"{name!r}{suggest(name, columns)}" for name in missing]
        msg = (
            f"expected the columns {', '.join(hints)}, found {', '.join(map(str, columns))}; "
            "name the right ones in the survey."
        )
        raise InputError(msg)


def _read_band(
    columns: Mapping[str, Any], survey: Survey, band: str, implausible: dict[str, int]
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Flux, error and state of one band, each of shape ``(n_galaxies,)``."""
    names = survey.band_columns(band)
    value_name = names.flux or names.magnitude or ""
    error_name = names.flux_ivar or names.flux_error or names.error or ""
    value: FloatArray = as_numbers(columns[value_name], value_name)
    error: FloatArray = as_numbers(columns[error_name], error_name)
    not_detected, missing = _declared(value, error, survey)
    if names.flux_ivar is not None:
        missing |= (error == 0) & ~not_detected
        error = 1 / np.sqrt(np.where(error > 0, error, np.nan))

    plausible = (error > 0) & np.isfinite(error)
    if survey.uses_flux:
        unit = 10 ** (0.4 * (ZERO_POINT - survey.flux_zero_point))
        flux, flux_error = value * unit, error * unit
        plausible &= np.isfinite(value)
    else:
        plausible &= (value > 0) & (value < MAGNITUDE_LIMIT)
        value = np.where(plausible, value, np.nan)
        flux, flux_error = _from_magnitude(value, error, survey.softening.get(band))
    _count(implausible, value_name, ~(plausible | not_detected | missing))

    detected = plausible & ~not_detected & ~missing
    extinction, extinction_name = _extinction(columns, survey, band)
    corrected = (extinction > -1) & (extinction < MAGNITUDE_LIMIT)
    _count(implausible, extinction_name, detected & ~corrected)
    detected &= corrected
    brighter = 10 ** (0.4 * np.where(corrected, extinction, 0.0))

    depth = _flux_of_depth(survey.depth.get(band))
    flux = np.where(detected, flux * brighter, np.where(not_detected, 0.0, np.nan))
    flux_error = np.where(detected, flux_error * brighter, np.where(not_detected, depth, np.nan))
    state = np.where(
        detected, State.DETECTED, np.where(not_detected, State.NOT_DETECTED, State.NOT_OBSERVED)
    )
    return flux, flux_error, state.astype(np.uint8)


def _declared(
    value: FloatArray, error: FloatArray, survey: Survey
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which measurements the survey declares as not detected, and which as missing.

    The value decides; only where it is no sentinel, a sentinel in place of the error does.
    NaN is missing unless the value is NaN and the survey lists that as not detected.
    """
    missing = _is_any(value, survey.not_observed)
    not_detected = _is_any(value, survey.not_detected) & ~missing
    open_ = ~missing & ~not_detected
    missing |= open_ & (np.isnan(value) | np.isnan(error) | _is_any(error, survey.not_observed))
    not_detected |= open_ & ~missing & _is_any(error, survey.not_detected)
    return not_detected, missing


def _is_any(values: FloatArray, sentinels: Collection[float]) -> NDArray[np.bool_]:
    """Whether each value is a sentinel, to 1e-4 or to the precision of float32."""
    found = np.zeros(values.shape, dtype=bool)
    for sentinel in sentinels:
        found |= np.isclose(values, sentinel, rtol=1.2e-7, atol=1e-4, equal_nan=True)
    return found


def _from_magnitude(
    magnitude: FloatArray, error: FloatArray, softening: float | None
) -> tuple[FloatArray, FloatArray]:
    """Flux and error (nJy) of magnitudes, or of asinh magnitudes with softening b."""
    scale = 0.4 * np.log(10)
    if softening is None:
        flux = 10 ** (-0.4 * (magnitude - ZERO_POINT))
        return flux, scale * flux * error
    unit = 2 * softening * 10 ** (0.4 * ZERO_POINT)
    angle = -scale * magnitude - np.log(softening)
    return unit * np.sinh(angle), unit * np.cosh(angle) * scale * error


def _extinction(columns: Mapping[str, Any], survey: Survey, band: str) -> tuple[FloatArray, str]:
    """Galactic extinction (mag) of each galaxy in one band, and the column it is from."""
    name = survey.band_columns(band).extinction
    if name is not None:
        return as_numbers(columns[name], name), name
    if survey.ebv is not None:
        return survey.a_ebv[band] * as_numbers(columns[survey.ebv], survey.ebv), survey.ebv
    return np.zeros(1), ""


def _flux_of_depth(depth: float | None) -> float:
    return np.nan if depth is None else 10 ** (-0.4 * (depth - ZERO_POINT))


def _count(implausible: dict[str, int], name: str, found: NDArray[np.bool_]) -> None:
    if found.any():
        key = f"{name}: implausible value"
        implausible[key] = implausible.get(key, 0) + int(found.sum())
