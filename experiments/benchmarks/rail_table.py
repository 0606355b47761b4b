"""Tables of the benchmark with RAIL, from what its tasks have left behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from experiments.benchmarks.rail_scores import COST, LOSSES, Cost, load_losses, read_cost
from experiments.benchmarks.rail_stages import STAGES
from experiments.benchmarks.rail_tasks import FAMILIES, settings
from photoz.evaluation import Losses, compare

__all__ = ["Fits", "difference", "least_disturbed", "read_fits", "tables", "where_rail_wins"]

AVERAGE = "average"

_METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "cde_loss": ("CDE loss", "{:.2f}".format),
    "crps": ("CRPS", "{:.3g}".format),
    "sigma_nmad": ("σ_NMAD", "{:.3g}".format),
    "outlier_fraction": ("outliers %", lambda share: f"{100 * share:.2f}"),
    "pit_ks": ("PIT KS", "{:.3f}".format),
    "coverage_68": ("cover 68", "{:.3f}".format),
}
# Of the settings that stand beside the searched one.
_BESIDE = ("cde_loss", "crps")
_MISSING = "–"


@dataclass(frozen=True, eq=False)
class Fits:
    """Fits of one estimator in one setting, a seed each.

    Parameters
    ----------
    name
        Name of the estimator.
    losses
        Losses of the held-out galaxies by each fit.
    cost
        What the least disturbed of the fits took; None for averages of fits.
    setting
        How the estimator was set, as in `Task`.
    """

    name: str
    losses: tuple[Losses, ...]
    cost: Cost | None = None
    setting: str = ""

    @property
    def label(self) -> str:
        """Name, and how it was set where that was not by a search."""
        return f"{self.name} at its defaults" if self.setting == "default" else self.name

    def metric(self, name: str) -> float:
        """Mean over the fits."""
        return float(np.mean([table.metrics()[name] for table in self.losses]))

    def per_seed(self, loss: str) -> np.ndarray:
        """Losses of shape ``(n_seeds, n_galaxies)``."""
        return np.stack([getattr(table, loss) for table in self.losses])


def read_fits(build: Path, dataset: str, name: str, setting: str) -> Fits | None:
    """Finished fits of an estimator in one setting, or averages of them; None if none is.

    Parameters
    ----------
    build
        Folder of all tasks.
    dataset, name
        Set of galaxies and estimator.
    setting
        ``default``, ``searched`` or ``ours``; with ``-average`` after it the averages.
    """
    folder = build / dataset / name
    if setting.endswith(AVERAGE):
        paths = sorted((folder / setting).glob("losses-*.npz"))
        return Fits(name, tuple(map(load_losses, paths))) if paths else None
    done = sorted(path.parent for path in folder.glob(f"{setting}-*/{COST}"))
    if not done:
        return None
    cost = least_disturbed([read_cost(path)[0] for path in done])
    return Fits(name, tuple(load_losses(path / LOSSES) for path in done), cost, setting)


def least_disturbed(costs: Sequence[Cost]) -> Cost:
    """Cost of several fits of one kind: other work on the machine can only add to a time."""
    known = {
        field.name: [x for cost in costs if not math.isnan(x := getattr(cost, field.name))]
        for field in fields(Cost)
    }
    return Cost(
        fit_seconds=min(known["fit_seconds"], default=math.nan),
        learn_seconds=min(known["learn_seconds"], default=math.nan),
        galaxies_per_second=max(known["galaxies_per_second"]),
        peak_mb=max(known["peak_mb"], default=math.nan),
        model_mb=max(known["model_mb"]),
    )


def difference(ours: Fits, theirs: Fits, loss: str) -> str:
    """Mean loss of ours less theirs with its 95 % interval; below 0 ours is better.

    Where theirs were scored on fewer galaxies, ours are compared on the same ones.
    """
    a, b = ours.per_seed(loss), theirs.per_seed(loss)
    if a.shape[1] != b.shape[1]:
        a = a[:, STAGES[theirs.name].tested(a.shape[1])]
    found = compare(a, b)
    shape = _METRICS[loss][1]
    return f"{shape(found.difference)} [{shape(found.low)}, {shape(found.high)}]"


def where_rail_wins(pairs: Sequence[tuple[Fits, Fits]]) -> list[str]:
    """In words, what RAIL's estimators are better at than families of the same kind.

    Parameters
    ----------
    pairs
        Ours and theirs, of single fits.
    """
    lines = []
    for what, value, larger_is_better, unit in _MEASURES:
        won = []
        for ours, theirs in pairs:
            a, b = value(ours), value(theirs)
            if (b > a) if larger_is_better else (b < a):
                won.append(f"{theirs.label} {b:.3g}{unit} ({ours.name} {a:.3g}{unit})")
        unknown = pairs and math.isnan(sum(value(ours) for ours, _ in pairs))
        lines.append(f"- {what}: {', '.join(won) or ('not known' if unknown else 'none')}")
    return lines


def _cost(field: str) -> Callable[[Fits], float]:
    return lambda fits: float(getattr(fits.cost, field))


_MEASURES: list[tuple[str, Callable[[Fits], float], bool, str]] = [
    ("CDE loss", lambda fits: fits.metric("cde_loss"), False, ""),
    ("CRPS", lambda fits: fits.metric("crps"), False, ""),
    ("fit", _cost("learn_seconds"), False, " s"),
    ("prediction", _cost("galaxies_per_second"), True, "/s"),
    ("peak memory", _cost("peak_mb"), False, " MB"),
    ("model size", _cost("model_mb"), False, " MB"),
]


def tables(datasets: Sequence[str], build: Path) -> str:
    """All tables in Markdown.

    Parameters
    ----------
    datasets
        Named sets of galaxies.
    build
        Folder of all tasks.
    """
    return "\n\n".join(_tables(name, build) for name in datasets)


def _tables(dataset: str, build: Path) -> str:
    names = (*STAGES, *FAMILIES)
    single = {name: fits for name in names if (fits := _best_known(build, dataset, name))}
    pairs = [
        (single[stage.counterpart], single[name])
        for name, stage in STAGES.items()
        if stage.counterpart in single and name in single
    ]
    parts = [f"`{dataset}`", _accuracy(dataset, build, single), _costs(single)]
    compared = _differences(dataset, build, single)
    if compared:
        parts += [compared, "RAIL wins at\n\n" + "\n".join(where_rail_wins(pairs))]
    return "\n\n".join(parts)


def _best_known(build: Path, dataset: str, name: str) -> Fits | None:
    """Fits with searched parameters; until there are any, those with the estimator's own."""
    known = (read_fits(build, dataset, name, setting) for setting in reversed(settings(name)))
    return next((fits for fits in known if fits is not None), None)


