"""Truth: known redshifts, and the log score by which what is learned on p(z) is fitted."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from photoz.columns import unmasked
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.weights import check_reliability, check_weight

__all__ = ["N_FOLDS", "Truth", "assign_folds"]

N_FOLDS = 5
"""Folds where the caller names none."""

# Density (per unit redshift) with which a miss is credited, as in the metric log_loss: one
# wild galaxy must not set the widths of all the others.
_FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class Truth:
    """Redshifts that p(z) is scored against, and how far each of them counts.

    Parameters
    ----------
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    weight
        Weights of shape ``(n_galaxies,)``, of mean one.
    reliability
        Probability r that each redshift is right, shape ``(n_galaxies,)``.
    background
        Density of a wrong redshift, (1 − r) n(z), plus a floor; shape ``(n_galaxies,)``.
    """

    z_spec: FloatArray
    weight: FloatArray
    reliability: FloatArray
    background: FloatArray

    @classmethod
    def of(
        cls,
        pz: RedshiftPDF,
        z_spec: ArrayLike,
        sample_weight: ArrayLike | None = None,
        reliability: ArrayLike | None = None,
    ) -> Truth:
        """Check redshifts against the densities that they belong to.

        Parameters
        ----------
        pz
            Densities, stacked into the n(z) that wrong redshifts follow.
        z_spec
            Spectroscopic redshifts of shape ``(n_galaxies,)``.
        sample_weight
            Weights of shape ``(n_galaxies,)``; equal if left out.
        reliability
            Probability that each redshift is right, one for all or of shape
            ``(n_galaxies,)``; 1 if left out.
        """
        redshift = np.asarray(unmasked(z_spec), dtype=np.float64)
        if redshift.shape != (len(pz),) or not np.isfinite(redshift).all() or len(pz) < N_FOLDS:
            msg = (
                f"z_spec must hold a finite redshift for each of the {len(pz)} densities, and "
                f"{N_FOLDS} or more of them, got shape {redshift.shape}, "
                f"{np.count_nonzero(~np.isfinite(redshift))} of them not finite."
            )
            raise ValueError(msg)
        weight = check_weight(sample_weight, len(pz))
        right = check_reliability(1.0 if reliability is None else reliability, len(pz))
        n_of_z = np.interp(redshift, pz.z_grid, pz.n_of_z(weight), right=0)
        return cls(redshift, weight, right, _FLOOR + (1 - right) * n_of_z)

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Truth:
        return Truth(*(getattr(self, field.name)[rows] for field in fields(self)))

    def log_score(self, density: FloatArray) -> FloatArray:
        """Weighted ln(r p + background) of densities at `z_spec`, shape ``(n_galaxies,)``."""
        score: FloatArray = self.weight * np.log(self.reliability * density + self.background)
        return score

    def slope(self, density: FloatArray) -> FloatArray:
        """Derivative of `log_score` by ln p, shape ``(n_galaxies,)``."""
        explained = self.reliability * density
        slope: FloatArray = self.weight * explained / (explained + self.background)
        return slope

    def trust(self, density: FloatArray) -> FloatArray:
        """Weight times the probability that `z_spec` is right, given densities there."""
        explained = self.reliability * density + _FLOOR
        wrong = self.background - _FLOOR
        trust: FloatArray = self.weight * explained / (explained + wrong)
        return trust


def assign_folds(n_galaxies: int, folds: ArrayLike | None) -> list[NDArray[np.bool_]]:
    """Galaxies of each fold, as masks of shape ``(n_galaxies,)``.

    Parameters
    ----------
    n_galaxies
        Number of galaxies.
    folds
        Label of each galaxy, shape ``(n_galaxies,)``; random ones if None.
    """
    if folds is None:
        folds = np.random.default_rng(0).permutation(n_galaxies) % N_FOLDS
    labels = unmasked(folds)
    missing = np.asarray(pd.isna(labels))
    found = np.unique(labels[~missing])
    # A galaxy of no fold would be left without a density.
    if labels.shape != (n_galaxies,) or missing.any() or len(found) < 2:
        msg = (
            f"folds must hold a label for each of {n_galaxies} galaxies, at least two different "
            f"ones, got shape {labels.shape} with {len(found)}, {missing.sum()} missing."
        )
        raise ValueError(msg)
    return [labels == label for label in found]
