"""What fails, is stopped or is killed costs nothing that was finished, and leaves no traces."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

sys.path.insert(0, str(Path(__file__).parent))
from quick import start_patches

from photoz.errors import InputError
from photoz.experiment import run
from photoz.family import Family
from photoz.mock import make_mock_catalogue
from photoz.settings import Experiment

FILE = """
name = "small"
[catalogue]
path = "mock.parquet"
survey = "lsst"
[augment]
noise_copies = 0
depth_scale = 0
[search]
trials = {trials}
[tracking]
uri = "{mlruns}"
[estimators.forest]
n_trees = 4
[estimators.boosting]
n_rounds = 5
[estimators.blend]
"""


@pytest.fixture
def small(tmp_path, empty_store):
    """A function that writes a small experiment into a folder of its own."""
    (tmp_path / "mlruns").mkdir()
    shutil.copyfile(empty_store, tmp_path / "mlruns" / "mlflow.db")
    mock = make_mock_catalogue(300, random_state=3)
    pq.write_table(pa.table(mock.to_columns()), tmp_path / "mock.parquet")

    def small(trials):
        file = tmp_path / "small.toml"
        file.write_text(FILE.format(trials=trials, mlruns=tmp_path / "mlruns"))
        return file

    return small


@pytest.fixture(autouse=True)
def _quick():
    patches = start_patches()
    yield
    for one in patches:
        one.stop()


def fail_in(monkeypatch, failing, error):
    searching = Family.search

    def search(self, **options):
        if self.name in failing:
            raise error
        return searching(self, **options)

    monkeypatch.setattr(Family, "search", search)


def start(*arguments, cwd):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("quick.py")), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def finished_trials(folder):
    """Parameters and score of each finished trial, in order, by study."""
    (journal,) = (folder / "mlruns").glob("*.optuna.log")
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {
        name: [
            (trial.params, trial.value)
            for trial in optuna.load_study(study_name=name, storage=storage).trials
            if trial.value is not None
        ]
        for name in optuna.get_all_study_names(storage)
    }


def wait_for_trials(folder, n_trials):
    for _ in range(6000):
        time.sleep(0.1)
        journals = list((folder / "mlruns").glob("*.optuna.log"))
        if journals and sum(map(len, finished_trials(folder).values())) >= n_trials:
            return
    pytest.fail(f"there were no {n_trials} trials within ten minutes")


def statuses(folder):
    """How the runs ended, by what MLflow says."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        return [status for (status,) in database.execute("SELECT status FROM runs")]


def test_an_estimator_that_fails_does_not_end_the_others(small, tmp_path, monkeypatch):
    error = RuntimeError("no answer from postgresql://me:Pa55w0rd@host/photoz")
    fail_in(monkeypatch, ["boosting"], error)

    report = run(Experiment.from_toml(small(0)), tmp_path / "results")

    assert list(report["estimators"]) == ["forest", "trainz", "knn"]
    assert report["champion"] == "forest"
    assert report["failed"] == {
        "boosting": "RuntimeError: no answer from postgresql://***@host/photoz",
        "blend": "RuntimeError: the blend needs boosting, which failed.",
    }
    assert json.loads((tmp_path / "results" / "report.json").read_text()) == report
    page = (tmp_path / "results" / "report.html").read_text()
    assert "boosting failed</span> RuntimeError: no answer from postgresql://***@host" in page
    assert not (tmp_path / "results" / "models" / "boosting").exists()
    assert sorted(statuses(tmp_path))[:2] == ["FAILED", "FAILED"]
    traces = [path.read_text() for path in tmp_path.rglob("artifacts/traceback.txt")]
    assert len(traces) == 2
    assert any("in search" in trace for trace in traces)
    assert not any("Pa55w0rd" in trace for trace in traces)


@pytest.mark.parametrize("error", [InputError("no such thing"), RuntimeError("no memory")])
def test_an_experiment_without_an_estimator_is_an_error(small, tmp_path, monkeypatch, error):
    fail_in(monkeypatch, ["forest", "boosting"], error)

    with pytest.raises(type(error), match=f"forest failed: .*{error}; boosting failed: .*{error}"):
        run(Experiment.from_toml(small(0)), tmp_path / "results")

    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_experiment_that_is_told_to_end_closes_its_runs_and_goes_on_later(
    small, tmp_path, number
):
    small(6)
    arguments = ("experiment", "small.toml", "--output", "results", "--json")
    started = start(*arguments, cwd=tmp_path)
    wait_for_trials(tmp_path, 2)
    started.send_signal(number)
    shown, told = started.communicate(timeout=600)
    before = finished_trials(tmp_path)
    again, _ = start(*arguments, cwd=tmp_path).communicate(timeout=600)

    assert started.returncode == 128 + number
    assert (shown, len(told.splitlines())) == ("", 1)
    assert "the same command goes on where it stopped" in told
    after = finished_trials(tmp_path)
    assert {name: after[name][: len(trials)] for name, trials in before.items()} == before
    assert set(statuses(tmp_path)) == {"FINISHED", "KILLED"}
    assert json.loads(again)["estimators"]["forest"]["trials"] == 6
    assert [path.name for path in tmp_path.glob(".*")] == []


def figures(report):
    """What a report says, but for when it was made and how long that took."""
    # A process that is killed may have registered a version already.
    apart = ("created", "estimators", "registered")
    told = {key: value for key, value in report.items() if key not in apart}
    unlike = ("fit_seconds", "search_seconds", "mlflow_run_id")
    entries = {
        name: {key: value for key, value in entry.items() if key not in unlike}
        for name, entry in report["estimators"].items()
    }
    return {**told, "estimators": entries}


@pytest.mark.slow
def test_an_experiment_that_was_killed_ends_as_an_undisturbed_one(small, tmp_path):
    small(6)
    arguments = ("experiment", "small.toml", "--json", "--output")
    undisturbed, _ = start(*arguments, "undisturbed", cwd=tmp_path).communicate(timeout=600)
    (tmp_path / "mlruns").rename(tmp_path / "mlruns of the undisturbed")

    for n_trials in (3, 8):
        started = start(*arguments, "results", cwd=tmp_path)
        wait_for_trials(tmp_path, n_trials)
        started.kill()
        started.communicate(timeout=600)
    resumed, _ = start(*arguments, "results", cwd=tmp_path).communicate(timeout=600)

    assert figures(json.loads(resumed)) == figures(json.loads(undisturbed))
    assert set(statuses(tmp_path)) == {"FINISHED", "KILLED"}
    assert [path.name for path in tmp_path.glob(".*")] == []
