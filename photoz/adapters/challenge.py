"""The DESC PZ Data Challenge: its two functions, on its files, with qp output.

A file holds plain HDF5 columns: ``redshift``, ``ra``, ``dec``, ``object_id`` and, for the bands
ugrizy of Rubin and some of Roman, ``mag_g_lsst`` with ``mag_g_lsst_err`` or ``mag_Y_roman`` with
``mag_Y_roman_err`` (AB mag); NaN is a band in which the galaxy was not detected. The challenge
calls the functions by the number of the set of tasks; all four sets are served alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from photoz.adapters.qp import to_qp
from photoz.bundle import load_model, save_model
from photoz.catalogue import column_names, read
from photoz.errors import InputError
from photoz.model import FittedModel
from photoz.pdf import RedshiftPDF
from photoz.prediction import prediction_columns
from photoz.survey import Survey
from photoz.training import train_model

__all__ = ["run_estimation_only", "run_training_and_estimation"]

_BANDS = ("u_lsst", "g_lsst", "r_lsst", "i_lsst", "z_lsst", "y_lsst")
_ROMAN = ("Y_roman", "J_roman", "H_roman")
_UNUSABLE = 32


def run_training_and_estimation(
    train_file: str | Path,
    test_file: str | Path,
    output_file: str | Path,
    *,
    model_file: str | Path | None = None,
    estimators: Sequence[str] = ("forest", "boosting", "network"),
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> None:
    """Train on one file, estimate the redshifts of another.

    Parameters
    ----------
    train_file
        Galaxies of known redshift; the model uses the bands that this file has.
    test_file
        Galaxies to estimate.
    output_file
        qp file to write, with the ancillary columns ``object_id`` and ``zmode``.
    model_file
        Bundle to keep for `run_estimation_only`, a ``.zip`` file; none if left out.
    estimators
        What to train; more than one are blended.
    parameters, seed
        As in `photoz.training.train_model`.

    Raises
    ------
    InputError
        If a file cannot be used.
    """
    survey = _survey(Path(train_file))
    galaxies = read(Path(train_file), survey, training=True)
    model = train_model(galaxies, survey, estimators, parameters, seed=seed)
    if model_file is not None:
        save_model(model, model_file)
    _estimate(model, Path(test_file), Path(output_file))


def run_estimation_only(
    model_file: str | Path, test_file: str | Path, output_file: str | Path
) -> None:
    """Estimate redshifts with a model that was trained before.

    Parameters
    ----------
    model_file
        Bundle that `run_training_and_estimation` or an experiment wrote.
    test_file, output_file
        As in `run_training_and_estimation`.

    Raises
    ------
    InputError
        If the model or a file cannot be used.
    """
    _estimate(load_model(model_file), Path(test_file), Path(output_file))


run_taskset_1_training_and_estimation = run_training_and_estimation
run_taskset_2_training_and_estimation = run_training_and_estimation
run_taskset_3_training_and_estimation = run_training_and_estimation
run_taskset_4_training_and_estimation = run_training_and_estimation
run_taskset_1_estimation_only = run_estimation_only
run_taskset_2_estimation_only = run_estimation_only
run_taskset_3_estimation_only = run_estimation_only
run_taskset_4_estimation_only = run_estimation_only


def _survey(path: Path) -> Survey:
    """Survey of the bands that a file of the challenge has."""
    names = column_names(path)
    bands = [band for band in (*_BANDS, *_ROMAN) if f"mag_{band}" in names]
    if not bands:
        msg = (
            f"{path}: expected columns such as mag_g_lsst and mag_g_lsst_err, found "
            f"{', '.join(names[:20]) or 'none'}; give a file of the challenge."
        )
        raise InputError(msg)
    return Survey(
        bands=tuple(bands),
        magnitude="mag_{band}",
        error="mag_{band}_err",
        not_detected=(np.nan,),
        redshift="redshift",
        id="object_id",
    )


def _estimate(model: FittedModel, test_file: Path, output_file: Path) -> None:
    galaxies = read(test_file, model.survey, optional_bands=model.optional_bands)
    found = prediction_columns(model, galaxies.photometry, pdf="grid")
    usable = found["photoz_flag"].astype(np.int32) & _UNUSABLE == 0
    pz = RedshiftPDF(model.z_grid, found["photoz_density"][usable])
    to_qp(pz, galaxies.object_id, usable=usable).write_to(str(output_file))
