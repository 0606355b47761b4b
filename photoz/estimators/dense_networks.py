"""Dense networks and their Gaussian mixtures as they predict: arrays, and numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

__all__ = ["DenseNetworks", "MixtureHead"]

Floats = NDArray[np.float32]

_ROWS = 2048
"""Galaxies per pass through the networks. Always the same number, filled up with zeros: a
matrix product of another shape may round differently, and p(z) would depend on the others."""

_SMALLEST_MASS = 1e-6
# exp of more is infinite in single precision.
_LARGEST_EXPONENT = 80


@dataclass(frozen=True)
class MixtureHead:
    """From raw outputs to Gaussian mixtures in redshift, cut off at 0 and `z_max`.

    Parameters
    ----------
    location, scale
        Redshifts that the raw outputs 0 and 1 stand for: their mean and scatter.
    narrowest
        Lower limit of the standard deviations.
    z_max
        Upper end of the redshifts.
    """

    location: float
    scale: float
    narrowest: float
    z_max: float

    def mixture(self, raw: Floats) -> tuple[Floats, Floats, Floats]:
        """One mixture of all members: weights of sum one, means and standard deviations.

        Its part between 0 and `z_max`, normalised, is the mean of the members' densities.

        Parameters
        ----------
        raw
            Shape ``(members, n_rows, 3 * n_components)``.

        Returns
        -------
        weights, means, sigmas : ndarray of shape (n_rows, members * n_components)
        """
        logit, mean, width = np.split(raw, 3, axis=2)
        mean = self.location + self.scale * mean
        sigma = self.narrowest + self.scale * np.logaddexp(width, np.float32(0))
        unit = math.sqrt(0.5) / sigma
        inside = 0.5 * (erf((self.z_max - mean) * unit) + erf(mean * unit))
        # Each member counts alike within the grid, however much of it lies beyond.
        weight: Floats = np.exp(logit - logit.max(axis=2, keepdims=True))
        mass = (weight * np.maximum(inside, _SMALLEST_MASS)).sum(axis=2, keepdims=True)
        weight = _side_by_side(weight / mass)
        # A component far beyond the grid would leave nothing on it but zeros.
        mean = np.clip(mean, -4 * sigma, self.z_max + 4 * sigma)
        weight /= weight.sum(axis=1, keepdims=True)
        return weight, _side_by_side(mean), _side_by_side(sigma)


@dataclass(frozen=True, eq=False)
class DenseNetworks:
    """Trained networks of one shape, whose mixtures are put together.

    Parameters
    ----------
    weights, biases
        Of each layer, shapes ``(members, n_out, n_in)`` and ``(members, n_out, 1)``.
    head
        What the outputs mean.
    """

    weights: Sequence[Floats]
    biases: Sequence[Floats]
    head: MixtureHead

    @property
    def members(self) -> int:
        """Number of networks."""
        return len(self.weights[0])

    def mixture(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Mixtures of galaxies, as `MixtureHead.mixture` gives them.

        Parameters
        ----------
        inputs
            Shape ``(n_galaxies, n_inputs)``.
        """
        n_components = self.weights[-1].shape[1] // 3
        found = np.empty((3, len(inputs), self.members * n_components), dtype=np.float32)
        chunk = np.zeros((_ROWS, inputs.shape[1]), dtype=np.float32)
        for start in range(0, len(inputs), _ROWS):
            some = inputs[start : start + _ROWS]
            chunk[: len(some)] = some
            for target, part in zip(found, self.head.mixture(self._raw(chunk)), strict=True):
                target[start : start + _ROWS] = part[: len(some)]
        return found[0], found[1], found[2]

    def _raw(self, inputs: Floats) -> Floats:
        """Raw outputs of shape ``(members, n_rows, 3 * n_components)``."""
        x, last = inputs, len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = np.matmul(x, weight.transpose(0, 2, 1))
            x += bias.transpose(0, 2, 1)
            if layer < last:
                x /= 1 + np.exp(np.minimum(-x, _LARGEST_EXPONENT))
        return x


def _side_by_side(part: NDArray[Any]) -> Floats:
    """The members' components in one row: from (members, n_rows, n) to (n_rows, members * n)."""
    return part.transpose(1, 0, 2).reshape(part.shape[1], -1)
