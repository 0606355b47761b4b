"""PhotozBlend: several fitted models as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.calibration import Calibration
from photoz.features import PhotometricFeatures
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.photometry import Photometry
from photoz.pooling import Pool
from photoz.survey import Survey

__all__ = ["PhotozBlend", "Pool", "single_models"]


class PhotozBlend:
    """Several fitted models as one: their densities pooled, then calibrated.

    Parameters
    ----------
    members
        Fitted models by name, of one survey and one redshift grid. Their own calibrations
        are not used: the pool is fitted to uncalibrated densities.
    pool
        Weights of the members, in their order, and the way they are combined.
    calibration
        Calibration of the pooled densities; its features are those of the first member.

    Attributes
    ----------
    provenance
        Where the blend comes from: hashes of data and split, seed, date, versions, metrics.

    Raises
    ------
    ValueError
        If there are not as many members as weights, or they differ in survey or grid.
    """

    def __init__(
        self,
        members: Mapping[str, PhotozModel],
        pool: Pool,
        calibration: Calibration | None = None,
    ) -> None:
        self.members = dict(members)
        self.pool = pool
        self.calibration = calibration
        self.provenance: dict[str, Any] = {}
        if len(self.members) != len(pool.weights):
            msg = (
                f"expected {len(pool.weights)} members, as the pool has weights, got {[*members]}."
            )
            raise ValueError(msg)
        for name, member in self.members.items():
            same_grid = np.array_equal(member.z_grid, self.z_grid)
            if member.survey != self.survey or not same_grid:
                msg = (
                    f"member {name!r} has another survey or redshift grid than "
                    f"{next(iter(self.members))!r}; fit all members with the same z_max and n_z."
                )
                raise ValueError(msg)

    @property
    def survey(self) -> Survey:
        """Survey of the members."""
        return self._first.survey

    @property
    def z_grid(self) -> FloatArray:
        """Redshift grid of the predictions, shape ``(n_z,)``."""
        return self._first.z_grid

    @property
    def optional_bands(self) -> tuple[str, ...]:
        """Bands that every member can do without."""
        shared = (set(member.optional_bands) for member in self.members.values())
        common = set.intersection(*shared)
        return tuple(band for band in self.survey.bands if band in common)

    @property
    def features(self) -> PhotometricFeatures:
        """Features that the calibration sees: those of the first member."""
        return self._first.features

    @property
    def _first(self) -> PhotozModel:
        return next(iter(self.members.values()))

    def predict_pdf(self, photometry: Photometry, *, calibrated: bool = True) -> RedshiftPDF:
        """Redshift densities of galaxies.

        Parameters
        ----------
        photometry
            Photometry in the survey's bands.
        calibrated
            Whether the calibration, if there is one, is applied.
        """
        pz = self.pool.apply(
            [member.predict_pdf(photometry, calibrated=False) for member in self.members.values()]
        )
        if self.calibration is None or not calibrated:
            return pz
        return self.calibration.apply(pz, self.features.transform(photometry))

    def outside_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy lies outside the training range in any band, or in its colours.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        """
        return self._first.outside_training(photometry)

    def seen_in_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy is one that a member's fit has seen, as far as that is known.

        Returns
        -------
        ndarray of shape (n_galaxies,)
        """
        seen = [member.seen_in_training(photometry) for member in self.members.values()]
        return np.asarray(np.any(seen, axis=0))


def single_models(model: FittedModel) -> list[PhotozModel]:
    """The members of a blend, or the model itself."""
    if isinstance(model, PhotozBlend):
        return list(model.members.values())
    return [model] if isinstance(model, PhotozModel) else []
