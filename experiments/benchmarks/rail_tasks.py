"""Tasks of the benchmark with RAIL: what there is to do, in which order, what is done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.rail_scores import COST
from experiments.benchmarks.rail_stages import STAGES

__all__ = ["DATASETS", "FAMILIES", "Task", "our_tasks", "rail_tasks", "settings"]

DATASETS = ("lsst-dc2", "sdss-mgs")
FAMILIES = ("forest", "boosting", "network", "blend")

# Quick ones first: a run that is stopped early has then finished the more of them.
_ORDER = ("kNN", "TPZlite", "FlexZBoost", "GPz", "PZFlow")

SEARCHED = "searched.json"


@dataclass(frozen=True)
class Task:
    """One process of the benchmark.

    Parameters
    ----------
    dataset
        Named set of galaxies.
    estimator
        One of RAIL's estimators or of this package's families; ``network_2`` is a runner-up of
        the network, for the blend.
    setting
        ``search`` looks for parameters; ``default``, ``searched`` and ``ours`` are fits.
    seed
        Seed of a fit.
    """

    dataset: str
    estimator: str
    setting: str
    seed: int = 0

    def folder(self, build: Path) -> Path:
        """Where the task leaves what it found."""
        name = self.setting if self.setting == "search" else f"{self.setting}-{self.seed}"
        return build / self.dataset / self.estimator / name

    def is_done(self, build: Path, results: Path, n_trials: int) -> bool:
        """Whether the task has come to its end, with as many trials, with what they found.

        Fits of this package are done anew where the experiment is more recent than they are.

        Parameters
        ----------
        build, results, n_trials
            As in `command`.
        """
        if self.setting == "search":
            found = self.folder(build) / SEARCHED
            return found.exists() and len(_read(found)["trials"]) >= n_trials
        cost = self.folder(build) / COST
        if not cost.exists():
            return False
        if self.setting == "ours":
            report = results / self.dataset / "report.json"
            return report.exists() and cost.stat().st_mtime > report.stat().st_mtime
        return self.setting == "default" or _read(cost)["parameters"] == self._chosen(build)

    def command(self, build: Path, results: Path, n_trials: int) -> list[str]:
        """Command line of the process.

        Parameters
        ----------
        build
            Folder of all tasks.
        results
            Folder with a finished experiment per set, for this package's parameters.
        n_trials
            Trials of a search.
        """
        folder = str(self.folder(build))
        python = [sys.executable, "-m"]
        if self.setting == "ours":
            module = [*python, "experiments.benchmarks.rail_ours"]
            family, _ = _family(self.estimator)
            target = [family, self.dataset, folder, f"--seed={self.seed}"]
            return [*module, *target, *self._source(build, results)]
        module = [*python, "experiments.benchmarks.rail_task"]
        if self.setting == "search":
            return [*module, "search", *self._target(folder), f"--trials={n_trials}"]
        chosen = json.dumps(self._chosen(build))
        options = [f"--seed={self.seed}", f"--parameters={chosen}"]
        return [*module, "fit", *self._target(folder), *options]

    def _target(self, folder: str) -> list[str]:
        return [self.dataset, self.estimator, folder]

    def _chosen(self, build: Path) -> dict[str, Any]:
        if self.setting == "default":
            return {}
        search = Task(self.dataset, self.estimator, "search").folder(build)
        parameters: dict[str, Any] = _read(search / SEARCHED)["parameters"]
        return parameters

    def _source(self, build: Path, results: Path) -> list[str]:
        """The experiment's model; for other seeds its parameters, or the members of a blend."""
        estimators = _read(results / self.dataset / "report.json")["estimators"]
        if self.seed == 0:
            return [f"--bundle={results / self.dataset / estimators[self.estimator]['bundle']}"]
        if self.estimator != "blend":
            family, place = _family(self.estimator)
            entry = estimators[family]
            fits = [entry["parameters"], *entry.get("runners_up", [])]
            return [f"--parameters={json.dumps(fits[place - 1])}"]
        members = [
            Task(self.dataset, name, "ours", self.seed) for name in _members(results, self.dataset)
        ]
        return ["--members", *(str(member.folder(build)) for member in members)]


def rail_tasks(datasets: Sequence[str], n_seeds: int) -> list[Task]:
    """RAIL's tasks, ordered so that what is done at any time makes a table.

    Those of the slowest estimator come after the others' search and first fit.

    Parameters
    ----------
    datasets
        Named sets.
    n_seeds
        Fits of each estimator and setting.
    """
    first = [
        *_fits(datasets, "default", range(1)),
        *(task for name in datasets for task in _search_and_fit(name)),
    ]
    return [
        *sorted(first, key=lambda task: task.estimator == _ORDER[-1]),
        *_fits(datasets, "searched", range(1, n_seeds)),
        *_fits(datasets, "default", range(1, n_seeds)),
    ]


def our_tasks(datasets: Sequence[str], n_seeds: int, results: Path) -> list[Task]:
    """Fits of the families of this package, seed 0 first; each blend follows its members.

    Seed 0 is that of the finished experiments, whose models are there already.

    Parameters
    ----------
    datasets
        Named sets.
    n_seeds
        Fits of each.
    results
        Folder with a finished experiment per set.
    """
    return [
        Task(dataset, name, "ours", seed)
        for seed in range(n_seeds)
        for dataset in datasets
        for name in (FAMILIES if seed == 0 else (*_members(results, dataset), "blend"))
    ]


def settings(estimator: str) -> tuple[str, ...]:
    """Settings in which an estimator is fitted."""
    return ("default", "searched") if estimator in STAGES else ("ours",)


def _members(results: Path, dataset: str) -> list[str]:
    """Fits that the blend of a finished experiment pools; the families where there is none."""
    report = results / dataset / "report.json"
    entries = _read(report)["estimators"] if report.exists() else {}
    parameters = entries.get("blend", {}).get("parameters", {})
    return list(parameters.get("pooled", [name for name in FAMILIES if name != "blend"]))


def _family(name: str) -> tuple[str, int]:
    """Family of a fit, and its place among those: network_2 is the second network."""
    family, _, place = name.partition("_")
    return family, int(place or 1)


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _search_and_fit(dataset: str) -> Iterator[Task]:
    for setting in ("search", "searched"):
        yield from (Task(dataset, name, setting) for name in _ORDER)


def _fits(datasets: Sequence[str], setting: str, seeds: range) -> Iterator[Task]:
    for dataset in datasets:
        for seed in seeds:
            yield from (Task(dataset, name, setting, seed) for name in _ORDER)
