"""Measure what tracking costs beside the fits of an experiment.

python experiments/benchmarks/tracking.py RESULTS [N_TRIALS]

RESULTS holds the report.json of an experiment that was run undisturbed, with which the cost is
compared. Each of its families is told N_TRIALS (200) made-up trials, then what a real run of a
small experiment tells; the store is a new one in a temporary folder.
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
    entries = report["estimators"].values()
    of_experiment = sum(entry["search_seconds"] + entry["fit_seconds"] for entry in entries)
    with tempfile.TemporaryDirectory() as folder:
        for what, tell in (
            (f"{len(FAMILIES)} x {n_trials} trials", lambda: tell_trials(Path(folder), n_trials)),
            ("results and models", lambda: tell_results(Path(folder))),
        ):
            before = dict(spent)
            tell()
            wall, cpu = (spent[kind] - before[kind] for kind in spent)
            print(f"{what:20} {wall:6.1f} s wall {cpu:6.1f} s CPU", flush=True)
    print(
        f"searches and fits of {report['name']}: {of_experiment:.0f} s; tracking adds "
        f"{spent['wall'] / of_experiment:.1%} (wall), {spent['CPU'] / of_experiment:.1%} (CPU)"
    )


if __name__ == "__main__":
    main()
