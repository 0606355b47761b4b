"""Survey: its defaults, its contradictions, and the files it comes from."""

import json
import math
import re

import pytest
from pydantic import ValidationError

from photoz.errors import InputError
from photoz.survey import BandColumns, Survey, builtin_surveys, load_survey

GR = ["g", "r"]
FLUX = {"bands": GR, "flux": "f_{band}", "flux_error": "e_{band}"}


@pytest.mark.parametrize("name", ["sdss", "lsst", "des", "hsc", "legacy", "euclid"])
def test_builtin_surveys_are_found_by_name(name):
    survey = load_survey(name)

    assert name in builtin_surveys()
    assert len(survey.bands) >= 4
    assert len(survey.columns_needed()) >= 2 * len(survey.bands)


@pytest.mark.parametrize("name", builtin_surveys())
def test_a_survey_survives_strict_json(name):
    survey = load_survey(name)
    text = json.dumps(survey.model_dump(mode="json"), allow_nan=False)

    assert Survey(**json.loads(text)) == survey


def test_nan_and_infinity_survive_strict_json():
    survey = Survey(bands=GR, not_observed=[math.nan, -1.0], not_detected=[math.inf])
    text = json.dumps(survey.model_dump(mode="json"), allow_nan=False)
    again = Survey(**json.loads(text))

    assert math.isnan(again.not_observed[0])
    assert again.not_observed[1] == -1.0
    assert again.not_detected == (math.inf,)


def test_bands_are_enough_for_a_survey():
    survey = Survey(bands=["g"])

    assert survey.band_columns("g") == BandColumns(magnitude="mag_g", error="mag_err_g")
    assert (survey.not_observed, survey.not_detected) == ((-99.0,), (99.0,))
    assert survey.redshift == "redshift"


def test_a_flux_survey_has_no_sentinels_of_its_own():
    survey = Survey(**FLUX)

    assert (survey.not_observed, survey.not_detected) == ((), ())
    assert survey.flux_unit == "nJy"


def test_a_declared_sentinel_keeps_its_meaning():
    survey = Survey(bands=GR, not_observed=[99.0, -99.0])

    assert survey.not_detected == ()


def test_exceptions_replace_patterns_for_one_band():
    survey = Survey(bands=GR, columns={"g": {"magnitude": "gmag", "error": "e_gmag"}})

    assert survey.columns_needed() == ["gmag", "e_gmag", "mag_r", "mag_err_r"]


def test_exceptions_may_stand_for_all_patterns():
    columns = {band: {"flux": f"F{band}", "flux_ivar": f"I{band}"} for band in GR}
    survey = Survey(bands=GR, columns=columns, zero_point=25.0)

    assert survey.uses_flux
    assert survey.columns_needed() == ["Fg", "Ig", "Fr", "Ir"]


def test_columns_needed_hold_extinction_and_extra_once():
    survey = Survey(**FLUX, ebv="ebv", a_ebv={"g": 3.2, "r": 2.2}, extra=["size", "ebv"])

    assert survey.columns_needed(["r"]) == ["f_r", "e_r", "ebv", "size"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "bands is missing"),
        ({"bands": []}, "at least one band"),
        ({"bands": ["g", "g"]}, "none twice"),
        ({"bands": "gr"}, "bands: expected a valid list, got 'gr'"),
        ({"bands": GR, "magnitude": "m_{band}", "flux": "f_{band}"}, "contradict each other"),
        ({"bands": GR, "flux_unit": "nJy"}, "magnitude and flux_unit contradict"),
        ({"bands": GR, "zero_point": 22.5}, "magnitude and zero_point contradict"),
        ({**FLUX, "error": "e_{band}"}, "contradict each other"),
        ({**FLUX, "softening": {"g": 1e-10, "r": 1e-10}}, "contradict each other"),
        ({"bands": GR, "flux": "f_{band}"}, "band 'g' needs flux and flux_error or flux_ivar"),
        ({"bands": GR, "flux_ivar": "f_{band}"}, "band 'g' needs flux and"),
        ({**FLUX, "flux_ivar": "i_{band}"}, "got flux and flux_error and flux_ivar"),
        ({**FLUX, "flux_unit": "Jy", "zero_point": 8.9}, "flux_unit and zero_point contradict"),
        ({**FLUX, "zero_point": math.inf}, "zero_point must be an AB magnitude"),
        (
            {"bands": GR, "depth": {"u": 27.0}},
            "depth names an unknown band 'u'; the bands are g, r",
        ),
        ({"bands": GR, "depth": {"g": -1.0}}, "depth of band 'g' must be a number above 0"),
        ({"bands": GR, "depth": {"g": "deep"}}, "depth.g: expected a valid number"),
        ({"bands": GR, "softening": {"g": 1e-10}}, "softening must give .* it lacks r"),
        ({"bands": GR, "columns": {"u": {}}}, "columns names an unknown band 'u'"),
        ({"bands": GR, "columns": {"g": {"flux": "f", "flux_error": "e"}}}, "got neither"),
        ({"bands": GR, "error": 0.0}, "error of band 'g' must be a column or a number above 0"),
        ({"bands": GR, "magnitude": "mag"}, re.escape("is the same column 'mag'; write {band}")),
        ({"bands": GR, "ebv": "ebv"}, "need each other"),
        ({"bands": GR, "a_ebv": {"g": 3.0, "r": 2.0}}, "need each other"),
        ({"bands": GR, "ebv": "ebv", "a_ebv": {"g": 3.0}}, "a_ebv must give .* it lacks r"),
        (
            {"bands": GR, "extinction": "a_{band}", "ebv": "ebv", "a_ebv": {"g": 3.0, "r": 2.0}},
            "extinction and ebv contradict",
        ),
        ({"bands": GR, "not_observed": [99.0], "not_detected": [99.0]}, "both list 99.0"),
        ({**FLUX, "ebv": "ebv", "a_ebv": {"g": 3.2, "r": -1.0}}, "'r' must be a number from 0"),
        (
            {"bands": GR, "error": "mag_{band}"},
            "the column 'mag_g' cannot be both magnitude of band 'g' and error of band 'g'; name",
        ),
        (
            {"bands": GR, "error": "e_{band}", "redshift": "mag_r"},
            "'mag_r' cannot be both magnitude of band 'r' and redshift",
        ),
        ({"bands": GR, "id": "redshift"}, "'redshift' cannot be both redshift and id"),
        (
            {"bands": GR, "coordinates": ["ra", "ra"]},
            "'ra' cannot be both right ascension and declination",
        ),
        (
            {**FLUX, "ebv": "f_g", "a_ebv": {"g": 3.2, "r": 2.0}},
            "'f_g' cannot be both flux of band 'g' and ebv",
        ),
        (
            {"bands": GR, "columns": {"r": {"error": "mag_err_g"}}},
            "error of bands 'g' and 'r' is the same column 'mag_err_g'",
        ),
        ({"bands": GR, "error": True}, "error: expected a number or the name .*, got true"),
        ({"bands": GR, "columns": {"g": {"error": True}}}, "columns.g.error: expected a number"),
        ({"bands": GR, "depth": {"g": True}}, "depth.g: expected a number .* got true"),
        ({"bands": GR, "not_observed": [False]}, "not_observed.0: expected a number"),
        ({"bands": GR, "extra": ["redshift"]}, "'redshift' belongs to the redshift; leave it out"),
        ({"bands": GR, "extra": ["mag_g"]}, "extra must list .* 'mag_g' belongs to g"),
        ({"bands": GR, "extra": ["size", "size"]}, "'size' is listed twice"),
        (
            {"bands": GR, "not_observed": [math.nan], "not_detected": [math.nan]},
            "both list nan",
        ),
    ],
)
def test_contradictions_are_told_in_one_line(keys, message):
    with pytest.raises(InputError, match=message) as caught:
        Survey(**keys)

    assert "\n" not in str(caught.value)


