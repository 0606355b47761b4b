"""A model from a table alone: calibrated, blended, and the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest

from photoz import training
from photoz.blend import PhotozBlend
from photoz.catalogue import from_columns, read
from photoz.errors import InputError
from photoz.metrics import cde_loss
from photoz.mock import make_mock_catalogue
from photoz.split import folds, split
from photoz.survey import load_survey
from photoz.training import train_model

SMALL = {
    "forest": {"n_trees": 8, "augment.noise_copies": 0, "augment.depth_scale": 0.0, "n_z": 301},
    "boosting": {"n_rounds": 20, "augment.noise_copies": 0, "augment.depth_scale": 0.0},
}


@pytest.fixture(scope="module")
def survey():
    return load_survey("lsst")


@pytest.fixture(scope="module")
def galaxies(mock, survey):
    return from_columns(mock.to_columns(), survey, training=True)


@pytest.fixture(scope="module")
def new():
    return make_mock_catalogue(300, random_state=8)


@pytest.fixture(scope="module")
def forest(galaxies, survey):
    return train_model(galaxies, survey, ["forest"], SMALL)


def test_a_model_learns_and_is_calibrated(forest, galaxies, new):
    pz = forest.predict_pdf(new.photometry)
    n_of_z = np.histogram(galaxies.z_spec, pz.z_grid, density=True)[0]

    floor = float((n_of_z**2).sum() * pz.step) - 2 * float(
        np.interp(new.z_spec, pz.z_grid[:-1], n_of_z).mean()
    )
    assert forest.calibration is not None
    assert cde_loss(new.z_spec, pz) < floor


def test_the_grid_reaches_beyond_the_training_redshifts(forest, galaxies):
    assert forest.z_grid[-1] > galaxies.z_spec.max()
    assert len(forest.z_grid) == 301


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(forest, galaxies, survey, new):
    again = train_model(galaxies, survey, ["forest"], SMALL)

    density = again.predict_pdf(new.photometry).density
    np.testing.assert_array_equal(density, forest.predict_pdf(new.photometry).density)
    assert again.provenance["n_fitted"] == len(galaxies)


def measured_again(galaxies):
    """Each galaxy a second time, of another flux in one band."""
    twice = galaxies[np.tile(np.arange(len(galaxies)), 2)]
    flux = twice.photometry.flux.copy()
    flux[len(galaxies) :, 5] *= 1.01
    return replace(twice, photometry=replace(twice.photometry, flux=flux))


@pytest.mark.slow
def test_photometric_twins_count_once(galaxies, survey):
    twice = measured_again(galaxies)
    twice = replace(twice, object_id=np.arange(len(twice)))
    model = train_model(twice, survey, ["forest"], {"forest": {**SMALL["forest"], "n_trees": 2}})

    assert model.provenance["n_fitted"] == len(galaxies)


@pytest.mark.slow
def test_rows_that_repeat_an_earlier_one_are_left_out_and_counted(galaxies, survey):
    rows = np.append(np.arange(len(galaxies)), [3, 3, 7])
    before = {"no band observed": 2, "repeat of an earlier row": 1}
    again = replace(galaxies[rows], dropped=before)
    model = train_model(again, survey, ["forest"], {"forest": {**SMALL["forest"], "n_trees": 2}})

    assert model.provenance["n_fitted"] == len(galaxies)
    assert model.provenance["dropped"] == {"no band observed": 2, "repeat of an earlier row": 4}


@pytest.mark.parametrize(("declared", "n_dropped"), [("object_id", 3), (None, 0)])
def test_repeats_in_few_bands_are_known_by_their_ids(mock, survey, declared, n_dropped):
    few = survey.model_copy(update={"bands": ("r", "i"), "id": declared})
    galaxies = from_columns(mock.to_columns(), few, training=True)
    rows = np.append(np.arange(len(galaxies)), [3, 3, 7])

    samples, dropped = training._samples(galaxies[rows], few, 0)

    assert sum(dropped.values()) == len(rows) - len(samples.fitted) == n_dropped


def test_measurements_of_a_galaxy_are_in_the_fold_that_an_experiment_gives_them(galaxies, survey):
    twice = measured_again(galaxies)

    samples, dropped = training._samples(twice, survey, 5)

    parts = split(twice, declared_ids=True, seed=5)
    assert dropped == {}
    np.testing.assert_array_equal(samples.folds, folds(parts.groups, seed=5))
    np.testing.assert_array_equal(*np.split(samples.is_validation, 2))


def test_a_rest_too_small_to_train_is_refused(galaxies, survey):
    message = (
        r"at least 50 usable rows, found 40 of 122; dropped: 2 no band observed; "
        r"80 repeat of an earlier row"
    )
    few = replace(galaxies[np.arange(120) % 40], dropped={"no band observed": 2})

    with pytest.raises(InputError, match=message):
        train_model(few, survey, ["forest"], SMALL)


def test_a_rest_without_validation_galaxies_is_refused(galaxies, survey):
    one = replace(galaxies, object_id=np.full(len(galaxies), 8))

    with pytest.raises(InputError, match=r"none in validation: 700 to train, 0 to validation"):
        train_model(one, survey, ["forest"], SMALL)


@pytest.mark.slow
def test_more_than_one_family_is_a_blend(galaxies, survey, new):
    model = train_model(galaxies, survey, ["forest", "boosting"], {
        name: {**parameters, "n_z": 301} for name, parameters in SMALL.items()
    })  # fmt: skip

    assert isinstance(model, PhotozBlend)
    assert list(model.members) == ["forest", "boosting"]
    assert model.calibration is not None
    assert len(model.predict_pdf(new.photometry)) == len(new)


@pytest.mark.parametrize(
    ("families", "parameters", "message"),
    [
        (["forrest"], {}, r"unknown estimator 'forrest' \(did you mean 'forest'\?\)"),
        (["trainz"], {}, "unknown estimator 'trainz'"),
        (["forest"], {"boosting1": {}}, "unknown estimator 'boosting1'"),
        (["forest"], {"forest": {"trees": 3}}, "unknown parameter 'trees' of forest"),
    ],
)
def test_mistyped_names_are_refused(galaxies, survey, families, parameters, message):
    with pytest.raises(InputError, match=message):
        train_model(galaxies, survey, families, parameters)


def test_columns_in_memory_are_read_like_a_file(mock, survey, catalogue_file):
    columns, file = from_columns(mock.to_columns(), survey), read(catalogue_file, survey)

    np.testing.assert_array_equal(columns.photometry.flux, file.photometry.flux)
    np.testing.assert_array_equal(columns.z_spec, file.z_spec)
    np.testing.assert_array_equal(columns.object_id, file.object_id)


def test_a_column_that_is_not_in_memory_is_named(mock, survey):
    columns = mock.to_columns()
    del columns["redshift"]

    with pytest.raises(InputError, match="expected the column 'redshift'"):
        from_columns(columns, survey, training=True)
