"""Estimators of p(z) from feature matrices, and the register in which they are found."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from photoz.errors import InputError

if TYPE_CHECKING:  # scikit-learn takes most of a second: it is imported with the first estimator
    from photoz.estimators.base import PhotozEstimator

__all__ = ["ESTIMATORS", "estimator_name", "get_estimator", "registered_estimators"]

ESTIMATORS: dict[str, str] = {
    "forest": "photoz.estimators.forest:ForestPhotoz",
    "boosting": "photoz.estimators.boosting:BoostingPhotoz",
    "network": "photoz.estimators.network:NetworkPhotoz",
    "trainz": "photoz.estimators.baseline:TrainzPhotoz",
    "knn": "photoz.estimators.baseline:KnnPhotoz",
}
"""Name of each estimator and where its class is defined; imported only when asked for."""


def registered_estimators() -> dict[str, str]:
    """Names and places of the estimators of photoz and of installed packages.

    Other packages register theirs in the entry-point group ``photoz.estimators``.
    """
    found = {entry.name: entry.value for entry in entry_points(group="photoz.estimators")}
    return {**found, **ESTIMATORS}


def get_estimator(name: str) -> type[PhotozEstimator]:
    """Class of the estimator called `name`.

    Raises
    ------
    InputError
        If no estimator has that name.
    """
    known = registered_estimators()
    if name not in known:
        msg = f"unknown estimator {name!r}; the known ones are {', '.join(sorted(known))}."
        raise InputError(msg)
    module, _, class_name = known[name].partition(":")
    found: type[PhotozEstimator] = getattr(import_module(module), class_name)
    return found


def estimator_name(estimator: PhotozEstimator) -> str:
    """Name under which the class of `estimator` is registered.

    Raises
    ------
    InputError
        If it is not registered, so that no bundle of it could be loaded again.
    """
    cls = type(estimator)
    place = f"{cls.__module__}:{cls.__qualname__}"
    for name, known in registered_estimators().items():
        if known == place:
            return name
    msg = f"{place} is not registered; add it to the entry-point group 'photoz.estimators'."
    raise InputError(msg)
