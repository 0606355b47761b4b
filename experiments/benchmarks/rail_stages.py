"""RAIL's estimators: their stages, what they are told, and what a search may try of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.estimators.base import Choice, Range
from photoz.pdf import FloatArray
from photoz.photometry import State
from photoz.sample import Sample
from photoz.survey import Survey

__all__ = ["NON_DETECTION", "STAGES", "Stage", "columns", "shared_options"]

NON_DETECTION = 99.0
"""RAIL's mark of a band in which a galaxy was not detected: magnitude and error alike."""

REDSHIFT = "redshift"

# What RAIL puts in place of a non-detection's error in magnitudes.
_LIMIT_ERROR = 1.0

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One of RAIL's estimators.

    Parameters
    ----------
    module, prefix
        Module under ``rail.estimation.algos`` and what its two classes' names begin with.
    counterpart
        Family of this package that is of the same kind, else the blend.
    defaults
        RAIL's own values of what is searched, which the first trial tries.
    space
        What a search may try, all of it documented in the stages' ``config_options``.
    options
        From such a choice to the options of the stages; none stand for RAIL's defaults.
    n_bins
        Bins of RAIL's grid where it is no part of the answer; None for the grid of the scores.
    block
        Galaxies that are estimated at a time.
    most_tested
        Held-out galaxies that are scored at most, at even steps; None for all. A bound for
        what takes minutes of CPU time per thousand galaxies.
    """

    module: str
    prefix: str
    counterpart: str
    defaults: dict[str, Any]
    space: dict[str, Range | Choice]
    options: Callable[[Parameters, Survey], dict[str, Any]] = lambda chosen, _: dict(chosen)
    n_bins: int | None = None
    block: int = 2000
    most_tested: int | None = None

    def tested(self, n_galaxies: int) -> NDArray[np.intp]:
        """Rows of the held-out galaxies that are scored."""
        step = -(-n_galaxies // (self.most_tested or n_galaxies))
        return np.arange(0, n_galaxies, step)


def columns(sample: Sample, survey: Survey, *, truth: bool) -> dict[str, FloatArray]:
    """Magnitudes and errors as RAIL's catalogues have them, each of shape ``(n_galaxies,)``.

    Parameters
    ----------
    sample
        Galaxies that were observed in every band.
    survey
        Names the columns.
    truth
        Whether the redshifts are told; else they are 0, since some stages want the column.
    """
    photometry = sample.photometry
    missing = photometry.state == State.NOT_DETECTED
    magnitude = np.where(missing, NON_DETECTION, photometry.magnitude)
    error = np.where(missing, NON_DETECTION, photometry.magnitude_error)
    n_without = int(np.isnan(magnitude).sum())
    if n_without:
        msg = (
            f"expected magnitudes or non-detections, found {n_without} measurements that are "
            "neither; RAIL's estimators need a catalogue without them."
        )
        raise InputError(msg)
    bands, errors = _names(survey)
    table = {name: magnitude[:, k].copy() for k, name in enumerate(bands)}
    table |= {name: error[:, k].copy() for k, name in enumerate(errors)}
    return table | {REDSHIFT: sample.z_spec.copy() if truth else np.zeros(len(sample))}


def shared_options(survey: Survey, z_max: float, n_z: int, faintest: FloatArray) -> dict[str, Any]:
    """Options that all stages share: columns, limits and the redshift grid.

    Parameters
    ----------
    survey
        Names bands and columns, and their depths where these are known.
    z_max, n_z
        End and points of the grid.
    faintest
        Magnitude that stands for a non-detection in a band of unknown depth, shape
        ``(n_bands,)``.
    """
    bands, errors = _names(survey)
    limits = [survey.depth.get(band, faintest[k]) for k, band in enumerate(survey.bands)]
    return {
        "bands": bands,
        "err_bands": errors,
        "ref_band": bands[survey.bands.index("i")],
        "mag_limits": dict(zip(bands, map(float, limits), strict=True)),
        "replace_error_vals": [0.1] * len(bands),
        "nondetect_val": NON_DETECTION,
        "redshift_col": REDSHIFT,
        "zmin": 0.0,
        "zmax": z_max,
        "nzbins": n_z,
        "hdf5_groupname": "",
        "output_mode": "return",
    }


def _names(survey: Survey) -> tuple[list[str], list[str]]:
    found = [survey.band_columns(band) for band in survey.bands]
    return [str(names.magnitude) for names in found], [str(names.error) for names in found]


def _flexzboost(chosen: Parameters, _: Survey) -> dict[str, Any]:
    trees = {key: chosen[key] for key in _TREE_KEYS if key in chosen}
    rest = {key: value for key, value in chosen.items() if key not in _TREE_KEYS}
    if trees:
        rest["regression_params"] = {"objective": "reg:squarederror", **trees}
    return rest


def _pzflow(chosen: Parameters, survey: Survey) -> dict[str, Any]:
    """Its own marginalisation over errors fails in 2.0.4: errors can be columns of the flow."""
    bands, errors = _names(survey)
    rest = {key: value for key, value in chosen.items() if key != "errors"}
    if not chosen.get("errors", False):
        return {**rest, "column_names": bands}
    limits = dict.fromkeys(errors, _LIMIT_ERROR)
    return {**rest, "column_names": bands + errors, "mag_limits": limits}


def _knn(chosen: Parameters, _: Survey) -> dict[str, Any]:
    """The stage's own search for width and neighbours is narrowed to one value of each."""
    if not chosen:
        return {}
    return {
        "nneigh_min": chosen["n_neighbours"],
        "nneigh_max": chosen["n_neighbours"],
        "sigma_grid_min": chosen["sigma"],
        "sigma_grid_max": chosen["sigma"],
        "ngrid_sigma": 1,
        "only_colors": chosen["only_colors"],
    }


