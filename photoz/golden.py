"""Golden rows: made-up galaxies by which a loaded model shows that it predicts as it did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.blend import single_models
from photoz.errors import InputError
from photoz.model import FittedModel
from photoz.photometry import ZERO_POINT, Photometry, State
from photoz.survey import Survey

__all__ = ["check_bands", "golden_rows", "replay"]

_N_ROWS = 16
# Largest difference, in units of the peak.
_TOLERANCE = 1e-3


def check_bands(model: FittedModel) -> None:
    """Raise `InputError` if a model has a band in which no training galaxy was observed.

    Of a blend it is enough that one member has such a band.
    """
    ranges = [member.training_range for member in single_models(model)]
    unknown = [
        band
        for band in model.survey.bands
        if not np.isfinite([known[band] for known in ranges]).all()
    ]
    if unknown:
        msg = (
            f"no training galaxy was observed in {', '.join(unknown)}; fit the model again with a "
            "survey without such bands."
        )
        raise InputError(msg)


def golden_rows(model: FittedModel) -> dict[str, Any]:
    """Made-up galaxies within the training range, and the densities that they get.

    Parameters
    ----------
    model
        A fitted model.

    Returns
    -------
    dict
        Fluxes, errors (nJy), further inputs and densities, as JSON can hold them.
    """
    generator = np.random.default_rng(0)
    bands = model.survey.bands
    ranges = single_models(model)[0].training_range
    low, high = (np.array([ranges[band][end] for band in bands]) for end in (0, 1))
    magnitude = low + (high - low) * generator.random((_N_ROWS, len(bands)))
    flux = 10 ** (-0.4 * (magnitude - ZERO_POINT))
    n_extra = len(model.survey.extra)
    rows = {
        "flux_njy": flux.tolist(),
        "flux_error_njy": (0.05 * flux).tolist(),
        "extra": generator.random((_N_ROWS, n_extra)).tolist(),
    }
    density = model.predict_pdf(_photometry(rows, model.survey)).density
    return {**rows, "density": [[float(f"{p:.6g}") for p in row] for row in density]}


def _photometry(rows: Mapping[str, Any], survey: Survey) -> Photometry:
    flux = np.array(rows["flux_njy"], dtype=np.float64)
    return Photometry(
        survey.bands,
        flux,
        np.array(rows["flux_error_njy"], dtype=np.float64),
        np.full(flux.shape, State.DETECTED, dtype=np.uint8),
        np.array(rows["extra"], dtype=np.float64).reshape(len(flux), len(survey.extra)),
        survey.extra,
    )


def replay(model: FittedModel, golden: Mapping[str, Any], directory: Path) -> None:
    """Predict golden rows again, and compare.

    Parameters
    ----------
    model
        The model as it was loaded.
    golden
        What `golden_rows` gave when it was saved.
    directory
        Its bundle, for the error message.

    Raises
    ------
    InputError
        If a density is another than it was.
    """
    expected: NDArray[np.float64] = np.array(golden["density"], dtype=np.float64)
    density = model.predict_pdf(_photometry(golden, model.survey)).density
    peak = expected.max(axis=1, keepdims=True)
    difference = float((np.abs(density - expected) / peak).max())
    if not difference <= _TOLERANCE:
        msg = (
            f"{directory} predicts its golden rows {difference:.2g} of the peak off, allowed are "
            f"{_TOLERANCE:g}; the libraries here differ from those it was made with "
            f"({model.provenance.get('versions', 'unknown')})."
        )
        raise InputError(msg)
