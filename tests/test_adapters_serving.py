"""`mlflow models serve` answers over HTTP what the bundle predicts, and says what it lacks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests

from photoz.bundle import save_model
from photoz.model import PhotozModel
from photoz.photometry import photometry_from_columns
from photoz.prediction import QUANTILE_LEVELS, prediction_columns
from photoz.tracking import Store, TrackedData, Tracking

pytestmark = pytest.mark.slow

PATIENCE = 90  # seconds; a server starts in 10 where nothing else runs


@pytest.fixture(scope="module")
def served(model):
    """The small model, as if training had seen u unobserved."""
    optional = PhotozModel(
        model.survey, model.features, model.augment, model.estimator, model.calibration
    )
    optional.optional_bands = ("u",)
    optional.training_range = model.training_range
    return optional


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def url(served, folder):
    """Address of a server of the model."""
    bundle = save_model(served, folder / "bundle")
    data = TrackedData("mock", "mock", "a" * 64, "b" * 64, {"test": 200})
    tracking = Tracking("", "served", data=data, metric="crps", mlruns=folder / "mlruns")
    with tracking.run("forest") as tracked:
        version = tracked.log_model(bundle)
    store = Store.find("", folder / "mlruns")
    mlflow.set_tracking_uri(store.uri)
    uri = f"models:/{tracking.model_name}/{version}"
    place = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        # The server starts uvicorn by name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = ["mlflow", "models", "serve", "--env-manager", "local", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "-m", place],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/ping", server)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(address, server):
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and server.poll() is None:
        try:
            requests.get(address, timeout=5).raise_for_status()
        except requests.RequestException:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"no answer from {address} within {PATIENCE} s")


def ask(url, frame, params=None):
    """Send galaxies, null where a value is missing."""
    split = json.loads(frame.to_json(orient="split", index=False))
    content = {"dataframe_split": split, "params": params or {}}
    return requests.post(f"{url}/invocations", json=content, timeout=60)


def rows(answer):
    answer.raise_for_status()
    return pd.DataFrame(answer.json()["predictions"])


@pytest.fixture
def frame(mock, served):
    columns = mock.to_columns()
    needed = {name: columns[name].astype(np.float64) for name in served.survey.columns_needed()}
    return pd.DataFrame(needed).head(6)


def expected(model, frame, **options):
    photometry, _ = photometry_from_columns(
        dict(frame.items()), model.survey, optional_bands=model.optional_bands
    )
    return prediction_columns(model, photometry, **options)


def test_missing_values_and_missing_optional_columns_are_not_observed(url, served, frame):
    frame = frame.drop(columns=served.survey.columns_needed(["u"]))
    frame.loc[2, ["mag_g", "mag_err_g"]] = np.nan
    frame.loc[4] = np.nan

    answer = rows(ask(url, frame))

    wanted = expected(served, frame)
    assert answer["photoz_flag"].tolist() == wanted["photoz_flag"].tolist()
    assert answer["photoz_flag"][4] & 32
    assert answer["photoz_z_median"].isna().tolist() == [False] * 4 + [True, False]
    np.testing.assert_allclose(
        answer["photoz_z_median"].astype(float), wanted["photoz_z_median"], rtol=1e-9
    )


def test_densities_come_on_request(url, served, frame):
    answer = rows(ask(url, frame, {"pdf": "quantiles"}))

    quantiles = np.stack(answer["photoz_quantiles"].to_list())
    assert quantiles.shape == (6, len(QUANTILE_LEVELS))
    np.testing.assert_allclose(
        quantiles, expected(served, frame, pdf="quantiles")["photoz_quantiles"], rtol=1e-6
    )


def test_a_missing_band_that_the_model_needs_is_the_callers_mistake_and_named(url, frame):
    answer = ask(url, frame.drop(columns=["mag_i", "mag_err_i"]))

    assert answer.status_code == 400
    assert "mag_i" in answer.text


def test_the_example_that_comes_with_the_model_is_answered(url, folder):
    example = (folder / "model" / "serving_input_example.json").read_bytes()
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{url}/invocations", example, headers=headers, timeout=60)

    assert rows(answer)["photoz_z_median"].notna().all()
