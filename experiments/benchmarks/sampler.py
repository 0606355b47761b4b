"""Compare TPE with a Gaussian process on surrogates of recorded trials.

python experiments/benchmarks/sampler.py FOLDER [N_SEEDS]

FOLDER is that of record_trials.py. The surrogate is a forest of extremely random trees on the
parameters, with noise of 0.005 in log loss, as between seeds. Printed is how far the best trial
lies above the best of 4,000 random ones, without noise, after 30 and 60 trials.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from record_trials import suggest
from sklearn.ensemble import ExtraTreesRegressor

from photoz.estimators.base import Choice, Range
from photoz.settings import Experiment

NOISE = 0.005
N_TRIALS = (30, 60)

Space = dict[str, Range | Choice]


def numbers(parameters: dict[str, Any], space: Space) -> NDArray[np.float64]:
    """Parameters as a point, each on the scale of its search."""
    point = []
    for name, options in space.items():
        if isinstance(options, Choice):
            point.append(options.options.index(parameters[name]))
        else:
            value = parameters[name]
            point.append(np.log(value / options.low) if options.log else value)
    return np.array(point, dtype=np.float64)


def seeded(kind: str, seed: int) -> BaseSampler:
    """A fresh sampler, as before every trial of a search: nothing but the study is kept."""
    if kind == "GP":
        return GPSampler(seed=seed, n_startup_trials=10)
    return TPESampler(seed=seed) if kind == "TPE" else RandomSampler(seed=seed)


def run(kind: str, space: Space, surrogate: ExtraTreesRegressor, seed: int) -> list[float]:
    """True values of the best noisy trial after each number of trials."""
    study, true = optuna.create_study(), []
    generator = np.random.default_rng(seed)
    for number in range(max(N_TRIALS)):
        entropy = np.random.SeedSequence((seed, number)).generate_state(1)[0]
        study.sampler = seeded(kind, int(entropy))
        trial = study.ask()
        point = numbers(suggest(trial, space), space)
        true.append(float(surrogate.predict(point[np.newaxis])[0]))
        study.tell(trial, true[-1] + NOISE * generator.standard_normal())
    noisy = [trial.value for trial in study.trials]
    return [true[int(np.argmin(noisy[:n_trials]))] for n_trials in N_TRIALS]


def main() -> None:
    """Print a line per file and sampler."""
    n_seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    print("trials                 sampler   above the best @30      @60   CPU ms a trial")
    for file in sorted(Path(sys.argv[1]).glob("*.json")):
        name, _, family = file.stem.rpartition("-")
        space, _ = Experiment.from_toml(Path("experiments") / f"{name}.toml").space(family)
        trials = json.loads(file.read_text())
        X = np.stack([numbers(trial["parameters"], space) for trial in trials])
        y = [trial["value"] for trial in trials]
        surrogate = ExtraTreesRegressor(50, min_samples_leaf=2, random_state=0).fit(X, y)
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        drawn = [numbers(suggest(study.ask(), space), space) for _ in range(4000)]
        lowest = surrogate.predict(np.stack(drawn)).min()
        for kind in ("random", "TPE", "GP"):
            started = time.process_time()
            found = np.array([run(kind, space, surrogate, seed) for seed in range(n_seeds)])
            cpu = 1e3 * (time.process_time() - started) / n_seeds / max(N_TRIALS)
            mean, spread = found.mean(0) - lowest, found.std(0)
            figures = "   ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, spread, strict=True))
            print(f"{file.stem:22} {kind:8} {figures}   {cpu:.0f}")


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
