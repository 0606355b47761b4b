import re

import pytest

from photoz.errors import InputError
from photoz.estimators.base import Choice, Range
from photoz.settings import Experiment

MINIMAL = '[catalogue]\ndataset = "sdss"\n'


def read(tmp_path, text):
    path = tmp_path / "try.toml"
    path.write_text(text)
    return Experiment.from_toml(path)


def test_only_a_catalogue_is_needed(tmp_path):
    experiment = read(tmp_path, MINIMAL)

    assert experiment.name == "try"
    assert experiment.families == ("forest", "boosting", "network")
    assert experiment.blend_members == experiment.families
    assert experiment.load_survey().bands == tuple("ugriz")


def test_defaults_are_those_of_the_readme(tmp_path):
    experiment = read(tmp_path, MINIMAL)

    assert experiment.augment.noise_copies == Choice((0, 4, 9))
    assert experiment.augment.noise_scale == Range(0.0, 0.8)
    assert (experiment.augment.depth_scale, experiment.augment.band_dropout) == (3.0, 0.0)
    assert (experiment.search.metric, experiment.search.trials) == ("log_loss", 30)
    assert (experiment.split.validation, experiment.split.test) == (0.2, 0.2)


def test_values_are_fixed_and_ranges_are_searched(tmp_path):
    text = (
        MINIMAL + "[augment]\nnoise_copies = 1\n[estimators.forest]\nn_trees = 30\n"
        "max_features = { low = 0.4, high = 0.9 }\nmin_leaf = { choices = [1, 5] }\n"
    )
    space, fixed = read(tmp_path, text).space("forest")

    assert space == {
        "max_features": Range(0.4, 0.9),
        "min_leaf": Choice((1, 5)),
        "augment.noise_scale": Range(0.0, 0.8),
        "features.errors": Choice((True, False)),
    }
    assert fixed["n_trees"] == 30
    assert fixed["augment.noise_copies"] == 1


def test_two_integers_make_a_range_of_integers(tmp_path):
    text = MINIMAL + "[estimators.forest]\nmin_leaf = { low = 1, high = 50, log = true }\n"
    space, _ = read(tmp_path, text).space("forest")

    assert space["min_leaf"] == Range(1, 50, log=True)
    assert space["min_leaf"].integer


def test_the_text_of_the_file_is_kept_as_it_is(tmp_path):
    text = "# by hand\n" + MINIMAL
    experiment = read(tmp_path, text)

    assert experiment.source == text
    assert experiment.replaced(trials=1).source == text
    assert "source" not in experiment.model_dump(warnings="none")


def test_no_blend_of_one(tmp_path):
    assert not read(tmp_path, MINIMAL + "[estimators.forest]\n[estimators.blend]\n").blend_members


def test_extra_columns_become_part_of_the_survey(tmp_path):
    survey = read(tmp_path, MINIMAL + '[features]\nextra = ["size"]\n').load_survey()

    assert survey.extra == ("size",)


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text('bands = ["g", "r"]')
    text = '[catalogue]\npath = "a.parquet"\nsurvey = "mine.toml"\n'

    assert read(tmp_path, text).load_survey().bands == ("g", "r")


