"""Photometry: AB flux, 1-sigma error and state of every measurement of every galaxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray

__all__ = ["ZERO_POINT", "Photometry", "State"]

ZERO_POINT = 31.4
"""AB magnitude of a flux of 1 nJy."""


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
