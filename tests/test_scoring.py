import json
import re
from copy import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.errors import InputError
from photoz.pdf import RedshiftPDF
from photoz.photometry import State
from photoz.prediction import FLAGS, QUANTILE_LEVELS, check_kept, prediction_columns, survey_for
from photoz.scoring import score_catalogue
from photoz.survey import Survey, load_survey

SCALARS = (
    "z_mode z_median z_mean z_std z_err68_low z_err68_high z_err95_low z_err95_high odds flag"
)


def hide(photometry, rows, bands):
    state, flux, error = (
        x.copy() for x in (photometry.state, photometry.flux, photometry.flux_error)
    )
    place = np.ix_(rows, bands)
    state[place], flux[place], error[place] = State.NOT_OBSERVED, np.nan, np.nan
    return replace(photometry, state=state, flux=flux, flux_error=error)


def test_columns_are_those_of_dp1(model, test_photometry):
    columns = prediction_columns(model, test_photometry, name="rf")

    assert list(columns) == [f"rf_{column}" for column in SCALARS.split()]


@pytest.mark.parametrize("pdf", ["none", "quantiles", "grid"])
def test_no_column_of_a_prediction_can_be_kept_from_the_catalogue(model, test_photometry, pdf):
    for column in prediction_columns(model, test_photometry, pdf=pdf):
        with pytest.raises(InputError, match=f"'{column}' of the catalogue cannot be kept"):
            check_kept(["id", column], "photoz")
    check_kept(["id", "z_mode"], "photoz")


def test_intervals_are_quantiles_and_hold_the_median(model, test_photometry):
    columns = prediction_columns(model, test_photometry, pdf="quantiles")
    pz = model.predict_pdf(test_photometry)

    assert_allclose(columns["photoz_z_err68_low"], pz.quantiles([0.16])[:, 0])
    assert_allclose(columns["photoz_quantiles"], pz.quantiles(QUANTILE_LEVELS), rtol=1e-6)
    assert (columns["photoz_z_err95_low"] <= columns["photoz_z_median"]).all()
    assert (columns["photoz_z_median"] <= columns["photoz_z_err95_high"]).all()


def test_levels_are_symmetric_and_hold_the_intervals():
    assert {0.025, 0.16, 0.84, 0.975} <= set(QUANTILE_LEVELS)
    assert len(QUANTILE_LEVELS) == 20
    assert_allclose(np.add(QUANTILE_LEVELS, QUANTILE_LEVELS[::-1]), 1)


def test_galaxies_without_photometry_get_nan_and_a_flag(model, test_photometry):
    photometry = hide(test_photometry, [0, 5], range(6))
    columns = prediction_columns(model, photometry, pdf="grid")

    unusable = columns["photoz_flag"] & 32 > 0
    assert_array_equal(np.flatnonzero(unusable), [0, 5])
    assert_array_equal(np.isnan(columns["photoz_z_mean"]), unusable)
    assert_array_equal(np.isnan(columns["photoz_density"]).all(axis=1), unusable)


def test_flags_tell_unobserved_from_undetected(model, test_photometry):
    detected = (test_photometry.state == State.DETECTED).all(axis=1)
    flag = prediction_columns(model, hide(test_photometry, [1], [0]))["photoz_flag"]

    assert flag[1] & 1
    assert not (np.delete(flag, 1) & 1).any()
    assert_array_equal(np.delete(flag & 2 > 0, 1), np.delete(~detected, 1))


def test_a_band_brighter_than_any_in_training_is_outside(model, test_photometry):
    flux = test_photometry.flux.copy()
    flux[4] *= 1e4  # the same colours, ten magnitudes brighter
    flag = prediction_columns(model, replace(test_photometry, flux=flux))["photoz_flag"]

    assert flag[4] & 4
    assert (flag & 4 > 0).mean() < 0.1


