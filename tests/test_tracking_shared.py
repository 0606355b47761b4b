"""What several machines share: MLflow in PostgreSQL, and behind a server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from postgres import PASSWORD, postgres
from quick import start_patches

from photoz.bundle import load_model
from photoz.errors import InputError
from photoz.experiment import run
from photoz.mock import make_mock_catalogue
from photoz.settings import Experiment
from photoz.tracking import Store, fetch_bundle
from photoz.warm_start import warm_starts

pytestmark = pytest.mark.slow

FILE = """
name = "shared"
[catalogue]
path = "mock.parquet"
survey = "lsst"
[augment]
noise_copies = 0
depth_scale = 0
[search]
trials = 1
[tracking]
uri = "{uri}"
[estimators.boosting]
n_rounds = 5
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    patches = start_patches()
    yield
    for one in patches:
        one.stop()


def experiment_in(folder, uri):
    """A small experiment, of a machine that works in `folder`."""
    folder.mkdir()
    mock = make_mock_catalogue(300, random_state=3)
    pq.write_table(pa.table(mock.to_columns()), folder / "mock.parquet")
    (folder / "shared.toml").write_text(FILE.format(uri=uri))
    return Experiment.from_toml(folder / "shared.toml")


@contextmanager
def server(folder):
    """MLflow's own server, which keeps the artifacts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    started = subprocess.Popen(
        command,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=30):  # noqa: S310
                    break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        started.terminate()
        started.wait(timeout=60)


def check_that_all_is_there(report, experiment):
    """Runs, their files and the registered model can be read back, by name and by id."""
    store = Store.find(experiment.tracking.uri)
    client = store.client()
    entry = report["estimators"]["boosting"]
    found = client.get_run(entry["mlflow_run_id"])
    text = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/model_card.md")
    assert "boosting" in text

    version = client.get_model_version_by_alias("photoz-shared", "champion")
    (logged,) = client.search_logged_models([found.info.experiment_id])
    for model in ("models:/photoz-shared@champion", f"models:/{logged.model_id}"):
        bundle = load_model(fetch_bundle(model, store=store), verify=True)
        assert len(bundle.survey.bands) == 6
    assert version.run_id == entry["mlflow_run_id"]
    assert {metric.key for metric in logged.metrics} >= {"test/crps", "validation/crps"}

    search = experiment.search.model_copy(
        update={"warm_start": "models:/photoz-shared@champion", "trials": 2}
    )
    starts = warm_starts(experiment.model_copy(update={"search": search}))
    tried = entry["parameters"]
    assert starts["boosting"].items() <= tried.items()
    assert "learning_rate" in starts["boosting"]


def test_runs_of_several_machines_share_an_experiment_in_postgresql(tmp_path, monkeypatch):
    with postgres() as address:
        uri = f"postgresql+psycopg://{address}"
        first = experiment_in(tmp_path / "first", uri)
        monkeypatch.chdir(tmp_path / "first")
        check_that_all_is_there(run(first, tmp_path / "first" / "results"), first)

        # Another folder of the same file system, as where it is mounted.
        second = experiment_in(tmp_path / "second", uri)
        monkeypatch.chdir(tmp_path / "second")
        report = run(second, tmp_path / "second" / "results")

        client = Store.find(uri).client()
        kept = client.get_experiment_by_name("shared")
        assert len(client.search_experiments(filter_string="name LIKE 'shared%'")) == 1
        assert kept.artifact_location == (tmp_path / "first/mlruns/artifacts/shared").as_uri()
        finals = client.search_runs([kept.experiment_id], "tags.stage = 'final'")
        assert [found.info.status for found in finals] == ["FINISHED"] * 6
        assert report["registered"]["alias"] == "challenger"
        assert PASSWORD not in json.dumps([found.to_dictionary() for found in finals])

        # A machine that does not reach the folder says so before it searches.
        shutil.rmtree(tmp_path / "first" / "mlruns")
        with pytest.raises(InputError, match=r"first/mlruns/artifacts/shared, which this machine"):
            run(second, tmp_path / "second" / "results")


def test_a_server_keeps_runs_and_artifacts_for_all(tmp_path, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()
    with server(folder) as uri:
        experiment = experiment_in(tmp_path / "client", uri)
        monkeypatch.chdir(tmp_path / "client")
        check_that_all_is_there(run(experiment, tmp_path / "results"), experiment)

        assert list((folder / "artifacts").rglob("model_card.md"))
        assert not list((tmp_path / "client").rglob("model_card.md"))
