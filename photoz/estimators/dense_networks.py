"""Dense networks and their Gaussian mixtures as they predict: arrays, and numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from photoz.threads import one_blas_thread

__all__ = ["SMALLEST_MASS", "DenseNetworks", "MixtureHead"]

Floats = NDArray[np.float32]

_ROWS = 512
"""Galaxies per pass, whose activations stay in a processor's cache. Always the same number,
filled up: a matrix product of another shape may round differently, and p(z) would depend on the
others."""

SMALLEST_MASS = 1e-6
"""Part of a component within the grid that is reckoned with at least."""

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
        mass = (weight * np.maximum(inside, SMALLEST_MASS)).sum(axis=2, keepdims=True)
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

    Raises
    ------
    ValueError
        If the layers do not follow on each other.
    """

    weights: Sequence[Floats]
    biases: Sequence[Floats]
    head: MixtureHead

    def __post_init__(self) -> None:
        shapes = [weight.shape for weight in self.weights]
        follow = all(one[:2] == (other[0], other[2]) for one, other in pairwise(shapes))
        biased = [bias.shape for bias in self.biases] == [(*shape[:2], 1) for shape in shapes]
        if not (follow and biased and shapes[-1][1] % 3 == 0):
            msg = f"expected layers that follow on each other, found weights of shapes {shapes}."
            raise ValueError(msg)

    @property
    def n_gaussians(self) -> int:
        """Gaussians of a galaxy's mixture, those of all members."""
        members, n_outputs, _ = self.weights[-1].shape
        return int(members * n_outputs // 3)

    def mixture(self, inputs: Floats) -> tuple[Floats, Floats, Floats]:
        """Mixtures of galaxies, as `MixtureHead.mixture` gives them.

        Parameters
        ----------
        inputs
            Shape ``(n_galaxies, n_inputs)``.
        """
        members = len(self.weights[-1])
        found = np.empty((3, len(inputs), self.n_gaussians), dtype=np.float32)
        chunk = np.zeros((_ROWS, inputs.shape[1]), dtype=np.float32)
        with one_blas_thread():
            for start in range(0, len(inputs), _ROWS):
                some = inputs[start : start + _ROWS]
                chunk[: len(some)] = some
                raw = np.stack([self._raw(chunk, member) for member in range(members)])
                for target, part in zip(found, self.head.mixture(raw), strict=True):
                    target[start : start + _ROWS] = part[: len(some)]
        return found[0], found[1], found[2]

    def _raw(self, inputs: Floats, member: int) -> Floats:
        """Raw outputs of one member, shape ``(n_rows, 3 * n_components)``."""
        x, last = inputs, len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight[member].T
            x += bias[member].T
            if layer < last:
                _activate(x)
        return x


def _activate(x: Floats) -> None:
    """Apply x / (1 + exp(-x)) in place."""
    exponential = np.negative(x)
    np.minimum(exponential, _LARGEST_EXPONENT, out=exponential)
    np.exp(exponential, out=exponential)
    exponential += 1
    x /= exponential


def _side_by_side(part: NDArray[Any]) -> Floats:
    """The members' components in one row: from (members, n_rows, n) to (n_rows, members * n)."""
    return part.transpose(1, 0, 2).reshape(part.shape[1], -1)
