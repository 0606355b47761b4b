"""A model from MLflow predicts what the command line predicts, from code and weights alone."""

import json
import os
import subprocess
import sys
from copy import copy

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from pandas.testing import assert_frame_equal, assert_index_equal

from photoz import kernels
from photoz.adapters.pyfunc import PhotozPyfunc
from photoz.augment import Augmentation
from photoz.bundle import load_model, save_model
from photoz.errors import InputError
from photoz.estimators.boosting import BoostingPhotoz
from photoz.estimators.network import NetworkPhotoz
from photoz.features import PhotometricFeatures
from photoz.model import PhotozModel
from photoz.photometry import photometry_from_columns
from photoz.prediction import QUANTILE_LEVELS, prediction_columns
from photoz.survey import load_survey
from photoz.tracking import Store, TrackedData, Tracking
from photoz.tracking.models import _requirements


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("bundles") / "forest")


@pytest.fixture(scope="module")
def store(bundle, tmp_path_factory):
    """A store in which the small model is the champion of photoz-mock."""
    folder = tmp_path_factory.mktemp("store") / "mlruns"
    data = TrackedData("mock", "mock", "a" * 64, "b" * 64, {"test": 200})
    tracking = Tracking("", "mock", data=data, metric="crps", mlruns=folder)
    with tracking.run("forest") as tracked:
        tracking.promote(tracked.log_model(bundle))
    return Store.find("", folder)


@pytest.fixture
def loaded(store):
    mlflow.set_tracking_uri(store.uri)
    return mlflow.pyfunc.load_model("models:/photoz-mock@champion")


@pytest.fixture
def frame(mock, model):
    columns = mock.to_columns()
    needed = {name: columns[name] for name in model.survey.columns_needed()}
    return pd.DataFrame(needed, index=np.arange(len(mock.z_spec)) * 3 + 7)


def expected(model, frame, pdf="none"):
    photometry, _ = photometry_from_columns(
        dict(frame.items()), model.survey, optional_bands=model.optional_bands
    )
    return prediction_columns(model, photometry, pdf=pdf)


def test_predictions_are_those_of_the_bundle_on_the_index_of_the_input(loaded, bundle, frame):
    predicted = loaded.predict(frame)

    assert_index_equal(predicted.index, frame.index)
    assert_frame_equal(
        predicted, pd.DataFrame(expected(load_model(bundle), frame), index=frame.index)
    )


def test_more_rows_than_a_chunk_are_predicted_alike(loaded, frame, monkeypatch):
    whole = loaded.predict(frame)
    code = sys.modules[type(loaded.unwrap_python_model()).__module__]
    monkeypatch.setattr(code, "_CHUNK", 64)

    assert_frame_equal(loaded.predict(frame), whole, rtol=1e-5)


def test_large_frames_are_predicted_in_compiled_code(loaded, frame, monkeypatch):
    reference = loaded.predict(frame)
    used, compile_model = [], kernels.compile_model
    monkeypatch.setattr(kernels, "COMPILED_FROM", len(frame))
    monkeypatch.setattr(
        kernels, "compile_model", lambda model: used.append(model) or compile_model(model)
    )

    assert_frame_equal(loaded.predict(frame), reference, atol=5e-5, rtol=1e-4)
    assert len(used) == 1


@pytest.mark.parametrize(
    ("pdf", "column", "width"),
    [("quantiles", "photoz_quantiles", len(QUANTILE_LEVELS)), ("grid", "photoz_density", 201)],
)
def test_densities_come_on_request(loaded, model, frame, pdf, column, width):
    predicted = loaded.predict(frame.head(5), params={"pdf": pdf})

    values = np.stack(predicted[column].to_list())
    assert values.shape == (5, width)
    np.testing.assert_allclose(values, expected(model, frame.head(5), pdf)[column], rtol=1e-5)


def test_no_galaxies_give_no_rows_but_all_columns(loaded, frame):
    predicted = loaded.predict(frame.head(0))

    assert len(predicted) == 0
    assert list(predicted.columns) == list(loaded.predict(frame.head(1)).columns)


