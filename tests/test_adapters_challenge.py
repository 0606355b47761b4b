"""The two functions of the DESC PZ Data Challenge read its files and write what it scores."""

import h5py
import numpy as np
import pytest
import qp
from numpy.testing import assert_allclose, assert_array_equal

from photoz.adapters import challenge
from photoz.adapters.challenge import run_estimation_only, run_training_and_estimation
from photoz.bundle import load_model
from photoz.errors import InputError
from photoz.mock import make_mock_catalogue

SETTINGS = {
    "estimators": ["forest"],
    "parameters": {"forest": {"n_trees": 5, "augment.noise_copies": 0, "augment.depth_scale": 0}},
}


def write(path, catalogue, bands):
    """A file laid out like those of the challenge: NaN where a galaxy was not detected."""
    columns = catalogue.to_columns()
    with h5py.File(path, "w") as file:
        for name in ("redshift", "ra", "dec", "object_id"):
            file[name] = columns[name]
        for band in bands:
            magnitude, error = columns[f"mag_{band}"], columns[f"mag_err_{band}"]
            lost = magnitude > 90
            name = f"mag_{band}_lsst" if band.islower() else f"mag_{band}_roman"
            file[name] = np.where(lost, np.nan, magnitude)
            file[f"{name}_err"] = np.where(lost, np.nan, error)
    return path


BANDS = "ugrizyYJH"  # six of Rubin, three of Roman


@pytest.fixture(scope="module")
def galaxies():
    depth = {"u": 25.0, "H": 22.0}
    return make_mock_catalogue(500, bands=tuple(BANDS), depth=depth, random_state=4)


@pytest.fixture(scope="module")
def files(galaxies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("challenge")
    write(folder / "train.hdf5", galaxies[:400], BANDS)
    write(folder / "test.hdf5", galaxies[400:], BANDS)
    return folder


@pytest.fixture(scope="module")
def output(files):
    """What training and estimation write; the model is kept beside it."""
    run_training_and_estimation(
        files / "train.hdf5", files / "test.hdf5", files / "out.hdf5",
        model_file=files / "model.zip", **SETTINGS,
    )  # fmt: skip
    return qp.read(str(files / "out.hdf5"))


def test_the_output_is_what_the_challenge_scores(output, galaxies):
    assert output.npdf == 100
    assert_array_equal(output.ancil["object_id"], galaxies.object_id[400:])
    assert np.isfinite(output.ancil["zmode"]).all()
    assert np.median(np.abs(output.ancil["zmode"] - galaxies.z_spec[400:])) < 0.3
    integral = np.trapezoid(output.objdata["yvals"], output.metadata["xvals"].ravel())
    assert_allclose(integral, 1, atol=1e-4)


def test_estimation_alone_gives_the_same(output, files):
    run_estimation_only(files / "model.zip", files / "test.hdf5", files / "again.hdf5")
    again = qp.read(str(files / "again.hdf5"))

    assert_allclose(again.objdata["yvals"], output.objdata["yvals"], rtol=1e-5, atol=1e-6)
    assert_array_equal(again.ancil["zmode"], output.ancil["zmode"])


def test_nan_is_not_detected(output, files, galaxies):
    model = load_model(files / "model.zip")

    lost = np.isnan(galaxies.photometry.magnitude[:400]).any(axis=0)
    assert lost[[BANDS.index("u"), BANDS.index("H")]].all()
    assert model.optional_bands == ()
    assert output.npdf == 100


@pytest.mark.usefixtures("output")
def test_a_galaxy_seen_in_no_band_gets_a_redshift_too(files):
    with h5py.File(files / "test.hdf5") as file, h5py.File(files / "dark.hdf5", "w") as dark:
        for name, values in file.items():
            dark[name] = np.full(100, np.nan) if name.startswith("mag_") else values[:]
    run_estimation_only(files / "model.zip", files / "dark.hdf5", files / "dark_out.hdf5")

    assert np.isfinite(qp.read(str(files / "dark_out.hdf5")).ancil["zmode"]).all()


@pytest.mark.usefixtures("output")
def test_the_bands_are_those_of_the_training_file(files, galaxies):
    survey = load_model(files / "model.zip").survey
    assert survey.bands[5:] == ("y_lsst", "Y_roman", "J_roman", "H_roman")
    write(files / "rubin.hdf5", galaxies[400:], "ugrizy")

    with pytest.raises(InputError, match="expected the columns 'mag_Y_roman'"):
        run_estimation_only(files / "model.zip", files / "rubin.hdf5", files / "none.hdf5")


def test_every_set_of_tasks_has_its_two_functions():
    for number in (1, 2, 3, 4):
        estimate = getattr(challenge, f"run_taskset_{number}_estimation_only")
        train = getattr(challenge, f"run_taskset_{number}_training_and_estimation")
        assert estimate is run_estimation_only
        assert train is run_training_and_estimation


def test_another_kind_of_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "train.hdf5", "w") as file:
        file["redshift"] = np.arange(3.0)

    with pytest.raises(InputError, match="expected columns such as mag_g_lsst"):
        run_training_and_estimation(tmp_path / "train.hdf5", tmp_path / "x", tmp_path / "y")
