"""The form ``mixture`` of p(z): Gaussians as they were predicted, and what calibrates them.

A calibrated density is no mixture of Gaussians any more. A catalogue holds the mixture that the
model gave, and of each galaxy the one number that its calibration needs beside: so p(z) comes back
as the model gave it, and not as something near to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.calibration import Calibration
from photoz.columns import unmasked
from photoz.errors import InputError
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.photometry import Photometry

__all__ = ["check_mixture", "mixtures_of", "pdf_from_mixtures"]


def check_mixture(model: FittedModel) -> PhotozModel:
    """The model, if its p(z) are mixtures.

    Raises
    ------
    InputError
        If they are not.
    """
    if isinstance(model, PhotozModel) and hasattr(model.estimator, "predict_mixture"):
        return model
    found = model.estimator if isinstance(model, PhotozModel) else model
    msg = (
        "expected a model whose p(z) are mixtures (boosting or network), found "
        f"{type(found).__name__}; ask for quantiles or a grid (--pdf)."
    )
    raise InputError(msg)


def mixtures_of(model: FittedModel, photometry: Photometry) -> NDArray[np.float32]:
    """Mixtures of galaxies before calibration, and what their calibration needs.

    Parameters
    ----------
    model
        A fitted model of boosting or a network.
    photometry
        Photometry in the survey's bands.

    Returns
    -------
    ndarray of shape (n_galaxies, 3 * n_components + 1)
        Weights, means and standard deviations in redshift, and what
        `Calibration.known_log_beta` gives.

    Raises
    ------
    InputError
        If the model gives no mixtures.
    """
    checked = check_mixture(model)
    X = checked.features.transform(photometry)
    parts = checked.estimator.predict_mixture(X)
    log_beta = (checked.calibration or Calibration()).known_log_beta(X)
    return np.concatenate([*parts, log_beta[:, np.newaxis]], axis=1, dtype=np.float32)


def pdf_from_mixtures(
    z_grid: ArrayLike, mixtures: ArrayLike, calibration: Mapping[str, Any] | None
) -> RedshiftPDF:
    """Read back calibrated densities from the mixtures that a prediction holds.

    Parameters
    ----------
    z_grid
        Redshifts of shape ``(n_z,)``; the model's own grid gives the model's own densities.
    mixtures
        What `mixtures_of` gave, shape ``(n_galaxies, 3 * n_components + 1)``. Leave out the
        galaxies without usable photometry, whose mixtures are NaN.
    calibration
        What `Calibration.to_dict` gave of the calibration once `Calibration.reduced`, None
        without one.

    Returns
    -------
    RedshiftPDF

    Raises
    ------
    ValueError
        If the mixtures are not of that shape, or one is NaN.
    """
    given = np.asarray(unmasked(mixtures), dtype=np.float32)
    if given.ndim != 2 or given.shape[1] % 3 != 1:
        msg = (
            "mixtures must have shape (n_galaxies, 3 * n_components + 1), got shape "
            f"{given.shape}."
        )
        raise ValueError(msg)
    weights, means, sigmas = np.split(given[:, :-1], 3, axis=1)
    pz = RedshiftPDF.from_mixture(z_grid, weights, means, sigmas)
    return (
        pz if calibration is None else Calibration.from_dict(calibration).apply(pz, given[:, -1:])
    )
