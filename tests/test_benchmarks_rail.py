"""The benchmark with RAIL: all of it that needs no RAIL."""

import json
import os
import re
from dataclasses import astuple, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import photoz
from experiments.benchmarks import rail
from experiments.benchmarks.rail_scores import (
    COST,
    DENSITY,
    Cost,
    leave_one_out,
    load_losses,
    save_losses,
    write_scores,
)
from experiments.benchmarks.rail_stages import STAGES, columns, shared_options
from experiments.benchmarks.rail_table import (
    Fits,
    difference,
    least_disturbed,
    read_fits,
    tables,
    where_rail_wins,
)
from experiments.benchmarks.rail_task import on_grid
from experiments.benchmarks.rail_tasks import SEARCHED, Task, our_tasks, rail_tasks
from photoz.adapters.qp import to_qp
from photoz.estimators.base import Choice
from photoz.evaluation import losses
from photoz.photometry import State
from photoz.sample import Sample

GRID = np.linspace(0, 2, 101)
COST_OF_ONE = Cost(2.0, 5.0, 1000.0, 300.0, 1.5)


@pytest.fixture(scope="module")
def mock():
    return photoz.make_mock_catalogue(300, random_state=0)


@pytest.fixture(scope="module")
def survey():
    return photoz.load_survey("lsst")


def pz_around(z, sigma):
    return photoz.RedshiftPDF.from_mixture(
        GRID, np.ones((len(z), 1)), np.asarray(z)[:, None], np.full((len(z), 1), sigma)
    )


@pytest.mark.parametrize("n_galaxies", [1, 3])
def test_densities_of_one_galaxy_have_the_shape_of_those_of_many(n_galaxies):
    pz = pz_around(np.full(n_galaxies, 0.8), 0.1)

    assert_allclose(on_grid(to_qp(pz), GRID), pz.density, rtol=1e-5, atol=1e-5)


@pytest.fixture
def truth():
    return np.random.default_rng(0).uniform(0.2, 1.8, 60)


def scores(truth, error, sigma=0.1, seed=0):
    noise = np.random.default_rng([seed, 1]).normal(scale=error, size=len(truth))
    return losses(truth, pz_around(truth + noise, sigma))


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_first_trial_of_a_search_is_rails_default(stage):
    assert set(stage.defaults) == set(stage.space)
    for name, value in stage.defaults.items():
        options = stage.space[name]
        if isinstance(options, Choice):
            assert value in options.options
        else:
            assert options.low <= value <= options.high


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_without_a_choice_the_stages_keep_their_defaults(stage, survey):
    assert set(stage.options({}, survey)) <= {"column_names"}


def test_parameters_of_trees_reach_xgboost_together(survey):
    chosen = {"max_basis": 30, "max_depth": 5, "n_estimators": 70, "learning_rate": 0.1}

    options = STAGES["FlexZBoost"].options(chosen, survey)

    assert options["max_basis"] == 30
    assert options["regression_params"] == {
        "objective": "reg:squarederror",
        "max_depth": 5,
        "n_estimators": 70,
        "learning_rate": 0.1,
    }


def test_errors_become_columns_of_the_flow(survey):
    bands = [f"mag_{band}" for band in survey.bands]
    errors = [f"mag_err_{band}" for band in survey.bands]

    options = STAGES["PZFlow"].options({"errors": True, "n_training_epochs": 9}, survey)

    assert options["column_names"] == bands + errors
    assert set(options["mag_limits"]) == set(errors)
    assert options["n_training_epochs"] == 9


def test_a_choice_of_neighbours_leaves_rail_nothing_to_search(survey):
    chosen = {"n_neighbours": 9, "sigma": 0.02, "only_colors": True}

    options = STAGES["kNN"].options(chosen, survey)

    assert options["nneigh_min"] == options["nneigh_max"] == 9
    assert options["sigma_grid_min"] == options["sigma_grid_max"] == 0.02
    assert options["ngrid_sigma"] == 1


def test_rail_sees_the_catalogues_magnitudes(mock, survey):
    table = columns(Sample(mock.photometry, mock.z_spec), survey, truth=True)

    detected = mock.photometry.state == State.DETECTED
    seen = np.column_stack([table[f"mag_{band}"] for band in survey.bands])
    assert_allclose(seen[detected], mock.photometry.magnitude[detected])
    assert_array_equal(table["redshift"], mock.z_spec)


