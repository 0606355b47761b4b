"""The protocol: what trials are scored on, and what calibration and blend learn from."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import photoz.family
from photoz.blend import PhotozBlend, Pool
from photoz.family import Chosen, Family
from photoz.features import PhotometricFeatures
from photoz.metrics import log_loss
from photoz.mock import make_mock_catalogue
from photoz.outcome import RunnerUp, blend_families
from photoz.pdf import RedshiftPDF
from photoz.photometry import State
from photoz.protocol import Candidate, HeldBack, add_conformal, calibrate, hold_back
from photoz.sample import Sample
from photoz.samples import Samples
from photoz.settings import Experiment
from photoz.survey import load_survey
from photoz.trials import Scored, SearchResult, Trial

N_GALAXIES = 300
FOREST = {"n_trees": 5, "n_threads": 1, "z_max": 3.0, "n_z": 151, "augment.depth_scale": 0.0}


@pytest.fixture(scope="module")
def samples():
    mock = make_mock_catalogue(2 * N_GALAXIES, random_state=0)
    rows = np.arange(N_GALAXIES)
    fitted, test = (
        Sample(mock.photometry[part], mock.z_spec[part]) for part in (rows, rows + N_GALAXIES)
    )
    return Samples(
        fitted=fitted,
        is_validation=rows % 5 == 0,
        folds=rows % 3,
        test=test,
        fitted_id=rows.astype(str),
        fitted_groups=None,
        test_id=rows,
        test_groups=None,
        survey=load_survey("lsst"),
        dropped={},
        implausible={},
        sha256="",
        split_sha256="",
        is_simulated=True,
    )


def candidate(**parameters):
    return Candidate("forest", {**FOREST, **parameters}, load_survey("lsst"), seed=0)


def test_every_galaxy_is_held_back_once(samples):
    held_back = hold_back(candidate(), samples)

    assert_array_equal(held_back.rows, np.arange(N_GALAXIES))
    assert_array_equal(held_back.folds, samples.folds)
    assert held_back.n_complete == N_GALAXIES


def test_validation_galaxies_of_one_group_are_not_enough(samples, monkeypatch):
    """Nothing could be learned from one fold and shown on another."""
    monkeypatch.setattr("photoz.sample._MANY_ROWS", 100)
    mixed = hold_back(candidate(), samples)
    of_one_group = replace(samples, folds=np.where(samples.is_validation, 0, samples.folds))

    assert_array_equal(mixed.rows, np.flatnonzero(samples.is_validation))
    assert_array_equal(hold_back(candidate(), of_one_group).rows, np.arange(N_GALAXIES))


def test_a_band_of_one_group_has_the_depth_that_all_galaxies_teach(samples):
    unseen = (samples.folds != 1)[:, np.newaxis] & (np.arange(6) == 5)
    photometry = samples.fitted.photometry.without(unseen)
    partly = replace(samples, fitted=replace(samples.fitted, photometry=photometry))
    survey = samples.survey.model_copy(update={"depth": {"u": 27.8}})

    found = partly.with_depths(survey)
    held_back = hold_back(replace(candidate(), survey=found), partly)

    errors = photometry.flux_error[samples.folds == 1, 5]
    assert list(found.depth) == ["y", "u"]
    assert found.depth["u"] == 27.8
    assert np.min(errors) < 10 ** (-0.4 * (found.depth["y"] - 31.4)) < np.max(errors)
    assert_array_equal(held_back.rows, np.arange(N_GALAXIES))
    assert samples.with_depths(survey) is survey


def test_galaxies_that_do_not_count_teach_no_depth(samples):
    """Of the band that was observed in one group only, they list other errors."""
    is_last = np.arange(6) == 5
    photometry = samples.fitted.photometry.without((samples.folds != 1)[:, np.newaxis] & is_last)
    counts = np.arange(N_GALAXIES) % 2 == 0
    error = np.where(counts[:, np.newaxis], 1.0, 1e4) * photometry.flux_error
    weighted = replace(
        samples.fitted,
        photometry=replace(photometry, flux_error=error),
        weight=counts.astype(float),
    )

    found = replace(samples, fitted=weighted).with_depths(
        samples.survey.model_copy(update={"depth": {}})
    )

    expected = PhotometricFeatures().fit(weighted.photometry[counts]).depth_[5]
    assert found.depth["y"] == pytest.approx(31.4 - 2.5 * np.log10(expected))


def test_progress_of_all_fits_is_told_together(samples):
    told = []
    hold_back(candidate(), samples, lambda *steps: told.append(steps))
    n_fits = len(np.unique(samples.folds))
    done, planned = np.array(told).T

    assert (done[0], done[-1]) == (0, n_fits * FOREST["n_trees"])
    assert (np.diff(done) >= 0).all()
    assert len(told) > 3 * n_fits
    assert set(planned) == {n_fits * FOREST["n_trees"]}


def test_galaxies_are_held_back_again_without_a_band_where_bands_may_be_missing(samples):
    held_back = hold_back(candidate(**{"augment.band_dropout": 0.2}), samples)

    assert held_back.n_complete == N_GALAXIES
    assert_array_equal(held_back.rows, np.tile(np.arange(N_GALAXIES), 2))
    assert_array_equal(held_back.folds, np.tile(samples.folds, 2))
    missing = (held_back.sample.photometry.state == State.NOT_OBSERVED).sum(axis=1)
    assert_array_equal(missing, np.repeat([0, 1], N_GALAXIES))
    assert len(held_back.complete.pz) == N_GALAXIES
    calibration, validated = calibrate(candidate().fit(samples.fitted).features, held_back)
    assert calibration.n_galaxies == 2 * N_GALAXIES
    assert len(validated) == N_GALAXIES


@pytest.mark.parametrize(
    ("trials", "timed_out", "gain", "judged", "doubled", "kept"),
    [
        (3, False, 0.0, [1000, 1500], [3000], 1500),
        (3, False, 0.1, [1000, 1500], [3000, 6000, 12000, 24000], 24000),
        (0, False, 0.0, [], [], 1000),
        (3, True, 0.0, [], [], 1000),
    ],
)
def test_the_best_of_a_search_meet_again_out_of_fold_unless_there_was_none_or_no_time(
    samples, monkeypatch, trials, timed_out, gain, judged, doubled, kept
):
    """Out of fold the larger are better here; what wins is doubled as long as that pays."""
    made, tried = {}, []

    def fit_folds(candidate, samples, *_):
        updates = candidate.parameters["updates"]
        made[updates] = held_back_with(samples, peak=updates / 1000)
        return made[updates]

    def fit_trial(candidate, *_):
        tried.append(candidate.parameters["updates"])
        return Scored(-0.9 - gain * len(tried))

    monkeypatch.setattr(photoz.family, "hold_back", fit_folds)
    monkeypatch.setattr(Candidate, "trial", fit_trial)
    experiment = Experiment(name="mock", catalogue={"dataset": "sdss"}, search={"trials": trials})
    found = [
        Trial(number, "complete", {"updates": updates}, -1.0 + number / 10, 1.0)
        for number, updates in enumerate([1000, 1500])
    ]
    chosen = Family("network", experiment, samples).choose(
        SearchResult(found[0], tuple(found), 1.0, timed_out)
    )

    assert [*made] == judged
    assert tried == doubled
    assert chosen.found.best.parameters["updates"] == kept
    # Densities of what was not doubled yet belong to another network.
    assert chosen.held_back is made.get(kept)
    assert (chosen.found.seconds > 1.0) == bool(judged)
    others = {it.candidate.parameters["updates"]: it.held_back for it in chosen.runners_up}
    assert others == ({1000: made[1000]} if judged else {})


def test_what_was_held_back_to_choose_is_not_made_again(samples, monkeypatch):
    experiment = Experiment(name="mock", catalogue={"dataset": "sdss"})
    trial = Trial(0, "complete", {"n_trees": 5, "augment.depth_scale": 0.0}, -1.0, 1.0)
    held_back = hold_back(candidate(), samples)
    monkeypatch.setattr(photoz.family, "hold_back", lambda *_: pytest.fail("made again"))

    outcome = Family("forest", experiment, samples).finish(
        Chosen(SearchResult(trial, (trial,), 1.0, timed_out=False), held_back)
    )

    assert outcome.held_back is held_back


@pytest.fixture(scope="module")
def with_runners_up(samples):
    """A forest and two of more trees, as a search leaves them."""
    grid = {"z_max": samples.z_max, "n_z": samples.n_z}
    candidates = [candidate(**grid, n_trees=n_trees) for n_trees in (5, 6, 7)]
    made = [hold_back(it, samples) for it in candidates]
    runners_up = tuple(map(RunnerUp, candidates[1:], made[1:]))
    trial = Trial(0, "complete", {"n_trees": 5, "augment.depth_scale": 0.0}, -1.0, 1.0)
    chosen = Chosen(SearchResult(trial, (trial,), 1.0, timed_out=False), made[0], runners_up)
    experiment = Experiment(name="mock", catalogue={"dataset": "sdss"})
    return Family("forest", experiment, samples).finish(chosen)


def test_a_blend_fits_and_pools_runners_up_as_well(samples, with_runners_up):
    told = []

    blend = blend_families(
        {"forest": with_runners_up}, samples, 0, lambda what, *_: told.append(what)
    )

    trees = {name: member.estimator.n_trees for name, member in blend.model.members.items()}
    assert trees.items() <= {"forest": 5, "forest_2": 6, "forest_3": 7}.items()
    assert blend.parameters["pooled"] == [*trees]
    assert len(blend.parameters["weights"]) == len(trees)
    assert [*dict.fromkeys(told)] == [f"forest_{k}, final fit for the blend" for k in (2, 3)]
    others = with_runners_up.entry("models/forest", None)["runners_up"]
    assert [parameters["n_trees"] for parameters in others] == [6, 7]


def test_members_without_weight_are_left_out_of_a_blend(samples, with_runners_up, monkeypatch):
    """Whatever their densities are: here the pool is given."""
    weights = Pool("linear", (0.25, 0.0, 0.75))
    monkeypatch.setattr(Pool, "fit", lambda *_, **__: weights)

    blend = blend_families({"forest": with_runners_up}, samples, 0)

    photometry = samples.test.photometry
    members = blend.model.members.values()
    pzs = [member.predict_pdf(photometry, calibrated=False) for member in members]
    expected = 0.25 * pzs[0].density + 0.75 * pzs[1].density
    assert [*blend.model.members] == ["forest", "forest_3"]
    assert blend.model.pool.weights == (0.25, 0.75)
    assert_allclose(
        blend.model.predict_pdf(photometry, calibrated=False).density, expected, rtol=1e-5
    )


def test_two_runners_up_are_kept_for_a_blend_alone(samples, monkeypatch):
    judged = []

    def fit_folds(candidate, *_):
        judged.append(candidate.parameters["updates"])
        return held_back_with(samples, peak=judged[-1] / 1000)

    monkeypatch.setattr(photoz.family, "hold_back", fit_folds)
    monkeypatch.setattr(Candidate, "trial", lambda *_: Scored(0.0))
    found = tuple(
        Trial(k, "complete", {"updates": 1000 + 100 * k}, -1.0 + k / 10, 1.0) for k in range(6)
    )
    result = SearchResult(found[0], found, 1.0, timed_out=False)
    data = {"name": "mock", "catalogue": {"dataset": "sdss"}}
    families = {"forest": {}, "network": {}}

    for blend, runners_up in (({"blend": {}}, [1300, 1200]), ({}, [])):
        experiment = Experiment(**data, estimators={**families, **blend})
        chosen = Family("network", experiment, samples).choose(result)
        assert [one.candidate.parameters["updates"] for one in chosen.runners_up] == runners_up
        assert chosen.found.best.parameters["updates"] == 1400
    assert judged == 2 * [1000, 1100, 1200, 1300, 1400]


@pytest.mark.parametrize(("family", "third"), [("forest", "pruned"), ("network", "complete")])
def test_a_trial_that_may_be_pooled_is_not_given_up(samples, monkeypatch, tmp_path, family, third):
    """Three networks are of use, the best and two runners-up; of a forest the best, or another."""
    ends = iter([1.2, 1.0, 1.1, 1.15])

    def fit_trial(_candidate, _train, _validation, _metric, on_step):
        end = next(ends)
        for step in range(5, 101, 5):
            on_step(step, end + 0.5 * np.log2(100 / step))
        return Scored(end)

    monkeypatch.setattr(Candidate, "trial", fit_trial)
    experiment = Experiment(name="mock", catalogue={"dataset": "sdss"}, search={"trials": 4})
    found = Family(family, experiment, samples).search(
        storage=tmp_path / "study.log", on_trial=lambda _: None
    )

    assert [trial.state for trial in found.trials] == [*["complete"] * 3, third]


def held_back_with(samples, peak):
    """What `hold_back` returns, with p(z) that are the larger at the truth the higher the peak."""
    return HeldBack(
        pz=RedshiftPDF.from_mixture(
            np.linspace(0, 5, 501),
            np.ones((N_GALAXIES, 1)),
            samples.fitted.z_spec[:, np.newaxis],
            np.full((N_GALAXIES, 1), 0.5 / peak),
        ),
        rows=np.arange(N_GALAXIES),
        folds=samples.folds,
        sample=samples.fitted,
        n_complete=N_GALAXIES,
        model=None,
        unseen=np.arange(N_GALAXIES),
    )


def test_what_is_held_back_is_scored_as_a_trial_is(samples):
    """With bands left out, and redshifts of which some may be wrong."""
    held_back = hold_back(candidate(**{"augment.band_dropout": 0.2}), samples)
    z_spec = np.tile(samples.fitted.z_spec, 2)
    sample = replace(held_back.sample, reliability=np.full(2 * N_GALAXIES, 0.9))
    n_of_z = held_back.pz.n_of_z()
    likelihood = 0.9 * held_back.pz.at(z_spec) + 0.1 * np.interp(
        z_spec, held_back.pz.z_grid, n_of_z
    )

    assert held_back.score("log_loss") == pytest.approx(log_loss(z_spec, held_back.pz))
    uncertain = replace(held_back, sample=sample).score("log_loss")
    assert uncertain == pytest.approx(-np.log(likelihood).mean(), abs=0.02)


def test_trial_is_scored_with_and_without_missing_bands(samples):
    wanted = candidate(**{"augment.band_dropout": 0.2})
    train, validation = samples.train, samples.validation
    both = validation.with_missing_bands(0)
    model = wanted.model({"n_trees": 20}).fit(
        train.photometry, train.z_spec, validation=(both.photometry, both.z_spec)
    )
    losses = [
        log_loss(validation.z_spec, model.predict_pdf(both.photometry[rows], calibrated=False))
        for rows in (slice(0, len(validation)), slice(len(validation), None))
    ]

    found = wanted.trial(train, validation, "log_loss", lambda _step, _loss: None)

    assert losses[0] < losses[1]
    assert_allclose(found.value, np.mean(losses), rtol=1e-6)


def test_trial_reckons_with_wrong_redshifts(samples):
    doubted = replace(samples.fitted, reliability=np.full(N_GALAXIES, 0.9))
    train, validation = doubted[~samples.is_validation], doubted[samples.is_validation]

    found = candidate().trial(train, validation, "log_loss", lambda _step, _loss: None)

    model = candidate().model({"n_trees": 20})
    model.fit(
        train.photometry,
        train.z_spec,
        validation=(validation.photometry, validation.z_spec, validation.reliability),
        reliability=train.reliability,
    )
    pz = model.predict_pdf(validation.photometry)
    n_of_z = np.interp(validation.z_spec, pz.z_grid, pz.n_of_z())
    likelihood = 0.9 * pz.at(validation.z_spec) + 0.1 * n_of_z + 1e-4
    assert_allclose(found.value, -np.log(likelihood).mean(), rtol=1e-6)


def first(fits):
    return fits[0]


def pooled(fits):
    return PhotozBlend(dict(zip("ab", fits, strict=True)), Pool("linear", (0.5, 0.5)))


@pytest.mark.parametrize("of", [first, pooled])
def test_galaxies_kept_for_conformal_coverage_count_as_seen(samples, of):
    model = of([candidate().fit(samples.train), candidate().fit(samples.train)])
    kept = samples.validation
    before = model.seen_in_training(kept.photometry)

    add_conformal(model, kept)

    assert not before.any()
    assert model.seen_in_training(kept.photometry).all()
    assert model.seen_in_training(samples.train.photometry).all()
    assert not model.seen_in_training(samples.test.photometry).any()