def test_colours_that_no_training_galaxy_has_are_outside_though_each_band_is_not(
    model, test_photometry
):
    """Bands of different galaxies: each lies in its range, together they are none."""
    flux = np.stack([np.roll(test_photometry.flux[:, k], 31 * k) for k in range(6)], axis=1)
    error = np.stack([np.roll(test_photometry.flux_error[:, k], 31 * k) for k in range(6)], axis=1)
    state = np.stack([np.roll(test_photometry.state[:, k], 31 * k) for k in range(6)], axis=1)
    mixed = replace(test_photometry, flux=flux, flux_error=error, state=state)
    by_band = copy(model)
    by_band.occupancy = None

    joint = prediction_columns(model, mixed)["photoz_flag"] & 4 > 0
    single = prediction_columns(by_band, mixed)["photoz_flag"] & 4 > 0
    assert joint.mean() > 0.5
    assert single.mean() < 0.1


def flags_of(model, photometry, monkeypatch, weights, means, sigma):
    """Flags of galaxies whose p(z) is known."""
    widths = np.full(np.shape(means), sigma)
    pz = RedshiftPDF.from_mixture(np.linspace(0, 4, 401), weights, np.array(means), widths)
    monkeypatch.setattr(model, "predict_pdf", lambda _: pz)
    return prediction_columns(model, photometry[: len(means)])["photoz_flag"]


@pytest.mark.parametrize(("share", "flagged"), [(0.008, False), (0.015, True)])
def test_p_of_z_at_the_end_of_the_grid_is_flagged(
    model, test_photometry, monkeypatch, share, flagged
):
    """Half of a peak at the end lies within two of its widths, which are steps, of the end."""
    weights = np.array([[1 - 2 * share, 2 * share]])
    known = [[1.0, 4.0]]
    flag = flags_of(copy(model), test_photometry, monkeypatch, weights, known, 0.01)

    assert bool(flag[0] & 8) == flagged


@pytest.mark.parametrize(("ratio", "flagged"), [(0.08, False), (0.12, True)])
def test_a_second_peak_above_a_tenth_of_the_first_is_flagged(
    model, test_photometry, monkeypatch, ratio, flagged
):
    weights = np.array([[1, ratio]]) / (1 + ratio)
    flag = flags_of(copy(model), test_photometry, monkeypatch, weights, [[0.5, 2.0]], 0.05)

    assert bool(flag[0] & 16) == flagged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Forest"}, "lower-case letters and digits, got 'Forest'"),
        ({"pdf": "mean"}, "pdf must be one of"),
    ],
)
def test_wrong_names_are_refused(model, test_photometry, options, message):
    with pytest.raises(InputError, match=message):
        prediction_columns(model, test_photometry, **options)


def test_chunks_change_nothing(model, catalogue_file, tmp_path):
    tables = []
    for size in (7, 100_000):
        out = tmp_path / f"{size}.parquet"
        score_catalogue(model, [catalogue_file], out, chunk_size=size)
        tables.append(pq.read_table(out))

    for name in tables[0].column_names:
        a, b = (np.stack(table[name].to_numpy(zero_copy_only=False)) for table in tables)
        assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)


def test_ids_and_kept_columns_are_carried_over_in_order(model, catalogue_file, tmp_path):
    out = tmp_path / "out.parquet"
    scored = score_catalogue(model, [catalogue_file], out, keep=["redshift"], pdf="none")
    source, table = pq.read_table(catalogue_file), pq.read_table(out)

    assert table.column_names[:2] == ["object_id", "redshift"]
    assert table["object_id"].equals(source["object_id"])
    assert table["redshift"].equals(source["redshift"])
    assert scored.n_galaxies == len(source)


