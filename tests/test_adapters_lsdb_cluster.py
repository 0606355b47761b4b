"""A million galaxies on a Dask cluster of two workers, one of which is killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import lsdb
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dask.distributed import LocalCluster
from numpy.testing import assert_allclose, assert_array_equal

from photoz.augment import Augmentation
from photoz.bundle import save_model
from photoz.estimators.forest import ForestPhotoz
from photoz.features import PhotometricFeatures
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.scoring import score_catalogue
from photoz.survey import load_survey

pytestmark = [
    pytest.mark.slow,
    # LSDB 0.11 uses what pandas 4 will drop.
    pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"),
]

N_GALAXIES = 1_000_000
N_FEW = 100_000
PATIENCE = 600  # seconds; half a minute where nothing else runs


@pytest.fixture(scope="module")
def columns():
    return make_mock_catalogue(N_GALAXIES, random_state=5).to_columns()


@pytest.fixture(scope="module")
def coarse(mock):
    """A model of few trees on a coarse grid: the cluster is under test, not the forest."""
    estimator = ForestPhotoz(n_trees=3, z_max=4.0, n_z=41, random_state=0)
    model = PhotozModel(load_survey("lsst"), PhotometricFeatures(), Augmentation(0), estimator)
    return model.fit(mock.photometry, mock.z_spec)


@pytest.fixture(scope="module")
def bundle(coarse, tmp_path_factory):
    return save_model(coarse, tmp_path_factory.mktemp("bundles") / "forest.zip")


def write_hats(frame, path):
    catalog = lsdb.from_dataframe(
        frame, ra_column="ra", dec_column="dec", catalog_name="mock", partition_rows=60_000,
        margin_threshold=None,
    )  # fmt: skip
    catalog.write_catalog(path, catalog_name="mock", progress_bar=False)
    return path


@pytest.fixture(scope="module")
def hats(columns, tmp_path_factory):
    return write_hats(pd.DataFrame(columns), tmp_path_factory.mktemp("hats") / "mock")


def n_written(out):
    return len(list(out.parent.glob(f".{out.name}.partial/*/done/*")))


def kill_a_worker(parent):
    """End one of the two workers without warning, as an operating system out of memory does."""
    workers = [
        child
        for child in psutil.Process(parent.pid).children(recursive=True)
        if any("spawn_main" in word for word in child.cmdline())
    ]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def wanted(coarse, columns, tmp_path_factory):
    """What one process gives."""
    folder = tmp_path_factory.mktemp("one")
    pq.write_table(pa.table(columns), folder / "mock.parquet")
    score_catalogue(coarse, folder / "mock.parquet", folder / "one.parquet", pdf="none")
    return pq.read_table(folder / "one.parquet").to_pandas()


def start(*arguments):
    """Start ``photoz predict`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "photoz", "predict", "--pdf", "none", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(out, wanted):
    """Every galaxy is there once, with what one process gives it."""
    found = lsdb.open_catalog(out).compute(progress_bar=False).sort_values("object_id")
    assert_array_equal(found["object_id"].to_numpy(dtype=np.int64), wanted["object_id"])
    for name in wanted.columns.drop("object_id"):
        values = found[name].to_numpy(dtype=np.float64)
        assert_allclose(values, wanted[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_every_galaxy_comes_once_though_a_worker_dies(bundle, hats, wanted, tmp_path):
    out = tmp_path / "out"
    run = start(bundle, hats, "-o", out, "--workers", "2", "--json")
    try:
        limit = time.monotonic() + PATIENCE
        while n_written(out) < 4 and run.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        kill_a_worker(run)
        printed, complaints = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()

    assert run.returncode == 0, complaints
    assert "worker" in complaints  # the death was noticed
    assert json.loads(printed)["galaxies"] == N_GALAXIES
    check(out, wanted)


def test_a_cluster_that_runs_elsewhere_gives_the_same(bundle, columns, wanted, tmp_path):
    few, out = pd.DataFrame(columns)[:N_FEW], tmp_path / "out"
    hats = write_hats(few, tmp_path / "mock")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        run = start(bundle, hats, "-o", out, "--scheduler", cluster.scheduler_address)
        printed, complaints = run.communicate(timeout=PATIENCE)

    assert run.returncode == 0, complaints
    assert printed.startswith(f"{out}: {N_FEW} galaxies")
    check(out, wanted[wanted["object_id"].isin(few["object_id"])])
