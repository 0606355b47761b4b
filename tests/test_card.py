"""A card tells what a model is good for, in figures that follow from its galaxies."""

import re
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from photoz.calibration import Calibration
from photoz.card import make_card
from photoz.cells import photometric_conditions
from photoz.conformal import ConformalMap
from photoz.evaluation import evaluate
from photoz.importance import permutation_importance
from photoz.outcome import Outcome
from photoz.protocol import HeldBack
from photoz.samples import load_samples
from photoz.settings import Experiment


@pytest.fixture(scope="module")
def experiment(catalogue_file):
    catalogue = {"path": str(catalogue_file), "survey": "lsst"}
    return Experiment(name="try", catalogue=catalogue)


@pytest.fixture(scope="module")
def samples(experiment):
    return load_samples(experiment)


@pytest.fixture(scope="module")
def outcome(model, samples):
    fitted, test = samples.fitted, samples.test
    pz = model.predict_pdf(fitted.photometry)
    rows = np.arange(len(fitted))
    return Outcome(
        name="forest",
        parameters={"n_trees": 10},
        model=model,
        held_back=HeldBack(pz, rows, samples.folds, fitted, len(rows), model, rows[:100]),
        validation=evaluate(fitted.z_spec, pz, n_bootstrap=5),
        test=evaluate(
            test.z_spec,
            model.predict_pdf(test.photometry),
            n_bootstrap=20,
            conditions=photometric_conditions(test.photometry),
        ),
        fit_seconds=1.0,
        importance=permutation_importance(model, test.photometry, test.z_spec),
    )


@pytest.fixture(scope="module")
def card(outcome, experiment, samples):
    return make_card(outcome, experiment, samples)


def part(card, title):
    return next(section for section in card.sections if section.title == title)


def test_a_card_has_all_that_a_reader_must_know(card):
    assert [section.title for section in card.sections] == [
        "Intended use",
        "Data",
        "Split",
        "Metrics",
        "Limits of validity",
        "Calibration",
        "What it relies on",
    ]


def test_metrics_stand_with_their_intervals(card, outcome):
    rows = {row[0]: row[1:] for row in part(card, "Metrics").table.rows}
    low, high = outcome.test.intervals["cde_loss"]

    assert rows["cde_loss"] == [
        f"{outcome.test.metrics['cde_loss']:.4g}",
        f"{low:.4g} to {high:.4g}",
        f"{outcome.validation.metrics['cde_loss']:.4g}",
    ]


def test_limits_hold_99_per_cent_of_the_fitted_galaxies(card, samples):
    limits = part(card, "Limits of validity")
    low, high = map(
        float, re.search(r"redshifts from ([\d.]+) to ([\d.]+) ", limits.text).groups()
    )
    z_spec, magnitude = samples.fitted.z_spec, samples.fitted.photometry.magnitude

    assert np.mean((z_spec >= low) & (z_spec <= high)) == pytest.approx(0.99, abs=0.006)
    for (_, ends, *_), column in zip(limits.table.rows, magnitude.T, strict=True):
        bright, faint = map(float, ends.split(" to "))
        known = column[np.isfinite(column)]
        assert np.mean((known >= bright) & (known <= faint)) == pytest.approx(0.99, abs=0.008)


def test_a_named_set_brings_its_licence(outcome, samples):
    named = Experiment(name="try", catalogue={"dataset": "sdss"})
    text = part(make_card(outcome, named, samples), "Data").text

    assert "10,000 real SDSS galaxies" in text
    assert "Licence: BSD-3-Clause" in text


def test_a_catalogue_of_unknown_licence_says_so(card):
    assert "Licence: not stated by the experiment" in part(card, "Data").text


def test_simulated_galaxies_are_called_simulated(outcome, experiment, samples):
    simulated = make_card(outcome, experiment, replace(samples, is_simulated=True))

    assert "The galaxies are simulated." in part(simulated, "Data").text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"catalogue": {"dataset": "sdss"}}, "(drawn). Split at random"),
        ({"catalogue": {"dataset": "lsst-dc2"}}, "(an official test part). Split at random"),
        ({"split": {"by": "sky"}}, "(drawn). Split by cells of the sky"),
        ({"split": {"by": "field"}}, "(drawn). Split by the column field"),
    ],
)
def test_the_split_is_described(outcome, samples, settings, expected):
    experiment = Experiment(**{"name": "try", "catalogue": {"dataset": "sdss"}, **settings})

    assert expected in part(make_card(outcome, experiment, samples), "Split").text


def test_calibration_names_its_galaxies_and_its_worst_cell(outcome, experiment, samples):
    model = outcome.model
    assert part(make_card(outcome, experiment, samples), "Calibration").text == "None."

    calibrated = type(model)(
        model.survey, model.features, model.augment, model.estimator, Calibration()
    )
    text = part(
        make_card(replace(outcome, model=calibrated), experiment, samples), "Calibration"
    ).text

    assert f"Learned from p(z) of {len(samples.fitted)} fitted galaxies" in text
    worst = outcome.test.worst_cell
    assert (worst.label in text) == (worst.miscoverage > 0)


@pytest.mark.parametrize("n_kept", [None, 100])
def test_a_card_claims_finite_sample_coverage_only_of_a_model_that_has_it(
    outcome, experiment, samples, n_kept
):
    conformal = None if n_kept is None else ConformalMap.fit(np.linspace(0.01, 0.99, n_kept))
    model = copy(outcome.model)
    model.calibration = Calibration(conformal=conformal)

    text = part(make_card(replace(outcome, model=model), experiment, samples), "Calibration").text

    assert ("not a finite-sample guarantee" in text) == (n_kept is None)
    assert ("ranks of 100 galaxies that nothing else has seen" in text) == (n_kept is not None)


def test_markdown_is_short_enough_for_a_registry_and_has_whole_tables(card):
    text = card.to_markdown()
    tables = [line for line in text.splitlines() if line.startswith("|")]

    assert text.startswith("# try: forest\n\n## Intended use\n")
    assert len(text) < 4500
    assert "| band | AB mag | not detected | not observed |\n| --- | --- | --- | --- |" in text
    assert {line.count("|") for line in tables} == {3, 5}


def test_no_password_of_a_source_is_shown(outcome, samples):
    secret = Experiment(
        name="try", catalogue={"path": "https://me:Pa55w0rd@host/a.parquet", "survey": "lsst"}
    )

    assert "Pa55w0rd" not in make_card(outcome, secret, samples).to_markdown()
