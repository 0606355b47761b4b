"""The stages of RAIL give what photoz gives, through every way in which RAIL runs them."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import qp
import rail.stages
from numpy.testing import assert_allclose, assert_array_equal
from rail.core.data import TableHandle
from rail.core.stage import RailPipeline
from rail.estimation.algos.photoz import PhotozCatEstimator, PhotozCatInformer
from rail.evaluation.dist_to_point_evaluator import DistToPointEvaluator
from rail.utils.path_utils import find_rail_file

from photoz import kernels
from photoz.adapters.rail import BundleHandle
from photoz.bundle import load_model
from photoz.catalogue import from_columns, read
from photoz.errors import InputError
from photoz.metrics import cde_loss
from photoz.survey import load_survey
from photoz.training import train_model

# RAIL 2.0 leaves files for the garbage collector to close.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PARAMETERS = {"forest": {"n_trees": 3, "augment.noise_copies": 0, "augment.depth_scale": 0.0}}
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
    """Some galaxies of a file that RAIL tests its own estimators with (simulated).

    Both files begin with the nearest galaxies: a share of them has to be taken throughout.
    """
    source = find_rail_file(f"examples_data/testdata/test_dc2_{name}_9816.hdf5")
    with h5py.File(source) as file, h5py.File(path, "w") as copy:
        for column, values in file["photometry"].items():
            copy[f"photometry/{column}"] = values[:][rows]
    return path


@pytest.fixture(scope="module")
def train(folder):
    return some_rows("training", slice(0, None, 25), folder / "train.hdf5")


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


def test_large_files_are_estimated_in_compiled_code(model, output, test, wanted, monkeypatch):
    used, compile_model = [], kernels.compile_model
    monkeypatch.setattr(kernels, "COMPILED_FROM", output.data.npdf)
    monkeypatch.setattr(
        kernels, "compile_model", lambda fitted: used.append(fitted) or compile_model(fitted)
    )
    stage = PhotozCatEstimator.make_stage(name="fast", model=model, chunk_size=CHUNK)
    check(stage.estimate(TableHandle("testing", path=str(test))).data, wanted)

    assert len(used) == 1


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


EVALUATION = {
    "metrics": ["cdeloss"],
    "metric_config": {"general": {"eval_grid": np.linspace(0, 3, 1201).tolist()}},
}


def test_rails_evaluator_gives_the_loss_that_we_give(output, wanted, test):
    truth = TableHandle("truth", path=str(test))
    stage = DistToPointEvaluator.make_stage(name="evaluate", force_exact=True, **EVALUATION)
    stage.evaluate(qp.read(output.path), truth)

    # RAIL takes the density at the nearest point of its grid, photoz interpolates.
    loss = stage.get_handle("summary")()["cdeloss"][0]
    assert_allclose(loss, cde_loss(columns(test)["redshift"], wanted), atol=0.05)
    assert loss < -2


def test_galaxies_without_photometry_are_flat_and_flagged(model, test):
    given = columns(test)
    table = {name: values[:5].copy() for name, values in given.items()}
    for name, values in table.items():
        if name.startswith("mag_"):
            values[2] = np.nan
    stage = PhotozCatEstimator.make_stage(name="nothing", model=model, hdf5_groupname="")
    ensemble = stage.estimate(table).data

    assert_array_equal(np.isnan(ensemble.ancil["zmode"]), np.arange(5) == 2)
    assert_array_equal(ensemble.ancil["photoz_flag"] & 32 > 0, np.arange(5) == 2)
    assert_allclose(ensemble.pdf(0.5)[2], ensemble.pdf(1.5)[2])


def test_bands_without_an_error_column_are_refused(train):
    stage = PhotozCatInformer.make_stage(name="short", err_bands=["mag_err_u_lsst"], **SETTINGS)

    with pytest.raises(InputError, match="expected as many err_bands as bands, got 1 and 6"):
        stage.inform(TableHandle("training", path=str(train)))


@pytest.mark.slow
def test_a_survey_file_replaces_the_columns(folder, train, wanted, test):
    survey = REPOSITORY / "photoz" / "surveys" / "lsst-dc2.toml"
    (folder / "own.toml").write_text(survey.read_text().replace('id = "object_id"\n', ""))
    stage = PhotozCatInformer.make_stage(name="own", survey="own.toml", **SETTINGS)
    bundle = load_model(stage.inform(TableHandle("training", path=str(train))).path)

    density = bundle.predict_pdf(read(test, bundle.survey).photometry).density
    assert_allclose(density, wanted.density, rtol=1e-5, atol=1e-5)


def test_rail_finds_the_stages():
    rail.stages.import_and_attach_all(silent=True)

    assert rail.stages.PhotozCatInformer is PhotozCatInformer
    assert rail.stages.PhotozCatEstimator is PhotozCatEstimator


@pytest.mark.slow
def test_the_interactive_interface_gives_the_same(train, test, wanted):
    from rail.interactive.estimation import algos

    made = algos.photoz.photoz_informer(
        training_data=columns(train), hdf5_groupname="", **SETTINGS
    )
    found = algos.photoz.photoz_estimator(
        input_data=columns(test), model=made["model"], hdf5_groupname=""
    )

    assert isinstance(made["model"], bytes)
    check(found["output"], wanted)


FIND = """
import photoz
import rail.stages

rail.stages.import_and_attach_all(silent=True)
print(rail.stages.PhotozCatInformer.name, photoz.__file__)
"""


class PhotozPipeline(RailPipeline):
    def __init__(self):
        RailPipeline.__init__(self)
        self.inform_photoz = PhotozCatInformer.build(aliases={"input": "input_train"}, **SETTINGS)
        self.estimate_photoz = PhotozCatEstimator.build(
            aliases={"input": "input_test"},
            connections={"model": self.inform_photoz.io.model},
            chunk_size=CHUNK,
        )
        self.evaluate_photoz = DistToPointEvaluator.build(
            aliases={"truth": "input_test"},
            connections={"input": self.estimate_photoz.io.output},
            chunk_size=CHUNK,
            **EVALUATION,
        )


def processes():
    """Environment in which fresh processes find this Python and these modules."""
    tools = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([tools, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
    }


@pytest.mark.slow
def test_a_pipeline_file_of_ceci_gives_the_same(folder, train, test, wanted):
    pipeline = PhotozPipeline()
    pipeline.initialize(
        {"input_train": str(train), "input_test": str(test)},
        {"output_dir": str(folder / "out"), "log_dir": str(folder / "log"), "resume": False},
        None,
    )
    pipeline.save("pipeline.yml")
    run = subprocess.run(
        [sys.executable, "-c", "import sys; from ceci.main import main; sys.exit(main())",
         "pipeline.yml"],
        env=processes(), capture_output=True, text=True, check=False,
    )  # fmt: skip

    logs = "".join(log.read_text() for log in (folder / "log").glob("*"))
    assert run.returncode == 0, run.stdout + run.stderr + logs
    assert load_model(folder / "out" / "model_inform_photoz.zip") is not None
    check(qp.read(str(folder / "out" / "output_estimate_photoz.hdf5")), wanted)


@pytest.mark.slow
def test_rail_finds_the_stages_of_an_installed_wheel(wheel, tmp_path):
    place = tmp_path / "installed"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--target", str(place), str(wheel)],
        check=True,
    )  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", FIND],
        env={**os.environ, "PYTHONPATH": str(place)}, cwd=tmp_path, capture_output=True,
        text=True, check=True,
    )  # fmt: skip

    assert found.stdout.split() == ["PhotozCatInformer", str(place / "photoz" / "__init__.py")]
