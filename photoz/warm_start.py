"""Warm start: what earlier experiments found best, for the search of a new one to begin with."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from photoz.blend import single_models
from photoz.bundle import load_model
from photoz.errors import InputError
from photoz.estimators import estimator_name
from photoz.estimators.base import Choice, Range
from photoz.model import PhotozModel
from photoz.settings import Experiment
from photoz.tracking import Store, fetch_bundle

__all__ = ["warm_starts"]

logger = logging.getLogger(__name__)


def warm_starts(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """Best parameters of earlier experiments, as far as the new one may try them.

    Parameters
    ----------
    experiment
        The new experiment; `search.warm_start` names a registered model, a bundle, or the
        results of an experiment.

    Returns
    -------
    dict
        Per family its parameters, named as in its search space; no family without any.

    Raises
    ------
    InputError
        If nothing of that kind can be read there.
    """
    source = experiment.search.warm_start
    found = _find(source, experiment) if source else {}
    starts = {}
    for family in experiment.families:
        if source and family not in found:
            logger.warning("%s holds no %s, whose search begins cold", source, family)
        kept = _within(experiment.space(family)[0], found.get(family, {}), family)
        if kept:
            starts[family] = kept
    return starts


def _find(source: str, experiment: Experiment) -> dict[str, dict[str, Any]]:
    """All parameters by family."""
    if source.startswith("models:/"):
        store = Store.find(experiment.tracking.uri)
        return _of_bundle(fetch_bundle(source, store=store))
    path = experiment.directory / source
    report = path / "report.json" if path.is_dir() else path
    if report.suffix == ".json" and report.is_file():
        return _of_report(report)
    try:
        return _of_bundle(path)
    except InputError as error:
        msg = (
            f"search.warm_start: expected models:/NAME@ALIAS, a report.json or its folder, or a "
            f"bundle, found none at {path} ({error})"
        )
        raise InputError(msg) from error


def _of_report(report: Path) -> dict[str, dict[str, Any]]:
    try:
        entries = json.loads(report.read_text(encoding="utf-8"))["estimators"]
        return {name: dict(entry["parameters"]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"search.warm_start: {report} is no report of an experiment ({error!r})."
        raise InputError(msg) from error


def _of_bundle(bundle: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for member in single_models(load_model(bundle)):
        # Runners-up of a family follow its best.
        found.setdefault(estimator_name(member.estimator), _parameters(member))
    return found


def _parameters(model: PhotozModel) -> dict[str, Any]:
    return {
        **model.estimator.get_params(deep=False),
        **{f"augment.{key}": value for key, value in model.augment.to_dict().items()},
        "features.errors": model.features.errors,
    }


def _within(
    space: Mapping[str, Range | Choice], parameters: Mapping[str, Any], family: str
) -> dict[str, Any]:
    """Parameters that the space holds; tells of those that lie outside."""
    kept = {}
    for name, options in space.items():
        if name not in parameters:
            continue
        value = parameters[name]
        if _was_extended(options, value):
            value = options.high
        if _holds(options, value):
            kept[name] = value
        else:
            logger.warning(
                "warm start of %s: %s = %r is left out, it lies outside of %s",
                family, name, value, options,
            )  # fmt: skip
    return kept


def _was_extended(options: Range | Choice, value: Any) -> TypeGuard[Range]:  # noqa: ANN401
    """Whether a value was doubled beyond its range after the search."""
    if isinstance(options, Choice) or options.beyond is None:
        return False
    return isinstance(value, int | float) and options.high < value <= options.beyond


def _holds(options: Range | Choice, value: Any) -> bool:  # noqa: ANN401 - whatever was found
    if isinstance(options, Choice):
        return any(value == option and type(value) is type(option) for option in options.options)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return options.low <= value <= options.high and (not options.integer or value == int(value))
