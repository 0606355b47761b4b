"""The whole flow on mock galaxies, once; and what it must not do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose

sys.path.insert(0, str(Path(__file__).parent))
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from quick import start_patches

from photoz.experiment import run
from photoz.metrics import crps
from photoz.mock import make_mock_catalogue
from photoz.samples import load_samples
from photoz.settings import Experiment
from photoz.tracking import ROW_LOSSES, Store

FILE = """
name = "mock"
[catalogue]
path = "mock.parquet"
survey = "lsst"
[augment]
noise_copies = 0
depth_scale = 0
[search]
trials = 2
[tracking]
uri = "{mlruns}"
[estimators.forest]
n_trees = 10
[estimators.boosting]
n_rounds = 20
[estimators.network]
updates = 150
width = 32
members = 2
[estimators.blend]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "mlruns").mkdir()
    shutil.copyfile(empty_store, folder / "mlruns" / "mlflow.db")
    mock = make_mock_catalogue(900, random_state=3)
    pq.write_table(pa.table(mock.to_columns()), folder / "mock.parquet")
    (folder / "mock.toml").write_text(FILE.format(mlruns=folder / "mlruns"))
    return folder


@pytest.fixture(scope="module")
def experiment(folder):
    return Experiment.from_toml(folder / "mock.toml")


@pytest.fixture(scope="module")
def report(folder, experiment):
    """The report of a run without plots; the slow test of a second run draws them."""
    patches = start_patches(but="photoz.outcome.evaluate")
    done = run(experiment, folder / "results")
    for one in patches:
        one.stop()
    return done


def test_every_family_beats_n_of_z(report):
    entries = report["estimators"]

    for name in ("forest", "boosting", "network", "blend"):
        assert entries[name]["test"]["crps"] < 0.7 * entries["trainz"]["test"]["crps"]
        assert entries[name]["test"]["cde_loss"] < entries["trainz"]["test"]["cde_loss"]


def test_report_file_is_the_report(report, folder):
    assert json.loads((folder / "results" / "report.json").read_text()) == report


def test_champion_is_the_best_on_validation_rows(report):
    losses = {
        name: entry["validation"]["log_loss"]
        for name, entry in report["estimators"].items()
        if name not in ("trainz", "knn")
    }

    assert report["champion"] == min(losses, key=losses.get)


def test_losses_of_single_galaxies_are_kept_with_each_run(report, experiment):
    """Their mean is the metric; galaxies are known by the ids of the catalogue."""
    fitted = load_samples(experiment).fitted_id
    client = Store.find(experiment.tracking.uri).client()
    for entry in report["estimators"].values():
        table = pd.read_parquet(client.download_artifacts(entry["mlflow_run_id"], ROW_LOSSES))

        assert table["id"].tolist() == fitted.tolist()
        for metric in ("log_loss", "cde_loss", "crps"):
            assert table[metric].mean() == pytest.approx(entry["validation"][metric], rel=1e-4)


def test_first_champion_is_registered_as_such(report):
    told = report["registered"]

    assert (told["model"], told["alias"]) == ("photoz-mock", "champion")


def test_intervals_hold_their_values(report):
    for entry in report["estimators"].values():
        for metric, value in entry["test"].items():
            low, high = entry["test_interval"][metric]
            assert low <= value <= high


def test_trials_are_counted(report):
    counts = {name: entry["trials"] for name, entry in report["estimators"].items()}

    assert counts == {"forest": 2, "boosting": 2, "network": 2, "trainz": 1, "knn": 1, "blend": 0}


def test_the_blend_pools_the_second_best_network_as_well(report, folder):
    pooled = report["estimators"]["blend"]["parameters"]["pooled"]
    best = report["estimators"]["network"]["parameters"]
    (second,) = report["estimators"]["network"]["runners_up"]
    bundle = folder / "results" / report["estimators"]["blend"]["bundle"]

    assert second["updates"] == 150
    assert second["learning_rate"] != best["learning_rate"]
    assert set(pooled) <= {"forest", "boosting", "network", "network_2"}
    assert {path.name for path in (bundle / "members").iterdir()} == set(pooled)


def test_test_predictions_are_those_of_the_bundles(report, folder, experiment):
    from photoz.bundle import load_model

    table = pd.read_parquet(folder / "results" / "test_predictions.parquet")
    test = load_samples(experiment).test
    for name, entry in report["estimators"].items():
        pz = load_model(folder / "results" / entry["bundle"], verify=True).predict_pdf(
            test.photometry
        )

        assert_allclose(table[f"{name}_z_median"], pz.median(), rtol=1e-6)
        assert crps(test.z_spec, pz) == pytest.approx(entry["test"]["crps"], rel=1e-5)


