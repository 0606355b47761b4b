"""A store that was moved finds its artifacts again; what came to nothing can be removed."""

import os
import platform
import shutil
import sqlite3
import time
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest

from photoz.errors import InputError
from photoz.process import process_name
from photoz.results import abandoned_folders
from photoz.tracking import Store, find_moves, find_old_runs, is_local, mend, page_address
from photoz.tracking.pages import page_tags
from photoz.tracking.registry import register

DAY = 86_400_000


@pytest.fixture
def client(mlruns):
    return Store.find("", mlruns).client()


@pytest.fixture
def experiment(client, mlruns):
    return client.create_experiment("mock", artifact_location=(mlruns / "artifacts/mock").as_uri())


@pytest.fixture
def add_run(client, experiment, tmp_path):
    """A run of that end and age, with an artifact."""

    def add(name, status="FINISHED", days=100, **tags):
        end = int(1e3 * time.time()) - days * DAY
        tags = {"photoz_version": "0.1"} | tags
        tags = {key: value for key, value in tags.items() if value is not None}
        run = client.create_run(experiment, start_time=end, run_name=name, tags=tags).info.run_id
        (tmp_path / "note.txt").write_text(name)
        client.log_artifact(run, tmp_path / "note.txt")
        client.set_terminated(run, status, end)
        return run

    return add


@pytest.fixture
def add_model(client, experiment, tmp_path):
    """A logged model of a run, with a file; registered if it is to be."""

    def add(run, *, registered):
        model = client.create_logged_model(experiment, "forest", run)
        (tmp_path / "weights").mkdir(exist_ok=True)
        (tmp_path / "weights" / "MLmodel").write_text("weights")
        client.log_model_artifacts(model.model_id, str(tmp_path / "weights"))
        client.finalize_logged_model(model.model_id, "READY")
        if registered:
            about = {"run_id": run, "family": "forest", "description": ""}
            register(client, "photoz-mock", model.model_id, **about)
        return model.model_id

    return add


def read(store, run, model):
    """What is read back of a run, of a logged model and of a registered version."""
    client = store.client()
    return [
        Path(client.download_artifacts(run, "note.txt")).read_text(),
        *(
            (Path(mlflow.artifacts.download_artifacts(uri)) / "MLmodel").read_text()
            for uri in (f"models:/{model}", "models:/photoz-mock/1")
        ),
    ]


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_store_reads_its_own_artifacts(
    mlruns, add_run, add_model, tmp_path, how
):
    run = add_run("forest", note=f"see {mlruns}/here")
    model = add_model(run, registered=True)
    elsewhere = tmp_path / "an other place" / "mlruns"
    how(mlruns, elsewhere)
    store = Store.find(str(elsewhere))

    found = find_moves(store.database)
    mend(store.database, found)

    written = "\n".join(sqlite3.connect(store.database).iterdump())
    assert {(move.table, move.column) for move in found} >= {
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "storage_location"),
    }
    assert read(store, run, model) == ["forest", "weights", "weights"]
    assert find_moves(store.database) == []
    assert (store.folder / "artifacts").as_uri() in written
    assert f"{mlruns.as_uri()}/artifacts" not in written
    # What a person wrote stays as it was.
    assert f"see {mlruns}/here" in written


def test_opening_a_moved_store_is_enough(mlruns, add_run, tmp_path):
    run = add_run("forest")
    shutil.move(mlruns, tmp_path / "moved")

    with Store.find(str(tmp_path / "moved")).opened() as client:
        assert Path(client.download_artifacts(run, "note.txt")).read_text() == "forest"


def test_a_store_that_stayed_or_is_seen_through_a_link_needs_no_doctor(mlruns, add_run, tmp_path):
    add_run("forest")
    (tmp_path / "link").symlink_to(mlruns)

    assert find_moves(mlruns / "mlflow.db") == []
    assert find_moves(tmp_path / "link" / "mlflow.db") == []


def test_doctor_says_what_it_would_do_and_what_it_did(
    mlruns, add_run, tmp_path, command, monkeypatch
):
    add_run("forest")
    (tmp_path / "project").mkdir()
    shutil.move(mlruns, tmp_path / "project" / "mlruns")
    monkeypatch.chdir(tmp_path / "project")

    status, shown, _ = command("doctor", "--dry-run")
    assert status == 0
    assert "would mend runs.artifact_uri: 1 places from file://" in shown
    assert command("doctor", "--dry-run")[1] == shown

    assert command("doctor")[1] == shown.replace("would mend", "mended")
    assert "lies where it should" in command("doctor")[1]


