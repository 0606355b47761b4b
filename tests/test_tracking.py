"""What MLflow is told is complete, can be found again, and holds no secret."""

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import mlflow
import pytest
from matplotlib.figure import Figure

import photoz
from photoz.bundle import save_model
from photoz.errors import InputError
from photoz.search import Trial
from photoz.tracking import Store, TrackedData, Tracking, fetch_bundle, serve

DATA = TrackedData(
    name="mock",
    source="postgresql://me:Pa55w0rd@host/galaxies",
    sha256="a" * 64,
    split_sha256="b" * 64,
    n_rows={"training": 300, "validation": 100, "test": 200},
    columns=["mag_g"],
)
METRICS = {"cde_loss": -9.5, "crps": 0.03}
INTERVALS = {"cde_loss": (-9.8, -9.2), "crps": (0.028, 0.032)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_store):
    """One store for all: MLflow takes seconds to make one."""
    folder = tmp_path_factory.mktemp("store") / "mlruns"
    folder.mkdir()
    shutil.copyfile(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def make(folder, request):
    own_name = "".join(letter for letter in request.node.name if letter.isalnum() or letter == "_")

    def make(name=own_name, *, mlruns=folder):
        return Tracking("", name, data=DATA, metric="crps", mlruns=mlruns)

    return make


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def client(folder):
    return mlflow.MlflowClient(Store.find("", folder).uri)


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("bundles") / "forest")


def runs_of(client, tracking, stage):
    return client.search_runs(
        [tracking.experiment_id], f"tags.stage = '{stage}'", order_by=["attributes.start_time"]
    )


def test_a_run_tells_where_its_figures_come_from(make, client):
    tracking = make()

    with tracking.run("forest") as tracked:
        tracked.log_parameters({"min_leaf": 5, "augment.noise_scale": 0.5})

    run = client.get_run(tracked.run_id)
    assert run.info.run_name == "forest"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"min_leaf": "5", "augment.noise_scale": "0.5"}
    told = {key: run.data.tags[key] for key in ("family", "stage", "dataset", "data_sha256")}
    assert told == {
        "family": "forest",
        "stage": "final",
        "dataset": "mock",
        "data_sha256": DATA.sha256,
    }
    assert run.data.tags["split_sha256"] == DATA.split_sha256
    assert run.data.tags["photoz_version"] == photoz.__version__


def test_the_parts_of_the_data_are_inputs_of_a_run(make, client):
    with make().run("forest") as tracked:
        pass

    inputs = client.get_run(tracked.run_id).inputs.dataset_inputs
    found = {item.tags[0].value: item.dataset for item in inputs}
    assert {part: json.loads(found[part].profile)["num_rows"] for part in found} == DATA.n_rows
    assert len({dataset.digest for dataset in found.values()}) == 3


def test_another_split_is_another_data_set():
    other = TrackedData(**{**vars(DATA), "split_sha256": "c" * 64})

    assert other.part("test").digest != DATA.part("test").digest


def test_metrics_are_grouped_by_what_they_are_of(make, client):
    with make().run("forest") as tracked:
        tracked.log_metrics("validation", {"crps": 0.04})
        tracked.log_metrics("test", METRICS, INTERVALS)
        tracked.log_metrics("time", {"fit_seconds": 2.5})

    metrics = client.get_run(tracked.run_id).data.metrics
    assert {key: metrics[key] for key in metrics if not key.startswith("system/")} == {
        "validation/crps": 0.04,
        "test/cde_loss": -9.5,
        "test/crps": 0.03,
        "test_interval/cde_loss_low": -9.8,
        "test_interval/cde_loss_high": -9.2,
        "test_interval/crps_low": 0.028,
        "test_interval/crps_high": 0.032,
        "time/fit_seconds": 2.5,
    }


def test_held_out_metrics_stand_on_top_of_the_page_of_a_run(make, client):
    with make().run("forest") as tracked:
        tracked.log_metrics("test", METRICS, INTERVALS)

    note = client.get_run(tracked.run_id).data.tags["mlflow.note.content"]
    assert note.startswith("200 held-out galaxies\n")
    assert "| cde_loss | -9.5 | -9.8 to -9.2 |" in note


