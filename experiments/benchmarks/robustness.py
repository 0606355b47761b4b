"""Held-out figures where data are worse than in training: bands, depth, labels, few galaxies.

python experiments/benchmarks/robustness.py RESULTS [CHECK ...]

RESULTS is the results folder of an experiment whose file is experiments/NAME.toml; its
parameters are used, and each check says what it changes. The checks are missing, depth,
labels, degenerate and small; all of them if none is named. A family may be named as well.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import photoz
from photoz.augment import without_one_band
from photoz.metrics import crps
from photoz.photometry import Photometry, State
from photoz.protocol import Candidate, calibrate, hold_back
from photoz.sample import Sample
from photoz.samples import Samples, load_samples
from photoz.settings import Experiment

FAMILIES = ("forest", "boosting", "network")
STOPPING = ("n_rounds", "bandwidth", "temperature")
SHOWN = ("cde_loss", "crps", "pit_ks", "coverage_68", "coverage_95")


def show(label: str, z_spec: np.ndarray, pz: photoz.RedshiftPDF) -> dict[str, float]:
    """Print a line of metrics."""
    metrics = photoz.evaluate(z_spec, pz, n_bootstrap=1).metrics
    width = float(np.mean(np.diff(pz.quantiles([0.16, 0.84]), axis=1)))
    values = "  ".join(f"{name} {metrics[name]:.4g}" for name in SHOWN)
    print(f"{label:34} {values}  width_68 {width:.4f}", flush=True)
    return metrics


def fit(candidate: Candidate, samples: Samples) -> photoz.PhotozModel:
    """Fit and calibrate as an experiment does."""
    model = candidate.fit(samples.fitted)
    model.calibration, _ = calibrate(model.features, hold_back(candidate, samples))
    return model


def noisier(photometry: Photometry, factor: float, seed: int = 0) -> Photometry:
    """The photometry at `factor` times its errors, listed as such."""
    added = np.sqrt(factor**2 - 1) * photometry.flux_error
    noise = added * np.random.default_rng(seed).standard_normal(added.shape)
    detected = photometry.state == State.DETECTED
    return replace(
        photometry,
        flux=np.where(detected, photometry.flux + noise, photometry.flux),
        flux_error=photometry.flux_error * factor,
    )


def without(photometry: Photometry, band: int) -> Photometry:
    """The photometry with one band not observed."""
    hidden = np.zeros(photometry.flux.shape, dtype=bool)
    hidden[:, band] = True
    return photometry.without(hidden)


def filled_in(photometry: Photometry, band: int, like: Photometry) -> Photometry:
    """The photometry with the median of training galaxies in place of one band."""
    flux, error = photometry.flux.copy(), photometry.flux_error.copy()
    flux[:, band] = np.nanmedian(like.flux[:, band])
    error[:, band] = np.nanmedian(like.flux_error[:, band])
    state = photometry.state.copy()
    state[:, band] = State.DETECTED
    return replace(photometry, flux=flux, flux_error=error, state=state)


def without_bands(candidate: Candidate, samples: Samples) -> Candidate:
    """The candidate with band dropout; copies and stopping point are chosen anew for that."""
    own = {k: v for k, v in candidate.parameters.items() if k not in STOPPING}
    best, lowest = candidate, np.inf
    for copies in (1, 4, 9):
        parameters = {**own, "augment.band_dropout": 0.1, "augment.noise_copies": copies}
        trial = replace(candidate, parameters=parameters)
        scored = trial.trial(samples.train, samples.validation, "log_loss", lambda *_: None)
        print(f"{copies} copies: log loss {scored.value:.4f} {scored.tuned}", flush=True)
        if scored.value < lowest:
            best = replace(trial, parameters={**parameters, **scored.tuned})
            lowest = scored.value
    return best


def missing(candidate: Candidate, samples: Samples) -> None:
    """Every single band taken away, from a model that was trained to do without."""
    test, z_spec = samples.test.photometry, samples.test.z_spec
    plain = fit(candidate, samples)
    show("complete, no dropout", z_spec, plain.predict_pdf(test))
    model = fit(without_bands(candidate, samples), samples)
    show("complete, band_dropout 0.1", z_spec, model.predict_pdf(test))
    for index, band in enumerate(test.bands):
        show(f"without {band}", z_spec, model.predict_pdf(without(test, index)))
        imputed = filled_in(test, index, samples.fitted.photometry)
        show(f"median in place of {band}", z_spec, plain.predict_pdf(imputed))
    show("one random band", z_spec, model.predict_pdf(without_one_band(test, 0)))


def depth(candidate: Candidate, samples: Samples) -> None:
    """Test galaxies at 1, 2 and 3.16 times their errors."""
    errors = {**candidate.parameters, "features.errors": True, "augment.depth_scale": 3.0}
    model = fit(replace(candidate, parameters=errors), samples)
    for factor in (1.0, 2.0, 3.16):
        test = noisier(samples.test.photometry, factor)
        show(f"errors x {factor}", samples.test.z_spec, model.predict_pdf(test))


def labels(candidate: Candidate, samples: Samples) -> None:
    """Five per cent of the fitted redshifts scrambled; the test galaxies are clean."""
    generator = np.random.default_rng(0)
    z_spec = samples.fitted.z_spec.copy()
    wrong = np.flatnonzero(generator.random(len(z_spec)) < 0.05)
    z_spec[wrong] = generator.permutation(z_spec[wrong])
    for reliability in (1.0, 0.95):
        doubted = np.full(len(z_spec), reliability) if reliability < 1 else None
        fitted = replace(samples.fitted, z_spec=z_spec, reliability=doubted)
        model = fit(candidate, replace(samples, fitted=fitted))
        pz = model.predict_pdf(samples.test.photometry)
        show(f"reliability {reliability}", samples.test.z_spec, pz)


def degenerate(candidate: Candidate, samples: Samples) -> None:
    """Mock galaxies of two branches; the truth's own score is the best there is."""
    train = photoz.make_mock_catalogue(10_000, degenerate=True, random_state=0)
    new = photoz.make_mock_catalogue(1_000, degenerate=True, random_state=1)
    z_max = float(1.05 * (1 + train.z_spec.max()) - 1)
    grid = {"z_max": z_max, "n_z": int(np.ceil(z_max / 0.01)) + 1}
    own = {**candidate.parameters, **grid, "features.errors": True}
    sizes = np.arange(len(train))
    branches = replace(
        samples,
        fitted=Sample(train.photometry, train.z_spec),
        is_validation=sizes % 5 == 0,
        folds=sizes % 5,
    )
    for tuned in ("bandwidth", "temperature"):
        own.pop(tuned, None)
    pz = fit(replace(candidate, parameters=own), branches).predict_pdf(new.photometry)
    show("two branches", new.z_spec, pz)
    truth = new.true_pdf(pz.z_grid)
    show("the truth", new.z_spec, truth)
    print(f"CRPS of the truth's {crps(new.z_spec, pz) / crps(new.z_spec, truth):.3f}")


