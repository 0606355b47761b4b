"""Replay rules that give up hopeless trials on recorded ones.

python experiments/benchmarks/pruner.py FOLDER

FOLDER is that of record_trials.py. Printed is the share of the CPU seconds that a rule saves,
and how much worse the best trial is that it leaves, in log loss.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Trial = dict[str, Any]
Rule = Callable[[list[Trial], list[list[float]]], bool]
"""Whether to give up, by the complete trials and the curve so far."""


def lowest(curve: list[list[float]], step: float) -> float:
    """Lowest loss up to a step."""
    return min(loss for at, loss, _ in curve if at <= step)


def has_way_behind(complete: list[Trial], step: float, share: float) -> bool:
    """Whether a share of the usual way lies behind a trial."""
    return step >= share * float(np.median([trial["curve"][-1][0] for trial in complete]))


def worst_quarter(complete: list[Trial], curve: list[list[float]]) -> bool:
    """Whether a trial past half of its way is among the worst quarter."""
    step = curve[-1][0]
    if len(complete) < 5 or not has_way_behind(complete, step, 0.5):
        return False
    others = [loss for trial in complete for at, loss, _ in trial["curve"] if at == step]
    return bool(others) and lowest(curve, step) > np.percentile(others, 75)


def extrapolated(share: float, quantile: float, rank: int, n_first: int) -> Rule:
    """Whether even a usual gain from this step on leaves a trial behind the best ones.

    `share` of the usual way must lie behind it; the gain is this quantile of what complete
    trials gained from the step on; `rank` 0 compares with the best, 2 with the third best.
    """

    def rule(complete: list[Trial], curve: list[list[float]]) -> bool:
        step = curve[-1][0]
        if len(complete) < n_first or not has_way_behind(complete, step, share):
            return False
        longer = [trial["curve"] for trial in complete if trial["curve"][-1][0] >= step]
        longer = [other for other in longer if other[0][0] <= step]
        if not longer:
            return False
        gains = [lowest(other, step) - lowest(other, other[-1][0]) for other in longer]
        ends = sorted(lowest(trial["curve"], trial["curve"][-1][0]) for trial in complete)
        hoped = lowest(curve, step) - float(np.quantile(gains, quantile))
        return hoped > ends[min(rank, len(ends) - 1)]

    return rule


RULES: dict[str, Rule] = {
    "worst quarter past half": worst_quarter,
    "median gain past half, best": extrapolated(0.5, 0.5, 0, 5),
    "75 % gain past half, third": extrapolated(0.5, 0.75, 2, 3),
    "75 % gain, best": extrapolated(0.0, 0.75, 0, 5),
    "90 % gain, third": extrapolated(0.0, 0.9, 2, 3),
}


def replay(trials: list[Trial], rule: Rule) -> tuple[float, float]:
    """Share of the seconds saved, and loss of the best trial."""
    complete: list[Trial] = []
    spent = 0.0
    for trial in trials:
        curve = trial["curve"]
        cuts = (at for at in range(1, len(curve) + 1) if rule(complete, curve[:at]))
        cut = next(cuts, None)
        spent += trial["seconds"] if cut is None else curve[cut - 1][2]
        if cut is None:
            complete.append(trial)
    saved = 1 - spent / sum(trial["seconds"] for trial in trials)
    best = min(trial["value"] for trial in trials)
    return saved, min(trial["value"] for trial in complete) - best


def main() -> None:
    """Print a line per file and rule."""
    for file in sorted(Path(sys.argv[1]).glob("*.json")):
        trials = json.loads(file.read_text())
        for name, rule in RULES.items():
            saved, lost = replay(trials, rule)
            print(f"{file.stem:20} {name:28} saves {saved:.2f}, best worse by {lost:.4f}")


if __name__ == "__main__":
    main()
