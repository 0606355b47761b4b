"""Side by side with RAIL: its estimators and this package's on the same rows and scores.

python -m experiments.benchmarks.rail run   [--sets NAME ...] [--trials N] [--seeds N]
python -m experiments.benchmarks.rail table [--sets NAME ...]

`run` needs an environment with RAIL, which `make benchmark` makes, and takes this package's
models and parameters from finished experiments. Each search and each fit is a process of its
own on one thread; what is done is kept, so that a run that was stopped goes on. `table` prints
the tables of what is done so far.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments.benchmarks.rail_scores import DENSITY, leave_one_out, save_losses
from experiments.benchmarks.rail_stages import STAGES
from experiments.benchmarks.rail_table import tables
from experiments.benchmarks.rail_tasks import DATASETS, Task, our_tasks, rail_tasks
from photoz.evaluation import losses
from photoz.samples import Samples, load_samples
from photoz.settings import Experiment

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


def environment(build: Path) -> dict[str, str]:
    """Variables that keep a task on one thread, and PZFlow's compiled code between tasks."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str((build / "jax").absolute()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    return {**os.environ, **ONE_THREAD, **cache}


def run(tasks: list[Task], build: Path, results: Path, n_trials: int, n_seeds: int) -> int:
    """Do what is not done yet; number of tasks that failed."""
    failed = 0
    for number, task in enumerate(tasks, start=1):
        if task.is_done(build, results, n_trials):
            continue
        folder = task.folder(build)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        try:
            command = task.command(build, results, n_trials)
        except OSError as error:
            print(f"{number}/{len(tasks)} {folder}: needs {error.filename}", flush=True)
            failed += 1
            continue
        with (folder / "log.txt").open("w", encoding="utf-8") as log:
            done = subprocess.run(
                command, check=False, env=environment(build), stdout=log, stderr=log
            )
        failed += bool(done.returncode)
        outcome = "done" if done.returncode == 0 else f"failed, see {folder / 'log.txt'}"
        seconds = time.perf_counter() - started
        print(f"{number}/{len(tasks)} {folder}: {outcome}, {seconds:.0f} s", flush=True)
        if done.returncode == 0 and task.setting != "search":
            average(task, build, n_seeds)
    return failed


def average(task: Task, build: Path, n_seeds: int) -> None:
    """Score the averages of all seeds but one once all are there, and drop the densities."""
    seeds = [Task(task.dataset, task.estimator, task.setting, k) for k in range(n_seeds)]
    paths = [seed.folder(build) / DENSITY for seed in seeds]
    if task.setting == "ours":
        (task.folder(build) / DENSITY).unlink()
        return
    if n_seeds < 2 or not all(path.exists() for path in paths):
        return
    samples = read_samples(task.dataset)
    z_grid = np.linspace(0, samples.z_max, samples.n_z)
    test = samples.test
    z_spec = test.z_spec[STAGES[task.estimator].tested(len(test))]
    folder = task.folder(build).parent / f"{task.setting}-average"
    folder.mkdir(exist_ok=True)
    for k, pz in enumerate(leave_one_out(z_grid, [np.load(path) for path in paths])):
        save_losses(folder / f"losses-{k}.npz", losses(z_spec, pz))
    for path in paths:
        path.unlink()


def read_samples(dataset: str) -> Samples:
    """Galaxies of a named set, split as its experiment splits them."""
    return load_samples(Experiment(name=dataset, catalogue={"dataset": dataset}))


def main() -> None:
    """Run the tasks or print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--sets", nargs="+", default=list(DATASETS))
    parser.add_argument("--trials", type=int, default=30, help="trials of each search")
    parser.add_argument("--seeds", type=int, default=5, help="fits of each estimator")
    parser.add_argument("--build", type=Path, default=Path("build/rail"))
    parser.add_argument("--results", type=Path, default=Path("experiments/results"))
    parser.add_argument("--only", choices=["rail", "ours"], help="one side of the two")
    given = parser.parse_args()
    if given.command == "table":
        print(tables(given.sets, given.build))
        return
    theirs = [] if given.only == "ours" else rail_tasks(given.sets, given.seeds)
    ours = [] if given.only == "rail" else our_tasks(given.sets, given.seeds, given.results)
    # The models of finished experiments cost nothing, further seeds of ours the most.
    at_hand = [task for task in ours if task.seed == 0]
    tasks = [*at_hand, *theirs, *ours[len(at_hand) :]]
    failed = run(tasks, given.build, given.results, given.trials, given.seeds)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