def test_a_card_stands_on_the_page_of_the_run_and_beside_its_model(make, client, bundle):
    tracking = make()

    with tracking.run("forest") as tracked:
        tracked.log_metrics("test", METRICS)
        tracked.describe("# Card\n\nhttps://me:Pa55w0rd@host")
        version = tracked.log_model(bundle)

    card = "# Card\n\nhttps://***@host"
    run = client.get_run(tracked.run_id)
    assert run.data.tags["mlflow.note.content"] == card
    assert Path(client.download_artifacts(tracked.run_id, "model_card.md")).read_text() == card
    described = client.get_model_version(tracking.model_name, version).description
    assert described == f"cde_loss -9.5, crps 0.03\n\n{card}"


def test_a_curve_has_its_steps(make, client):
    with make().run("network") as tracked:
        tracked.log_curve("learning_curve/training", {10: 0.5, 20: 0.25})
        tracked.log_curve("learning_curve/validation", {})

    history = client.get_metric_history(tracked.run_id, "learning_curve/training")
    assert [(point.step, point.value) for point in history] == [(10, 0.5), (20, 0.25)]


def test_a_run_tells_the_load_of_the_machine(make, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with make().run("forest") as tracked:
        time.sleep(1)

    metrics = client.get_run(tracked.run_id).data.metrics
    assert metrics["system/process_peak_memory_megabytes"] > 50
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100
    assert "SystemMetricsMonitor" not in {thread.name for thread in threading.enumerate()}


def test_every_trial_is_a_run_below_its_estimator(make, client):
    tracking = make()
    trials = [
        Trial(0, "complete", {"min_leaf": 5}, 0.05, 2.0, tuned={"width": 0.01}),
        Trial(1, "failed", {"min_leaf": 9}, None, 0.5, error="ValueError: no"),
        Trial(2, "pruned", {"min_leaf": 7}, 0.09, 1.0),
        Trial(3, "complete", {"min_leaf": 6}, 0.06, 2.0),
    ]

    with tracking.run("forest") as tracked:
        for trial in trials:
            tracked.log_trial(trial)

    runs = sorted(runs_of(client, tracking, "trial"), key=lambda run: run.info.run_name)
    assert [run.info.run_name for run in runs] == [f"forest trial {k}" for k in range(4)]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {tracked.run_id}
    assert [run.data.tags["state"] for run in runs] == [trial.state for trial in trials]
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert [run.data.metrics.get("trials/crps") for run in runs] == [0.05, None, 0.09, 0.06]
    assert runs[0].data.params == {"min_leaf": "5", "tuned.width": "0.01"}
    assert runs[1].data.tags["error"] == "ValueError: no"
    assert runs[0].info.end_time - runs[0].info.start_time == 2000


def test_the_best_value_of_a_search_only_falls(make, client):
    with make().run("forest") as tracked:
        for number, value in enumerate([0.05, 0.07, 0.04]):
            tracked.log_trial(Trial(number, "complete", {}, value, 1.0))

    history = client.get_metric_history(tracked.run_id, "trials/best_crps")
    assert [(point.step, point.value) for point in history] == [(1, 0.05), (2, 0.05), (3, 0.04)]


def test_artifacts_of_every_kind_are_kept(make, client, tmp_path):
    figure = Figure(figsize=(1, 1))
    (tmp_path / "report.html").write_text("<p>report</p>")
    contents = {
        "plots/pit.png": figure,
        "evaluation.json": {"crps": 0.03},
        "note.txt": "see sqlite:///x and https://me:Pa55w0rd@host",
        "raw.bin": b"\x00\x01",
        "report.html": tmp_path / "report.html",
        "folder": tmp_path,
    }

    with make().run("forest") as tracked:
        tracked.log_artifacts(contents)

    place = Path(client.download_artifacts(tracked.run_id, ""))
    assert (place / "plots/pit.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((place / "evaluation.json").read_text()) == {"crps": 0.03}
    assert (place / "note.txt").read_text() == "see sqlite:///x and https://***@host"
    assert (place / "raw.bin").read_bytes() == b"\x00\x01"
    assert (place / "report.html").read_text() == "<p>report</p>"
    assert (place / "folder/report.html").exists()


def test_a_run_keeps_the_environment_that_made_it(make, client):
    with make().run("forest") as tracked:
        pass

    place = Path(client.download_artifacts(tracked.run_id, "environment"))
    machine = json.loads((place / "machine.json").read_text())
    assert machine["processors"] >= 1
    assert machine["memory_gb"] > 0
    constraints = (place / "constraints.txt").read_text().split()
    assert f"mlflow=={mlflow.__version__}" in constraints
    assert not [line for line in constraints if "+" in line]


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("bad value"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_that_did_not_end_well_says_so(make, client, error, status):
    tracking = make()

    with pytest.raises(type(error)), tracking.run("forest") as tracked:
        raise error

    run = client.get_run(tracked.run_id)
    assert run.info.status == status
    assert run.data.tags.get("error") == ("ValueError: bad value" if status == "FAILED" else None)


KILLED = """
import os, signal, sys
from pathlib import Path
from test_tracking import DATA
from photoz.tracking import Tracking

tracking = Tracking("", "killed", data=DATA, metric="crps", mlruns=Path(sys.argv[1]))
with tracking.run("forest"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_the_run_of_a_killed_process_is_ended_by_the_next(make, client, folder):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    (before,) = client.search_runs([client.get_experiment_by_name("killed").experiment_id])

    with make("killed").run("boosting") as alive:
        make("killed")

        assert client.get_run(alive.run_id).info.status == "RUNNING"
        assert before.info.status == "RUNNING"
        assert client.get_run(before.info.run_id).info.status == "KILLED"


def test_no_password_reaches_the_store(make, client, folder):
    error = "OperationalError: postgresql://me:Pa55w0rd@host"

    def fail(tracked):
        tracked.log_parameters({"storage": "postgresql://me:Pa55w0rd@host/optuna"})
        tracked.log_trial(Trial(0, "failed", {}, None, 1.0, error=error))
        tracked.log_artifacts({"settings.json": {"uri": "https://me:Pa55w0rd@host"}})
        raise RuntimeError(error)

    with pytest.raises(RuntimeError), make().run("forest") as tracked:
        fail(tracked)

    assert client.get_run(tracked.run_id).data.params["storage"] == "postgresql://***@host/optuna"
    written = "\n".join(sqlite3.connect(folder / "mlflow.db").iterdump())
    assert "Pa55w0rd" not in written
    assert (
        "secret"
        not in Path(client.download_artifacts(tracked.run_id, "settings.json")).read_text()
    )


def test_the_page_of_an_experiment_offers_its_held_out_metrics(make, client):
    tracking = make()

    with tracking.run("forest") as tracked:
        tracked.log_metrics("test", METRICS)
        tracked.log_trial(Trial(0, "complete", {}, 0.05, 1.0))

    tags = client.get_experiment(tracking.experiment_id).tags
    state = json.loads(json.loads(tags["mlflow.sharedViewState.held-out"])["state"])
    shown = client.search_runs(
        [tracking.experiment_id],
        state["searchFilter"],
        order_by=[f"{state['orderByKey']} ASC"],
    )
    assert [run.info.run_id for run in shown] == [tracked.run_id]
    assert {f"metrics.`test/{name}`" for name in METRICS} <= set(state["selectedColumns"])


def test_a_logged_bundle_is_the_newest_version_and_the_champion(make, client, bundle):
    tracking = make()

    with tracking.run("forest") as tracked:
        tracked.log_metrics("test", METRICS, INTERVALS)
        first = tracked.log_model(bundle)
    with tracking.run("boosting") as tracked:
        second = tracked.log_model(bundle)
    tracking.promote(first)

    name = tracking.model_name
    assert (first, second) == ("1", "2")
    assert str(client.get_model_version_by_alias(name, "champion").version) == first
    assert str(client.get_model_version_by_alias(name, "boosting").version) == second
    assert "cde_loss -9.5" in client.get_model_version(name, first).description
    assert fetch_bundle(f"models:/{name}@champion", store=tracking_store(tracking)).is_dir()


def tracking_store(tracking):
    return Store.find("", tracking.folder)


def test_metrics_belong_to_the_logged_model_and_its_data(make, client, bundle):
    tracking = make()

    with tracking.run("forest") as tracked:
        tracked.log_metrics("test", METRICS)
        tracked.log_metrics("time", {"fit_seconds": 1.0})
        tracked.log_model(bundle)

    (logged,) = client.search_logged_models([tracking.experiment_id])
    linked = {metric.key: (metric.value, metric.dataset_name) for metric in logged.metrics}
    assert logged.status == "READY"
    assert linked == {f"test/{key}": (value, "mock test") for key, value in METRICS.items()}
    assert [metric.value for metric in client.get_metric_history(tracked.run_id, "test/crps")] == [
        0.03
    ]


def test_a_bundle_that_cannot_be_logged_leaves_no_model_that_seems_ready(
    make, client, bundle, monkeypatch
):
    tracking = make()
    monkeypatch.setattr(mlflow.pyfunc, "save_model", lambda *_, **__: 1 / 0)

    with pytest.raises(ZeroDivisionError), tracking.run("forest") as tracked:
        tracked.log_model(bundle)

    (logged,) = client.search_logged_models([tracking.experiment_id])
    assert logged.status == "FAILED"


def test_fetched_bundle_is_the_logged_one(make, client, bundle):
    tracking = make()
    with tracking.run("forest") as tracked:
        version = tracked.log_model(bundle)
    (logged,) = client.get_run(tracked.run_id).outputs.model_outputs

    for model in (
        f"{tracking.model_name}/{version}",
        f"{tracking.model_name}@forest",
        logged.model_id,
    ):
        fetched = fetch_bundle(f"models:/{model}", store=tracking_store(tracking))

        manifest = json.loads((fetched / "manifest.json").read_text())
        assert manifest == json.loads((bundle / "manifest.json").read_text())


def test_a_model_that_is_not_there_is_named_beside_those_that_are(make, bundle):
    tracking = make()
    with tracking.run("forest") as tracked:
        tracked.log_model(bundle)

    with pytest.raises(InputError, match=f"models:/absent@champion .* {tracking.model_name}"):
        fetch_bundle("models:/absent@champion", store=tracking_store(tracking))


def test_a_model_is_not_looked_for_where_no_store_is(tmp_path):
    with pytest.raises(InputError, match=r"expected an MLflow store, found no .*mlflow\.db"):
        fetch_bundle("models:/photoz-sdss@champion", store=Store.find("", tmp_path))

    assert not list(tmp_path.iterdir())


def test_a_store_that_fails_as_an_experiment_begins_is_one_line(make, monkeypatch):
    def fail(*_, **__):
        raise mlflow.exceptions.MlflowException("locked")

    monkeypatch.setattr(mlflow.MlflowClient, "set_experiment_tag", fail)

    with pytest.raises(InputError, match=r"the MLflow store .* cannot be used .*locked"):
        make()


def test_experiments_of_one_name_share_a_page(make):
    assert make("same").experiment_id == make("same").experiment_id
    assert make("other").experiment_id != make("same").experiment_id


def test_a_deleted_experiment_comes_back(make, client):
    first = make().experiment_id
    client.delete_experiment(first)

    assert make().experiment_id == first


def test_a_store_that_was_moved_goes_on(make, folder, tmp_path):
    name = "moved"
    first = make(name)
    moved = tmp_path / "elsewhere" / "mlruns"
    moved.mkdir(parents=True)
    with sqlite3.connect(folder / "mlflow.db") as source:
        source.execute(f"VACUUM INTO '{moved / 'mlflow.db'}'")

    second = make(name, mlruns=moved)
    third = make(name, mlruns=moved)

    # The earlier runs stay, under a name that says where their artifacts lay.
    there = mlflow.MlflowClient(Store.find("", moved).uri)
    assert second.experiment_id == third.experiment_id != first.experiment_id
    assert there.get_experiment(first.experiment_id).name.startswith("moved @ file://")
    with second.run("forest") as tracked:
        tracked.log_artifacts({"note.txt": "here"})
    assert len(list(moved.rglob("note.txt"))) == 1


@pytest.mark.parametrize("name", ["a%20b", "50%", "what?", "a#b"])
def test_a_store_is_in_its_folder_whatever_signs_the_name_has(make, empty_store, tmp_path, name):
    mlruns = tmp_path / name
    mlruns.mkdir()
    shutil.copyfile(empty_store, mlruns / "mlflow.db")
    tracking = make("signs", mlruns=mlruns)
    with tracking.run("forest") as tracked:
        tracked.log_artifacts({"note.txt": "here"})
    store = Store.find("", mlruns)
    with store.opened() as client:
        (run,) = client.search_runs([tracking.experiment_id], "attributes.run_name = 'forest'")
        note = Path(client.download_artifacts(run.info.run_id, "note.txt"))

    assert store.database == mlruns / "mlflow.db"
    assert Store.find(store.uri) == store
    assert note.read_text() == "here"
    assert len(list(mlruns.rglob("note.txt"))) == 1
    assert [file.parent for file in tmp_path.rglob("*.db")] == [mlruns]


@pytest.mark.parametrize(
    ("uri", "expected", "folder"),
    [
        ("", "sqlite:///{cwd}/mlruns/mlflow.db", "{cwd}/mlruns"),
        ("runs", "sqlite:///{cwd}/runs/mlflow.db", "{cwd}/runs"),
        ("sqlite:///a/b.db", "sqlite:///{cwd}/a/b.db", "{cwd}/a"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db", "/a"),
        ("sqlite:////a%25/b.db?timeout=9", "sqlite:////a%25/b.db?timeout=9", "/a%"),
        ("ä b#c", "sqlite:///{cwd}/ä b#c/mlflow.db", "{cwd}/ä b#c"),
        ("https://host:5000", "https://host:5000", "{cwd}/mlruns"),
        ("postgresql://host/db", "postgresql://host/db", "{cwd}/mlruns"),
    ],
)
def test_a_store_does_not_depend_on_the_working_directory_later(uri, expected, folder):
    found = Store.find(uri)

    assert found.uri == expected.format(cwd=Path.cwd())
    assert found.folder == Path(folder.format(cwd=Path.cwd()))


def test_the_store_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host:5000")

    assert Store.find().uri == "https://host:5000"
    assert Store.find("sqlite:////a.db").uri == "sqlite:////a.db"


def test_a_file_store_is_refused():
    with pytest.raises(InputError, match="file store, which MLflow no longer writes; give a fol"):
        Store.find("file:mlruns")


@pytest.mark.parametrize(
    "uri",
    ["http://me:Pa55w0rd@127.0.0.1:1", "nosuch://me:Pa55w0rd@host/db", "sqlite:////proc/x.db"],
)
def test_a_store_that_cannot_be_used_is_named_without_its_password(uri, tmp_path):
    with pytest.raises(InputError, match=r"MLflow store .* cannot be used") as caught:
        Tracking(uri, "sdss", data=DATA, metric="crps", mlruns=tmp_path)

    assert "Pa55w0rd" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pages_are_not_served_on_a_port_that_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be used"):
            serve(port, store=Store.find("", tmp_path))


SERVER = """
import sys
from photoz.tracking import Store, serve

serve(int(sys.argv[1]), store=Store.find(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_server_shows_the_runs_and_ends_with_its_process(make, folder):
    with make("served").run("forest"):
        pass
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        names = ask_for_experiments(port)
    finally:
        server.terminate()
        server.wait(timeout=60)

    assert "served" in names
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))  # no worker of it is left


def ask_for_experiments(port):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1000}',
        headers={"Content-Type": "application/json"},
    )
    for _ in range(120):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return {item["name"] for item in json.load(answer)["experiments"]}
        except OSError:
            time.sleep(1)
    pytest.fail("the server did not answer within two minutes")


def test_the_pages_of_a_server_are_its_own():
    with pytest.raises(InputError, match=r"on a server already: open https://host:5000\."):
        serve(5000, store=Store.find("https://host:5000"))


def test_a_store_is_not_left_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    Store.find(str(tmp_path / "one")).client()

    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert Store.find(mlruns=tmp_path / "two").folder == tmp_path / "two"


def test_a_store_is_used_where_its_file_system_knows_no_locks(empty_store, monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setattr("photoz.tracking.store.fcntl.flock", refuse)

    assert Store.find("", tmp_path).experiment("a").name == "a"


@pytest.mark.slow
def test_processes_that_make_a_store_at_once_wait_for_each_other(tmp_path):
    """MLflow itself would make the same tables twice, and fail in one of them."""
    code = (
        "import sys; from photoz.tracking import Store; print('ready', flush=True); input(); "
        "print(Store.find('mlruns').experiment(sys.argv[1]).name)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, name],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two", "three")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()

    told = [process.communicate() for process in processes]

    names = [out.strip() for out, _ in told]
    assert names == ["one", "two", "three"], "\n".join(error[-500:] for _, error in told)
