"""HATS catalogues through LSDB get, partition by partition, what one process gives them."""

import shutil

import dask
import lsdb
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz import kernels
from photoz.adapters.lsdb import partitions, predict, score_hats
from photoz.adapters.lsdb.partitions import load_once
from photoz.bundle import save_model
from photoz.errors import InputError
from photoz.photometry import photometry_from_columns
from photoz.prediction import FLAGS, QUANTILE_LEVELS, prediction_columns
from photoz.survey import load_survey

# LSDB 0.11 uses what pandas 4 will drop.
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("bundles") / "forest.zip")


@pytest.fixture(scope="module")
def frame(mock):
    return pd.DataFrame(mock.to_columns())


@pytest.fixture(scope="module")
def hats(frame, tmp_path_factory):
    """The mock galaxies as a HATS catalogue of several partitions."""
    path = tmp_path_factory.mktemp("hats") / "mock"
    write_hats(frame, path)
    return path


@pytest.fixture(scope="module")
def wanted(model, frame):
    """What one process predicts, by id."""
    photometry, _ = photometry_from_columns(dict(frame.items()), model.survey)
    columns = prediction_columns(model, photometry, pdf="quantiles")
    shaped = {key: v if v.ndim == 1 else list(v) for key, v in columns.items()}
    return pd.DataFrame(shaped, index=frame["object_id"])


def write_hats(frame, path, rows=200):
    catalog = lsdb.from_dataframe(
        frame, ra_column="ra", dec_column="dec", catalog_name=path.name, partition_rows=rows,
        margin_threshold=None,
    )  # fmt: skip
    catalog.write_catalog(path, catalog_name=path.name, progress_bar=False)


def compute(catalog):
    return catalog.compute(progress_bar=False)


