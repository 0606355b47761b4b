"""Models predict where neither torch nor MLflow nor Optuna is installed."""

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
from photoz.estimators.network import NetworkPhotoz
from photoz.features import PhotometricFeatures
from photoz.model import PhotozModel
from photoz.survey import load_survey

REPOSITORY = Path(__file__).parents[1]

EXTRAS = (
    *("torch", "optuna", "mlflow", "sqlalchemy", "matplotlib", "jinja2", "qp", "qp-prob"),
    *("rail", "pz-rail-base", "ceci", "lsdb", "hats", "dask", "pyspark"),
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
    grid = {"z_max": 4.0, "n_z": 201, "random_state": 0}

    def fit(estimator):
        parts = PhotometricFeatures(), Augmentation(0), estimator
        return PhotozModel(load_survey("lsst"), *parts).fit(
            mock.photometry[:300], mock.z_spec[:300]
        )

    models = {
        "forest": model,
        "boosting": fit(BoostingPhotoz(n_rounds=5, **grid)),
        "network": fit(NetworkPhotoz(updates=50, width=16, members=2, **grid)),
    }
    return {name: save_model(one, folder / f"{name}.zip") for name, one in models.items()}


IMPORTS = """
from photoz.bundle import load_model
from photoz.scoring import score_catalogue
"""
PREDICT = f"""
import json, sys
{IMPORTS}
for bundle, out in json.loads(sys.argv[2]).items():
    score_catalogue(load_model(bundle, verify=True), sys.argv[1], out)
"""


def predict(python, before, bundles, catalogue, folder, **environment):
    """Tables by family, of predictions with each bundle in one fresh process."""
    outs = {family: folder / f"{family}.parquet" for family in bundles}
    pairs = {str(bundles[family]): str(out) for family, out in outs.items()}
    done = subprocess.run(
        [python, "-c", before + PREDICT, str(catalogue), json.dumps(pairs)],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {family: pq.read_table(out) for family, out in outs.items()}


def check(tables, n_galaxies):
    for table in tables.values():
        assert len(table) == n_galaxies
        assert np.isfinite(table["photoz_z_median"].to_numpy()).all()


def test_prediction_needs_no_extra(bundles, mock, catalogue_file, tmp_path):
    tables = predict(
        sys.executable, BLOCKED, bundles, catalogue_file, tmp_path,
        PYTHONPATH=os.pathsep.join(sys.path),
    )  # fmt: skip

    check(tables, len(mock))


def test_base_and_extras_are_apart():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = {item.partition(">")[0].lower() for item in project["dependencies"]}

    assert not base & {"torch", "optuna", "mlflow", "matplotlib", "jinja2", "qp-prob", "lsdb"}
    assert {"network", "search", "track", "report", "qp", "lsdb", "rail", "spark"} <= set(
        project["optional-dependencies"]
    )


@pytest.mark.slow
def test_a_fresh_environment_with_the_base_predicts(
    bundles, mock, wheel, catalogue_file, tmp_path
):
    """What the wheel brings along is enough, and brings no extra."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    # -I: a checkout in the working directory is no package that is already installed.
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check"]
    constraints = str(REPOSITORY / "constraints.txt")
    subprocess.run([*pip, "install", "--quiet", "-c", constraints, str(wheel)], check=True)
    listed = subprocess.run(
        [*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True
    )

    tables = predict(python, "", bundles, catalogue_file, tmp_path, PYTHONPATH="")
    check(tables, len(mock))
    installed = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    assert not installed & set(EXTRAS)
