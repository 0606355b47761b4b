"""What a person sees of the runs in a browser, page by page."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from html.parser import HTMLParser
from time import sleep
from urllib.parse import quote

import pytest

from photoz.bundle import save_model
from photoz.search import Trial
from photoz.tracking import Store, TrackedData, Tracking

pytestmark = [pytest.mark.slow, pytest.mark.browser]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DATA = TrackedData(
    "mock", "mock.parquet", "a" * 64, "b" * 64, {"training": 9, "validation": 9, "test": 9}
)
METRICS = {"forest": {"cde_loss": -9.125, "crps": 0.0325}, "network": {"cde_loss": -9.875}}
SERVER = """
import sys
from photoz.tracking import Store, serve

serve(int(sys.argv[1]), store=Store.find(sys.argv[2]))
"""


class Words(HTMLParser):
    """The text of a page, and the texts that its elements show when they are pointed at."""

    def __init__(self, source):
        super().__init__()
        self.found = []
        self.feed(source)
        self.text = " ".join(" ".join(self.found).split())

    def handle_data(self, data):
        self.found.append(data)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, model):
    """A store with a run of two families, trials below them, and a champion."""
    folder = tmp_path_factory.mktemp("pages") / "mlruns"
    bundle = save_model(model, folder.parent / "bundle")
    tracking = Tracking("", "mock", data=DATA, metric="cde_loss", mlruns=folder)
    ids = {}
    for family, metrics in METRICS.items():
        with tracking.run(family) as tracked:
            for number in range(2):
                tracked.log_trial(Trial(number, "complete", {"size": number}, -9.0, 1.0))
            tracked.log_parameters({"size": 1})
            tracked.log_metrics("test", metrics)
            tracked.describe(f"# mock: {family}\n\n## Intended use\n\nGalaxies alone.")
            version = tracked.log_model(bundle)
        ids[family] = tracked.run_id
    tracking.promote(version)
    return folder, tracking.experiment_id, ids


@pytest.fixture(scope="module")
def site(runs):
    """Address of MLflow's pages on that store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(runs[0])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/#"
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture
def see(site, tmp_path):
    """Text of a page, once it has been drawn by Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")

    def see(page):
        command = [
            CHROMIUM,
            "--headless=new",
            # Root, as in a container, has no sandbox.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1800,1500",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=60000",
            "--dump-dom",
            f"{site}{page}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        return Words(done.stdout).text

    return see


def _wait_for(address):
    for _ in range(240):
        try:
            with urllib.request.urlopen(address, timeout=30):  # noqa: S310
                return
        except OSError:
            sleep(1)
    pytest.fail(f"{address} did not answer within four minutes")


def test_the_experiment_shows_final_runs_with_their_held_out_metrics(runs, see):
    text = see(f"/experiments/{runs[1]}/runs?viewStateShareKey=held-out")

    assert "forest" in text
    assert "network" in text
    assert "-9.875" in text
    assert "cde_loss" in text
    assert "trial 0" not in text
    assert "2 matching runs" in text


def test_the_charts_begin_with_the_held_out_metrics(runs, see):
    text = see(
        f"/experiments/{runs[1]}/runs?viewStateShareKey=held-out&compareRunsMode=CHART"
        "&workflowType=machine_learning"
    )

    charts = text[text.index("Add chart") :]
    assert charts.index("test/cde_loss") < charts.index("test/crps")
    assert charts.index("test/crps") < charts.index("trials")


def test_families_are_compared_side_by_side(runs, see):
    _, experiment, ids = runs
    wanted = quote(json.dumps(list(ids.values())))
    text = see(f"/compare-runs?runs={wanted}&experiments={quote(json.dumps([experiment]))}")

    assert "Comparing 2 Runs" in text
    assert "forest" in text
    assert "network" in text
    assert "-9.125" in text
    assert "-9.875" in text


def test_the_champion_shows_its_card_and_its_metrics(runs, see):
    registered = Store.find("", runs[0]).client().get_registered_model("photoz-mock")
    version = registered.aliases["champion"]

    listed = see("/models/photoz-mock")
    text = see(f"/models/photoz-mock/versions/{version}")

    assert "champion" in listed
    assert "champion" in text
    assert "the first one" in text
    assert "Intended use" in text
    assert "Galaxies alone." in text