def test_doctor_needs_a_database(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    status, _, error = command("doctor")

    assert status == 2
    assert f"database of a store on this machine, found no {tmp_path}/mlruns/mlflow.db;" in error


def test_what_came_to_nothing_is_found_once_it_is_old(client, add_run):
    expected = {
        add_run("a", "FAILED"): "failed",
        (parent := add_run("b", "KILLED")): "killed",
        add_run("c", state="pruned"): "pruned",
        add_run("d", **{"mlflow.parentRunId": parent}): "trial",
    }
    add_run("new", "FAILED", days=10)
    add_run("good")
    add_run("of others, who may want to go on with it", "KILLED", photoz_version=None)

    found = find_old_runs(client, timedelta(days=30))

    assert {run.run_id: run.reason for run in found} == expected


def test_a_registered_model_and_its_run_stay(client, add_run, add_model):
    """Even where the run failed afterwards."""
    kept, gone = add_run("kept", "FAILED"), add_run("gone", "FAILED")
    add_model(kept, registered=True)
    model = add_model(gone, registered=False)

    (found,) = find_old_runs(client, timedelta(days=30))

    assert found.run_id == gone
    assert found.model_ids == (model,)
    assert {place.name for place in found.places} == {gone, model}


def test_clean_removes_nothing_before_it_is_told_to(client, add_run, add_model, command, mlruns):
    gone, kept = add_run("gone", "FAILED"), add_run("kept")
    add_model(gone, registered=False)
    n_files = len(list(mlruns.rglob("*.txt")) + list(mlruns.rglob("MLmodel")))

    status, shown, _ = command("clean")
    assert status == 0
    assert "would remove failed run gone of mock, " in shown
    assert "would remove 1 runs and 0 folders; --yes does it" in shown
    assert len(list(mlruns.rglob("*.txt")) + list(mlruns.rglob("MLmodel"))) == n_files == 3

    assert "\nremoved 1 runs and 0 folders\n" in command("clean", "--yes")[1]
    assert [path.read_text() for path in mlruns.rglob("*.txt")] == ["kept"]
    assert list(mlruns.rglob("MLmodel")) == []
    assert client.get_run(gone).info.lifecycle_stage == "deleted"
    assert client.get_run(kept).info.lifecycle_stage == "active"
    assert "would remove 0 runs and 0 folders\n" in command("clean")[1]


@pytest.mark.usefixtures("mlruns")
def test_folders_of_dead_processes_are_removed_once_they_are_old(command, tmp_path):
    results = tmp_path / "experiments" / "results"
    dead = results / f".sdss.v2.{platform.node()},999999999,1.partial"
    alive = results / f".sdss.{process_name(os.getpid()).replace(':', ',')}.partial"
    for folder in (dead, alive, results / "sdss"):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    assert abandoned_folders(results) == [dead]

    assert f"unfinished experiments/results/{dead.name}" in command("clean")[1]
    command("clean", "--yes")

    assert sorted(path.name for path in results.iterdir()) == [alive.name, "sdss"]


@pytest.mark.parametrize("age", ["", "30", "d", "3m", "-3d", "²d", "99999d"])
def test_an_age_that_is_none_is_refused(command, age):
    status, _, error = command("clean", f"--older-than={age}")

    assert status == 2
    assert "expected an age such as 30d, 12h or 2w, got " in error


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("host", False)],  # noqa: S104
)
def test_only_this_machine_reaches_a_local_address(host, local):
    assert is_local(host) is local


def test_pages_have_an_address_on_any_host():
    assert page_address(5000).startswith("http://127.0.0.1:5000/")
    assert page_address(5000, "::").startswith("http://[::]:5000/")


@pytest.mark.usefixtures("mlruns")
def test_a_server_for_others_is_warned_of(command, monkeypatch):
    asked = {}
    monkeypatch.setattr("photoz.tracking.serve", lambda port, host: asked.update({port: host}))

    _, _, warning = command("ui", "--host", "0.0.0.0", "--port", "7000")  # noqa: S104
    assert "MLflow asks for no password: whoever reaches 0.0.0.0:7000" in warning
    assert command("ui")[2] == ""
    assert asked == {7000: "0.0.0.0", 5000: "127.0.0.1"}  # noqa: S104


def test_the_held_out_metrics_of_each_experiment_have_an_address(
    client, experiment, command, monkeypatch
):
    monkeypatch.setattr("photoz.tracking.serve", lambda *_, **__: None)
    for key, value in page_tags("crps").items():
        client.set_experiment_tag(experiment, key, value)

    _, shown, _ = command("ui", "--port", "7000")

    page = f"http://127.0.0.1:7000/#/experiments/{experiment}/runs?viewStateShareKey=held-out"
    assert shown.splitlines()[1:] == [f"mock: {page}&workflowType=machine_learning"]


def test_a_store_that_cannot_be_mended_says_so(mlruns, add_run, tmp_path, monkeypatch):
    add_run("forest")
    shutil.move(mlruns, tmp_path / "moved")
    monkeypatch.setattr("photoz.tracking.store.mend", _locked)

    with (
        pytest.raises(InputError, match=r"cannot be used .*database is locked"),
        Store.find(str(tmp_path / "moved")).opened(),
    ):
        pass


def _locked(*_):
    import sqlalchemy

    raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception("database is locked"))
