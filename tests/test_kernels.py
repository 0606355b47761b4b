"""Compiled prediction: the same as the reference, whatever else is predicted along with it."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, Pool
from photoz.calibration import Calibration
from photoz.conformal import ConformalMap
from photoz.estimators import get_estimator
from photoz.estimators.network import NetworkPhotoz
from photoz.features import PhotometricFeatures
from photoz.kernels import compile_model
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.photometry import State
from photoz.pit_map import PitMap
from photoz.prediction import QUANTILE_LEVELS, prediction_columns
from photoz.scoring import score_catalogue
from photoz.summaries import summarise
from photoz.survey import load_survey
from photoz.temperature import Temperature

pytest.importorskip("numba")

LEVELS = sorted({*QUANTILE_LEVELS, 0.5})

PARAMETERS = {
    "network": {"members": 2, "width": 37, "layers": 2, "updates": 200},
    "boosting": {"n_rounds": 15, "members": 2},
    "forest": {"n_trees": 10},
    "knn": {},
}

TEMPERED = Temperature((0.1, 0.2, -0.3), (0, 1), (25.0, 24.0), (0.0, -1.0), (1.0, 0.5))
WIDENED = Temperature((-0.6, 0.2, 0.3), (0, 1), (25.0, 24.0), (0.0, -1.0), (1.0, 0.5))
MAPPED = PitMap((0.2, -0.2, -0.1, 0.05))
CONFORMAL = ConformalMap.fit(np.random.default_rng(0).beta(0.6, 1.3, 300))

CALIBRATIONS = {
    "none": None,
    "sharper": Calibration(TEMPERED, MAPPED),
    "wider": Calibration(WIDENED, None),
    "shorter map": Calibration(None, PitMap((0.3, 0.1))),
    "conformal": Calibration(conformal=CONFORMAL),
    "all steps": Calibration(TEMPERED, MAPPED, conformal=CONFORMAL),
}


@pytest.fixture(scope="module")
def mock():
    """Galaxies of which some were not observed, and some not detected, in some bands."""
    mock = make_mock_catalogue(1500, random_state=3)
    state, flux, error = (
        part.copy()
        for part in (mock.photometry.state, mock.photometry.flux, mock.photometry.flux_error)
    )
    hidden = np.random.default_rng(0).random(flux.shape) < 0.05
    hidden[:, 3] = False
    state[hidden], flux[hidden], error[hidden] = State.NOT_OBSERVED, np.nan, np.nan
    return replace(
        mock, photometry=replace(mock.photometry, state=state, flux=flux, flux_error=error)
    )


@pytest.fixture(scope="module", params=PARAMETERS)
def model(request, mock):
    estimator = get_estimator(request.param)(
        z_max=4.0, n_z=401, random_state=0, **PARAMETERS[request.param]
    )
    unfitted = PhotozModel(load_survey("lsst"), PhotometricFeatures(), Augmentation(), estimator)
    return unfitted.fit(mock.photometry[:800], mock.z_spec[:800])


@pytest.fixture(scope="module")
def photometry(mock):
    return mock.photometry[800:]


def calibrated(model, calibration):
    new = PhotozModel(model.survey, model.features, model.augment, model.estimator, calibration)
    return new.restore(model.learned())


@pytest.fixture(scope="module")
def members(mock):
    def fitted(family, seed):
        estimator = get_estimator(family)(
            z_max=4.0, n_z=401, random_state=seed, **PARAMETERS[family]
        )
        features = PhotometricFeatures(errors=family == "boosting")
        model = PhotozModel(load_survey("lsst"), features, Augmentation(), estimator)
        return model.fit(mock.photometry[:400], mock.z_spec[:400])

    return {name: fitted(name, 1) for name in ("boosting", "forest", "knn")}


@pytest.mark.parametrize("calibration", CALIBRATIONS.values(), ids=CALIBRATIONS.keys())
def test_compiled_summaries_are_those_of_the_reference(model, photometry, calibration):
    # The slope of a conformal map jumps where F reaches its positions, to the last digit of F.
    jumps = calibration is not None and calibration.conformal is not None
    is_network = isinstance(model.estimator, NetworkPhotoz)
    tolerance = 3e-5 if jumps else 2e-5 if is_network else 1e-5
    check_summaries(calibrated(model, calibration), photometry, tolerance)


@pytest.mark.parametrize(
    "pool",
    [
        Pool("log", (0.6, 0.5, 0.0), 3e-4),
        Pool("log", (1.5, 0.0, 0.6), 3e-4, tilt=0.5),
        Pool("log", (0.0, 0.8, 0.0), 3e-4),
        Pool("linear", (0.0, 0.4, 0.6)),
        Pool("linear", (1.0, 0.0, 0.0)),
    ],
)
def test_compiled_blends_are_those_of_the_reference(members, photometry, pool):
    # Weights of sum 2 sharpen what single precision left out.
    check_summaries(PhotozBlend(members, pool, CALIBRATIONS["sharper"]), photometry, 5e-5)


@pytest.mark.parametrize(
    "pool",
    [
        Pool("log", (0.6, 0.5, 0.0), 3e-4, tilt=-40.0),
        Pool("log", (0.6, 0.5, 0.0), 3e-4, tilt=40.0),
        Pool("log", (0.0, 0.0, 0.0), 3e-4, tilt=-0.5),
    ],
)
def test_compiled_blends_survive_pools_beyond_reason(members, photometry, pool):
    """2^x of single precision ends at 2^128, and exp(40 * 4) is 2^231."""
    blend = PhotozBlend(members, pool)
    expected = blend.predict_pdf(photometry).density
    found = compile_model(blend).summaries(photometry, LEVELS, with_density=True).density

    assert_allclose(found, expected, atol=1e-4 * expected.max())


def check_summaries(model, photometry, tolerance):
    pz = model.predict_pdf(photometry)
    expected = summarise(pz, LEVELS, with_density=True)
    found = compile_model(model).summaries(photometry, LEVELS, with_density=True)
    peak = expected.density.max(axis=1, keepdims=True)

    assert (np.abs(found.density - expected.density) / peak).max() < tolerance
    for key in ("mode", "mean", "std", "odds", "beyond"):
        limit = max(5e-5, 2 * tolerance)
        assert_allclose(getattr(found, key), getattr(expected, key), atol=limit, err_msg=key)
    # Between two peaks a quantile may lie anywhere: the probability below it may not.
    for level, z in zip(LEVELS, found.quantiles.T, strict=True):
        assert_allclose(pz.cdf(z), level, atol=2 * tolerance, err_msg=str(level))
    assert_array_equal(found.n_peaks, expected.n_peaks)


def test_compiled_columns_and_flags_are_those_of_the_reference(model, photometry):
    expected = prediction_columns(model, photometry, pdf="quantiles")
    found = prediction_columns(model, photometry, pdf="quantiles", compiled=compile_model(model))

    assert list(found) == list(expected)
    assert_array_equal(found["photoz_flag"], expected["photoz_flag"])
    assert {name: column.dtype for name, column in found.items()} == {
        name: column.dtype for name, column in expected.items()
    }


def test_compiled_densities_do_not_depend_on_other_galaxies(model, photometry):
    compiled = compile_model(calibrated(model, CALIBRATIONS["sharper"]))
    whole = compiled.summaries(photometry, LEVELS, with_density=True)
    order = np.random.default_rng(0).permutation(len(photometry))
    shuffled = compiled.summaries(photometry[order], LEVELS, with_density=True)
    few = compiled.summaries(photometry[7:10], LEVELS, with_density=True)
    peak = whole.density.max(axis=1, keepdims=True)

    assert (np.abs(shuffled.density - whole.density[order]) / peak[order]).max() < 1e-5
    assert_array_equal(few.n_peaks, whole.n_peaks[7:10])
    assert (np.abs(few.density - whole.density[7:10]) / peak[7:10]).max() < 1e-5


def test_no_galaxies_are_a_valid_input(model, photometry):
    found = compile_model(model).summaries(photometry[:0], LEVELS, with_density=True)

    assert found.density.shape == (0, 401)
    assert found.quantiles.shape == (0, len(LEVELS))


def test_machines_without_a_compiler_use_the_reference(model, monkeypatch):
    monkeypatch.setattr(
        "photoz.kernels.find_spec", lambda name: None if name == "numba" else find_spec(name)
    )
    assert compile_model(model) is None


def test_compiled_code_is_kept_where_that_is_allowed(tmp_path, monkeypatch):
    compiling = import_module("photoz.kernels.compiling")
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiling.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiling, "_FOLDER", tmp_path / "file")
    monkeypatch.setattr(compiling, "_USER", tmp_path / "user")
    assert compiling._cache_folder.__wrapped__().parent == tmp_path / "user"

    monkeypatch.setattr(compiling, "_USER", tmp_path / "file")
    assert compiling._cache_folder.__wrapped__() is None


def test_no_compiled_code_is_taken_from_a_folder_that_others_write_to(tmp_path, monkeypatch):
    compiling = import_module("photoz.kernels.compiling")
    monkeypatch.setattr(compiling.config, "CACHE_DIR", str(tmp_path))
    folder = compiling._cache_folder.__wrapped__()
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700

    folder.chmod(0o777)

    assert compiling._cache_folder.__wrapped__() is None


def test_large_catalogues_are_scored_in_compiled_code(model, tmp_path, monkeypatch):
    columns = make_mock_catalogue(700, random_state=4).to_columns()
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    used = []
    monkeypatch.setattr(
        "photoz.kernels.compile_model",
        lambda given: used.append(given) or compile_model(given),
    )
    for threshold, workers in ((701, 1), (700, 1), (700, 3)):
        monkeypatch.setattr("photoz.kernels.COMPILED_FROM", threshold)
        out = tmp_path / f"{threshold}-{workers}.parquet"
        score_catalogue(model, tmp_path / "in.parquet", out, workers=workers, chunk_size=100)
    reference, one, three = (
        pq.read_table(tmp_path / f"{name}.parquet") for name in ("701-1", "700-1", "700-3")
    )

    assert len(used) == 2
    assert (tmp_path / "700-1.parquet").read_bytes() == (tmp_path / "700-3.parquet").read_bytes()
    assert one.schema.equals(reference.schema, check_metadata=True)
    assert one["photoz_flag"].equals(reference["photoz_flag"])
    assert three.equals(one)


def test_size_of_a_text_file_tells_whether_it_is_large(model, tmp_path, monkeypatch):
    columns = make_mock_catalogue(60, random_state=4).to_columns()
    pd.DataFrame(columns).to_csv(tmp_path / "in.csv")
    used = []
    monkeypatch.setattr("photoz.kernels.compile_model", used.append)
    for number, threshold in enumerate((50, 500)):
        monkeypatch.setattr("photoz.kernels.COMPILED_FROM", threshold)
        score_catalogue(model, tmp_path / "in.csv", tmp_path / f"{number}.parquet")

    assert len(used) == 1
