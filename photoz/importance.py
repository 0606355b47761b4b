"""Importance: what a model loses when the measurements of one band are shuffled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.metrics import log_loss_per_galaxy
from photoz.model import FittedModel
from photoz.photometry import Photometry

__all__ = ["Importance", "permutation_importance"]


@dataclass(frozen=True)
class Importance:
    """What the measurements of one band are worth to a model.

    Parameters
    ----------
    name
        The band, or the name of a further input column.
    log_loss
        Rise of the mean log loss when its fluxes and errors are those of other galaxies: 0
        for a band that the model does not use, or that the others replace.
    standard_error
        1-sigma sampling error of the rise.
    """

    name: str
    log_loss: float
    standard_error: float


def permutation_importance(
    model: FittedModel,
    photometry: Photometry,
    z_spec: ArrayLike,
    *,
    n_galaxies: int = 2000,
    random_state: int = 0,
) -> tuple[Importance, ...]:
    """Importance of each band, and of each further input column, by permutation.

    Flux, error and state of a band are shuffled together between galaxies, so that the
    measurements stay ones that occur.

    Parameters
    ----------
    model
        A fitted model; its uncalibrated densities are scored.
    photometry, z_spec
        Galaxies that the fit has not seen, and their spectroscopic redshifts of shape
        ``(n_galaxies,)``.
    n_galaxies
        Most galaxies to use; they are drawn at random where there are more.
    random_state
        Seed of the draw and of the permutations.

    References
    ----------
    Breiman (2001), https://doi.org/10.1023/A:1010933404324
    """
    generator = np.random.default_rng(random_state)
    rows = np.sort(generator.permutation(len(photometry))[:n_galaxies])
    photometry, truth = photometry[rows], np.asarray(z_spec, dtype=np.float64)[rows]
    intact = log_loss_per_galaxy(truth, model.predict_pdf(photometry, calibrated=False))
    found = []
    for name, shuffled in _shuffled(photometry, generator.permutation(len(rows))):
        loss = log_loss_per_galaxy(truth, model.predict_pdf(shuffled, calibrated=False))
        rise = loss - intact
        found.append(Importance(name, float(rise.mean()), float(rise.std() / len(rows) ** 0.5)))
    return tuple(found)


def _shuffled(
    photometry: Photometry, order: NDArray[np.integer]
) -> Iterator[tuple[str, Photometry]]:
    """Photometry with one input after the other in that order, and the name of the input."""
    for k, band in enumerate(photometry.bands):
        fields = {
            name: getattr(photometry, name).copy() for name in ("flux", "flux_error", "state")
        }
        for values in fields.values():
            values[:, k] = values[order, k]
        yield band, replace(photometry, **fields)
    for k, name in enumerate(photometry.extra_names):
        extra = photometry.extra.copy()
        extra[:, k] = extra[order, k]
        yield name, replace(photometry, extra=extra)
