"""Replay rules that give up hopeless trials on recorded ones.

python experiments/benchmarks/pruner.py FOLDER [N_ORDERS]

FOLDER is that of record_trials.py. Printed is the share of the CPU seconds that a rule saves, and
how much worse in log loss the best trial and the mean of the best three are that it leaves: with
the trials in their order, and the mean over random orders.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from photoz.estimators.training_plan import REPORTED
from photoz.sampling import is_hopeless

Trial = dict[str, Any]
Losses = Mapping[int, float]
Rule = Callable[[Losses, Sequence[Losses]], bool]
"""Whether to give up, by the losses so far and those of the complete trials."""


def lowest(losses: Losses, step: float) -> float:
    """Lowest loss up to a step."""
    return min(loss for at, loss in losses.items() if at <= step)


def has_way_behind(losses: Losses, complete: Sequence[Losses], share: float) -> bool:
    """Whether a share of the usual way lies behind a trial."""
    return max(losses) >= share * float(np.median([max(other) for other in complete]))


def worst_quarter(losses: Losses, complete: Sequence[Losses]) -> bool:
    """Whether a trial past half of its way is among the worst quarter."""
    step = max(losses)
    if len(complete) < 5 or not has_way_behind(losses, complete, 0.5):
        return False
    others = [other[step] for other in complete if step in other]
    return bool(others) and lowest(losses, step) > np.percentile(others, 75)


def extrapolated(share: float, quantile: float, rank: int, n_first: int) -> Rule:
    """By the lowest loss ever and what others gained on it: `rank` 0 compares with the best."""

    def rule(losses: Losses, complete: Sequence[Losses]) -> bool:
        step = max(losses)
        if len(complete) < n_first or not has_way_behind(losses, complete, share):
            return False
        longer = [other for other in complete if min(other) <= step < max(other)]
        if not longer:
            return False
        ends = [other[max(other)] for other in complete]
        gains = [lowest(other, step) - other[max(other)] for other in longer]
        hoped = lowest(losses, step) - float(np.quantile(gains, quantile))
        return hoped > sorted(ends)[rank]

    return rule


RULES: dict[str, Rule] = {
    "worst quarter past half": worst_quarter,
    "is_hopeless": is_hopeless,
    "90 % gain past .4, second": extrapolated(0.4, 0.9, 1, 4),
    "75 % gain past half, third": extrapolated(0.5, 0.75, 2, 3),
    "90 % gain past half, third": extrapolated(0.5, 0.9, 2, 3),
    "75 % gain past .25, best": extrapolated(0.25, 0.75, 0, 4),
}


def as_reported(family: str, trial: Trial) -> Trial:
    """A trial with the reports that its family makes now."""
    kept = {"forest": range(6, 21), "network": REPORTED}.get(family)
    curve = [point for point in trial["curve"] if kept is None or point[0] in kept]
    return {**trial, "curve": curve}


def replay(trials: list[Trial], rule: Rule) -> tuple[float, float, float]:
    """Share of the seconds saved, and loss of the best trial and of the mean of the best three."""
    complete: list[Losses] = []
    left, spent = [], 0.0
    for trial in trials:
        losses: dict[int, float] = {}
        seconds = trial["seconds"]
        for step, loss, since in trial["curve"]:
            losses[step] = loss
            if rule(losses, complete):
                seconds = since
                break
        else:
            complete += [losses] if losses else []
            left.append(trial["value"])
        spent += seconds
    saved = 1 - spent / sum(trial["seconds"] for trial in trials)
    best, kept = (np.sort(values) for values in ([trial["value"] for trial in trials], left))
    return saved, float(kept[0] - best[0]), float(kept[:3].mean() - best[:3].mean())


def main() -> None:
    """Print a line per file and rule."""
    n_orders = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print("                                            in order             in random orders")
    for file in sorted(Path(sys.argv[1]).glob("*.json")):
        family = file.stem.rpartition("-")[-1]
        trials = [as_reported(family, trial) for trial in json.loads(file.read_text())]
        generator = np.random.default_rng(0)
        orders = [generator.permutation(len(trials)) for _ in range(n_orders)]
        for name, rule in RULES.items():
            shuffled = [replay([trials[i] for i in order], rule) for order in orders]
            means = (replay(trials, rule), np.mean(shuffled, axis=0))
            figures = "   ".join("{:.2f} {:.4f} {:.4f}".format(*mean) for mean in means)
            print(f"{file.stem:18} {name:27} {figures}", flush=True)


if __name__ == "__main__":
    main()