def test_an_unknown_key_lists_the_keys_that_exist():
    expected = (
        r"unknown key 'magnitud' \(did you mean 'magnitude'\?\); the keys that exist are bands"
    )

    with pytest.raises(InputError, match=expected):
        Survey(bands=GR, magnitud="m_{band}")


def test_an_unknown_key_of_a_band_lists_those_of_bands():
    with pytest.raises(InputError, match=r"unknown key 'mag'.* exist are magnitude, error, flux,"):
        Survey(bands=GR, columns={"g": {"mag": "gmag"}})


def test_a_wrong_unit_lists_the_right_ones():
    with pytest.raises(InputError, match="'nJy', 'uJy', 'Jy', 'maggy' or 'nanomaggy', got 'njy'"):
        Survey(**FLUX, flux_unit="njy")


def test_a_survey_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        load_survey("lsst").redshift = "z"


@pytest.mark.parametrize("header", ["", "[survey]\n"])
def test_a_survey_file_may_have_a_table_of_its_own(tmp_path, header):
    path = tmp_path / "mine.toml"
    path.write_text(header + 'bands = ["g"]\nredshift = "z"\nnot_observed = [nan]\n')

    assert load_survey(path).redshift == "z"


def test_a_survey_path_is_relative_to_a_directory(tmp_path):
    (tmp_path / "mine.toml").write_text('bands = ["g"]\n')

    assert load_survey("mine.toml", directory=tmp_path).bands == ("g",)


def test_mistakes_in_a_survey_file_name_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('bands = ["g"]\nmag = "m"\n')

    with pytest.raises(InputError, match=r"mine\.toml: survey: unknown key 'mag'"):
        load_survey(path)


def test_a_file_that_is_no_toml_is_told(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("bands = [")

    with pytest.raises(InputError, match=r"mine\.toml: expected a survey in TOML"):
        load_survey(path)


def test_a_missing_survey_file_is_told(tmp_path):
    with pytest.raises(InputError, match="expected a survey file, found none"):
        load_survey(tmp_path / "none.toml")


def test_an_unknown_name_lists_the_builtin_surveys():
    with pytest.raises(InputError, match=r"did you mean 'sdss'\?.*des, euclid, hsc"):
        load_survey("sdsss")


def test_a_survey_may_be_given_as_keys_or_as_itself():
    survey = load_survey({"bands": GR})

    assert load_survey(survey) is survey
    assert Survey(**{**survey.model_dump(), "columns": {"g": BandColumns(error="e")}}).columns


def test_dust_need_not_dim_every_band():
    assert Survey(**FLUX, ebv="ebv", a_ebv={"g": 3.2, "r": 0.0}).a_ebv["r"] == 0


@pytest.mark.parametrize("kinds", [("flux_error", "flux_ivar"), ("flux_ivar", "flux_error")])
def test_one_band_may_have_errors_of_another_kind(kinds):
    pattern, other = kinds
    keys = {"flux": "f_{band}", pattern: "e_{band}", "columns": {"r": {other: "x_r"}}}

    assert Survey(bands=GR, **keys).columns_needed() == ["f_g", "e_g", "f_r", "x_r"]
