"""MockUniverse: a made-up universe, simple enough to know the true p(z) of its galaxies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from photoz.measurements import POGSON, ZERO_POINT, State
from photoz.photometry import Photometry

__all__ = ["DEPTHS", "WAVELENGTHS", "Floats", "MockUniverse"]

Floats = NDArray[np.float64]

WAVELENGTHS = {
    "u": 367, "g": 482, "r": 622, "i": 754, "z": 868, "y": 975, "vis": 715,
    "Y": 1086, "J": 1369, "H": 1772, "K": 2150, "w1": 3368, "w2": 4618,
}  # fmt: skip
"""Effective wavelength (nm) of each band."""

DEPTHS = {
    "u": 27.79, "g": 29.04, "r": 29.06, "i": 28.62, "z": 27.98, "y": 27.05, "vis": 28.2,
    "Y": 26.5, "J": 26.5, "H": 26.5, "K": 26.0, "w1": 25.0, "w2": 24.5,
}  # fmt: skip
"""1-sigma AB magnitude of each band; of ugrizy as the LSST after ten years."""

REFERENCE = 754.0
"""Wavelength (nm) at which the magnitude of a galaxy is given."""

TYPES = np.linspace(0, 1, 6)
"""Types of galaxies from red to blue; finitely many, so that p(z) is a sum over them."""

BRIGHT, FAINT, Z_MAX = 18.0, 25.3, 3.0
RELATIVE_ERROR = 0.03

N_FINE = 4
"""Redshifts at which p(z) is computed, per step of the grid that it is given on."""

N_MAGNITUDES = 25
"""Magnitudes over which p(z) is integrated."""

N_ROUGH = 5
"""Magnitudes that tell whether a redshift and type is worth the integral."""

NEGLIGIBLE = 25.0
"""Redshifts and types of a density so many e-folds below the best are left out."""


@dataclass(frozen=True)
class MockUniverse:
    """What the galaxies of a mock catalogue are drawn from.

    A galaxy has an AB magnitude m, a type t and a redshift z. Counts rise as 10^(0.3 m);
    towards faint magnitudes types grow bluer and redshifts larger, with
    p(z | t, m) ∝ z² exp(−(z / z_0)^1.5). A spectrum has a slope, a 4000 Å break and the
    Lyman break. Fluxes have Gaussian noise of variance depth² + (0.03 flux)², and below the
    depth they are not detected.

    Parameters
    ----------
    bands
        Names of the bands.
    depth
        1-sigma AB magnitude of each band.
    degenerate
        Whether redshifts 1 − x and 1 + x have the same colours, so that p(z) has two peaks.
    """

    bands: tuple[str, ...]
    depth: tuple[float, ...]
    degenerate: bool = False

    @property
    def flux_depth(self) -> Floats:
        """1-sigma flux (nJy) of each band, shape ``(n_bands,)``."""
        depth: Floats = 10 ** (0.4 * (ZERO_POINT - np.array(self.depth)))
        return depth

    def fluxes(self, z: Floats, kind: Floats) -> Floats:
        """Fluxes (nJy) of galaxies of magnitude 0, smooth in redshift.

        Parameters
        ----------
        z, kind
            Redshifts and types, of shapes that broadcast.

        Returns
        -------
        ndarray of shape (n_bands, ...)
        """
        if self.degenerate:
            z = np.hypot(z - 1, 0.02)
        stretch = np.log1p(z)
        reference = _spectrum(np.log(REFERENCE) - stretch, kind) + ZERO_POINT
        magnitudes = (_spectrum(np.log(WAVELENGTHS[b]) - stretch, kind) for b in self.bands)
        return np.stack([np.exp(POGSON * (reference - m)) for m in magnitudes])

    def log_prior(self, z: Floats, kind: Floats, magnitude: Floats) -> Floats:
        """Logarithm of p(z, t, m) up to a constant, of arguments that broadcast."""
        scale = _redshift_scale(kind, magnitude)
        end = (Z_MAX / scale) ** 1.5
        # The integral of z² exp(−(z / scale)^1.5) up to Z_MAX.
        norm = scale**3 * (1 - (1 + end) * np.exp(-end))
        with np.errstate(divide="ignore"):
            log_z = np.where(z > Z_MAX, -np.inf, 2 * np.log(z) - (z / scale) ** 1.5)
        # The types are symmetric about 0.5, so their shares add up in pairs.
        others = sum(np.cosh(_log_share(other, magnitude)) for other in TYPES[len(TYPES) // 2 :])
        log_kind = _log_share(kind, magnitude) - np.log(others)
        log_prior: Floats = log_z - np.log(norm) + log_kind + 0.3 * np.log(10) * magnitude
        return log_prior

    def log_likelihood(self, galaxy: Photometry, flux: Floats) -> Floats:
        """Logarithm of the likelihood of true fluxes.

        Parameters
        ----------
        galaxy
            Measurements of one galaxy.
        flux
            True fluxes (nJy) of shape ``(n_bands, ...)``.

        Returns
        -------
        ndarray of shape (...)
        """
        total = np.zeros(flux.shape[1:])
        for k, depth in enumerate(self.flux_depth):
            variance = depth**2 + (RELATIVE_ERROR * flux[k]) ** 2
            if galaxy.state[0, k] == State.DETECTED:
                total -= 0.5 * ((galaxy.flux[0, k] - flux[k]) ** 2 / variance + np.log(variance))
            elif galaxy.state[0, k] == State.NOT_DETECTED:
                chance = ndtr((depth - flux[k]) / np.sqrt(variance))
                total += np.log(np.maximum(chance, 1e-300))
        return total

    def draw(self, n_galaxies: int, generator: np.random.Generator) -> tuple[Floats, Photometry]:
        """Redshifts, of shape ``(n_galaxies,)``, and photometry of random galaxies."""
        magnitude, kind, z = _draw_galaxies(n_galaxies, generator)
        true = (self.fluxes(z, kind) * np.exp(-POGSON * magnitude)).T
        depth = self.flux_depth
        noise = generator.normal(size=true.shape)
        flux = true + noise * np.sqrt(depth**2 + (RELATIVE_ERROR * true) ** 2)
        # The error that is given is that of the flux that was found: the true one is not known.
        error = np.sqrt(depth**2 + (RELATIVE_ERROR * flux) ** 2)
        detected = flux > depth
        flux, error = np.where(detected, flux, 0), np.where(detected, error, depth)
        state = np.where(detected, State.DETECTED, State.NOT_DETECTED).astype(np.uint8)
        return z, Photometry(self.bands, flux, error, state)

    def posterior(self, photometry: Photometry, z_grid: Floats) -> Floats:
        """Relative p(z) of galaxies given their photometry, shape ``(n_galaxies, n_z)``.

        Parameters
        ----------
        photometry
            Measurements in the bands of this universe.
        z_grid
            Redshifts of shape ``(n_z,)``, uniform from 0.
        """
        fine = np.linspace(0, z_grid[-1], N_FINE * (len(z_grid) - 1) + 1)
        unit = self.fluxes(fine[:, np.newaxis], TYPES)
        density = np.empty((len(photometry), len(z_grid)))
        for row in range(len(photometry)):
            galaxy = photometry[row : row + 1]
            density[row] = _average(_posterior(self, galaxy, fine, unit))
        return density


def _spectrum(log_wavelength: Floats, kind: Floats) -> Floats:
    """Magnitude at a rest-frame wavelength (logarithm of nm), up to a constant."""
    slope = (0.3 * kind - 1.0) * log_wavelength
    break_4000 = (1.8 - 1.5 * kind) * expit((np.log(400) - log_wavelength) / 0.05)
    lyman = 3.0 * expit((np.log(121.6) - log_wavelength) / 0.05)
    spectrum: Floats = slope + break_4000 + lyman
    return spectrum


def _redshift_scale(kind: Floats, magnitude: Floats) -> Floats:
    scale: Floats = (0.10 + 0.06 * (magnitude - BRIGHT)) * (1 + 0.4 * kind)
    return scale


def _log_share(kind: Floats, magnitude: Floats) -> Floats:
    """Logarithm of the share of a type among galaxies of one magnitude, up to a constant."""
    share: Floats = 0.35 * (2 * kind - 1) * (magnitude - 22)
    return share


def _draw_galaxies(n: int, generator: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Magnitudes, types and redshifts, each of shape ``(n,)``."""
    magnitude = np.log10(generator.uniform(10 ** (0.3 * BRIGHT), 10 ** (0.3 * FAINT), n)) / 0.3
    shares = np.exp(np.stack([_log_share(kind, magnitude) for kind in TYPES]))
    below = np.cumsum(shares, axis=0) < generator.random(n) * shares.sum(axis=0)
    kind = TYPES[below.sum(axis=0)]
    scale = _redshift_scale(kind, magnitude)
    z = np.full(n, np.inf)
    while (beyond := z > Z_MAX).any():
        # (z / scale)^1.5 has a gamma distribution of shape (2 + 1) / 1.5.
        z[beyond] = scale[beyond] * generator.gamma(2.0, size=beyond.sum()) ** (2 / 3)
    return magnitude, kind, z


