"""Measure what tracking costs beside the fits of an experiment.

python experiments/benchmarks/tracking.py RESULTS [N_TRIALS]

RESULTS holds the report.json of an experiment that was run undisturbed. Three families are told
N_TRIALS (200) made-up trials, then what a real run of a small experiment tells, in a new store in
a temporary folder. The cost is compared with the time of the experiment, as it was and with that
many trials.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from photoz import experiment as flow
from photoz.mock import make_mock_catalogue
from photoz.search import Trial
from photoz.settings import Experiment
from photoz.tracking import EstimatorRun, TrackedData, Tracking

FAMILIES = ("forest", "boosting", "network")
ROWS = {"training": 6000, "validation": 2000, "test": 2000}
DATA = TrackedData("made up", "made-up.parquet", "a" * 64, "b" * 64, ROWS)
SMALL = """
name = "small"
[catalogue]
path = "mock.parquet"
survey = "lsst"
[search]
trials = 1
[tracking]
uri = "mlruns"
[estimators.forest]
n_trees = 4
[estimators.boosting]
n_rounds = 5
[estimators.network]
updates = 50
[estimators.blend]
"""

spent = {"wall": 0.0, "CPU": 0.0}


@contextmanager
def counted() -> Iterator[None]:
    """Add the seconds of a block to what is spent."""
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        spent["wall"] += time.perf_counter() - wall
        spent["CPU"] += time.process_time() - cpu


def counting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, its seconds counted."""

    def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        with counted():
            return function(*arguments, **options)

    return call


def tell_trials(folder: Path, n_trials: int) -> None:
    """Tell the trials of all families: ten parameters each, the values falling."""
    generator = np.random.default_rng(0)
    with counted():
        tracking = Tracking("", "trials", data=DATA, metric="log_loss", mlruns=folder / "mlruns")
    for family in FAMILIES:
        with tracking.run(family) as tracked, counted():
            for number in range(n_trials):
                drawn = generator.random(10)
                parameters = {f"parameter_{at}": value for at, value in enumerate(drawn)}
                tracked.log_trial(Trial(number, "complete", parameters, float(drawn[0]), 5.0))


def tell_results(folder: Path) -> None:
    """Tell what a small real experiment tells: metrics, plots, cards, models."""
    mock = make_mock_catalogue(2000, random_state=0)
    pq.write_table(pa.table(mock.to_columns()), folder / "mock.parquet")
    (folder / "small.toml").write_text(SMALL.replace("mlruns", str(folder / "mlruns")))
    names = ("log_model", "log_trial")
    patches = [patch.object(EstimatorRun, name, counting(getattr(EstimatorRun, name)))
               for name in names]  # fmt: skip
    patches += [
        patch.object(flow, "record", counting(flow.record)),
        patch.object(flow, "Tracking", counting(Tracking)),
        patch.object(Tracking, "promote", counting(Tracking.promote)),
    ]
    for one in patches:
        one.start()
    flow.run(Experiment.from_toml(folder / "small.toml"), folder / "results")
    for one in patches:
        one.stop()


def main() -> None:
    """Print the seconds, and their share of the experiment's."""
    report = json.loads((Path(sys.argv[1]) / "report.json").read_text())
    n_trials = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    entries = list(report["estimators"].values())
    fits = sum(entry["fit_seconds"] for entry in entries)
    searches = sum(entry["search_seconds"] for entry in entries)
    tried = max(entry["trials"] for entry in entries)
    with tempfile.TemporaryDirectory() as folder:
        tell_trials(Path(folder), n_trials)
        of_trials = dict(spent)
        print(f"{len(FAMILIES)} x {n_trials} trials: {_shown(of_trials)}", flush=True)
        tell_results(Path(folder))
        of_results = {kind: spent[kind] - of_trials[kind] for kind in spent}
        print(f"results and models: {_shown(of_results)}")
    for number in (tried, n_trials):
        whole = fits + searches * number / tried
        cost = of_results["CPU"] + of_trials["CPU"] * number / n_trials
        print(
            f"{report['name']} with {number} trials a family: {whole:.0f} s of searches and "
            f"fits, tracking adds {cost:.0f} s CPU, {cost / whole:.1%}"
        )


def _shown(seconds: dict[str, float]) -> str:
    return ", ".join(f"{value:.1f} s {kind}" for kind, value in seconds.items())


if __name__ == "__main__":
    main()