def test_columns_may_come_in_any_order_with_others(loaded, frame):
    mixed = frame[frame.columns[::-1]].assign(seeing=0.7)

    assert_frame_equal(loaded.predict(mixed), loaded.predict(frame))


def test_a_missing_column_is_named(loaded, frame):
    with pytest.raises(MlflowException, match=r"missing inputs \['mag_i'\]"):
        loaded.predict(frame.drop(columns="mag_i"))


def test_columns_of_a_band_that_may_be_missing_are_not_required(model, frame, tmp_path):
    optional = PhotozModel(
        model.survey, model.features, model.augment, model.estimator, model.calibration
    )
    optional.optional_bands = ("u",)
    optional.training_range = model.training_range
    bundle = save_model(optional, tmp_path / "bundle")
    data = TrackedData("mock", "mock", "a" * 64, "b" * 64, {"test": 200})
    tracking = Tracking("", "optional", data=data, metric="crps", mlruns=tmp_path / "mlruns")
    with tracking.run("forest") as tracked:
        version = tracked.log_model(bundle)
    loaded = mlflow.pyfunc.load_model(f"models:/{tracking.model_name}/{version}")

    of_u = model.survey.columns_needed(["u"])
    predicted = loaded.predict(frame.drop(columns=of_u))

    assert [spec.name for spec in loaded.metadata.signature.inputs if not spec.required] == of_u
    assert (predicted["photoz_flag"] & 1 == 1).all()


def test_every_input_is_a_double_so_that_nan_is_one(loaded, frame):
    assert {spec.type.name for spec in loaded.metadata.signature.inputs} == {"double"}
    unseen = frame.head(3).assign(**dict.fromkeys(frame.columns, np.nan))

    assert (loaded.predict(unseen)["photoz_flag"] & 32 == 32).all()


def test_the_example_is_made_up_and_can_be_predicted(loaded, mock):
    example = loaded.input_example

    assert loaded.predict(example)["photoz_z_median"].notna().all()
    assert not example["mag_g"].isin(mock.to_columns()["mag_g"]).any()


def test_requirements_are_pinned_versions_that_an_index_has(loaded):
    path = mlflow.pyfunc.get_model_dependencies(loaded.metadata.get_model_info().model_uri)
    with open(path) as file:  # noqa: PTH123
        lines = file.read().split()

    assert {line.partition("==")[0] for line in lines} >= {"photoz", "numpy", "scikit-learn"}
    assert all(line.partition("==")[2] and "+" not in line for line in lines)


@pytest.mark.parametrize(
    ("estimator", "library"), [(NetworkPhotoz(), "safetensors"), (BoostingPhotoz(), "lightgbm")]
)
def test_a_model_requires_what_it_predicts_with(estimator, library):
    model = PhotozModel(load_survey("lsst"), PhotometricFeatures(), Augmentation(), estimator)
    names = {line.partition("==")[0] for line in _requirements(model)}

    assert library in names
    assert "torch" not in names


FRESH = """
import json, sys
import mlflow, pandas as pd

model = mlflow.pyfunc.load_model("models:/photoz-mock@champion")
frame = pd.read_parquet(sys.argv[1])
print(json.dumps(model.predict(frame)["photoz_z_median"].tolist()))
assert "torch" not in sys.modules
"""


def test_a_process_that_trained_nothing_and_trusts_no_pickle_predicts_the_same(
    store, loaded, frame, tmp_path
):
    frame.to_parquet(tmp_path / "frame.parquet")
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path / "frame.parquet")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MLFLOW_TRACKING_URI": store.uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        check=True,
        capture_output=True,
        text=True,
    )

    medians = json.loads(fresh.stdout.splitlines()[-1])
    np.testing.assert_array_equal(medians, loaded.predict(frame)["photoz_z_median"])


def test_an_array_without_names_is_no_catalogue(model, frame):
    """MLflow drops what it does not know, and would be given no rows back."""
    flexible = PhotozPyfunc()
    flexible.model = copy(model)
    flexible.model.optional_bands = model.survey.bands

    with pytest.raises(InputError, match="expected the columns 'mag_u'"):
        flexible.predict(None, pd.DataFrame(frame.to_numpy()))
