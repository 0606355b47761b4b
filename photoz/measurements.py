"""Measurements: the columns of one band as AB flux, 1-sigma error and state."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray
from photoz.survey import Survey

__all__ = ["ZERO_POINT", "BandRules", "Measurements", "State", "is_any"]

ZERO_POINT = 31.4
"""AB magnitude of a flux of 1 nJy."""

MAGNITUDE_LIMIT = 50.0
"""Magnitudes and extinctions from here on are no measurements but undeclared sentinels."""

POGSON = 0.4 * np.log(10)
"""Relative change of flux per magnitude."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class State(IntEnum):
    """What is known of one galaxy in one band."""

    NOT_OBSERVED = 0
    NOT_DETECTED = 1
    DETECTED = 2


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measurements of `n_galaxies` galaxies in one band.

    Parameters
    ----------
    flux, flux_error, state
        As in `Photometry`, of shape ``(n_galaxies,)``.
    n_implausible
        Measurements that are neither plausible nor declared as missing.
    uncorrected
        Which detections have no plausible extinction, shape ``(n_galaxies,)``. Neither is
        observed.
    """

    flux: Floats
    flux_error: Floats
    state: NDArray[np.uint8]
    n_implausible: int
    uncorrected: Mask


@dataclass(frozen=True)
class BandRules:
    """What a survey says about the numbers of one band.

    Parameters
    ----------
    unit
        Flux (nJy) of a flux of 1; None where the values are magnitudes.
    is_ivar
        Whether the errors are inverse variances.
    softening
        Of asinh magnitudes the b, in units of the flux of magnitude 0; else None.
    not_observed, not_detected
        Values that stand for these states.
    depth
        1-sigma flux error (nJy) of what was not detected; NaN if unknown.
    """

    unit: float | None
    is_ivar: bool
    softening: float | None
    not_observed: tuple[float, ...]
    not_detected: tuple[float, ...]
    depth: float

    @classmethod
    def of(cls, survey: Survey, band: str) -> BandRules:
        """Rules of one band of a survey."""
        unit = 10 ** (0.4 * (ZERO_POINT - survey.flux_zero_point)) if survey.uses_flux else None
        depth = survey.depth.get(band)
        return cls(
            unit,
            survey.band_columns(band).flux_ivar is not None,
            survey.softening.get(band),
            survey.not_observed,
            survey.not_detected,
            np.nan if depth is None else 10 ** (0.4 * (ZERO_POINT - depth)),
        )

    def apply(self, value: Floats, error: Floats, extinction: Floats | None) -> Measurements:
        """Convert numbers to measurements.

        Parameters
        ----------
        value, error
            Magnitudes or fluxes, and their errors or inverse variances, of shape
            ``(n_galaxies,)``.
        extinction
            Galactic extinction (mag) to correct for, same shape; None for no correction.
        """
        with np.errstate(all="ignore"):
            not_detected, missing = self._declared(value, error)
            if self.is_ivar:
                missing |= error == 0
                error = 1 / np.sqrt(error)
            plausible = (error > 0) & (error < np.inf)
            if self.unit is not None:
                plausible &= np.isfinite(value)
                flux, flux_error = value * self.unit, error * self.unit
            else:
                plausible &= (value > 0) & (value < MAGNITUDE_LIMIT)
                flux, flux_error = self._from_magnitude(value, error)
            declared = missing | not_detected
            detected = plausible & ~declared
            n_implausible = int(np.count_nonzero(~(plausible | declared)))
            uncorrected = np.zeros_like(detected)
            if extinction is not None:
                uncorrected = detected & ~((extinction > -1) & (extinction < MAGNITUDE_LIMIT))
                detected &= ~uncorrected
                brighter = np.exp(POGSON * extinction)
                flux, flux_error = flux * brighter, flux_error * brighter

        lost = ~detected
        flux[lost], flux_error[lost] = np.nan, np.nan
        flux[not_detected], flux_error[not_detected] = 0, self.depth
        state = (State.DETECTED * detected + State.NOT_DETECTED * not_detected).astype(np.uint8)
        return Measurements(flux, flux_error, state, n_implausible, uncorrected)

    def _declared(self, value: Floats, error: Floats) -> tuple[Mask, Mask]:
        """Which measurements are declared as not detected, and which as missing.

        The value decides; where it is no sentinel, a sentinel in place of the error does.
        What is NaN is missing too, which does not matter where it is declared otherwise.
        """
        missing = is_any(value, self.not_observed)
        not_detected = is_any(value, self.not_detected)
        missing |= np.isnan(value) & ~not_detected
        undecided = ~(missing | not_detected)
        not_detected |= undecided & is_any(error, self.not_detected)
        missing |= undecided & (np.isnan(error) & ~not_detected | is_any(error, self.not_observed))
        return not_detected, missing

    def _from_magnitude(self, magnitude: Floats, error: Floats) -> tuple[Floats, Floats]:
        """Flux and error (nJy) of magnitudes or asinh magnitudes.

        References
        ----------
        Lupton, Gunn & Szalay (1999), https://arxiv.org/abs/astro-ph/9903081
        """
        if self.softening is None:
            flux = np.exp(POGSON * (ZERO_POINT - magnitude))
            return flux, POGSON * flux * error
        unit = 2 * self.softening * 10 ** (0.4 * ZERO_POINT)
        angle = -POGSON * magnitude - np.log(self.softening)
        return unit * np.sinh(angle), unit * np.cosh(angle) * POGSON * error


def is_any(values: FloatArray, sentinels: Collection[float]) -> Mask:
    """Whether each value is a sentinel, to 1e-4, or to the precision of float32 if that is less.

    A sentinel below 1 is met to that share of it, and 0 by 0 alone: fluxes in Jy and inverse
    variances are all small.
    """
    found = np.zeros(values.shape, dtype=bool)
    for sentinel in sentinels:
        if np.isfinite(sentinel):
            size = abs(sentinel)
            found |= np.abs(values - sentinel) <= max(1e-4 * min(1, size), 1.2e-7 * size)
        else:
            found |= np.isnan(values) if np.isnan(sentinel) else values == sentinel
    return found
