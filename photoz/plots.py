"""Plots: take an Evaluation (or several, or trials), return a Figure; nothing is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from photoz.cells import Cell
from photoz.errors import InputError
from photoz.evaluation import Z_PHOT, Evaluation
from photoz.importance import Importance

__all__ = [
    "Tried",
    "compare_estimators",
    "plot_condition",
    "plot_evaluation",
    "plot_importance",
    "plot_n_of_z",
    "plot_pit",
    "plot_scatter",
    "plot_search",
    "to_png",
]

Tried = tuple[int, float | None, str]
"""Number, value (None where failed) and state (complete, pruned, failed) of a trial."""

# Okabe & Ito's palette: told apart under every common kind of colour blindness.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B6B6B"

_LABELS = {
    "bias": "bias: median dz",
    "sigma_nmad": "$\\sigma_{\\rm NMAD}$ of dz",
    "outlier_fraction": "share with |dz| > 0.15",
    "outlier_fraction_lsst": "share with |dz| > max(0.06, 3σ)",
    "cde_loss": "CDE loss (per unit redshift)",
    "crps": "CRPS (redshift)",
    "log_loss": "log loss",
    "pit_ks": "PIT KS distance",
    "coverage_68": "68 % coverage",
    "coverage_95": "95 % coverage",
}
_COMPARED = ("cde_loss", "crps", "log_loss", "sigma_nmad", "outlier_fraction", "pit_ks")
_IDEALS = {"bias": 0.0, "coverage_68": 0.68, "coverage_95": 0.95}


def plot_scatter(evaluation: Evaluation) -> Figure:
    """Point redshifts (medians of p(z)) against spectroscopic ones, coloured by number."""
    figure, (axes,) = _panels(5.8, 4.8)
    z_spec, z_phot = evaluation.losses.z_spec, evaluation.losses.z_phot
    top = 1.03 * max(float(np.quantile(z, 0.998)) for z in (z_spec, z_phot))
    cells = axes.hexbin(
        z_spec, z_phot, gridsize=70, extent=(0, top, 0, top), mincnt=1, norm=LogNorm(),
        cmap="viridis", linewidths=0.1,
    )  # fmt: skip
    line = np.array([0, top])
    axes.plot(line, line, color="black", linewidth=0.9)
    for sign in (-1, 1):
        axes.plot(line, line + sign * 0.15 * (1 + line), "--", color=_GREY, linewidth=0.9)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal", xlabel="spectroscopic redshift")
    axes.set_ylabel("photometric redshift (median of p(z))")
    figure.colorbar(cells, ax=axes, label="galaxies per cell", shrink=0.85, pad=0.02)
    values = evaluation.metrics
    _note(
        axes,
        f"{evaluation.n_galaxies:,} galaxies\n"
        f"$\\sigma_{{\\rm NMAD}}$ = {values['sigma_nmad']:.4f}\n"
        f"bias = {values['bias']:+.4f}\n"
        f"|dz| > 0.15: {100 * values['outlier_fraction']:.2f} %",
    )
    return figure


def plot_pit(evaluation: Evaluation) -> Figure:
    """Histogram of PIT with the 95 per cent range of a calibrated p(z), and the Q-Q plot."""
    figure, (left, right) = _panels(8.8, 3.9, n_columns=2, gap=1.05)
    pit = np.sort(evaluation.losses.pit)
    n_bins = 20
    margin = 1.96 * np.sqrt((n_bins - 1) / len(pit))
    left.axhspan(1 - margin, 1 + margin, color=_GREY, alpha=0.25, linewidth=0)
    left.axhline(1, color="black", linewidth=0.9)
    left.hist(pit, bins=n_bins, range=(0, 1), density=True, color=_BLUE, alpha=0.75, rwidth=0.92)
    left.set(xlim=(0, 1), xlabel="PIT = CDF at the spectroscopic redshift", ylabel="density")

    expected = (np.arange(len(pit)) + 0.5) / len(pit)
    bound = 1.36 / np.sqrt(len(pit))
    right.axhspan(-bound, bound, color=_GREY, alpha=0.25, linewidth=0)
    right.axhline(0, color="black", linewidth=0.9)
    right.plot(expected, pit - expected, color=_BLUE, linewidth=1.6)
    limit = 1.15 * max(2 * bound, float(np.abs(pit - expected).max()))
    right.set(xlim=(0, 1), ylim=(-limit, limit), xlabel="quantile of a uniform distribution")
    right.set_ylabel("quantile of PIT less uniform")
    values = evaluation.metrics
    _note(
        right,
        f"KS {values['pit_ks']:.3f} (95 % bound {bound:.3f})\n"
        f"coverage {values['coverage_68']:.3f} / {values['coverage_95']:.3f}",
    )
    return figure


def plot_n_of_z(evaluation: Evaluation) -> Figure:
    """Redshift distribution of truth and stacked p(z), and the mean redshift per bin."""
    figure, (left, right) = _panels(8.8, 3.9, n_columns=2, gap=1.05)
    found = evaluation.n_of_z
    left.stairs(found.truth, found.edges, fill=True, color=_GREY, alpha=0.35, label="truth")
    left.plot(found.z_grid, found.stacked, color=_BLUE, linewidth=1.8, label="stacked p(z)")
    top = float(np.quantile(evaluation.losses.z_spec, 0.998))
    left.set(xlim=(0, min(1.1 * top, found.z_grid[-1])), ylim=(0, None), xlabel="redshift")
    left.set_ylabel("n(z) (per unit redshift)")
    left.legend(frameon=False, loc="upper right")

    bins = evaluation.tomography
    centers = np.array([b.mean_z_spec for b in bins])
    errors = [2 * b.standard_error / (1 + b.mean_z_spec) for b in bins]
    right.axhspan(-0.002, 0.002, color=_GREEN, alpha=0.2, linewidth=0, label="± 0.002 (1 + z)")
    right.axhline(0, color="black", linewidth=0.9)
    right.errorbar(
        centers, [b.bias for b in bins], errors, fmt="o", color=_BLUE, capsize=3,
        label="2 standard errors",
    )  # fmt: skip
    right.set(
        xlabel="mean spectroscopic redshift of the bin",
        ylabel="(mean of p(z) - mean z_spec) / (1 + z)",
    )
    right.margins(x=0.12, y=0.35)
    right.legend(frameon=False, title="equal-number bins of z_phot", loc="upper left")
    return figure


def plot_condition(evaluation: Evaluation, condition: str) -> Figure:
    """Metrics against a numeric condition given to `evaluate`, with 95 per cent intervals."""
    cells = evaluation.curve(condition)
    if not cells:
        known = ", ".join(dict.fromkeys(cell.condition for cell in evaluation.curves))
        msg = f"no curve against {condition!r} was evaluated; there are {known}."
        raise InputError(msg)
    metrics = ("bias", "sigma_nmad", "outlier_fraction", "cde_loss", "crps", "coverage_68")
    figure, panels = _panels(8.8, 5.2, n_rows=2, n_columns=3)
    for place, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        if metric in _IDEALS:
            axes.axhline(_IDEALS[metric], color="black", linewidth=0.9)
        _draw_curve(axes, cells, metric)
        axes.set_title(_LABELS[metric], fontsize=10, loc="left")
        if place >= 3:
            axes.set_xlabel("z_phot (median of p(z))" if condition == Z_PHOT else condition)
    return figure


def plot_search(trials: Sequence[Tried], metric: str = "log_loss") -> Figure:
    """Values of the trials of a search that minimised `metric`, and the best so far."""
    figure, (axes,) = _panels(8.4, 3.6)
    done = [(n, value) for n, value, state in trials if state == "complete" and value is not None]
    for state, marker, color in (("complete", "o", _BLUE), ("pruned", "v", _ORANGE)):
        some = [(n, value) for n, value, s in trials if s == state and value is not None]
        if some:
            axes.plot(*zip(*some, strict=True), marker, color=color, markersize=5, label=state)
    if done:
        numbers, values = zip(*done, strict=True)
        best = np.minimum.accumulate(values)
        axes.step(numbers, best, where="post", color="black", linewidth=1.2, label="best so far")
        # A hopeless trial would squeeze all others into one line.
        high = float(np.quantile(values, 0.9))
        spread = max(high - best[-1], 0.02 * abs(best[-1]), 1e-6)
        axes.set_ylim(best[-1] - 0.15 * spread, high + 0.6 * spread)
    _mark_edge(axes, trials)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=f"{_LABELS.get(metric, metric)} on validation rows")
    figure.legend(frameon=False, ncols=4, loc="upper center")
    return figure


def plot_importance(importance: Sequence[Importance]) -> Figure:
    """What each band is worth: rise of the log loss when it is shuffled, 2 standard errors."""
    names = [item.name for item in importance]
    figure, (axes,) = _panels(6.4, 1.1 + 0.3 * len(names))
    axes.barh(
        range(len(names)), [item.log_loss for item in importance], color=_BLUE, height=0.65,
        xerr=[2 * item.standard_error for item in importance], ecolor=_GREY,
    )  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set(xlabel="rise of the log loss when the band is shuffled", ylabel="band")
    return figure


def compare_estimators(
    evaluations: Mapping[str, Evaluation], metrics: Sequence[str] = _COMPARED
) -> Figure:
    """Metrics of several estimators on the same galaxies, with 95 per cent intervals.

    Parameters
    ----------
    evaluations
        Evaluation of each estimator by name.
    metrics
        Metrics, the smaller the better, one panel each.
    """
    names = list(evaluations)
    n_rows = (len(metrics) + 2) // 3
    figure, panels = _panels(9.6, n_rows * (0.9 + 0.27 * len(names)) + 0.3, n_rows, 3)
    for place, (axes, metric) in enumerate(zip(panels, metrics, strict=False)):
        _draw_dots(axes, [_value(evaluations[name], metric) for name in names])
        axes.set_yticks(range(len(names)), names if place % 3 == 0 else [""] * len(names))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_title(_LABELS.get(metric, metric), fontsize=10, loc="left")
    return figure


def plot_evaluation(evaluation: Evaluation) -> dict[str, Figure]:
    """Plots of one evaluation, by a name for their file.

    Metrics are drawn against z_phot and the first numeric condition, the magnitude.
    """
    figures = {
        "z_phot_against_z_spec": plot_scatter(evaluation),
        "pit": plot_pit(evaluation),
        "n_of_z": plot_n_of_z(evaluation),
    }
    for condition in dict.fromkeys([evaluation.curves[0].condition, Z_PHOT]):
        name = re.sub(r"\W+", "_", condition.removesuffix(" (AB mag)"))
        figures[f"metrics_against_{name}"] = plot_condition(evaluation, condition)
    return figures


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG image."""
    target = BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return target.getvalue()