def test_command_line_overrides_the_file(tmp_path):
    experiment = read(tmp_path, MINIMAL)
    changed = experiment.replaced(catalogue=tmp_path / "other.fits", trials=2)

    assert changed.catalogue.path == (str(tmp_path / "other.fits"),)
    assert changed.catalogue.dataset is None
    assert changed.load_survey() == experiment.load_survey()
    assert changed.search.trials == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[catalogue]\n", "expected either dataset (a named set) or path"),
        ('[catalogue]\npath = "a.csv"\n', "expected one survey"),
        ('[catalogue]\npath = ""\n', "path must name a file, a folder or a glob, got an empty one"),
        ('[catalogue]\npath = "a.csv"\ntest_path = ""\n', "test_path must name a file, a folder or a glob, got an empty one"),
        ('[catalogue]\ndataset = "sdss"\ntest_path = []\n', "test_path must name a file, a folder or a glob, got an empty one"),
        ("", "the table [catalogue] is missing."),
        (MINIMAL + "[search]\ntrails = 3\n", "unknown key 'trails' in [search] (did you mean 'trials'?)"),
        (MINIMAL + "[serach]\n", "unknown key 'serach' (did you mean 'search'?); the keys are name, seed"),
        (MINIMAL + '[search]\ntrials = "3"\n', "trials in [search]: expected a valid integer, got '3'"),
        (MINIMAL + '[split]\nvalidation = "a"\n', "validation in [split]: expected a valid number, got 'a'"),
        (MINIMAL + "[split]\nvalidation = 0.6\ntest = 0.5\n", "must leave rows to train"),
        (MINIMAL + "[estimators.florest]\n", "unknown estimator 'florest' (did you mean 'forest'?)"),
        (MINIMAL + "[estimators.forest]\nn_tree = 3\n", "unknown key 'n_tree' in [estimators.forest] (did you mean 'n_trees'?)"),
        (MINIMAL + "[estimators.forest]\nn_trees = -5\n", "in [estimators.forest], n_trees must be a whole number, at least 1, got -5"),
        (MINIMAL + '[estimators.boosting]\nridge = "much"\n', "ridge must be a number, at least 0, got 'much'"),
        (MINIMAL + "[estimators.network]\nlayers = { low = 0, high = 3 }\n", "layers must be a whole number, at least 1, got 0"),
        (MINIMAL + "[estimators.knn]\nn_neighbours = { choices = [3, 2.5] }\n[estimators.forest]\n", "n_neighbours must be a whole number, at least 1, got 2.5"),
        (MINIMAL + "[augment]\nnoise_copies = -1\n", "[augment]: noise_copies must be a whole number, at least 0, got -1"),
        (MINIMAL + "[augment]\nnoise_scale = { low = -0.5, high = 1.0 }\n", "noise_scale must be a number, at least 0, got -0.5"),
        (MINIMAL + "[features]\nerrors = 3\n", "errors must be true, false or choices of them, got 3"),
        (MINIMAL + "[estimators.blend]\n", "at least one estimator besides blend"),
        (MINIMAL + '[estimators.forest]\n[estimators.blend]\nmembers = ["network"]\n', "blend member 'network' is not among"),
        (MINIMAL + "[estimators.forest]\n[estimators.blend]\nweight = 1\n", "the only key is members"),
        (MINIMAL + "[estimators.forest]\n[estimators.blend]\nmembers = 3\n", "must be a list of different estimators, got 3"),
        (MINIMAL + "[estimators.forest]\n[estimators.blend]\nmembers = []\n", "must be a list of different estimators, got []"),
        (MINIMAL + '[estimators.forest]\n[estimators.blend]\nmembers = [["forest"]]\n', "must be a list of different estimators, got [['forest']]"),
        (MINIMAL + '[estimators.forest]\n[estimators.blend]\nmembers = ["forest", "forest"]\n', "must be a list of different estimators"),
        ('directory = "/elsewhere"\n' + MINIMAL, "unknown key 'directory'; the keys are name, seed"),
        ('source = "b"\n' + MINIMAL, "unknown key 'source'; the keys are name, seed"),
        ("seed = 4294967296\n" + MINIMAL, "seed: expected less than 4294967296, got 4294967296"),
        (MINIMAL + "[augment]\ndepth_scale = inf\n", "depth_scale in [augment]: expected a finite number, got inf"),
        (MINIMAL + "[augment]\nnoise_scale = { low = 0.0, high = inf }\n", "expected numbers low < high"),
        (MINIMAL + "[augment]\nnoise_scale = inf\n", "noise_scale must be a number, at least 0, got inf"),
        (MINIMAL + "[estimators.forest]\nn_z = 70000\n", "n_z must be a whole number, at least 3 and at most 65536, or None for steps of 0.004 or finer, got 70000"),
        (MINIMAL + "[augment]\nnoise_copies = { choices = [] }\n", "noise_copies in [augment]: expected a value,"),
        (MINIMAL + "[augment]\nnoise_scale = { low = 2, high = 1 }\n", "expected numbers low < high"),
        (MINIMAL + "[estimators.forest]\nmin_leaf = { low = 0, high = 9, log = true }\n", "above 0 where log = true"),
        ('name = "a/b"\n' + MINIMAL, "name"),
        ('[catalogue]\ndataset = "sdss"\nreliability = 1.5\n', "reliability is a probability"),
        ("[catalogue\n", "expected an experiment in TOML, found a mistake"),
    ],
)  # fmt: skip
def test_mistakes_are_named_in_one_line(tmp_path, text, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        read(tmp_path, text)

    assert "\n" not in str(error.value)


def test_an_estimator_that_can_name_no_column_is_told_before_it_is_fitted(monkeypatch):
    known = {"my_net": "elsewhere:Net", "forest": "photoz.estimators.forest:ForestPhotoz"}
    monkeypatch.setattr("photoz.settings.registered_estimators", lambda: known)

    with pytest.raises(InputError, match="'my_net' must be letters a-z and digits"):
        Experiment(name="try", catalogue={"dataset": "sdss"}, estimators={"my_net": {}})


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="expected an experiment file, found none"):
        Experiment.from_toml(tmp_path / "nothing.toml")


@pytest.mark.parametrize("name", ["sdss", "sdss-mgs", "lsst-dc2"])
def test_committed_experiments_are_valid(name):
    from pathlib import Path

    file = Path(__file__).parent.parent / "experiments" / f"{name}.toml"
    assert Experiment.from_toml(file).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[features]\nextra = ["redshift"]', "'redshift' belongs to the redshift"),
        ('[features]\nextra = ["w"]\n', "'w' is the weight or the reliability of"),
    ],
)
def test_what_a_model_must_not_know_is_no_input(tmp_path, text, message):
    minimal = MINIMAL.replace("[catalogue]", '[catalogue]\nweight = "w"')

    with pytest.raises(InputError, match=message):
        read(tmp_path, minimal + text).load_survey()


def test_one_extra_column_needs_no_list(tmp_path):
    assert read(tmp_path, MINIMAL + '[features]\nextra = "size"\n').features.extra == ("size",)


def test_a_mark_of_utf_8_is_no_mistake(tmp_path):
    (tmp_path / "mock.toml").write_text(MINIMAL, encoding="utf-8-sig")

    assert Experiment.from_toml(tmp_path / "mock.toml").name == "mock"


def test_an_empty_path_is_refused():
    with pytest.raises(InputError, match="path must name a file, a folder or a glob, got an empt"):
        Experiment(name="mock", catalogue={"path": "", "survey": "lsst"})


def test_a_name_that_is_no_word_is_explained(tmp_path):
    """The stem of the file, where it gives none."""
    (tmp_path / "my survey.toml").write_text(MINIMAL)

    with pytest.raises(
        InputError, match=r"name must be letters, digits, .* got 'my survey'; give"
    ):
        Experiment.from_toml(tmp_path / "my survey.toml")


def test_a_floor_is_no_member_of_a_blend(tmp_path):
    text = (
        MINIMAL + '[estimators.forest]\n[estimators.knn]\n[estimators.blend]\nmembers = ["knn"]\n'
    )

    with pytest.raises(InputError, match="blend member 'knn' is a floor to compare with"):
        read(tmp_path, text)
