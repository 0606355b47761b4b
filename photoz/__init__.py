"""Photometric redshifts with calibrated p(z): from catalogues to exported models."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Augmentation": "photoz.augment",
    "BoostingPhotoz": "photoz.estimators.boosting",
    "Calibration": "photoz.calibration",
    "Catalogue": "photoz.catalogue",
    "Evaluation": "photoz.evaluation",
    "Experiment": "photoz.experiment",
    "ForestPhotoz": "photoz.estimators.forest",
    "InputError": "photoz.errors",
    "KnnPhotoz": "photoz.estimators.baseline",
    "NetworkPhotoz": "photoz.estimators.network",
    "PhotometricFeatures": "photoz.features",
    "Photometry": "photoz.photometry",
    "PhotozBlend": "photoz.blend",
    "PhotozEstimator": "photoz.estimators.base",
    "PhotozModel": "photoz.model",
    "RedshiftPDF": "photoz.pdf",
    "State": "photoz.photometry",
    "Survey": "photoz.survey",
    "TrainzPhotoz": "photoz.estimators.baseline",
    "evaluate": "photoz.evaluation",
    "get_estimator": "photoz.estimators",
    "load_model": "photoz.bundle",
    "load_survey": "photoz.survey",
    "make_mock_catalogue": "photoz.mock",
    "pdf_from_mixtures": "photoz.mixture_form",
    "read": "photoz.catalogue",
    "save_model": "photoz.bundle",
}

__all__ = ["__version__", *_PLACES]  # noqa: PLE0604 - the keys are names, which ruff cannot see


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a public name when it is first asked for, so that `import photoz` is light."""
    if name not in _PLACES:
        msg = f"module 'photoz' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
