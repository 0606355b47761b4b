"""Augmentation: noisy copies of the training galaxies, made from flux before the features."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photoz.photometry import Photometry, State

__all__ = ["Augmentation", "without_one_band"]

_ONE_MAGNITUDE = 0.4 * np.log(10)
# Copies stand in for galaxies that were not observed; a large sample needs none.
_MOST_ROWS = 300_000


@dataclass(frozen=True)
class Augmentation:
    """How many noisy copies of each training galaxy are made, and how noisy they are.

    Parameters
    ----------
    noise_copies
        Copies of each galaxy beside the original. Listed noise and band dropout need at
        least one and make it even where 0 is asked for. Where galaxies are so many that
        their copies would exceed 300,000 rows, fewer are made.
    noise_scale
        Hidden noise, in units of each flux error (capped at 1 mag): it is not listed. It
        regularises. Of copies with listed noise the unit is the geometric mean of the errors
        without and with that.
    depth_scale
        Listed noise: a copy's total error is σ √(1 + s²), with s = `depth_scale` u² and u
        uniform from 0 to 1 for each galaxy, and it is listed with that error, so that one
        model serves every depth. 0 is off.
    band_dropout
        Probability that a copy loses a band, for each band; the last one always stays.
    """

    noise_copies: int = 4
    noise_scale: float = 0.5
    depth_scale: float = 3.0
    band_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.noise_copies < 0 or self.noise_scale < 0 or self.depth_scale < 0:
            msg = f"numbers and scales of noisy copies must not be negative, got {self}."
            raise ValueError(msg)
        if not 0 <= self.band_dropout < 1:
            msg = f"band_dropout must be at least 0 and below 1, got {self.band_dropout}."
            raise ValueError(msg)

    def n_copies(self, n_galaxies: int) -> int:
        """Copies of each of so many galaxies that are made beside the original."""
        needed = int(self.depth_scale > 0 or self.band_dropout > 0)
        most = _MOST_ROWS // max(n_galaxies, 1) - 1
        return max(min(self.noise_copies, most), needed)

    def to_dict(self) -> dict[str, int | float]:
        """Parameters, as JSON can hold them."""
        return asdict(self)

    def apply(
        self, photometry: Photometry, random_state: int | None
    ) -> tuple[Photometry, NDArray[np.intp]]:
        """Originals followed by their copies.

        Parameters
        ----------
        photometry
            Photometry whose errors are known wherever a band was observed.
        random_state
            Seed of the noise.

        Returns
        -------
        Photometry
            Of ``n_galaxies * (1 + n_copies)`` rows.
        ndarray of shape (n_galaxies * (1 + n_copies),)
            The original galaxy of each row.
        """
        generator = np.random.default_rng(random_state)
        n_copies = self.n_copies(len(photometry))
        copies = [self._copy(photometry, generator) for _ in range(n_copies)]
        rows = np.tile(np.arange(len(photometry)), 1 + n_copies)
        return Photometry.concatenate([photometry, *copies]), rows

    def _copy(self, photometry: Photometry, generator: np.random.Generator) -> Photometry:
        shape = photometry.flux.shape
        error = photometry.flux_error
        listed = self.depth_scale * generator.random((shape[0], 1)) ** 2
        # A calibration learned at once the errors is right at all depths if hidden noise widens
        # p(z) alike there: in units of the error without listed noise it does so too little at
        # others, in units of the whole error too much.
        unit = error * (1 + listed**2) ** 0.25
        hidden = self.noise_scale * np.minimum(unit, _ONE_MAGNITUDE * np.abs(photometry.flux))
        noise = np.hypot(hidden, listed * error) * generator.standard_normal(shape)
        detected = photometry.state == State.DETECTED
        noisy = replace(
            photometry,
            flux=np.where(detected, photometry.flux + noise, photometry.flux),
            flux_error=error * np.sqrt(1 + listed**2),
        )
        return (
            noisy if self.band_dropout == 0 else _drop_bands(noisy, self.band_dropout, generator)
        )


def without_one_band(photometry: Photometry, random_state: int | None) -> Photometry:
    """Galaxies that each lose one of their observed bands, drawn at random.

    A galaxy that was observed in a single band keeps it.

    Parameters
    ----------
    photometry
        Photometry of the galaxies.
    random_state
        Seed of the draw.
    """
    observed = photometry.state != State.NOT_OBSERVED
    generator = np.random.default_rng(random_state)
    luck = np.where(observed, generator.random(observed.shape), -1)
    bands = np.arange(observed.shape[1])
    dropped = (luck.argmax(axis=1)[:, np.newaxis] == bands) & observed
    return photometry.without(dropped & (observed.sum(axis=1) > 1)[:, np.newaxis])


def _drop_bands(
    photometry: Photometry, probability: float, generator: np.random.Generator
) -> Photometry:
    observed = photometry.state != State.NOT_OBSERVED
    luck = np.where(observed, generator.random(observed.shape), -1)
    dropped = observed & (luck < probability)
    # A galaxy that would lose every band keeps its luckiest one.
    lost = (dropped == observed).all(axis=1)
    dropped[lost, luck[lost].argmax(axis=1)] = False
    return photometry.without(dropped)
