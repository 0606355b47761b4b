"""A million galaxies on a Dask cluster of two workers, one of which is killed on the way."""

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
PATIENCE = 600  # seconds; half a minute where nothing else runs

SCORE = """
import sys
from pathlib import Path
from photoz.adapters.lsdb import score_hats

if __name__ == "__main__":
    bundle, catalogue, out = map(Path, sys.argv[1:])
    print(score_hats(bundle, catalogue, out, pdf="none", workers=2)["galaxies"])
"""


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
def hats(columns, tmp_path_factory):
    path = tmp_path_factory.mktemp("hats") / "mock"
    catalog = lsdb.from_dataframe(
        pd.DataFrame(columns), ra_column="ra", dec_column="dec", catalog_name="mock",
        partition_rows=60_000, margin_threshold=None,
    )  # fmt: skip
    catalog.write_catalog(path, catalog_name="mock", progress_bar=False)
    return path


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


def test_every_galaxy_comes_once_though_a_worker_dies(coarse, columns, hats, tmp_path):
    bundle, out = save_model(coarse, tmp_path / "bundle.zip"), tmp_path / "out"
    script = tmp_path / "score.py"
    script.write_text(SCORE)
    run = subprocess.Popen(
        [sys.executable, str(script), str(bundle), str(hats), str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
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
    assert int(printed) == N_GALAXIES
    pq.write_table(pa.table(columns), tmp_path / "mock.parquet")
    score_catalogue(coarse, [tmp_path / "mock.parquet"], tmp_path / "one.parquet", pdf="none")
    wanted = pq.read_table(tmp_path / "one.parquet").to_pandas()
    found = lsdb.open_catalog(out).compute(progress_bar=False).sort_values("object_id")
    assert_array_equal(found["object_id"].to_numpy(dtype=np.int64), wanted["object_id"])
    for name in wanted.columns.drop("object_id"):
        values = found[name].to_numpy(dtype=np.float64)
        assert_allclose(values, wanted[name], rtol=1e-5, atol=1e-5, err_msg=name)