def _posterior(universe: MockUniverse, galaxy: Photometry, z: Floats, unit: Floats) -> Floats:
    """Relative p(z) of one galaxy, summed over types and integrated over magnitudes.

    Parameters
    ----------
    z
        Redshifts of shape ``(n_fine,)``.
    unit
        Fluxes (nJy) at magnitude 0, of shape ``(n_bands, n_fine, n_types)``.
    """
    first, last = _magnitude_range(galaxy, unit)

    def log_density(at: tuple[Any, ...], magnitude: Floats) -> Floats:
        flux = unit[(slice(None), *at)] * np.exp(-POGSON * magnitude)
        prior = universe.log_prior(redshift[at], kind[at], magnitude)
        return universe.log_likelihood(galaxy, flux) + prior

    redshift, kind = np.broadcast_arrays(z[:, np.newaxis], TYPES)
    # Few magnitudes tell which redshifts and types matter, all of them how much.
    rough = np.full(kind.shape, -np.inf)
    for part in np.linspace(0, 1, N_ROUGH):
        rough = np.maximum(rough, log_density((...,), first + part * (last - first)))
    rough[last <= first] = -np.inf
    cells = np.nonzero(rough > rough.max() - NEGLIGIBLE)
    nodes = np.linspace(first[cells], last[cells], N_MAGNITUDES, axis=1)
    log_p = log_density((*cells, np.newaxis), nodes)
    p = np.trapezoid(np.exp(log_p - log_p.max()), nodes, axis=1)
    total: Floats = np.bincount(cells[0], weights=p, minlength=len(z)).astype(np.float64)
    return total