_TREE_KEYS = ("max_depth", "n_estimators", "learning_rate")

STAGES: dict[str, Stage] = {
    "FlexZBoost": Stage(
        "flexzboost",
        "FlexZBoost",
        "boosting",
        {
            "max_basis": 35,
            "max_depth": 8,
            "n_estimators": 100,
            "learning_rate": 0.3,
            "include_mag_err": False,
        },
        {
            "max_basis": Range(20, 50, log=True),
            "max_depth": Range(3, 9),
            "n_estimators": Range(50, 150, log=True),
            "learning_rate": Range(0.05, 0.3, log=True),
            "include_mag_err": Choice((False, True)),
        },
        _flexzboost,
    ),
    "PZFlow": Stage(
        "pzflow_nf",
        "PZFlow",
        "network",
        {"n_training_epochs": 50, "errors": False},
        {"n_training_epochs": Range(20, 200, log=True), "errors": Choice((False, True))},
        _pzflow,
        # All galaxies of a block are spread over the grid at once: small ones fit the cache.
        block=20,
        most_tested=5500,
    ),
    "GPz": Stage(
        "gpz",
        "GPz",
        "network",
        {
            "gpz_method": "VC",
            "n_basis": 50,
            "csl_method": "normal",
            "pca_decorrelate": True,
            "max_iter": 200,
        },
        {
            "gpz_method": Choice(("VC", "GC", "VD", "GD")),
            "n_basis": Range(20, 100, log=True),
            "csl_method": Choice(("normal", "normalized")),
            "pca_decorrelate": Choice((True, False)),
            "max_iter": Range(100, 400, log=True),
        },
    ),
    "kNN": Stage(
        "k_nearneigh",
        "KNearNeigh",
        "blend",
        {"n_neighbours": 7, "sigma": 0.04, "only_colors": False},
        {
            "n_neighbours": Range(3, 40, log=True),
            "sigma": Range(0.003, 0.1, log=True),
            "only_colors": Choice((False, True)),
        },
        _knn,
        n_bins=301,
    ),
    "TPZlite": Stage(
        "tpz_lite",
        "TPZlite",
        "forest",
        {"n_random": 8, "n_trees": 5, "min_leaf": 5, "n_att": 3, "sigmafactor": 3.0},
        {
            "n_random": Range(2, 16, log=True),
            "n_trees": Range(2, 10, log=True),
            "min_leaf": Range(1, 20, log=True),
            "n_att": Range(1, 5),
            "sigmafactor": Range(1.0, 10.0, log=True),
        },
        # Its smoothing is in units of bins.
        n_bins=301,
    ),
}
