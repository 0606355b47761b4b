"""PhotometricFeatures: from photometry to the feature matrix that estimators see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.pdf import FloatArray
from photoz.photometry import ZERO_POINT, Photometry, State

__all__ = ["PhotometricFeatures"]

_FAINTEST_SHARE = 0.1


class PhotometricFeatures:
    """Luptitudes, adjacent colours and, if wanted, logarithmic flux errors.

    A band that was not observed gives NaN in every feature that needs it. A band that was
    not detected has flux 0, which a luptitude can express, so that the two stay apart.

    Parameters
    ----------
    errors
        Whether the errors are features: they carry depth, and in real surveys size and
        surface brightness.

    Attributes
    ----------
    depth_
        1-sigma flux error (nJy) of a faint source in each band, shape ``(n_bands,)``. It is
        the softening of the luptitudes and the error of measurements not detected.
    """

    def __init__(self, *, errors: bool = True) -> None:
        self.errors = errors

    bands_: tuple[str, ...]
    extra_names_: tuple[str, ...]
    depth_: FloatArray

    def fit(self, photometry: Photometry, depth: Mapping[str, float] | None = None) -> Self:
        """Learn the depth of each band from training galaxies.

        Parameters
        ----------
        photometry
            Photometry of the training galaxies.
        depth
            Known 1-sigma depths (AB mag) by band; the others are the median error of the
            tenth of the detected galaxies that is faintest in the band.

        Raises
        ------
        InputError
            If a band has neither a known depth nor a detected galaxy.
        """
        known = depth or {}
        self.bands_ = photometry.bands
        self.extra_names_ = photometry.extra_names
        self.depth_ = np.array(
            [
                10 ** (-0.4 * (known[band] - ZERO_POINT))
                if band in known
                else _learn_depth(photometry, index)
                for index, band in enumerate(photometry.bands)
            ]
        )
        return self

    @property
    def names(self) -> list[str]:
        """Names of the features, in the order of the columns of `transform`."""
        colours = [f"{a}-{b}" for a, b in zip(self.bands_, self.bands_[1:], strict=False)]
        errors = [f"log_error_{band}" for band in self.bands_] if self.errors else []
        return [*self.bands_, *colours, *errors, *self.extra_names_]

    def transform(self, photometry: Photometry) -> NDArray[np.float32]:
        """Features of galaxies, shape ``(n_galaxies, n_features)``, NaN where not observed.

        Raises
        ------
        InputError
            If the bands or the extra columns differ from those of `fit`.
        """
        photometry.check_columns(self.bands_, self.extra_names_)
        luptitude = photometry.luptitude(self.depth_)
        blocks = [luptitude, -np.diff(luptitude, axis=1)]
        if self.errors:
            blocks.append(np.log10(photometry.with_depth(self.depth_).flux_error))
        blocks.append(photometry.extra)
        return np.concatenate(blocks, axis=1, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Settings and learned depths (nJy), as JSON can hold them."""
        return {
            "errors": self.errors,
            "bands": list(self.bands_),
            "extra": list(self.extra_names_),
            "depth_njy": self.depth_.tolist(),
            "names": self.names,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> PhotometricFeatures:
        """Rebuild what `to_dict` described."""
        features = cls(errors=content["errors"])
        features.bands_ = tuple(content["bands"])
        features.extra_names_ = tuple(content["extra"])
        features.depth_ = np.array(content["depth_njy"], dtype=np.float64)
        return features


def _learn_depth(photometry: Photometry, index: int) -> float:
    detected = photometry.state[:, index] == State.DETECTED
    if not detected.any():
        msg = (
            f"no galaxy is detected in band {photometry.bands[index]!r}, so its depth cannot be "
            "learned; give it in [survey] depth or leave the band out."
        )
        raise InputError(msg)
    flux = photometry.flux[detected, index]
    error = photometry.flux_error[detected, index]
    return float(np.median(error[flux <= np.quantile(flux, _FAINTEST_SHARE)]))