def check(found, wanted):
    """Every galaxy is there once, with what one process predicts."""
    by_id = found.set_index("object_id")
    assert sorted(by_id.index) == sorted(wanted.index)
    for name in wanted.columns.drop("photoz_quantiles"):
        expected = wanted.loc[by_id.index, name]
        assert_allclose(by_id[name].astype(float), expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_partitions_give_what_one_process_gives(hats, bundle, wanted):
    catalog = predict(lsdb.open_catalog(hats), bundle)
    found = compute(catalog)

    assert catalog.npartitions > 3
    check(found, wanted)


@pytest.mark.parametrize("too_few", [False, True])
def test_large_catalogues_are_predicted_in_compiled_code(
    hats, bundle, frame, wanted, monkeypatch, too_few
):
    used = []
    compile_model = kernels.compile_model
    monkeypatch.setattr(kernels, "COMPILED_FROM", len(frame) + too_few)
    monkeypatch.setattr(
        kernels, "compile_model", lambda model: used.append(model) or compile_model(model)
    )
    partitions._compile_once.cache_clear()

    check(compute(predict(lsdb.open_catalog(hats), bundle)), wanted)
    partitions._compile_once.cache_clear()
    assert bool(used) != too_few


def test_rows_keep_their_order_and_index(hats, bundle):
    catalog = lsdb.open_catalog(hats)
    before, after = compute(catalog), compute(predict(catalog, bundle, pdf="none"))

    assert_array_equal(after.index, before.index)
    assert_array_equal(after["object_id"], before["object_id"])


def test_nothing_is_computed_before_it_is_asked_for_but_the_columns_are_known(hats, bundle):
    catalog = predict(lsdb.open_catalog(hats), bundle, keep=["redshift"], name="rf")

    scalars = (
        "z_mode z_median z_mean z_std z_err68_low z_err68_high z_err95_low z_err95_high odds flag"
    )
    assert list(catalog.columns) == [
        "object_id", "ra", "dec", "redshift", *[f"rf_{x}" for x in scalars.split()], "rf_ens_20",
    ]  # fmt: skip
    assert catalog.dtypes.equals(compute(catalog).dtypes)


def test_quantiles_are_a_nested_column(hats, bundle, wanted):
    found = compute(predict(lsdb.open_catalog(hats), bundle)).set_index("object_id")

    locs = np.stack([table["locs"] for table in found["photoz_ens_20"]])
    assert locs.shape == (len(wanted), len(QUANTILE_LEVELS))
    expected = np.stack(wanted.loc[found.index, "photoz_quantiles"].to_list())
    assert_allclose(locs, expected, rtol=1e-5)


def test_a_grid_is_a_nested_column_of_values(hats, bundle, model):
    found = compute(predict(lsdb.open_catalog(hats), bundle, pdf="grid"))

    first = found["photoz_ens_interp"].iloc[0]
    assert_allclose(first["xvals"], model.z_grid)
    assert_allclose(np.trapezoid(first["yvals"], first["xvals"]), 1, atol=1e-5)


def test_mixtures_are_refused(hats, bundle):
    with pytest.raises(InputError, match="as quantiles or on a grid, got pdf 'mixture'"):
        predict(hats, bundle, pdf="mixture")


def test_empty_partitions_stay_empty(hats, bundle):
    some = lsdb.open_catalog(hats).query("ra < 155")

    found = predict(some, bundle)

    sizes = [len(compute(found.partitions[k])) for k in range(found.npartitions)]
    assert 0 in sizes
    assert len(compute(found)) == sum(sizes) > 0


def test_nobody_at_all_is_a_catalogue_too(hats, bundle):
    nobody = lsdb.open_catalog(hats).query("object_id < 0")

    assert len(compute(predict(nobody, bundle, pdf="none"))) == 0


def test_missing_columns_are_named_before_anything_runs(hats, bundle):
    catalog = lsdb.open_catalog(hats, columns=["ra", "dec", "mag_g", "mag_err_g"])

    with pytest.raises(InputError, match="expected the columns 'mag_u'"):
        predict(catalog, bundle)


def test_another_survey_serves_other_column_names(frame, bundle, wanted, tmp_path):
    renamed = frame.rename(columns=lambda name: name.replace("mag_err_", "e_"))
    write_hats(renamed, tmp_path / "renamed")
    survey = load_survey(load_survey("lsst").model_dump() | {"error": "e_{band}"})

    found = predict(lsdb.open_catalog(tmp_path / "renamed"), bundle, survey=survey)

    check(compute(found), wanted)


def test_a_bundle_that_changes_after_planning_is_refused(hats, bundle, tmp_path):
    copy = tmp_path / "copy.zip"
    shutil.copy(bundle, copy)
    catalog = predict(lsdb.open_catalog(hats), copy)
    copy.write_bytes(b"something else")
    load_once.cache_clear()  # as in a worker that comes late

    with pytest.raises(RuntimeError, match="another bundle than the one this work began with"):
        compute(catalog)


def test_a_missing_bundle_is_named(hats, tmp_path):
    with pytest.raises(InputError, match=r"no bundle at .*none: expected a directory or \.zip"):
        predict(lsdb.open_catalog(hats), tmp_path / "none")


def test_a_hats_catalogue_becomes_a_hats_catalogue(hats, bundle, wanted, tmp_path):
    counts = score_hats(bundle, hats, tmp_path / "out", keep=["redshift"])

    found = compute(lsdb.open_catalog(tmp_path / "out"))
    check(found, wanted)
    assert "redshift" in found.columns
    assert counts["galaxies"] == len(wanted)
    n_outside = int((wanted["photoz_flag"] & 4 > 0).sum())
    assert counts[FLAGS[4]] == n_outside


def test_a_hats_catalogue_says_what_its_flags_and_levels_are(hats, bundle, tmp_path):
    score_hats(bundle, hats, tmp_path / "out", pdf="none")
    lines = (tmp_path / "out" / "out" / "hats.properties").read_text()

    assert all(f"{bit}: {meaning}" in lines for bit, meaning in FLAGS.items())
    assert " ".join(map(str, QUANTILE_LEVELS)) in lines


def test_existing_output_is_not_overwritten_unless_told(hats, bundle, tmp_path):
    out = tmp_path / "out"
    score_hats(bundle, hats, out, pdf="none")
    (out / "mark").touch()
    with pytest.raises(InputError, match=r"exists; .*--overwrite"):
        score_hats(bundle, hats, out, pdf="none")

    assert (out / "mark").exists()
    score_hats(bundle, hats, out, pdf="none", overwrite=True)
    assert not (out / "mark").exists()


def test_nothing_but_a_hats_catalogue_is_overwritten(hats, bundle, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")

    with pytest.raises(InputError, match=r"or an earlier output with collection\.properties"):
        score_hats(bundle, hats, out, pdf="none", overwrite=True)

    assert (out / "precious").exists()


def test_the_catalogue_itself_is_never_overwritten(hats, bundle):
    for out in (hats, hats.parent):
        with pytest.raises(InputError, match="is or holds the catalogue itself"):
            score_hats(bundle, hats, out, overwrite=True)

    assert len(compute(lsdb.open_catalog(hats))) > 0


@pytest.fixture
def interrupted(hats, bundle, tmp_path, monkeypatch):
    """What is left of a run that was ended after four partitions."""
    calls = []

    def fail(*arguments, **options):
        calls.append(1)
        if len(calls) > 5:  # the first one has no rows, only columns
            raise KeyboardInterrupt
        return prediction_columns(*arguments, **options)

    monkeypatch.setattr(partitions, "prediction_columns", fail)
    with pytest.raises(KeyboardInterrupt):
        score_hats(bundle, hats, tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    return tmp_path / "out"


def test_an_interrupted_run_is_resumed(interrupted, hats, bundle, wanted):
    done = {file: file.stat().st_mtime_ns for file in interrupted.parent.rglob("Npix*.parquet")}
    score_hats(bundle, hats, interrupted, resume=True)

    check(compute(lsdb.open_catalog(interrupted)), wanted)
    kept = {file.stat().st_mtime_ns for file in interrupted.rglob("Npix*.parquet")}
    assert len(done) == 4
    assert set(done.values()) <= kept


def test_nothing_is_resumed_with_other_options(interrupted, hats, bundle):
    with pytest.raises(InputError, match="left by a command with another model"):
        score_hats(bundle, hats, interrupted, name="rf", resume=True)


def test_what_is_no_hats_catalogue_is_refused(catalogue_file, bundle, tmp_path):
    with pytest.raises(InputError, match="expected a HATS catalogue"):
        score_hats(bundle, catalogue_file.parent, tmp_path / "out")


def test_a_scheduler_that_does_not_answer_is_named(hats, bundle, tmp_path):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(InputError, match="expected a Dask scheduler at tcp:"),
    ):
        score_hats(bundle, hats, tmp_path / "out", scheduler="tcp://127.0.0.1:1")
