"""Report: one self-contained HTML page per experiment."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from photoz.card import ModelCard
from photoz.evaluation import Evaluation
from photoz.importance import Importance
from photoz.plots import (
    Tried,
    compare_estimators,
    plot_evaluation,
    plot_importance,
    plot_search,
    to_png,
)
from photoz.settings import FLOORS

__all__ = ["EstimatorDetails", "write_report"]

_DEFINITIONS = {
    "bias": "median of dz = (z_phot - z_spec) / (1 + z_spec); z_phot is the median of p(z)",
    "sigma_nmad": "1.4826 median(|dz - median dz|)",
    "sigma_iqr": "(P75 - P25) / 1.349 of dz",
    "outlier_fraction": "share with |dz| > 0.15",
    "outlier_fraction_lsst": "share with |dz| > max(0.06, 3 sigma_iqr)",
    "catastrophic_fraction": "share with |z_phot - z_spec| > 1",
    "rmse": "root mean square of dz",
    "cde_loss": "mean of ∫ p² dz - 2 p(z_spec), per unit redshift (Izbicki & Lee 2017)",
    "crps": "continuous ranked probability score, a redshift (Gneiting & Raftery 2007)",
    "log_loss": "-mean ln max(p(z_spec), 1e-4)",
    "pit_ks": "greatest distance of the PIT distribution from uniform",
    "pit_outlier_fraction": "share with PIT < 1e-4 or > 1 - 1e-4; ideal 0.0002",
    "coverage_68": "share with CDF(z_spec) from 0.16 to 0.84; ideal 0.68",
    "coverage_95": "share with CDF(z_spec) from 0.025 to 0.975; ideal 0.95",
    "bias_mode": "bias of the mode of p(z)",
    "sigma_nmad_mode": "sigma_nmad of the mode",
    "outlier_fraction_mode": "outlier_fraction of the mode",
}
_IDEALS = {
    "bias": 0.0,
    "bias_mode": 0.0,
    "pit_outlier_fraction": 2e-4,
    "coverage_68": 0.68,
    "coverage_95": 0.95,
}
_CELL_COLUMNS = ("coverage_68", "pit_ks", "sigma_nmad", "outlier_fraction", "cde_loss")
_CAPTIONS = {
    "z_phot_against_z_spec": "Point redshift against truth; dashed: |dz| = 0.15.",
    "pit": "PIT: grey is where 95 % of calibrated samples lie.",
    "n_of_z": "Redshift distribution, and error of the mean redshift in bins of z_phot.",
}


@dataclass(frozen=True, eq=False)
class EstimatorDetails:
    """What the page shows of one estimator beyond ``report.json``.

    Parameters
    ----------
    test
        Evaluation of the held-out galaxies.
    trials
        Trials of its search, if it had any.
    errors
        What was raised by trials that failed, by number.
    importance
        What each band is worth.
    decided
        Share of each parameter in what told good trials from others.
    card
        What the model is good for; the page shows that of the champion.
    """

    test: Evaluation
    trials: Sequence[Tried] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    importance: Sequence[Importance] = ()
    decided: Mapping[str, float] = field(default_factory=dict)
    card: ModelCard | None = None


def write_report(
    report: Mapping[str, Any],
    details: Mapping[str, EstimatorDetails],
    path: Path,
    *,
    metric: str = "log_loss",
) -> Path:
    """Write an experiment as one HTML page that needs no other file and no network.

    Parameters
    ----------
    report
        Content of ``report.json``.
    details
        Evaluation and trials of each estimator by name; without them only its figures in
        `report` are shown.
    path
        File to write.
    metric
        Name of the metric of the search.

    Returns
    -------
    Path
        The file.
    """
    template = resources.files("photoz").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": _number, "text": _text, "duration": _duration}
    page = environment.from_string(template).render(
        report=report,
        metric=metric,
        simulated=bool(report["data"].get("simulated")),
        table=_metrics_table(report["estimators"]),
        definitions=_DEFINITIONS,
        comparison=_comparison(details),
        card=details[report["champion"]].card if report["champion"] in details else None,
        cell_columns=_CELL_COLUMNS,
        sections=[
            _section(name, entry, details.get(name), metric)
            for name, entry in _champion_first(report)
        ],
        with_interval=_with_interval,
    )
    path.write_text(page, encoding="utf-8")
    return path


@dataclass(frozen=True)
class _Section:
    """One estimator as the template shows it."""

    name: str
    entry: Mapping[str, Any]
    test: Evaluation | None = None
    n_by_state: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    decided: Mapping[str, float] = field(default_factory=dict)
    plots: Sequence[tuple[str, str]] = ()


def _champion_first(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(report["estimators"].items(), key=lambda item: item[0] != report["champion"])


def _section(
    name: str, entry: Mapping[str, Any], details: EstimatorDetails | None, metric: str
) -> _Section:
    if details is None:
        return _Section(name, entry)
    states = [state for _, _, state in details.trials]
    plots = [
        (_CAPTIONS.get(key, "Metrics in bins of equal number."), _image(to_png(figure)))
        for key, figure in plot_evaluation(details.test).items()
    ]
    if details.importance:
        caption = "What each band is worth, with two standard errors."
        plots.append((caption, _image(to_png(plot_importance(details.importance)))))
    if len(details.trials) > 1:
        plots.append(("Search history.", _image(to_png(plot_search(details.trials, metric)))))
    return _Section(
        name=name,
        entry=entry,
        test=details.test,
        n_by_state={state: states.count(state) for state in dict.fromkeys(states)},
        errors=details.errors,
        decided=details.decided,
        plots=plots,
    )


def _comparison(details: Mapping[str, EstimatorDetails]) -> str | None:
    if len(details) < 2:
        return None
    figure = compare_estimators({name: found.test for name, found in details.items()})
    return _image(to_png(figure))


def _metrics_table(
    estimators: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Rows of metric and, per estimator, value, interval and whether it is the best.

    The floors are never the best: n(z) for every galaxy is calibrated and knows nothing.
    """
    rows = []
    for metric in next(iter(estimators.values()))["test"]:
        ideal = _IDEALS.get(metric)
        merits = {
            name: entry["test"][metric] if ideal is None else abs(entry["test"][metric] - ideal)
            for name, entry in estimators.items()
        }
        rivals = [merit for name, merit in merits.items() if name not in FLOORS]
        cells = [
            (
                *_with_interval(entry["test"][metric], entry["test_interval"].get(metric)),
                name not in FLOORS and merits[name] == min(rivals),
            )
            for name, entry in estimators.items()
        ]
        rows.append((metric, cells))
    return rows


def _with_interval(value: float, interval: Sequence[float] | None) -> tuple[str, str]:
    """Value and interval, to two digits of the interval's half width."""
    half = 0.5 * (interval[1] - interval[0]) if interval else 0.0
    if interval is None or not half > 0:
        return _number(value), ""
    digits = min(max(1 - math.floor(math.log10(half)), 0), 6)
    low, high = interval
    return f"{value:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _text(value: object) -> str:
    """A parameter as it would stand in JSON; words without their quotes."""
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _image(png: bytes) -> str:
    """The address of an inline image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