def test_metadata_tells_levels_flags_and_ucds(model, catalogue_file, tmp_path):
    score_catalogue(model, [catalogue_file], tmp_path / "out.parquet")
    metadata = pq.read_schema(tmp_path / "out.parquet").metadata

    assert json.loads(metadata[b"photoz.quantile_levels"]) == list(QUANTILE_LEVELS)
    assert json.loads(metadata[b"photoz.flags"]) == {str(b): text for b, text in FLAGS.items()}
    odds = pq.read_schema(tmp_path / "out.parquet").field("photoz_odds").metadata
    assert odds[b"description"] == b"probability within mode +- 0.06 (1 + mode)"
    assert json.loads(metadata[b"photoz.ucd"])["photoz_z_mode"] == "src.redshift.phot"


def test_missing_band_that_training_always_saw_is_refused(model, catalogue_file, tmp_path):
    path = tmp_path / "no_r.parquet"
    pq.write_table(pq.read_table(catalogue_file).drop_columns(["mag_r", "mag_err_r"]), path)

    with pytest.raises(InputError, match="mag_r"):
        score_catalogue(model, [path], tmp_path / "out.parquet")


def test_empty_catalogue_gives_an_empty_table(model, catalogue_file, tmp_path):
    path = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(catalogue_file)[:0], path)
    score_catalogue(model, [path], tmp_path / "out.parquet")

    assert len(pq.read_table(tmp_path / "out.parquet")) == 0


def test_existing_output_is_not_overwritten_unless_told(model, catalogue_file, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_text("precious")
    with pytest.raises(InputError, match=r"exists; .*--overwrite"):
        score_catalogue(model, [catalogue_file], out)

    assert out.read_text() == "precious"
    score_catalogue(model, [catalogue_file], out, overwrite=True)
    assert len(pq.read_table(out)) > 0


def test_failure_leaves_nothing_behind(model, catalogue_file, tmp_path):
    table = pq.read_table(catalogue_file).drop_columns(["mag_r"])
    words = pa.array(["bright"] * len(table))
    path = tmp_path / "in.parquet"
    pq.write_table(table.append_column("mag_r", words), path)
    with pytest.raises(InputError, match="mag_r"):
        score_catalogue(model, [path], tmp_path / "out.parquet")

    assert [p.name for p in tmp_path.iterdir()] == ["in.parquet"]


def test_other_survey_serves_other_column_names(model, catalogue_file, tmp_path):
    table = pq.read_table(catalogue_file)
    path = tmp_path / "renamed.parquet"
    pq.write_table(
        table.rename_columns([re.sub("^mag_", "m_", c) for c in table.column_names]), path
    )
    keys = load_survey("lsst").model_dump() | {"magnitude": "m_{band}", "error": "m_err_{band}"}
    score_catalogue(model, [path], tmp_path / "a.parquet", survey=load_survey(keys))
    score_catalogue(model, [catalogue_file], tmp_path / "b.parquet")

    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


@pytest.mark.parametrize("listed", [[], ["size", "seeing"], ["seeing", "size"]])
def test_further_inputs_are_those_of_the_model_whatever_the_bands_are_called(model, listed):
    trained = copy(model)
    trained.survey = Survey(bands=model.survey.bands, extra=["size", "seeing"])
    found = survey_for(
        trained, Survey(bands=model.survey.bands, magnitude="m_{band}", extra=listed)
    )

    assert found.extra == ("size", "seeing")
    assert found.band_columns("g").magnitude == "m_g"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bands": ["r", "i"]}, "trained on the bands u, g, r, i, z, y, the survey has r, i"),
        (
            {"bands": list("ugrizy"), "extra": ["seeing"]},
            re.escape("trained with extra = ['size'], the survey has extra = ['seeing']; leave"),
        ),
        (
            {"bands": list("ugrizy"), "redshift": "size"},
            "extra must list further input columns, but 'size' belongs to the redshift",
        ),
    ],
)
def test_a_survey_of_other_inputs_is_refused(model, keys, message):
    trained = copy(model)
    trained.survey = Survey(bands=model.survey.bands, extra=["size"])

    with pytest.raises(InputError, match=message):
        survey_for(trained, Survey(**keys))
