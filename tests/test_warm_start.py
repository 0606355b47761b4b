"""A search may begin with what an earlier experiment found best."""

import json
import logging
from copy import deepcopy

import pytest

from photoz.blend import PhotozBlend
from photoz.bundle import save_model
from photoz.errors import InputError
from photoz.pooling import Pool
from photoz.search import Scored, search
from photoz.settings import Experiment
from photoz.warm_start import warm_starts

FOREST = {"min_leaf": 7, "max_features": 0.5, "augment.noise_copies": 4, "features.errors": True}


@pytest.fixture
def make(tmp_path):
    def make(source, **estimators):
        return Experiment(
            name="sdss",
            catalogue={"path": "a.parquet", "survey": "sdss"},
            search={"warm_start": str(source)},
            estimators=estimators or {"forest": {}},
            directory=tmp_path,
        )

    return make


@pytest.fixture
def report(tmp_path):
    def report(parameters):
        (tmp_path / "results").mkdir()
        entry = {"estimators": {"forest": {"parameters": parameters}}}
        (tmp_path / "results" / "report.json").write_text(json.dumps(entry))
        return "results"

    return report


@pytest.mark.parametrize("place", ["results", "results/report.json"])
def test_the_best_of_a_report_is_found_in_it_and_in_its_folder(make, report, place):
    report({**FOREST, "bandwidth": 0.01})

    # The bandwidth is not searched, so it is not tried.
    assert warm_starts(make(place)) == {"forest": FOREST}


def test_what_lies_outside_of_the_space_is_left_out_and_told(make, report, caplog):
    source = report({**FOREST, "min_leaf": 5000, "features.errors": 1})

    with caplog.at_level(logging.WARNING):
        starts = warm_starts(make(source))

    assert starts == {"forest": {"max_features": 0.5, "augment.noise_copies": 4}}
    assert "warm start of forest: min_leaf = 5000 is left out, it lies outside" in caplog.text
    assert "features.errors = 1 is left out" in caplog.text


@pytest.mark.parametrize(
    ("updates", "start"),
    [(5000, 5000), (12_392, 6000), (24_000, 6000), (24_001, None), ("x", None)],
)
def test_what_was_doubled_after_its_search_begins_at_the_end_of_the_range(
    make, tmp_path, updates, start
):
    content = {"estimators": {"network": {"parameters": {"updates": updates, "layers": 3}}}}
    (tmp_path / "report.json").write_text(json.dumps(content))
    found = warm_starts(make("report.json", network={}))["network"]

    assert found == {"layers": 3, **({} if start is None else {"updates": start})}


def test_a_family_that_was_not_there_begins_cold_and_that_is_told(make, report, caplog):
    starts = warm_starts(make(report(FOREST), forest={}, boosting={}))

    assert list(starts) == ["forest"]
    assert "results holds no boosting, whose search begins cold" in caplog.text


def test_the_parameters_of_a_bundle_are_those_of_its_model(make, model, tmp_path):
    save_model(model, tmp_path / "bundle")

    (start,) = warm_starts(make("bundle")).values()

    assert start["min_leaf"] == model.estimator.min_leaf
    assert start["features.errors"] == model.features.errors


def test_a_blend_gives_the_parameters_of_its_members(make, model, tmp_path):
    pool = Pool("linear", (1.0,))
    save_model(PhotozBlend({"forest": model}, pool), tmp_path / "blend")

    assert warm_starts(make("blend")).keys() == {"forest"}


def test_a_blend_gives_the_parameters_of_a_member_and_not_of_its_runners_up(make, model, tmp_path):
    runner_up = deepcopy(model)
    runner_up.estimator.min_leaf = model.estimator.min_leaf + 1
    members = {"forest": model, "forest_2": runner_up}
    save_model(PhotozBlend(members, Pool("linear", (0.5, 0.5))), tmp_path / "blend")

    (start,) = warm_starts(make("blend")).values()

    assert start["min_leaf"] == model.estimator.min_leaf


@pytest.mark.parametrize("source", ["nowhere", "results"])
def test_a_place_without_parameters_is_named(make, tmp_path, source):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.json").write_text("[]")

    with pytest.raises(InputError, match=f"search.warm_start: .*{source}"):
        warm_starts(make(source))


def test_without_a_source_every_search_begins_cold(make):
    assert warm_starts(make("")) == {}


def test_the_second_trial_tries_the_warm_start_and_the_first_the_defaults(tmp_path):
    space = Experiment(
        name="sdss", catalogue={"path": "a.parquet", "survey": "sdss"}, estimators={"forest": {}}
    ).space("forest")[0]
    tried = []

    def objective(parameters, _on_step):
        tried.append(parameters)
        return Scored(float(len(tried)))

    search(
        objective,
        space,
        study_name="forest",
        storage=tmp_path / "study.log",
        n_trials=3,
        defaults={"min_leaf": 3, "max_features": 0.6},
        warm_start={"min_leaf": 7},
    )

    assert [trial["min_leaf"] for trial in tried[:2]] == [3, 7]
    # What the warm start does not say is as in the first trial.
    assert {**tried[1], "min_leaf": 3} == tried[0]
