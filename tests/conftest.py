import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# Before LightGBM, torch and MLflow are imported: they read these then.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from photoz.augment import Augmentation
from photoz.estimators.forest import ForestPhotoz
from photoz.features import PhotometricFeatures
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.survey import load_survey

# A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them send.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

N_TRAIN = 500


@pytest.fixture(scope="session")
def mock():
    return make_mock_catalogue(700, random_state=1)


@pytest.fixture(scope="session")
def model(mock):
    """A small fitted model; tests must not change it."""
    estimator = ForestPhotoz(n_trees=10, z_max=4.0, n_z=201, random_state=0)
    survey = load_survey("lsst")
    unfitted = PhotozModel(survey, PhotometricFeatures(), Augmentation(noise_copies=1), estimator)
    return unfitted.fit(mock.photometry[:N_TRAIN], mock.z_spec[:N_TRAIN])


@pytest.fixture(scope="session")
def test_photometry(mock):
    return mock.photometry[N_TRAIN:]


@pytest.fixture(scope="session")
def catalogue_file(mock, tmp_path_factory):
    """The mock galaxies as a Parquet file in the columns of the survey lsst."""
    path = tmp_path_factory.mktemp("catalogue") / "mock.parquet"
    pq.write_table(pa.table(mock.to_columns()), path)
    return path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Database of an MLflow store without runs, to be copied: to make one takes seconds."""
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture(autouse=True, scope="module")
def _no_store_is_left_to_the_next_tests():
    """MLflow tells the processes that it starts which store is in use, for good."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture
def mlruns(empty_store, tmp_path, monkeypatch):
    """Folder of an MLflow store of its own, in the working directory."""
    folder = tmp_path / "mlruns"
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process: exit status, standard output and error."""
    from photoz.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["photoz", *map(str, arguments)])
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for children
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package as a wheel, built from a copy: a build leaves its files beside the source."""
    repository, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("wheel")
    for name in ("photoz", "rail"):
        shutil.copytree(
            repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, folder)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--wheel-dir", str(folder), str(folder)],
        check=True,
    )  # fmt: skip
    (built,) = folder.glob("photoz-*.whl")
    return built