def test_non_detections_carry_rails_mark(mock, survey):
    state = mock.photometry.state.copy()
    state[:5, 0] = State.NOT_DETECTED
    photometry = replace(mock.photometry, state=state)

    table = columns(Sample(photometry, mock.z_spec), survey, truth=True)

    assert (table["mag_u"][:5] == 99).all()
    assert (table["mag_err_u"][:5] == 99).all()


def test_held_out_redshifts_are_not_told(mock, survey):
    table = columns(Sample(mock.photometry, mock.z_spec), survey, truth=False)

    assert not table["redshift"].any()


def test_unobserved_bands_are_refused(mock, survey):
    flux = mock.photometry.flux.copy()
    flux[:7, 2] = np.nan
    photometry = replace(mock.photometry, flux=flux)
    message = "expected magnitudes or non-detections, found 7 measurements"

    with pytest.raises(photoz.InputError, match=message):
        columns(Sample(photometry, mock.z_spec), survey, truth=True)


def test_limits_are_the_surveys_depths_or_the_faintest_magnitudes(survey):
    faintest = np.arange(20.0, 26.0)
    without = survey.model_copy(update={"depth": {}})

    known = shared_options(survey, 3.0, 301, faintest)["mag_limits"]
    unknown = shared_options(without, 3.0, 301, faintest)["mag_limits"]

    assert known["mag_u"] == survey.depth["u"]
    assert list(unknown.values()) == faintest.tolist()


@pytest.mark.parametrize(("n_galaxies", "most"), [(20449, 5500), (5500, 5500), (100, None)])
def test_scored_galaxies_stand_at_even_steps(n_galaxies, most):
    rows = replace(STAGES["GPz"], most_tested=most).tested(n_galaxies)

    assert len(rows) <= (most or n_galaxies)
    assert len(set(np.diff(rows))) == 1
    assert n_galaxies - rows[-1] <= rows[1]


def test_each_average_leaves_out_its_own_fit():
    generator = np.random.default_rng(0)
    fits = [
        photoz.RedshiftPDF.from_weights(GRID, generator.random((4, len(GRID)))).density
        for _ in range(5)
    ]

    averages = list(leave_one_out(GRID, fits))

    for k, average in enumerate(averages):
        others = np.mean(fits[:k] + fits[k + 1 :], axis=0)
        assert_allclose(average.density, others, rtol=1e-4, atol=1e-6)


def test_losses_survive_their_file(truth, tmp_path):
    table = scores(truth, 0.1)
    save_losses(tmp_path / "losses.npz", table)

    for a, b in zip(astuple(load_losses(tmp_path / "losses.npz")), astuple(table), strict=True):
        assert_array_equal(a, b)


def test_every_fit_of_a_choice_follows_its_search():
    tasks = rail_tasks(["lsst-dc2", "sdss-mgs"], n_seeds=5)

    for task in tasks:
        if task.setting == "searched":
            search = Task(task.dataset, task.estimator, "search")
            assert tasks.index(search) < tasks.index(task)
    assert len(tasks) == len(set(tasks)) == 2 * 5 * (1 + 5 + 5)


def test_one_fit_of_each_comes_before_any_second_one():
    seeds = [task.seed for task in rail_tasks(["lsst-dc2"], n_seeds=3)]

    assert seeds == [0] * 15 + [1] * 5 + [2] * 5 + [1] * 5 + [2] * 5


def test_a_blend_follows_its_members(tmp_path):
    tasks = our_tasks(["sdss-mgs"], n_seeds=2, results=tmp_path)

    assert [task.estimator for task in tasks[:4]] == ["forest", "boosting", "network", "blend"]
    assert [task.seed for task in tasks] == [0] * 4 + [1] * 4


def test_a_blend_is_made_of_the_runners_up_as_well(tmp_path):
    network = {"parameters": {"width": 96}, "runners_up": [{"width": 128}, {"width": 192}]}
    blend = {"parameters": {"pooled": ["forest", "network", "network_2", "network_3"]}}
    (tmp_path / "sdss-mgs").mkdir()
    report = json.dumps({"estimators": {"network": network, "blend": blend}})
    (tmp_path / "sdss-mgs" / "report.json").write_text(report)

    tasks = our_tasks(["sdss-mgs"], n_seeds=2, results=tmp_path)[4:]
    third, pooled = (task.command(tmp_path, tmp_path, n_trials=30) for task in tasks[-2:])

    assert [task.estimator for task in tasks] == [*blend["parameters"]["pooled"], "blend"]
    folder = str(tmp_path / "sdss-mgs" / "network_3" / "ours-1")
    assert third[3:6] == ["network", "sdss-mgs", folder]
    assert '--parameters={"width": 192}' in third
    assert pooled[-1] == folder


