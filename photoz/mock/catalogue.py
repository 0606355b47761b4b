"""MockCatalogue: galaxies drawn from a made-up universe, and as columns of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InputError
from photoz.measurements import State
from photoz.mock.universe import DEPTHS, WAVELENGTHS, Floats, MockUniverse
from photoz.pdf import RedshiftPDF
from photoz.photometry import Photometry

__all__ = ["MockCatalogue", "make_mock_catalogue"]


@dataclass(frozen=True, eq=False)
class MockCatalogue:
    """Galaxies drawn from a `MockUniverse`.

    Parameters
    ----------
    photometry
        Fluxes, errors and states.
    z_spec
        True redshifts of shape ``(n_galaxies,)``.
    object_id, ra, dec
        Identities and sky coordinates (degrees), same shape; they say nothing of redshift.
    universe
        What the galaxies were drawn from.

    Examples
    --------
    >>> mock = make_mock_catalogue(1000, random_state=0)
    >>> pz = mock[:3].true_pdf(np.linspace(0, 3, 301))
    >>> pz.density.shape
    (3, 301)
    """

    photometry: Photometry
    z_spec: Floats
    object_id: NDArray[np.int64]
    ra: Floats
    dec: Floats
    universe: MockUniverse

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: slice | NDArray[np.integer] | NDArray[np.bool_]) -> MockCatalogue:
        return replace(
            self,
            photometry=self.photometry[rows],
            z_spec=self.z_spec[rows],
            object_id=self.object_id[rows],
            ra=self.ra[rows],
            dec=self.dec[rows],
        )

    def true_pdf(self, z_grid: ArrayLike) -> RedshiftPDF:
        """Densities that nobody can improve on: p(z) given the photometry and the universe.

        It takes about 10 ms per galaxy, ten times that where most bands are not detected;
        choose rows first where that is too long.

        Parameters
        ----------
        z_grid
            Redshifts of shape ``(n_z,)``, uniform from 0. Each density is averaged with the
            triangular weight that reaches from the point to its neighbours.
        """
        grid = np.asarray(z_grid, dtype=np.float64)
        return RedshiftPDF.from_weights(grid, self.universe.posterior(self.photometry, grid))

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Plain columns as the built-in survey ``lsst`` names them, of shape ``(n_galaxies,)``.

        Magnitudes are 99 where not detected, with the depth in place of the error, and -99
        where not observed.
        """
        states = self.photometry.state
        magnitudes, errors = self.photometry.magnitude, self.photometry.magnitude_error
        columns: dict[str, NDArray[Any]] = {
            "object_id": self.object_id, "ra": self.ra, "dec": self.dec, "redshift": self.z_spec,
        }  # fmt: skip
        for k, band in enumerate(self.photometry.bands):
            choice = [states[:, k] == State.DETECTED, states[:, k] == State.NOT_DETECTED]
            depth = self.universe.depth[k]
            magnitude = np.select(choice, [magnitudes[:, k], 99.0], -99.0)
            error = np.select(choice, [errors[:, k], depth], -99.0)
            columns[f"mag_{band}"] = magnitude.astype(np.float32)
            columns[f"mag_err_{band}"] = error.astype(np.float32)
        return columns


def make_mock_catalogue(
    n_galaxies: int,
    *,
    bands: Sequence[str] = ("u", "g", "r", "i", "z", "y"),
    depth: Mapping[str, float] | None = None,
    not_observed: float = 0.0,
    degenerate: bool = False,
    random_state: int | np.random.Generator = 0,
) -> MockCatalogue:
    """Draw galaxies of which the true p(z) is known.

    Parameters
    ----------
    n_galaxies
        Number of galaxies.
    bands
        Names of bands with known wavelengths, from u to w2.
    depth
        1-sigma AB magnitude of bands that shall differ from the usual.
    not_observed
        Probability that a measurement is missing, whatever the galaxy.
    degenerate
        Whether redshifts 1 − x and 1 + x have the same colours, so that p(z) has two peaks.
    random_state
        Seed of the random numbers.

    Returns
    -------
    MockCatalogue

    Raises
    ------
    InputError
        If a band is unknown or occurs twice, or a number is out of its range.
    """
    unknown = [band for band in (*bands, *(depth or {})) if band not in WAVELENGTHS]
    if unknown:
        msg = f"unknown band {unknown[0]!r}; mock bands are {', '.join(WAVELENGTHS)}."
        raise InputError(msg)
    if not bands or len(set(bands)) < len(bands):
        msg = f"bands must name at least one band and none twice, got {list(bands)}."
        raise InputError(msg)
    infinite = [band for band, limit in (depth or {}).items() if not np.isfinite(limit)]
    if n_galaxies < 0 or not 0 <= not_observed <= 1 or infinite:
        msg = (
            "expected n_galaxies from 0, not_observed from 0 to 1 and finite depths, got "
            f"{n_galaxies}, {not_observed} and {depth}."
        )
        raise InputError(msg)
    limits = {**DEPTHS, **(depth or {})}
    universe = MockUniverse(tuple(bands), tuple(limits[band] for band in bands), degenerate)
    generator = np.random.default_rng(random_state)
    z, photometry = universe.draw(n_galaxies, generator)
    if not_observed > 0:
        photometry = photometry.without(generator.random(photometry.flux.shape) < not_observed)
    ra = generator.uniform(150, 170, n_galaxies)
    dec = np.rad2deg(np.arcsin(generator.uniform(-0.17, 0.17, n_galaxies)))
    return MockCatalogue(photometry, z, np.arange(n_galaxies), ra, dec, universe)
