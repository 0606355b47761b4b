"""Record trials that nothing gave up, with their curves, for sampler.py and pruner.py.

python experiments/benchmarks/record_trials.py FOLDER [SET ...]

Each family of each named set is searched on 2,000 training and 1,000 validation rows, the first
half of the trials at random, the second by TPE. One JSON file per set and family holds the
parameters, score, CPU seconds and curve of every trial.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from photoz.estimators.base import Choice, Range
from photoz.protocol import Candidate
from photoz.samples import load_samples
from photoz.settings import Experiment

N_TRIALS = {"forest": 40, "boosting": 40, "network": 30}


def suggest(trial: optuna.Trial, space: dict[str, Range | Choice]) -> dict[str, Any]:
    """Draw parameters from a space."""
    values: dict[str, Any] = {}
    for name, options in space.items():
        if isinstance(options, Choice):
            values[name] = trial.suggest_categorical(name, options.options)
        elif options.integer:
            ends = int(options.low), int(options.high)
            values[name] = trial.suggest_int(name, *ends, log=options.log)
        else:
            values[name] = trial.suggest_float(name, options.low, options.high, log=options.log)
    return values


def record(experiment: Experiment, family: str, n_trials: int) -> list[dict[str, Any]]:
    """Trials of one family; a curve holds step, loss and CPU seconds since the trial began."""
    samples = load_samples(experiment)
    drawn = np.random.default_rng(0).permutation
    train = samples.train[np.sort(drawn(len(samples.train))[:2000])]
    validation = samples.validation[np.sort(drawn(len(samples.validation))[:1000])]
    space, fixed = experiment.space(family)
    fixed = {"z_max": samples.z_max, "n_z": samples.n_z, **fixed}
    trials: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        parameters = suggest(trial, space)
        candidate = Candidate(family, {**fixed, **parameters}, samples.survey, experiment.seed)
        curve: list[tuple[int, float, float]] = []
        started = time.process_time()

        def on_step(step: int, loss: float) -> None:
            curve.append((step, float(loss), time.process_time() - started))

        value = candidate.trial(train, validation, experiment.search.metric, on_step).value
        seconds = time.process_time() - started
        trials.append(
            {"parameters": parameters, "value": value, "seconds": seconds, "curve": curve}
        )
        return value

    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=n_trials // 2)
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=n_trials)
    return trials


def main() -> None:
    """Write what is not there yet."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or ["sdss-mgs", "lsst-dc2"]:
        experiment = Experiment.from_toml(Path("experiments") / f"{name}.toml")
        for family, n_trials in N_TRIALS.items():
            file = folder / f"{name}-{family}.json"
            if not file.exists():
                file.write_text(json.dumps(record(experiment, family, n_trials)))


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