def _magnitude_range(galaxy: Photometry, unit: Floats) -> tuple[Floats, Floats]:
    """Magnitudes within six standard deviations of the best one at each redshift and type."""
    bands = galaxy.state[0] == State.DETECTED
    flux, weight = galaxy.flux[0, bands], galaxy.flux_error[0, bands] ** -2
    # The amplitude of least squares, and six times its error.
    information = np.tensordot(weight, unit[bands] ** 2, axes=1)
    best = np.tensordot(flux * weight, unit[bands], axes=1) / np.maximum(information, 1e-300)
    reach = 6 / np.sqrt(np.maximum(information, 1e-300))
    faintest = 10 ** (-0.4 * FAINT)
    first = -2.5 * np.log10(np.maximum(best + reach, faintest))
    last = -2.5 * np.log10(np.maximum(best - reach, faintest))
    return np.maximum(first, BRIGHT), np.maximum(last, BRIGHT)


def _average(fine: Floats) -> Floats:
    """Averages around every `N_FINE`-th point, with triangular weights."""
    weights = np.bartlett(2 * N_FINE + 1)
    total = np.convolve(np.pad(fine, N_FINE), weights, mode="valid")
    inside = np.convolve(np.pad(np.ones_like(fine), N_FINE), weights, mode="valid")
    averages: Floats = (total / inside)[::N_FINE]
    return averages