def _panels(
    width: float, height: float, n_rows: int = 1, n_columns: int = 1, *, gap: float = 0.7
) -> tuple[Figure, list[Axes]]:
    # Fixed margins (inch): to find them, a layout engine takes longer than all the drawing.
    figure = Figure(figsize=(width, height))
    panel_x = (width - 1.0 - gap * (n_columns - 1)) / n_columns
    panel_y = (height - 0.95 - gap * (n_rows - 1)) / n_rows
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel().tolist()
    figure.subplots_adjust(
        left=0.85 / width, right=1 - 0.15 / width, bottom=0.6 / height, top=1 - 0.35 / height,
        wspace=gap / panel_x, hspace=gap / panel_y,
    )  # fmt: skip
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, panels


def _note(axes: Axes, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", fontsize=9, bbox=box)


def _draw_curve(axes: Axes, cells: Sequence[Cell], metric: str) -> None:
    low, high = zip(*(cell.intervals[metric] for cell in cells), strict=True)
    values = [cell.metrics[metric] for cell in cells]
    centers = [np.nan if cell.center is None else cell.center for cell in cells]
    axes.fill_between(centers, low, high, color=_BLUE, alpha=0.2, linewidth=0)
    axes.vlines(centers, low, high, color=_BLUE, alpha=0.4, linewidth=1)
    axes.plot(centers, values, "o-", color=_BLUE, markersize=4, linewidth=1.4)


def _mark_edge(axes: Axes, trials: Sequence[Tried]) -> None:
    """Mark failed trials at the lower edge, and values beyond the upper edge there."""
    at_edge: dict[str, Any] = {
        "transform": axes.get_xaxis_transform(),
        "clip_on": False,
        "linestyle": "",
    }
    failed = [number for number, _, state in trials if state == "failed"]
    if failed:
        axes.plot(failed, [0.03] * len(failed), marker="x", color=_RED, label="failed", **at_edge)
    top = axes.get_ylim()[1]
    for state, color in (("complete", _BLUE), ("pruned", _ORANGE)):
        beyond = [n for n, value, s in trials if s == state and value is not None and value > top]
        if beyond:
            axes.plot(beyond, [0.98] * len(beyond), marker="^", color=color, **at_edge)


def _value(evaluation: Evaluation, metric: str) -> tuple[float, float, float]:
    return (evaluation.metrics[metric], *evaluation.intervals[metric])


def _draw_dots(axes: Axes, values: Sequence[tuple[float, float, float]]) -> None:
    """Values with intervals, one a row; far ones as an arrow at the edge with their number."""
    best = min(low for _, low, _ in values)
    highs = np.array([high for _, _, high in values])
    # A floor that ignores the photometry would squeeze all others into one dot.
    edge = float(highs[highs - best <= 4 * (np.median(highs) - best)].max())
    margin = 0.12 * (edge - best) or 0.1
    axes.set_xlim(best - margin, edge + 2 * margin)
    for row, (value, low, high) in enumerate(values):
        if value > edge:
            axes.annotate(
                f"{value:.3g}", (edge + 2 * margin, row), (-16, 0), textcoords="offset points",
                ha="right", va="center", fontsize=8, color=_GREY,
                arrowprops={"arrowstyle": "->", "color": _GREY},
            )  # fmt: skip
            continue
        axes.plot([low, high], [row, row], color=_BLUE, linewidth=2, solid_capstyle="round")
        axes.plot(value, row, "o", color=_BLUE, markersize=6)
