"""A forest or a booster predicts where neither torch nor MLflow nor Optuna is installed."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from photoz.augment import Augmentation
from photoz.bundle import save_model
from photoz.estimators.boosting import BoostingPhotoz
from photoz.features import PhotometricFeatures
from photoz.model import PhotozModel
from photoz.survey import load_survey

REPOSITORY = Path(__file__).parents[1]

EXTRAS = (
    *("torch", "optuna", "mlflow", "sqlalchemy", "matplotlib", "jinja2"),
    *("qp", "rail", "ceci", "lsdb", "dask", "pyspark"),
)

BLOCKED = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def bundles(model, mock, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    estimator = BoostingPhotoz(n_rounds=5, z_max=4.0, n_z=201, random_state=0)
    boosting = PhotozModel(load_survey("lsst"), PhotometricFeatures(), Augmentation(0), estimator)
    boosting.fit(mock.photometry[:300], mock.z_spec[:300])
    return {
        "forest": save_model(model, folder / "forest.zip"),
        "boosting": save_model(boosting, folder / "boosting.zip"),
    }


def predict(python, before, bundle, catalogue, out, **environment):
    """Run ``photoz predict`` in a fresh process."""
    command = ["photoz", "predict", str(bundle), str(catalogue), "-o", str(out), "--json"]
    code = f"{before}\nimport sys; sys.argv = {command!r}\nfrom photoz.cli import main; main()"
    done = subprocess.run(
        [python, "-c", code],
        env={**os.environ, **environment},
        cwd=out.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), pq.read_table(out)


@pytest.mark.parametrize("family", ["forest", "boosting"])
def test_prediction_needs_no_extra(family, bundles, catalogue_file, tmp_path):
    path = os.pathsep.join(sys.path)
    counts, table = predict(
        sys.executable, BLOCKED, bundles[family], catalogue_file, tmp_path / "out.parquet",
        PYTHONPATH=path,
    )  # fmt: skip

    assert counts["galaxies"] == len(table)
    assert np.isfinite(table["photoz_z_median"].to_numpy()).all()


def test_base_and_extras_are_apart():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = {item.partition(">")[0].lower() for item in project["dependencies"]}

    assert not base & {"torch", "optuna", "mlflow", "matplotlib", "jinja2", "qp-prob", "lsdb"}
    assert {"network", "search", "track", "report", "qp", "lsdb", "rail", "spark"} <= set(
        project["optional-dependencies"]
    )


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_predicts(bundles, catalogue_file, tmp_path):
    """What ``pip install photoz`` brings is enough, and brings none of the extras."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-c", str(REPOSITORY / "constraints.txt"), str(REPOSITORY)],
        check=True,
    )  # fmt: skip
    installed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.lower()

    for family, bundle in bundles.items():
        _, table = predict(
            python, "", bundle, catalogue_file, tmp_path / f"{family}.parquet", PYTHONPATH=""
        )
        assert np.isfinite(table["photoz_z_median"].to_numpy()).all()
    assert not [name for name in EXTRAS if f"\n{name}==" in installed]
