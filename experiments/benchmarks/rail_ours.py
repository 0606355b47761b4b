"""One fit of a family of this package, or one blend, in a process of its own.

python -m experiments.benchmarks.rail_ours FAMILY DATASET FOLDER --parameters JSON --seed SEED

A blend is given the folders of its members instead of parameters. With ``--bundle`` nothing is
fitted: the model of a finished experiment is scored.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.rail_scores import Cost, peak_mb, read_cost, write_scores
from photoz.blend import PhotozBlend, Pool
from photoz.bundle import load_model, save_model
from photoz.calibration import Calibration
from photoz.model import FittedModel, PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.protocol import Candidate, calibrate, hold_back
from photoz.samples import Samples, load_samples
from photoz.settings import Experiment

HELD_BACK = "held_back.npy"
"""Densities of fitted galaxies by fits that have not seen them: what a blend learns from."""


def fit_family(
    family: str, samples: Samples, folder: Path, parameters: dict[str, Any], seed: int
) -> None:
    """Fit, calibrate and score one family with the parameters of a finished experiment."""
    candidate = Candidate(family, parameters, samples.survey, seed)
    started = time.process_time()
    model = candidate.fit(samples.fitted)
    fit_seconds = time.process_time() - started
    held_back = hold_back(candidate, samples)
    model.calibration, _ = calibrate(model.features, held_back)
    learn_seconds = time.process_time() - started
    np.save(folder / HELD_BACK, held_back.pz.density)
    _score(model, samples, folder, (fit_seconds, learn_seconds), parameters)


def finished(path: Path, samples: Samples, folder: Path) -> None:
    """Score the model of a finished experiment; what its fit took is not known."""
    unknown = (math.nan, math.nan)
    _score(load_model(path), samples, folder, unknown, {"bundle": str(path)})


def blend(members: list[Path], samples: Samples, folder: Path) -> None:
    """Pool, calibrate and score members that are fitted already."""
    started = time.process_time()
    models = {path.parent.name: _member(path / "model") for path in members}
    z_grid = next(iter(models.values())).z_grid
    densities = [RedshiftPDF(z_grid, np.load(path / HELD_BACK)) for path in members]
    known, folds = samples.fitted, samples.folds
    pool = Pool.fit(densities, known.z_spec, folds)
    pooled = Pool.cross_fit(densities, known.z_spec, folds)
    model = PhotozBlend(models, pool)
    X = model.features.transform(known.photometry)
    bands = range(len(samples.survey.bands))
    model.calibration = Calibration.fit(pooled, known.z_spec, X, folds, magnitude_columns=bands)
    own = time.process_time() - started
    costs = [read_cost(path)[0] for path in members]
    seconds = (
        own + sum(cost.fit_seconds for cost in costs),
        own + sum(cost.learn_seconds for cost in costs),
    )
    _score(model, samples, folder, seconds, pool.to_dict())


def _score(
    model: FittedModel,
    samples: Samples,
    folder: Path,
    seconds: tuple[float, float],
    parameters: dict[str, Any],
) -> None:
    test = samples.test
    started = time.process_time()
    pz = model.predict_pdf(test.photometry)
    rate = len(test) / (time.process_time() - started)
    bundle = save_model(model, folder / "model")
    size = sum(path.stat().st_size for path in bundle.rglob("*")) / 1e6
    peak = math.nan if math.isnan(sum(seconds)) else peak_mb()
    cost = Cost(*seconds, rate, peak, size)
    write_scores(folder, pz, test.z_spec, cost, parameters)


def _member(path: Path) -> PhotozModel:
    model = load_model(path)
    if not isinstance(model, PhotozModel):
        msg = f"{path} holds a blend; expected a single model."
        raise TypeError(msg)
    return model


def main() -> None:
    """Run the fit of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family")
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={})
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--members", type=Path, nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    experiment = Experiment(name=given.dataset, catalogue={"dataset": given.dataset})
    samples = load_samples(experiment)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.bundle:
        finished(given.bundle, samples, given.folder)
    elif given.members:
        blend(given.members, samples, given.folder)
    else:
        fit_family(given.family, samples, given.folder, given.parameters, given.seed)


if __name__ == "__main__":
    main()
