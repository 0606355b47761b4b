"""One task of the benchmark with RAIL, in a process of its own.

python -m experiments.benchmarks.rail_task KIND DATASET ESTIMATOR FOLDER [OPTIONS]
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.rail_scores import Cost, peak_mb, write_scores
from experiments.benchmarks.rail_stages import STAGES, Stage, columns, shared_options
from photoz.estimators.base import OnStep
from photoz.metrics import log_loss
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.sample import Sample
from photoz.samples import Samples, load_samples
from photoz.search import Scored, search, study_name
from photoz.settings import Experiment

# TPZlite's rate is measured on so many galaxies.
_TIMED = 500


def on_grid(ensemble: Any, z_grid: FloatArray) -> FloatArray:
    """Densities of a qp ensemble; where it has none, nothing is known of the galaxy."""
    # Of a single galaxy, qp gives one axis.
    density = np.atleast_2d(np.asarray(ensemble.pdf(z_grid), dtype=np.float64))
    return np.maximum(np.nan_to_num(density, nan=0.0, posinf=0.0), 0).astype(np.float32)


class Runner:
    """One of RAIL's estimators on the galaxies of one set.

    Parameters
    ----------
    name
        Name of the estimator.
    samples
        The galaxies.
    """

    def __init__(self, name: str, samples: Samples) -> None:
        self.name = name
        self.samples = samples
        self.stage: Stage = STAGES[name]
        self.z_grid = np.linspace(0, samples.z_max, samples.n_z)
        module = importlib.import_module(f"rail.estimation.algos.{self.stage.module}")
        self._informer = getattr(module, f"{self.stage.prefix}Informer")
        self._estimator = getattr(module, f"{self.stage.prefix}Estimator")
        self._shared = shared_options(
            samples.survey,
            samples.z_max,
            self.stage.n_bins or samples.n_z,
            np.nanmax(samples.fitted.photometry.magnitude, axis=0),
        )

    def inform(self, sample: Sample, parameters: Mapping[str, Any], seed: int) -> Any:
        """Handle of a model that learned from galaxies.

        The seed is the stage's own. PZFlow passes its own to nothing, and GPz and TPZlite
        draw from the global generators too: so it also orders the rows and seeds those.
        """
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        order = np.random.default_rng(seed).permutation(len(sample))
        stage = self._make(self._informer, parameters, seed=seed)
        stage.inform(columns(sample[order], self.samples.survey, truth=True))
        return stage.get_handle("model")

    def estimate(
        self,
        model: Any,
        sample: Sample,
        parameters: Mapping[str, Any],
    ) -> tuple[RedshiftPDF, float]:
        """Densities on the grid of the scores, and the CPU seconds of RAIL's part of it."""
        table = columns(sample, self.samples.survey, truth=False)
        seconds, parts = 0.0, []
        for start in range(0, len(sample), self.stage.block):
            rows = {name: x[start : start + self.stage.block] for name, x in table.items()}
            stage = self._make(self._estimator, parameters, model=model)
            started = time.process_time()
            ensemble = stage.estimate(rows).data
            seconds += time.process_time() - started
            parts.append(on_grid(ensemble, self.z_grid))
        return RedshiftPDF.from_weights(self.z_grid, np.concatenate(parts)), seconds

    def _make(self, stage: Any, parameters: Mapping[str, Any], **more: Any) -> Any:
        wanted = {**self._shared, **self._options(parameters), **more}
        known = {"model", *stage.config_options}
        options = {key: value for key, value in wanted.items() if key in known}
        return stage.make_stage(name=f"{self.name}{stage.__name__}", **options)

    def _options(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        options = self.stage.options(parameters, self.samples.survey)
        limits = {**self._shared["mag_limits"], **options.pop("mag_limits", {})}
        return {**options, "mag_limits": limits}


class _Answers:
    """Stands for a tree of TPZlite whose answers to all galaxies of a block are known."""

    def __init__(self, tree: Any, X: FloatArray) -> None:
        self._answers = iter(tree.predict(X).reshape(-1, 1))

    def predict(self, _: FloatArray) -> FloatArray:
        return next(self._answers)


class TreeRunner(Runner):
    """TPZlite, which asks its trees galaxy by galaxy: here all of a block are asked at once."""

    def estimate(
        self,
        model: Any,
        sample: Sample,
        parameters: Mapping[str, Any],
    ) -> tuple[RedshiftPDF, float]:
        """Densities as RAIL gives them; the seconds are of its own way, on some galaxies."""
        some = np.arange(min(_TIMED, len(sample)))
        _, seconds = super().estimate(model, sample[some], parameters)
        parts = []
        trees = model.data["treedict"]
        for start in range(0, len(sample), self.stage.block):
            block = sample[np.arange(start, min(start + self.stage.block, len(sample)))]
            X = self._attributes(block)
            known = {name: _Answers(tree, X) for name, tree in trees.items()}
            handle = type(model)("model", data={**model.data, "treedict": known})
            parts.append(super().estimate(handle, block, parameters)[0])
        return RedshiftPDF.concatenate(parts), seconds * len(sample) / len(some)

    def _attributes(self, sample: Sample) -> FloatArray:
        """Magnitudes with the limits in place of non-detections, as the stage puts them."""
        table = columns(sample, self.samples.survey, truth=False)
        limits = self._shared["mag_limits"]
        return np.column_stack(
            [np.where(table[band] == 99, limits[band], table[band]) for band in limits]
        )


def runner(name: str, samples: Samples) -> Runner:
    """What runs the estimator of that name."""
    return (TreeRunner if name == "TPZlite" else Runner)(name, samples)


def search_parameters(run: Runner, folder: Path, n_trials: int) -> dict[str, Any]:
    """Search on the validation rows as this package's families do, by the same metric."""
    train, validation = run.samples.train, run.samples.validation

    def objective(parameters: dict[str, Any], _: OnStep) -> Scored:
        model = run.inform(train, parameters, seed=0)
        pz, _ = run.estimate(model, validation, parameters)
        return Scored(log_loss(validation.z_spec, pz))

    started = time.process_time()
    found = search(
        objective,
        run.stage.space,
        study_name=study_name(run.name, run.stage.space, run.samples.split_sha256),
        storage=folder / "trials.log",
        n_trials=n_trials,
        defaults=run.stage.defaults,
    )
    return {
        "parameters": found.best.parameters,
        "log_loss": found.best.value,
        "trials": [
            {"parameters": trial.parameters, "log_loss": trial.value, "error": trial.error}
            for trial in found.trials
        ],
        "cpu_seconds": time.process_time() - started,
    }


def fit(run: Runner, folder: Path, parameters: dict[str, Any], seed: int) -> None:
    """Fit training and validation rows and score the held-out ones."""
    started = time.process_time()
    model = run.inform(run.samples.fitted, parameters, seed)
    fit_seconds = time.process_time() - started
    test = run.samples.test
    test = test[run.stage.tested(len(test))]
    pz, seconds = run.estimate(model, test, parameters)
    path = folder / "model.pkl"
    model.path = str(path)
    model.write()
    size = path.stat().st_size / 1e6
    path.unlink()
    cost = Cost(fit_seconds, fit_seconds, len(test) / seconds, peak_mb(), size)
    write_scores(folder, pz, test.z_spec, cost, parameters)


def main() -> None:
    """Run the task of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["search", "fit"])
    parser.add_argument("dataset")
    parser.add_argument("estimator", choices=list(STAGES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--parameters", type=json.loads, default={})
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    experiment = Experiment(name=given.dataset, catalogue={"dataset": given.dataset})
    run = runner(given.estimator, load_samples(experiment))
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.kind == "fit":
        fit(run, given.folder, given.parameters, given.seed)
        return
    found = search_parameters(run, given.folder, given.trials)
    text = json.dumps(found, indent=1, default=float)
    (given.folder / "searched.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