@pytest.mark.slow
def test_command_line_and_mlflow_predict_the_same(report, folder):
    """In processes that trained nothing."""
    bundle = folder / "results" / "models" / report["champion"]
    out = folder / "out.parquet"
    ours = [sys.executable, "-m", "photoz", "predict", bundle, "mock.parquet", "-o", out]
    subprocess.run([*ours, "--pdf", "none"], check=True, cwd=folder, capture_output=True)
    code = (
        "import mlflow, pandas as pd, sys; mlflow.set_tracking_uri('sqlite:///' + sys.argv[1]);"
        "model = mlflow.pyfunc.load_model('models:/photoz-mock@champion');"
        "frame = pd.read_parquet('mock.parquet').astype('float64');"
        "model.predict(frame).to_parquet('mlflow.parquet')"
    )
    arguments = [sys.executable, "-W", "ignore", "-c", code, str(folder / "mlruns" / "mlflow.db")]
    subprocess.run(arguments, check=True, cwd=folder, capture_output=True)
    ours, theirs = pd.read_parquet(out), pd.read_parquet(folder / "mlflow.parquet")

    for name in theirs.columns:
        assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_second_run_reuses_the_studies_and_gives_the_same_figures(report, folder, experiment):
    (journal,) = (folder / "mlruns").glob("*.optuna.log")
    storage = JournalStorage(JournalFileBackend(str(journal)))

    def n_trials():
        studies = optuna.get_all_study_summaries(storage=storage)
        return {s.study_name: s.n_trials for s in studies if "-finish-" not in s.study_name}

    before = n_trials()
    again = run(experiment, folder / "again")

    assert n_trials() == before
    for name, entry in report["estimators"].items():
        assert again["estimators"][name]["test"] == entry["test"]
        assert again["estimators"][name]["validation"] == entry["validation"]
    assert again["registered"]["alias"] == "challenger"
    assert "better with probability 0.500" in again["registered"]["grounds"]


@pytest.mark.usefixtures("report")
def test_results_are_replaced_at_once(folder):
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert {path.name for path in (folder / "results").iterdir()} == {
        "report.json",
        "report.html",
        "models",
        "test_predictions.parquet",
    }


@pytest.mark.slow
def test_held_out_redshifts_change_no_fit(report, folder, experiment, tmp_path):
    """Scrambled held-out redshifts: the same models, other figures."""
    table = pq.read_table(folder / "mock.parquet")
    test_id = set(load_samples(experiment).test_id.tolist())
    redshift = table["redshift"].to_numpy().copy()
    held_out = np.array([key in test_id for key in table["object_id"].to_pylist()])
    redshift[held_out] = np.random.default_rng(0).permutation(redshift[held_out])
    place = table.column_names.index("redshift")
    pq.write_table(
        table.set_column(place, "redshift", pa.array(redshift)), tmp_path / "mock.parquet"
    )
    text = FILE.format(mlruns=tmp_path / "mlruns").split("[estimators.boosting]")[0]
    (tmp_path / "mock.toml").write_text(text)
    changed = run(Experiment.from_toml(tmp_path / "mock.toml"), tmp_path / "results")

    ours, theirs = report["estimators"]["forest"], changed["estimators"]["forest"]
    assert theirs["parameters"] == ours["parameters"]
    assert theirs["validation"] == ours["validation"]
    assert theirs["test"]["crps"] > 1.5 * ours["test"]["crps"]


def test_mistakes_end_in_one_line_and_status_2(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "bad.toml").write_text(FILE.replace("trials", "trails").format(mlruns="x"))
    status, _, error = command("experiment", "bad.toml")

    assert status == 2
    assert "unknown key 'trails' in [search] (did you mean 'trials'?)" in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_missing_library_is_told_before_the_search(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "torch", None)
    status, _, error = command("experiment", "mock.toml", "--output", "without-torch")

    assert status == 2
    assert "this needs the package torch, found none; pip install 'photoz[network]'" in error
    assert len(error.strip().splitlines()) == 1


def test_dry_run_fits_nothing(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    status, shown, _ = command("experiment", "mock.toml", "--dry-run", "--output", "dry")

    assert status == 0
    assert "not observed" in shown
    assert not (folder / "dry").exists()