def write_search(build, parameters, n_trials):
    folder = Task("sdss-mgs", "GPz", "search").folder(build)
    folder.mkdir(parents=True, exist_ok=True)
    content = {"parameters": parameters, "trials": [{}] * n_trials}
    (folder / SEARCHED).write_text(json.dumps(content))


def test_a_search_goes_on_where_more_trials_are_wanted(tmp_path):
    write_search(tmp_path, {"n_basis": 50}, n_trials=3)
    task = Task("sdss-mgs", "GPz", "search")

    assert task.is_done(tmp_path, tmp_path, n_trials=3)
    assert not task.is_done(tmp_path, tmp_path, n_trials=4)


def test_a_fit_is_repeated_where_the_search_chose_anew(tmp_path, truth):
    task = Task("sdss-mgs", "GPz", "searched", seed=1)
    task.folder(tmp_path).mkdir(parents=True)
    write_search(tmp_path, {"n_basis": 50}, n_trials=3)
    write_scores(task.folder(tmp_path), pz_around(truth, 0.1), truth, COST_OF_ONE, {"n_basis": 50})
    assert task.is_done(tmp_path, tmp_path, n_trials=3)

    write_search(tmp_path, {"n_basis": 60}, n_trials=4)

    assert not task.is_done(tmp_path, tmp_path, n_trials=4)


def test_fits_of_this_package_are_repeated_after_a_new_experiment(tmp_path, truth):
    write_fit(tmp_path / "build", truth, "forest", "ours", 0.05)
    task = Task("sdss-mgs", "forest", "ours")
    report = tmp_path / "sdss-mgs" / "report.json"
    report.parent.mkdir()
    report.write_text("{}")
    written = (task.folder(tmp_path / "build") / COST).stat().st_mtime

    for age, is_done in ((-1, True), (1, False)):
        os.utime(report, (written + age, written + age))
        assert task.is_done(tmp_path / "build", tmp_path, n_trials=30) == is_done


def test_families_are_fitted_with_the_parameters_of_the_experiment(tmp_path):
    entry = {"parameters": {"min_leaf": 3}, "bundle": "models/forest"}
    (tmp_path / "sdss-mgs").mkdir()
    report = json.dumps({"estimators": {"forest": entry}})
    (tmp_path / "sdss-mgs" / "report.json").write_text(report)

    model = Task("sdss-mgs", "forest", "ours", 0).command(tmp_path, tmp_path, n_trials=30)
    refit = Task("sdss-mgs", "forest", "ours", 2).command(tmp_path, tmp_path, n_trials=30)

    assert f"--bundle={tmp_path / 'sdss-mgs' / 'models' / 'forest'}" in model
    assert {'--parameters={"min_leaf": 3}', "--seed=2"} <= set(refit)


def write_fit(build, truth, name, setting, error, seed=0):
    folder = Task("sdss-mgs", name, setting, seed).folder(build)
    folder.mkdir(parents=True)
    noise = np.random.default_rng([seed, 1]).normal(scale=error, size=len(truth))
    write_scores(folder, pz_around(truth + noise, 0.1), truth, COST_OF_ONE, {})


def test_densities_are_averaged_and_dropped_once_all_are_there(tmp_path, truth, monkeypatch):
    class Galaxies:
        z_max, n_z, test = GRID[-1], len(GRID), Sample(None, truth)

    monkeypatch.setattr(rail, "read_samples", lambda _: Galaxies)
    for seed in range(3):
        assert read_fits(tmp_path, "sdss-mgs", "GPz", "searched-average") is None
        write_fit(tmp_path, truth, "GPz", "searched", 0.1, seed)
        rail.average(Task("sdss-mgs", "GPz", "searched", seed), tmp_path, n_seeds=3)

    averages = read_fits(tmp_path, "sdss-mgs", "GPz", "searched-average")
    single = read_fits(tmp_path, "sdss-mgs", "GPz", "searched")
    assert len(averages.losses) == len(single.losses) == 3
    assert averages.metric("crps") < single.metric("crps")
    assert not list(tmp_path.rglob(DENSITY))
    assert len(list(tmp_path.rglob(COST))) == 3