def _accuracy(dataset: str, build: Path, single: dict[str, Fits]) -> str:
    beside = [f"{_METRICS[m][0]} {s}" for m in _BESIDE for s in ("default", "average of four")]
    rows = []
    for name, fits in single.items():
        others = [
            read_fits(build, dataset, name, setting) for setting in ("default", "searched-average")
        ]
        rows.append(
            [
                f"{fits.label} ({len(fits.losses)})",
                *(shape(fits.metric(metric)) for metric, (_, shape) in _METRICS.items()),
                *(
                    _METRICS[metric][1](other.metric(metric)) if other else _MISSING
                    for metric in _BESIDE
                    for other in others
                ),
            ]
        )
    return _markdown(["(fits)", *(title for title, _ in _METRICS.values()), *beside], rows)


def _costs(single: dict[str, Fits]) -> str:
    rows = []
    for fits in single.values():
        cost = fits.cost
        if cost is not None:
            rows.append(
                [
                    fits.label,
                    _or_missing("{:.1f}", cost.fit_seconds),
                    _or_missing("{:.1f}", cost.learn_seconds),
                    f"{cost.galaxies_per_second:,.0f}",
                    _or_missing("{:,.0f}", cost.peak_mb),
                    f"{cost.model_mb:.2f}",
                ]
            )
    head = ["", "fit s", "with calibration s", "galaxies / s", "peak MB", "model MB"]
    return _markdown(head, rows)


def _or_missing(shape: str, value: float) -> str:
    return _MISSING if math.isnan(value) else shape.format(value)


def _differences(dataset: str, build: Path, single: dict[str, Fits]) -> str:
    """Differences to the family of the same kind and to the blend."""
    rows = []
    for name, stage in STAGES.items():
        average = read_fits(build, dataset, name, f"searched-{AVERAGE}")
        for theirs, more in ((single.get(name), ""), (average, ", average of four")):
            for family in dict.fromkeys((stage.counterpart, "blend")):
                if theirs is None or family not in single:
                    continue
                label = theirs.label + more
                found = [difference(single[family], theirs, loss) for loss in _BESIDE]
                rows.append([f"{family} − {label}", *found])
    return _markdown(["", *(_METRICS[loss][0] for loss in _BESIDE)], rows) if rows else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
