"""MixtureLikelihood: gradient and curvature of the likelihood of Gaussian mixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photoz.estimators.base import Rows
from photoz.pdf import FloatArray

__all__ = ["MixtureLikelihood", "mixture_of", "starting_scores"]

_FLOOR = 0.01
_LOWEST_DENSITY = 1e-4


@dataclass(frozen=True, eq=False)
class MixtureLikelihood:
    """Log likelihood of galaxies as a function of the scores of their mixtures.

    The scores of a galaxy are the logits of its weights, its means (redshift) and the
    logarithms of its widths. The standard deviation is ``hypot(exp(score), narrowest)``, so
    that no component becomes narrower than `narrowest`.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    narrowest
        Lower limit of the standard deviations.
    z_max
        Upper end of the redshifts, and upper limit of the standard deviations.
    reliability, background
        Probability r that each redshift is right, and density of wrong ones at it: the
        likelihood is r p(z) + (1 - r) `background`. Shapes ``(n_galaxies,)``.
    """

    z_spec: FloatArray
    narrowest: float
    z_max: float
    reliability: FloatArray | None = None
    background: FloatArray | None = None

    def __getitem__(self, rows: NDArray[np.intp]) -> MixtureLikelihood:
        return MixtureLikelihood(
            self.z_spec[rows],
            self.narrowest,
            self.z_max,
            None if self.reliability is None else self.reliability[rows],
            None if self.background is None else self.background[rows],
        )

    def loss(self, scores: FloatArray) -> float:
        """Mean of -log likelihood, with the floor of the metric log_loss.

        Parameters
        ----------
        scores
            Shape ``(3 * n_components, n_galaxies)``.
        """
        _, variance, u2, log_weight = self._parts(scores)
        log_p = np.logaddexp.reduce(log_weight - 0.5 * (np.log(variance) + u2), axis=0)
        log_p -= 0.5 * np.log(2 * np.pi)
        if self.reliability is not None and self.background is not None:
            wrong = (1 - self.reliability) * self.background
            log_p = np.log(self.reliability * np.exp(log_p) + wrong + 1e-30)
        return -float(np.maximum(log_p, np.log(_LOWEST_DENSITY)).mean())

    def derivatives(self, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient of -log likelihood, and a curvature that is positive everywhere.

        The curvature is that of the expectation-maximisation bound, with a floor: its mean
        over galaxies is Fisher's information, and no Newton step made of it overshoots.

        Parameters
        ----------
        scores
            Shape ``(3 * n_components, n_galaxies)``.

        Returns
        -------
        ndarray, ndarray
            Of the shape of `scores`.
        """
        offset, variance, u2, log_weight = self._parts(scores)
        share = np.exp(log_weight)
        part = log_weight - 0.5 * (np.log(variance) + u2)
        top = part.max(axis=0)
        response = np.exp(part - top)
        total = response.sum(axis=0)
        response /= total
        # How much of the variance the score can change: nothing, at the narrowest.
        movable = 1 - np.float32(self.narrowest) ** 2 / variance
        gradient = np.concatenate(
            [share - response, -response * offset / variance, response * (1 - u2) * movable]
        )
        known = response + _FLOOR
        curvature = np.concatenate(
            [
                share * (1 - share) + _FLOOR,
                known / variance,
                known * (1 + u2) * movable**2 + _FLOOR,
            ]
        )
        if self.reliability is not None and self.background is not None:
            right = self.reliability * total * np.exp(top) / np.sqrt(2 * np.pi)
            right = right / (right + (1 - self.reliability) * self.background + 1e-30)
            gradient *= right.astype(np.float32)
        return gradient, curvature

    def _parts(self, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Offset, variance, squared deviation in sigmas and log weight of each component."""
        logits, means, widths = scores.reshape(3, -1, scores.shape[1])
        highest = np.log(np.float32(self.z_max))
        variance = np.exp(2 * np.minimum(widths, highest)) + np.float32(self.narrowest) ** 2
        offset = self.z_spec.astype(scores.dtype) - means
        log_weight = logits - np.logaddexp.reduce(logits, axis=0)
        return offset, variance, offset**2 / variance, np.maximum(log_weight, -60)


def mixture_of(
    scores: FloatArray, narrowest: float, z_max: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights of sum one, means and standard deviations that scores stand for.

    Parameters
    ----------
    scores
        Shape ``(n_galaxies, 3 * n_components)``.
    narrowest, z_max
        As in `MixtureLikelihood`.

    Returns
    -------
    ndarray, ndarray, ndarray
        Each of shape ``(n_galaxies, n_components)``.
    """
    logits, means, widths = np.split(scores, 3, axis=1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    sigmas = np.hypot(np.exp(np.minimum(widths, np.log(z_max))), narrowest)
    # A component far beyond the grid would leave nothing on it but zeros.
    return weights, np.clip(means, -4 * sigmas, z_max + 4 * sigmas), sigmas


def starting_scores(rows: Rows, n_components: int, narrowest: float) -> FloatArray:
    """Equal components between quantiles of redshift, shape ``(3 * n_components,)``."""
    levels = np.linspace(0, 1, n_components + 1)
    edges = np.quantile(rows.z_spec, levels, weights=rows.weight, method="inverted_cdf")
    scatter = np.sqrt(np.cov(rows.z_spec, aweights=rows.weight, ddof=0))
    width = np.log(max(float(scatter) / n_components, narrowest))
    middle = (edges[1:] + edges[:-1]) / 2
    return np.concatenate([np.zeros(n_components), middle, np.full(n_components, width)])
