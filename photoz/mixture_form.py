"""The form ``mixture`` of p(z): Gaussians as they were predicted, and what calibrates them.

A calibrated density is no mixture of Gaussians any more. A catalogue holds the mixture that the
model gave, and of each galaxy the one number that its calibration needs beside: so p(z) comes back
as the model gave it, and not as something near to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.calibration import Calibration
from photoz.errors import InputError
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.photometry import Photometry

__all__ = ["check_mixture", "known_log_beta", "mixtures_of", "pdf_from_mixtures", "reduced"]

# Wider than any ln β, so that no value is held at the end of a range.
_RANGE = 100.0


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
        Weights, means and standard deviations in redshift, and `known_log_beta`.

    Raises
    ------
    InputError
        If the model gives no mixtures.
    """
    checked = check_mixture(model)
    X = checked.features.transform(photometry)
    parts = checked.estimator.predict_mixture(X)
    log_beta = known_log_beta(checked.calibration, X)[:, np.newaxis]
    return np.concatenate([*parts, log_beta], axis=1, dtype=np.float32)


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
        What `Calibration.to_dict` gave of a `reduced` calibration, None without one.

    Returns
    -------
    RedshiftPDF

    Raises
    ------
    ValueError
        If the mixtures are not of that shape, or one is NaN.
    """
    given = np.asarray(mixtures, dtype=np.float32)
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


def known_log_beta(calibration: Calibration | None, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Part of ln β, the logarithm of the power, that does not depend on the density.

    Parameters
    ----------
    calibration
        A calibration; 0 without one, or if it has no temperature.
    X
        Features of shape ``(n_galaxies, n_features)``.

    Returns
    -------
    ndarray of shape (n_galaxies,)
    """
    if calibration is None or calibration.temperature is None:
        return np.zeros(len(X))
    temperature = calibration.temperature
    average = np.full(len(X), temperature.centres[1])
    covariates = temperature.covariates(X.astype(np.float64), average)
    return np.asarray(covariates @ np.array(temperature.coefficients), dtype=np.float64)


def reduced(calibration: Calibration | None) -> Calibration | None:
    """The same calibration, of which the only feature is `known_log_beta`."""
    if calibration is None or calibration.temperature is None:
        return calibration
    temperature = calibration.temperature
    same = replace(
        temperature,
        coefficients=(0.0, _RANGE, temperature.coefficients[2]),
        columns=(0,),
        column_centres=(0.0,),
        centres=(0.0, temperature.centres[1]),
        scales=(_RANGE, temperature.scales[1]),
        missing=(),
    )
    return replace(calibration, temperature=same)
