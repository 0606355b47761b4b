"""RedshiftPDF: the redshift densities p(z) of many galaxies on one common grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.gaussians import on_grid
from photoz.quantile_form import cumulative_of_quantiles

__all__ = ["FloatArray", "RedshiftPDF"]

FloatArray = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class RedshiftPDF:
    """Redshift densities of `n_galaxies` galaxies, linear between the points of a grid.

    Parameters
    ----------
    z_grid
        Redshifts (dimensionless) of shape ``(n_z,)``, uniform and increasing from 0.
    density
        Densities (per unit redshift) of shape ``(n_galaxies, n_z)``, non-negative, with
        unit integral by the trapezoidal rule. Use `from_weights` where the integral is
        still to be made one.

    Raises
    ------
    ValueError
        If the shapes disagree, the grid is not uniform from 0, or a density is negative,
        not finite or does not integrate to one.

    Examples
    --------
    >>> pz = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((1, 201)))
    >>> pz.quantiles([0.16, 0.84]).round(2)
    array([[0.32, 1.68]])
    """

    z_grid: FloatArray
    density: FloatArray

    def __post_init__(self) -> None:
        for name, dtype in (("z_grid", np.float64), ("density", np.float32)):
            given = unmasked(getattr(self, name))
            object.__setattr__(self, name, np.asarray(given, dtype=dtype))
        _check_grid(self.z_grid)
        if self.density.ndim != 2 or self.density.shape[1] != len(self.z_grid):
            msg = (
                f"density must have shape (n_galaxies, n_z) with n_z = {len(self.z_grid)}, "
                f"got {self.density.shape}."
            )
            raise ValueError(msg)
        if not (self.density >= 0).all():  # False for NaN as well
            msg = "density must be finite and non-negative in every row."
            raise ValueError(msg)
        integral = self.density @ _trapezoid_weights(self.z_grid).astype(np.float32)
        if not np.allclose(integral, 1, atol=1e-4):
            worst = float(integral[np.argmax(np.abs(integral - 1))])
            msg = (
                f"every density must integrate to 1, found {worst:.6g}; "
                "use RedshiftPDF.from_weights to normalise."
            )
            raise ValueError(msg)

    @classmethod
    def from_weights(cls, z_grid: ArrayLike, weights: ArrayLike) -> RedshiftPDF:
        """Normalise non-negative weights to densities.

        Parameters
        ----------
        z_grid
            Redshifts of shape ``(n_z,)``.
        weights
            Relative densities of shape ``(n_galaxies, n_z)``; a row of zeros becomes flat,
            since nothing is known of that galaxy.

        Returns
        -------
        RedshiftPDF

        Raises
        ------
        ValueError
            If they have another shape, or one is negative or not finite.
        """
        grid = np.asarray(unmasked(z_grid), dtype=np.float64)
        given = unmasked(weights)
        if given.dtype != np.float32:
            given = np.asarray(given, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != len(grid):
            msg = (
                f"weights must have shape (n_galaxies, n_z) with n_z = {len(grid)}, got "
                f"{given.shape}; those of a single galaxy are one row: [weights]."
            )
            raise InputError(msg)
        # Scaling by the peak first keeps tiny and huge rows inside the range of float32.
        peak = given.max(axis=1, keepdims=True, initial=0)
        # A broken row must not pass for one of which nothing is known, and become flat.
        if not np.isfinite(peak).all() or (given[peak[:, 0] <= 0] < 0).any():
            msg = "weights must be finite and non-negative in every row."
            raise ValueError(msg)
        density = np.divide(given, peak, out=np.ones_like(given), where=peak > 0)
        density = density.astype(np.float32, copy=False)
        density /= (density @ _trapezoid_weights(grid))[:, np.newaxis]
        return cls(grid, density)

    @classmethod
    def from_mixture(
        cls, z_grid: ArrayLike, weights: ArrayLike, means: ArrayLike, sigmas: ArrayLike
    ) -> RedshiftPDF:
        """Evaluate Gaussian mixtures, cut off at the ends of the grid.

        Parameters
        ----------
        z_grid
            Redshifts of shape ``(n_z,)``.
        weights, means, sigmas
            Parameters of shape ``(n_galaxies, n_components)``; means and standard
            deviations in redshift. Components narrower than two steps of the grid are
            widened to two steps: a grid cannot show less.

        Returns
        -------
        RedshiftPDF

        Raises
        ------
        ValueError
            If the grid is not uniform from 0, the parameters are not of one such shape, or
            one of them is not finite.
        """
        grid = np.asarray(unmasked(z_grid), dtype=np.float64)
        _check_grid(grid)
        parts = [unmasked(part) for part in (weights, means, sigmas)]
        if parts[0].ndim != 2 or len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(part.shape) for part in parts)
            msg = (
                "weights, means and sigmas must have one shape (n_galaxies, n_components), got "
                f"{shapes}; those of a single galaxy are one row each: [weights]."
            )
            raise InputError(msg)
        return cls.from_weights(grid, on_grid(grid.astype(np.float32), *parts))

    @classmethod
    def from_quantiles(
        cls, z_grid: ArrayLike, levels: ArrayLike, quantiles: ArrayLike
    ) -> RedshiftPDF:
        """Read back densities from the quantiles that a prediction holds.

        Parameters
        ----------
        z_grid
            Redshifts of shape ``(n_z,)``.
        levels
            Rising probabilities between 0 and 1, both excluded, shape ``(n_levels,)``.
        quantiles
            Redshifts at these levels, shape ``(n_galaxies, n_levels)``, none falling. Two
            that are closer than a hundredth of a step of the grid are taken to be that far
            apart.

        Returns
        -------
        RedshiftPDF

        Raises
        ------
        ValueError
            If the levels or quantiles are not of that form, or one is NaN.

        Examples
        --------
        >>> flat = RedshiftPDF.from_weights(np.linspace(0, 2, 201), np.ones((1, 201)))
        >>> levels = [0.025, 0.16, 0.5, 0.84, 0.975]
        >>> pz = RedshiftPDF.from_quantiles(flat.z_grid, levels, flat.quantiles(levels))
        >>> pz.quantiles([0.16, 0.5]).round(2)
        array([[0.32, 1.  ]])
        """
        grid, level, given = (
            np.asarray(unmasked(part), dtype=np.float64) for part in (z_grid, levels, quantiles)
        )
        rising = level.ndim == 1 and len(level) > 1 and (np.diff(level, prepend=0) > 0).all()
        if not rising or not level[-1] < 1:
            msg = f"levels must rise between 0 and 1, both excluded, got {level}."
            raise ValueError(msg)
        if given.ndim != 2 or given.shape[1] != len(level) or not (np.diff(given) >= 0).all():
            msg = (
                f"quantiles must have shape (n_galaxies, {len(level)}) and none may fall or be "
                f"NaN, got shape {given.shape}."
            )
            raise ValueError(msg)
        step = grid[1] - grid[0]
        apart = 0.01 * step * np.arange(len(level))
        given = np.maximum.accumulate(given - apart, axis=1) + apart
        edges = np.append(grid - 0.5 * step, grid[-1] + 0.5 * step).clip(0, grid[-1])
        mass = np.diff(cumulative_of_quantiles(edges, level, given), axis=1)
        # The cells at both ends are half as wide.
        return cls.from_weights(grid, np.maximum(mass, 0) / np.diff(edges))

    def __repr__(self) -> str:
        n_galaxies, n_z = self.density.shape
        return (
            f"RedshiftPDF({n_galaxies} galaxies, {n_z} redshifts from 0 to {self.z_grid[-1]:.4g})"
        )

    def __len__(self) -> int:
        return len(self.density)

    def __getitem__(
        self, rows: slice | list[int] | NDArray[np.integer] | NDArray[np.bool_]
    ) -> RedshiftPDF:
        if isinstance(rows, int | np.integer):  # the axis of the galaxies would be gone
            msg = f"expected rows, found the number {rows}; use pz[[{rows}]], or a slice."
            raise InputError(msg)
        return RedshiftPDF(self.z_grid, self.density[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[RedshiftPDF]) -> RedshiftPDF:
        """Stack densities that share a grid, in the order given."""
        grid = parts[0].z_grid
        if not all(np.array_equal(part.z_grid, grid) for part in parts):
            msg = "densities can only be stacked if they share one redshift grid."
            raise ValueError(msg)
        return cls(grid, np.concatenate([part.density for part in parts]))

    @property
    def step(self) -> float:
        """Distance between two points of the grid."""
        return float(self.z_grid[1] - self.z_grid[0])

    def cumulative(self) -> FloatArray:
        """Cumulative distribution at the points of the grid, shape ``(n_galaxies, n_z)``."""
        density = self.density.astype(np.float64)
        cumulative = np.zeros_like(density)
        np.cumsum(
            0.5 * self.step * (density[:, 1:] + density[:, :-1]), axis=1, out=cumulative[:, 1:]
        )
        return cumulative / cumulative[:, -1:]

    def cdf(self, z: ArrayLike) -> FloatArray:
        """Probability that each galaxy lies below its redshift `z`, shape ``(n_galaxies,)``.

        Parameters
        ----------
        z
            One redshift per galaxy, shape ``(n_galaxies,)``, or one for all. It is 0 below
            the grid and 1 above it.
        """
        return self._below(self._one_per_galaxy(z), self.cumulative())

    def _below(self, z: FloatArray, cumulative: FloatArray) -> FloatArray:
        """Probability below one redshift per galaxy, from what `cumulative` returned."""
        rows, cell, offset = self._locate(z)
        left = self.density[rows, cell].astype(np.float64)
        right = self.density[rows, cell + 1]
        inside = left * offset + 0.5 * (right - left) * offset**2 / self.step
        cdf = cumulative[rows, cell] + inside
        return np.where(z < 0, 0.0, np.where(z > self.z_grid[-1], 1.0, np.clip(cdf, 0, 1)))

    def at(self, z: ArrayLike) -> FloatArray:
        """Density (per unit redshift) of each galaxy at its redshift `z`, shape ``(n_galaxies,)``.

        Parameters
        ----------
        z
            One redshift per galaxy, shape ``(n_galaxies,)``, or one for all. Beyond the
            grid the density is 0.
        """
        z = self._one_per_galaxy(z)
        rows, cell, offset = self._locate(z)
        left = self.density[rows, cell].astype(np.float64)
        right = self.density[rows, cell + 1]
        density = left + (right - left) * offset / self.step
        return np.where((z < 0) | (z > self.z_grid[-1]), 0.0, density)

    def quantiles(self, levels: ArrayLike) -> FloatArray:
        """Redshifts at which the cumulative distribution reaches `levels`.

        Parameters
        ----------
        levels
            Probabilities between 0 and 1, shape ``(n_levels,)``.

        Returns
        -------
        ndarray of shape (n_galaxies, n_levels)
        """
        levels = np.asarray(unmasked(levels), dtype=np.float64)
        if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all():
            msg = f"levels must be a list of probabilities between 0 and 1, got {levels}."
            raise ValueError(msg)
        return self._invert(np.broadcast_to(levels, (len(self), len(levels))))

    def median(self) -> FloatArray:
        """Median redshift of each galaxy, shape ``(n_galaxies,)``."""
        return self.quantiles([0.5])[:, 0]

    def mean(self) -> FloatArray:
        """Mean redshift of each galaxy, shape ``(n_galaxies,)``."""
        mean: FloatArray = self.density @ (_trapezoid_weights(self.z_grid) * self.z_grid)
        return mean

    def std(self) -> FloatArray:
        """Standard deviation of each galaxy's redshift, shape ``(n_galaxies,)``."""
        weights = _trapezoid_weights(self.z_grid)
        # That densities integrate to one is true in single precision only, which the difference
        # of two squares would show.
        total = self.density @ weights
        mean, second = (self.density @ (weights * self.z_grid**k) / total for k in (1, 2))
        return np.asarray(np.sqrt(np.maximum(second - mean**2, 0)))

    def mode(self) -> FloatArray:
        """Redshift of the highest density of each galaxy, shape ``(n_galaxies,)``.

        The vertex of the parabola through the highest point of the grid and its two
        neighbours, so that the mode is not rounded to the grid.
        """
        rows = np.arange(len(self))
        peak = self.density.argmax(axis=1) if len(self) else rows
        middle = np.clip(peak, 1, len(self.z_grid) - 2)
        left, top, right = (self.density[rows, middle + k].astype(np.float64) for k in (-1, 0, 1))
        curvature = left - 2 * top + right
        inner = (peak == middle) & (curvature < 0)
        shift = np.divide(0.5 * (left - right), curvature, out=np.zeros(len(self)), where=inner)
        mode: FloatArray = self.z_grid[peak] + self.step * shift
        return mode

    def odds(self, width: float = 0.06) -> FloatArray:
        """Probability within ``mode ± width (1 + mode)``, shape ``(n_galaxies,)``.

        References
        ----------
        Benítez (2000), https://arxiv.org/abs/astro-ph/9811189
        """
        mode = self.mode()
        half = width * (1 + mode)
        cumulative = self.cumulative()
        return self._below(mode + half, cumulative) - self._below(mode - half, cumulative)

    def n_peaks(self, share: float = 0.1) -> NDArray[np.intp]:
        """Number of separate ranges of redshift in which p(z) is above `share` of its peak.

        Two or more mean that the photometry allows distinct redshifts. Shape
        ``(n_galaxies,)``.
        """
        above = self.density > share * self.density.max(axis=1, keepdims=True, initial=0)
        return np.asarray(above[:, 0] + (above[:, 1:] & ~above[:, :-1]).sum(axis=1))

    def sample(self, n_samples: int, random_state: int | np.random.Generator = 0) -> FloatArray:
        """Draw redshifts, shape ``(n_galaxies, n_samples)``."""
        generator = np.random.default_rng(random_state)
        return self._invert(generator.random((len(self), n_samples)))

    def n_of_z(self, weights: ArrayLike | None = None) -> FloatArray:
        """Stack the densities into n(z), shape ``(n_z,)``, with unit integral.

        Parameters
        ----------
        weights
            Weight of each galaxy, shape ``(n_galaxies,)``; equal if left out.

        Raises
        ------
        ValueError
            If there is no galaxy, or the weights are no such weights.
        """
        if len(self) == 0:
            msg = "n(z) needs at least one galaxy, got none."
            raise ValueError(msg)
        given = None if weights is None else np.asarray(unmasked(weights), dtype=np.float64)
        if given is not None:
            with np.errstate(over="ignore"):
                total = given.sum()
            if given.shape != (len(self),) or (given < 0).any() or not 0 < total < np.inf:
                msg = (
                    f"weights must have shape ({len(self)},), no value below 0 and a finite sum "
                    f"above 0, got shape {given.shape}, {np.count_nonzero(given < 0)} values "
                    f"below 0 and the sum {total:.6g}."
                )
                raise InputError(msg)
        return np.average(self.density.astype(np.float64), axis=0, weights=given)

    def _one_per_galaxy(self, z: ArrayLike) -> FloatArray:
        z = np.asarray(unmasked(z), dtype=np.float64)
        if z.ndim > 1 or (z.ndim == 1 and len(z) != len(self)):
            msg = f"z must have shape ({len(self)},), one redshift per galaxy, got {z.shape}."
            raise ValueError(msg)
        if np.isnan(z).any():
            msg = "z must not hold NaN: leave out the galaxies without a redshift."
            raise ValueError(msg)
        return np.broadcast_to(z, (len(self),))

    def _locate(self, z: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
        """Row, cell of the grid, and offset within the cell of one redshift per galaxy."""
        cell = np.clip(np.floor(z / self.step).astype(np.intp), 0, len(self.z_grid) - 2)
        return np.arange(len(self)), cell, np.clip(z - self.z_grid[cell], 0, self.step)

    def _invert(self, levels: FloatArray) -> FloatArray:
        """Redshifts at which each row's cumulative distribution reaches its row of levels."""
        rows = np.arange(len(self))[:, np.newaxis]
        cumulative = self.cumulative()
        # Row i is lifted by 2 i, so that one search in one sorted array serves all rows.
        lifted = (cumulative + 2 * rows).ravel()
        found = np.searchsorted(lifted, levels + 2 * rows) - rows * len(self.z_grid)
        cell = np.clip(found - 1, 0, len(self.z_grid) - 2)
        missing = np.maximum(levels - cumulative[rows, cell], 0)
        left = self.density[rows, cell].astype(np.float64)
        slope = (self.density[rows, cell + 1] - left) / self.step
        # The stable root of left t + slope t^2 / 2 = missing.
        root = left + np.sqrt(np.maximum(left**2 + 2 * slope * missing, 0))
        offset = np.divide(2 * missing, root, out=np.zeros_like(root), where=root > 0)
        redshift: FloatArray = self.z_grid[cell] + np.clip(offset, 0, self.step)
        return redshift


def _trapezoid_weights(z_grid: FloatArray) -> FloatArray:
    """Weights of the trapezoidal rule, shape ``(n_z,)``."""
    weights = np.full(len(z_grid), z_grid[1] - z_grid[0])
    weights[[0, -1]] /= 2
    return weights


def _check_grid(z_grid: FloatArray) -> None:
    if z_grid.ndim != 1 or len(z_grid) < 3:
        msg = f"z_grid must be one axis of at least 3 redshifts, got shape {z_grid.shape}."
        raise ValueError(msg)
    uniform = np.linspace(0, z_grid[-1], len(z_grid))
    if not z_grid[-1] > 0 or not np.allclose(z_grid, uniform, atol=1e-9):
        msg = "z_grid must rise uniformly from 0."
        raise ValueError(msg)
