"""The stages of RAIL give what photoz gives, through every way in which RAIL runs them."""

from pathlib import Path

import h5py
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rail.core.data import TableHandle
from rail.estimation.algos.photoz import PhotozCatEstimator, PhotozCatInformer
from rail.utils.path_utils import find_rail_file

from photoz.adapters.rail import BundleHandle
from photoz.bundle import load_model
from photoz.catalogue import from_columns, read
from photoz.errors import InputError
from photoz.survey import load_survey
from photoz.training import train_model

# RAIL 2.0 leaves files for the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PARAMETERS = {"forest": {"n_trees": 5, "augment.noise_copies": 0, "augment.depth_scale": 0.0}}
SETTINGS = {"estimators": ["forest"], "parameters": PARAMETERS}
CHUNK = 64
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """RAIL writes where it stands."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("rail")
        patch.chdir(path)
        yield path


def some_rows(name, rows, path):
    """Some galaxies of a file that RAIL tests its own estimators with (simulated)."""
    source = find_rail_file(f"examples_data/testdata/test_dc2_{name}_9816.hdf5")
    with h5py.File(source) as file, h5py.File(path, "w") as copy:
        for column, values in file["photometry"].items():
            copy[f"photometry/{column}"] = values[:][rows]
    return path


@pytest.fixture(scope="module")
def train(folder):
    return some_rows("training", slice(0, 800), folder / "train.hdf5")


@pytest.fixture(scope="module")
def test(folder):
    return some_rows("validation", slice(0, None, 100), folder / "test.hdf5")


def columns(path):
    with h5py.File(path) as file:
        return {name: values[:] for name, values in file["photometry"].items()}


@pytest.fixture(scope="module")
def model(train):
    """Handle of a model that RAIL's stage has trained."""
    stage = PhotozCatInformer.make_stage(name="inform", **SETTINGS)
    return stage.inform(TableHandle("training", path=str(train)))


@pytest.fixture(scope="module")
def output(model, test):
    """Handle of what RAIL's stage estimates, chunk by chunk."""
    stage = PhotozCatEstimator.make_stage(
        name="estimate", model=model, chunk_size=CHUNK, id_col="id"
    )
    return stage.estimate(TableHandle("testing", path=str(test)))


@pytest.fixture(scope="module")
def ours(train):
    """The same model, trained without RAIL."""
    survey = load_survey("lsst-dc2").model_copy(update={"id": None})
    galaxies = from_columns(columns(train), survey, training=True)
    return train_model(galaxies, survey, ["forest"], PARAMETERS)


@pytest.fixture(scope="module")
def wanted(ours, test):
    return ours.predict_pdf(read(test, ours.survey).photometry)


def check(ensemble, wanted):
    density = ensemble.pdf(wanted.z_grid)
    peak = wanted.density.max(axis=1, keepdims=True)
    assert_allclose(density / peak, wanted.density / peak, atol=1e-4)
    assert_allclose(ensemble.ancil["zmode"], wanted.mode(), atol=1e-5)


def test_estimates_in_chunks_are_those_of_photoz(output, wanted):
    assert output.data.npdf > 3 * CHUNK
    check(output.data, wanted)


def test_ids_redshifts_and_points_go_along(output, test, wanted):
    ancil, given = output.data.ancil, columns(test)

    assert_array_equal(ancil["id"], given["id"])
    assert_array_equal(ancil["redshift"], given["redshift"])
    assert_allclose(ancil["zmedian"], wanted.median(), atol=1e-5)
    assert set(ancil["distribution_type"].ravel()) == {1}
    assert "photoz_flag" in ancil


def test_the_file_of_the_model_is_a_bundle(model, wanted, test):
    bundle = load_model(model.path, verify=True)

    assert model.path.endswith(".zip")
    density = bundle.predict_pdf(read(test, bundle.survey).photometry).density
    assert_allclose(density, wanted.density, rtol=1e-5, atol=1e-5)


def test_a_pickle_is_not_opened(folder):
    (folder / "model.pkl").write_bytes(b"\x80\x04K\x01.")

    with pytest.raises(InputError, match="expected a zipped bundle of photoz"):
        BundleHandle("model", path="model.pkl").read()
