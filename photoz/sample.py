"""Sample: galaxies of known redshift, and the parts of those that a model may see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photoz.augment import without_one_band
from photoz.features import PhotometricFeatures
from photoz.pdf import FloatArray
from photoz.photometry import ZERO_POINT, Photometry, State
from photoz.resolution import n_points
from photoz.survey import Survey
from photoz.weights import which_count

__all__ = ["FittedSamples", "Sample"]

# From this many rows on the validation rows alone serve for what five folds serve for below.
_MANY_ROWS = 50_000


@dataclass(frozen=True, eq=False)
class Sample:
    """Galaxies of known redshift.

    Parameters
    ----------
    photometry
        Their photometry.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    weight
        Sample weights of shape ``(n_galaxies,)``, or None if all are equal.
    reliability
        Probability that each redshift is right, shape ``(n_galaxies,)``, or None.
    """

    photometry: Photometry
    z_spec: FloatArray
    weight: FloatArray | None = None
    reliability: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.z_spec)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Sample:
        return replace(
            self,
            photometry=self.photometry[rows],
            z_spec=self.z_spec[rows],
            weight=None if self.weight is None else self.weight[rows],
            reliability=None if self.reliability is None else self.reliability[rows],
        )

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Whether weight and reliability of each galaxy are above 0, shape ``(n_galaxies,)``."""
        return which_count(len(self), self.weight, self.reliability)

    def with_missing_bands(self, random_state: int) -> Sample:
        """The galaxies, followed by the same each without one random band.

        Parameters
        ----------
        random_state
            Seed of the draw.
        """
        incomplete = without_one_band(self.photometry, random_state)
        return Sample(
            Photometry.concatenate([self.photometry, incomplete]),
            np.tile(self.z_spec, 2),
            None if self.weight is None else np.tile(self.weight, 2),
            None if self.reliability is None else np.tile(self.reliability, 2),
        )


@dataclass(frozen=True, eq=False)
class FittedSamples:
    """Galaxies that a model is made of.

    Parameters
    ----------
    fitted
        Training and validation galaxies, which the final fit sees.
    is_validation
        Which of them are validation rows, shape ``(n_fitted,)``.
    folds
        Fold of each of them, shape ``(n_fitted,)``; groups of the split stay together.
    """

    fitted: Sample
    is_validation: NDArray[np.bool_]
    folds: NDArray[np.integer]

    @property
    def train(self) -> Sample:
        """Galaxies that the fits of a search see."""
        return self.fitted[~self.is_validation]

    @property
    def validation(self) -> Sample:
        """Galaxies that score the fits of a search."""
        return self.fitted[self.is_validation]

    @property
    def has_many_rows(self) -> bool:
        """Whether the validation rows are enough to calibrate with, in two folds or more."""
        n_folds = len(np.unique(self.folds[self.is_validation]))
        return len(self.fitted) >= _MANY_ROWS and n_folds > 1

    def with_depths(self, survey: Survey) -> Survey:
        """Survey that names the depths which some fit to a part of the galaxies cannot learn.

        A band that was observed in a single group is detected nowhere in the fits that leave
        this group out: the depth that all galaxies teach is given to them.

        Parameters
        ----------
        survey
            Survey of the galaxies.

        Raises
        ------
        InputError
            If a band has neither a known depth nor any detected galaxy.
        """
        photometry, counts = self.fitted.photometry, self.fitted.counts
        detected = (photometry.state == State.DETECTED) & counts[:, np.newaxis]
        fits = [~self.is_validation, *(self.folds != fold for fold in np.unique(self.folds))]
        known = np.all([detected[rows].any(axis=0) for rows in fits], axis=0)
        if known.all():
            return survey
        learned = PhotometricFeatures().fit(photometry[counts], survey.depth).depth_
        depth = {
            band: ZERO_POINT - 2.5 * float(np.log10(learned[k]))
            for k, band in enumerate(survey.bands)
            if not known[k]
        }
        return survey.model_copy(update={"depth": {**depth, **survey.depth}})

    @property
    def z_max(self) -> float:
        """Upper end of the redshift grid: 5 per cent in 1 + z beyond the fitted redshifts."""
        return float(1.05 * (1 + self.fitted.z_spec[self.fitted.counts].max()) - 1)

    @property
    def n_z(self) -> int:
        """Points of the redshift grid."""
        return n_points(self.z_max)
