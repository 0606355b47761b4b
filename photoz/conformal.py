"""ConformalMap: coverage that holds for finite samples, learned from galaxies kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.pdf import FloatArray
from photoz.resolution import normalise

__all__ = ["ConformalMap", "check_enough"]

_LEVELS = (0.025, 0.05, 0.1, 0.16, 0.25, 0.375, 0.5, 0.625, 0.75, 0.84, 0.9, 0.95, 0.975)
_FEWEST = 39
"""Fewest galaxies whose order statistics reach the levels .025 and .975."""


def check_enough(n_galaxies: int) -> None:
    """Raise `InputError` if a map cannot be learned from so few galaxies."""
    if n_galaxies < _FEWEST:
        msg = (
            f"conformal coverage needs {_FEWEST} galaxies or more kept apart, got "
            f"{n_galaxies}; raise [calibration] conformal or take more galaxies."
        )
        raise InputError(msg)


@dataclass(frozen=True)
class ConformalMap:
    """Monotone map of the cumulative distribution F to shares of galaxies that were counted.

    Of n exchangeable galaxies and a new one, the new one's PIT lies below the k-th smallest
    of theirs with probability k / (n + 1), whatever the model: so intervals between the
    levels of this map hold the redshift with at least the probability that they state, on
    the mean over galaxies like those that were kept apart.

    That is true of the map. Densities on a grid follow it only where they are not 0: if a model
    rules out the redshifts of a tenth of the galaxies altogether, the interval of .95 holds .88
    to .91 of them all; if redshifts scatter three times as far as it says, .92.

    Parameters
    ----------
    positions
        PIT values, rising.
    levels
        What they become: k / (n + 1) of the order statistic at each position.
    n_galaxies
        Number of galaxies that were kept apart.

    References
    ----------
    Vovk et al. (2017), "Nonparametric predictive distributions based on conformal
    prediction", https://proceedings.mlr.press/v60/vovk17a.html
    """

    positions: tuple[float, ...]
    levels: tuple[float, ...]
    n_galaxies: int

    @classmethod
    def fit(cls, pit: ArrayLike) -> ConformalMap:
        """Learn from the PIT of galaxies that neither fit nor calibration has seen.

        Parameters
        ----------
        pit
            CDF at the spectroscopic redshift, shape ``(n_galaxies,)``.

        Raises
        ------
        InputError
            If there are fewer than 39 galaxies: the level .025 would lie beyond the first; or
            if a PIT is not between 0 and 1.
        """
        ordered = np.sort(np.asarray(unmasked(pit), dtype=np.float64))
        n_galaxies = len(ordered)
        check_enough(n_galaxies)
        wrong = ~((ordered >= 0) & (ordered <= 1))
        if wrong.any():
            msg = (
                f"pit must be between 0 and 1, found {wrong.sum()} values that are not; leave out "
                "the galaxies without a redshift."
            )
            raise InputError(msg)
        # Rounded outwards, so that intervals hold no less than they state.
        levels = np.array(_LEVELS) * (n_galaxies + 1)
        ranks = np.where(levels < (n_galaxies + 1) / 2, np.floor(levels), np.ceil(levels))
        ranks = np.unique(np.clip(ranks, 1, n_galaxies).astype(np.intp))
        positions = ordered[ranks - 1]
        rising = np.diff(positions, prepend=0.0) > 0
        inside = rising & (positions < 1)
        return cls(
            tuple(positions[inside].tolist()),
            tuple((ranks[inside] / (n_galaxies + 1)).tolist()),
            n_galaxies,
        )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ConformalMap:
        """Rebuild a map from its fields, as JSON holds them."""
        return cls(tuple(content["positions"]), tuple(content["levels"]), content["n_galaxies"])

    def apply(self, density: FloatArray, step: float) -> FloatArray:
        """Map a block of densities.

        Parameters
        ----------
        density
            Densities of shape ``(n_galaxies, n_z)``.
        step
            Distance between two points of the grid.
        """
        mass = 0.5 * step * (density[:, 1:] + density[:, :-1])
        before = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
        before /= before[:, -1:]
        after = np.interp(before, [0, *self.positions, 1], [0, *self.levels, 1])
        # Each cell keeps the shape that it had and takes its new mass; a point takes half of
        # the change of either side.
        old, new = np.diff(before, axis=1), np.diff(after, axis=1)
        gain = new / np.maximum(old, 1e-12)
        gain = 0.5 * (
            np.concatenate([gain[:, :1], gain], axis=1)
            + np.concatenate([gain, gain[:, -1:]], axis=1)
        )
        return normalise((density * gain).astype(density.dtype), step)