def test_averages_are_scored_on_the_galaxies_of_their_fits(tmp_path, truth, monkeypatch):
    z_spec = np.resize(truth, 2 * STAGES["PZFlow"].most_tested)

    class Galaxies:
        z_max, n_z, test = GRID[-1], len(GRID), Sample(None, z_spec)

    monkeypatch.setattr(rail, "read_samples", lambda _: Galaxies)
    some = z_spec[STAGES["PZFlow"].tested(len(z_spec))]
    for seed in range(2):
        write_fit(tmp_path, some, "PZFlow", "searched", 0.1, seed)
        rail.average(Task("sdss-mgs", "PZFlow", "searched", seed), tmp_path, n_seeds=2)

    averages = read_fits(tmp_path, "sdss-mgs", "PZFlow", "searched-average")
    assert averages.per_seed("crps").shape == (2, len(some))


def test_a_difference_below_zero_is_in_favour_of_this_package(truth):
    ours = Fits("network", tuple(scores(truth, 0.05, seed=k) for k in range(3)))
    theirs = Fits("GPz", tuple(scores(truth, 0.3, seed=k) for k in range(3)))

    better = difference(ours, theirs, "crps")
    worse = difference(replace(theirs, name="network"), replace(ours, name="GPz"), "crps")

    assert re.fullmatch(r"-0\.\d+ \[-0\.\d+, -0\.\d+\]", better)
    assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]", worse)


def test_galaxies_that_rail_was_not_scored_on_do_not_enter_a_difference(truth):
    n_galaxies = 3 * STAGES["PZFlow"].most_tested
    z_spec = np.resize(truth, n_galaxies)
    whole = scores(z_spec, 0.05)
    some = STAGES["PZFlow"].tested(n_galaxies)

    found = difference(Fits("network", (whole,)), Fits("PZFlow", (whole[some],)), "crps")

    assert found == "0 [0, 0]"


def test_what_rail_is_better_at_is_named(truth):
    cost = replace(COST_OF_ONE, learn_seconds=1.0, galaxies_per_second=10.0)
    ours = Fits("forest", (scores(truth, 0.05),), COST_OF_ONE)
    theirs = Fits("TPZlite", (scores(truth, 0.3),), cost)

    lines = where_rail_wins([(ours, theirs)])

    assert "- fit: TPZlite 1 s (forest 5 s)" in lines
    assert {"- CDE loss: none", "- CRPS: none", "- prediction: none"} <= set(lines)


def test_times_are_those_of_the_least_disturbed_fit():
    busy = Cost(9.0, 12.0, 100.0, 350.0, 1.5)

    assert least_disturbed([COST_OF_ONE, busy]) == replace(COST_OF_ONE, peak_mb=350.0)


def test_a_time_that_is_not_known_is_no_win_of_anybody(truth):
    unknown = replace(COST_OF_ONE, fit_seconds=float("nan"), learn_seconds=float("nan"))
    table = scores(truth, 0.05)

    lines = where_rail_wins(
        [(Fits("forest", (table,), unknown), Fits("TPZlite", (table,), unknown))]
    )

    assert "- fit: not known" in lines
    assert least_disturbed([unknown, COST_OF_ONE]) == COST_OF_ONE


def test_the_table_shows_what_is_there(tmp_path, truth):
    write_fit(tmp_path, truth, "TPZlite", "searched", 0.3)
    write_fit(tmp_path, truth, "forest", "ours", 0.05)
    write_fit(tmp_path, truth, "blend", "ours", 0.05)

    text = tables(["sdss-mgs"], tmp_path)

    assert "| TPZlite (1) |" in text
    assert "| forest − TPZlite |" in text
    assert "| blend − TPZlite |" in text
    assert "PZFlow" not in text


def test_defaults_stand_in_until_there_is_a_search(tmp_path, truth):
    write_fit(tmp_path, truth, "GPz", "default", 0.3)
    write_fit(tmp_path, truth, "network", "ours", 0.05)

    assert "| network − GPz at its defaults |" in tables(["sdss-mgs"], tmp_path)

    write_fit(tmp_path, truth, "GPz", "searched", 0.2)

    assert "| network − GPz |" in tables(["sdss-mgs"], tmp_path)