def small(candidate: Candidate, samples: Samples) -> None:
    """500 galaxies to fit, with the family's defaults."""
    rows = np.random.default_rng(0).permutation(len(samples.fitted))[:500]
    few = replace(
        samples,
        fitted=samples.fitted[rows],
        is_validation=samples.is_validation[rows],
        folds=np.arange(500) % 5,
    )
    plain = {key: candidate.parameters[key] for key in ("z_max", "n_z")}
    model = fit(replace(candidate, parameters=plain), few)
    pz = model.predict_pdf(samples.test.photometry)
    metrics = show("500 galaxies", samples.test.z_spec, pz)
    print(f"sigma_nmad {metrics['sigma_nmad']:.4f}")


CHECKS = {check.__name__: check for check in (missing, depth, labels, degenerate, small)}


def main(results: Path, names: list[str]) -> None:
    """Run the checks for every family of a results folder."""
    report = json.loads((results / "report.json").read_text(encoding="utf-8"))
    file = Path(__file__).parents[1] / f"{report['name']}.toml"
    samples = load_samples(Experiment.from_toml(file))
    checks = [name for name in CHECKS if name in names] or list(CHECKS)
    families = [name for name in FAMILIES if name in names] or list(FAMILIES)
    for name in checks:
        for family in families:
            print(f"# {report['name']}: {name}, {family}")
            parameters = report["estimators"][family]["parameters"]
            CHECKS[name](Candidate(family, parameters, samples.survey, 0), samples)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
