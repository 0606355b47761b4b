"""Photometry: from the columns of any survey to flux, error and state."""

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose, assert_array_equal

from photoz.errors import InputError
from photoz.mock import make_mock_catalogue
from photoz.photometry import ZERO_POINT, Photometry, State, photometry_from_columns
from photoz.survey import Survey

NAN, INF = math.nan, math.inf
NO, ND, DET = State.NOT_OBSERVED, State.NOT_DETECTED, State.DETECTED
MAGNITUDES = Survey(bands=["g"])
FLUXES = Survey(bands=["g"], flux="f_{band}", flux_error="e_{band}")
IVARS = Survey(bands=["g"], flux="f_{band}", flux_ivar="e_{band}")


def convert(survey, value, error, **columns):
    """Photometry of one band, with the counts of what was implausible."""
    names = survey.band_columns("g")
    value_name = names.flux or names.magnitude
    error_name = names.flux_error or names.flux_ivar or names.error
    given = {value_name: np.asarray(value), error_name: np.asarray(error), **columns}
    return photometry_from_columns(given, survey)


def test_a_hidden_measurement_was_never_observed():
    mock = make_mock_catalogue(20, random_state=0).photometry
    hidden = np.zeros(mock.flux.shape, dtype=bool)
    hidden[3, 1] = True

    found = mock.without(hidden)

    assert found.state[3, 1] == State.NOT_OBSERVED
    assert np.isnan([found.flux[3, 1], found.flux_error[3, 1]]).all()
    assert_array_equal(found.flux[~hidden], mock.flux[~hidden])
    assert found.state.dtype == mock.state.dtype


def test_a_magnitude_becomes_a_flux_in_njy():
    photometry, _ = convert(MAGNITUDES, [ZERO_POINT, ZERO_POINT - 2.5], [0.1, 0.1])

    assert_allclose(photometry.flux[:, 0], [1, 10])
    assert_allclose(photometry.flux_error[:, 0], 0.4 * np.log(10) * 0.1 * np.array([1, 10]))


def test_a_number_is_the_error_of_every_magnitude():
    survey = Survey(bands=["g", "r"], error=0.05, columns={"r": {"error": "e_r"}})
    columns = {"mag_g": [20.0, 99.0], "mag_r": [20.0, 21.0], "e_r": [0.1, 0.2]}
    photometry, _ = photometry_from_columns(columns, survey)

    assert_allclose(photometry.magnitude_error, [[0.05, 0.1], [NAN, 0.2]])
    assert photometry.state[1, 0] == ND
    assert survey.columns_needed() == ["mag_g", "mag_r", "e_r"]


def test_magnitudes_are_a_view_of_the_flux():
    magnitude, error = np.array([18.0, 25.5]), np.array([0.01, 0.4])
    photometry, _ = convert(MAGNITUDES, magnitude, error)

    assert_allclose(photometry.magnitude[:, 0], magnitude)
    assert_allclose(photometry.magnitude_error[:, 0], error)


@pytest.mark.parametrize(
    ("unit", "ab"),
    [("nJy", 31.4), ("uJy", 23.9), ("Jy", 8.9), ("maggy", 0.0), ("nanomaggy", 22.5)],
)
def test_a_flux_of_one_has_the_ab_magnitude_of_its_unit(unit, ab):
    survey = Survey(bands=["g"], flux="f_{band}", flux_error="e_{band}", flux_unit=unit)
    same = Survey(bands=["g"], flux="f_{band}", flux_error="e_{band}", zero_point=ab)
    photometry, _ = convert(survey, [1.0], [0.2])

    assert_allclose(photometry.flux, 10 ** (0.4 * (ZERO_POINT - ab)))
    assert_allclose(photometry.flux_error / photometry.flux, 0.2)
    assert_allclose(convert(same, [1.0], [0.2])[0].flux, photometry.flux)


def test_an_inverse_variance_is_an_error():
    with_error, _ = convert(FLUXES, [3.0, -3.0], [0.5, 2.0])
    with_ivar, _ = convert(IVARS, [3.0, -3.0], [4.0, 0.25])

    assert_allclose(with_ivar.flux_error, with_error.flux_error)


@pytest.mark.parametrize("flux_over_b", [-0.5, 0.0, 1.0, 300.0])
def test_asinh_magnitudes_invert_luptitudes(flux_over_b):
    """Their flux gives the magnitude back, and their error is the slope times the error."""
    b, step, error = 1.4e-10, 1e-4, 0.05
    survey = Survey(bands=["g"], softening={"g": b})
    # Lupton, Gunn & Szalay (1999): m = -2.5 / ln 10 (asinh(f / 2b) + ln b)
    magnitude = -2.5 / np.log(10) * (np.arcsinh(flux_over_b / 2) + np.log(b))
    photometry, _ = convert(survey, magnitude + np.array([0, step, -step]), np.full(3, error))
    slope = (photometry.flux[2, 0] - photometry.flux[1, 0]) / (2 * step)
    flux_of_b = b * 10 ** (0.4 * ZERO_POINT)

    assert_allclose(photometry.flux[0, 0], flux_over_b * flux_of_b, atol=1e-9 * flux_of_b)
    assert_allclose(photometry.flux_error[0, 0], slope * error, rtol=1e-6)
    assert_allclose(photometry.luptitude(np.array([flux_of_b]))[0, 0], magnitude)


@pytest.mark.parametrize(
    ("value", "error", "state"),
    [
        (20.0, 0.1, DET),
        (99.0, 28.0, ND),
        (np.float32(99.00005), NAN, ND),
        (-99.0, 0.1, NO),
        (-99.0, 99.0, NO),
        (20.0, 99.0, ND),
        (20.0, -99.0, NO),
        (NAN, 0.1, NO),
        (NAN, 99.0, NO),
        (20.0, NAN, NO),
    ],
)
def test_declared_states_of_a_magnitude(value, error, state):
    photometry, implausible = convert(MAGNITUDES, [value], [error])

    assert photometry.state[0, 0] == state
    assert implausible == {}


@pytest.mark.parametrize(
    ("value", "error"),
    [(0.0, 0.1), (50.0, 0.1), (-9.99, 0.1), (INF, 0.1), (20.0, 0.0), (20.0, -1.0), (20.0, INF)],
)
def test_an_undeclared_implausible_magnitude_is_not_observed_and_counted(value, error):
    photometry, implausible = convert(MAGNITUDES, [20.0, value], [0.1, error])

    assert_array_equal(photometry.state[:, 0], [DET, NO])
    assert implausible == {"mag_g: implausible value": 1}


@pytest.mark.parametrize("value", [-5.0, 0.0, 1e-8, 1e9])
def test_a_flux_of_any_sign_is_detected(value):
    photometry, _ = convert(FLUXES, [value], [1.0])

    assert photometry.state[0, 0] == DET
    assert photometry.flux[0, 0] == pytest.approx(value)


@pytest.mark.parametrize(("value", "error"), [(1.0, 0.0), (1.0, -1.0), (INF, 1.0), (1.0, INF)])
def test_an_implausible_flux_is_not_observed_and_counted(value, error):
    photometry, implausible = convert(FLUXES, [value], [error])

    assert photometry.state[0, 0] == NO
    assert implausible == {"f_g: implausible value": 1}


@pytest.mark.parametrize(("value", "ivar"), [(1.0, 0.0), (NAN, 4.0), (1.0, NAN)])
def test_no_inverse_variance_means_not_observed(value, ivar):
    photometry, implausible = convert(IVARS, [value], [ivar])

    assert photometry.state[0, 0] == NO
    assert implausible == {}


@pytest.mark.parametrize(
    ("sentinel", "value", "ivar"),
    [(0.0, 1.0, 0.0), (NAN, NAN, 4.0), (NAN, 1.0, NAN), (INF, INF, 1.0), (-999.0, -999.0, 1.0)],
)
def test_nan_infinity_and_zero_can_be_listed_as_not_detected(sentinel, value, ivar):
    survey = IVARS.model_copy(update={"not_detected": (sentinel,)})
    photometry, implausible = convert(survey, [value], [ivar])

    assert photometry.state[0, 0] == ND
    assert implausible == {}


@pytest.mark.parametrize("sentinel", [-99.9, 1e20, -9999.99])
def test_sentinels_are_met_in_single_precision(sentinel):
    survey = Survey(bands=["g"], not_detected=[sentinel])
    photometry, _ = convert(survey, np.array([sentinel], np.float32), [1.0])

    assert photometry.state[0, 0] == ND


def test_a_neighbour_of_a_sentinel_is_none():
    survey = Survey(bands=["g"], not_detected=[25.0])
    photometry, _ = convert(survey, [25.0009, 25.00009], [0.1, 0.1])

    assert_array_equal(photometry.state[:, 0], [DET, ND])


def test_not_observed_is_nan():
    photometry, _ = convert(MAGNITUDES, [-99.0], [0.1])

    assert np.isnan([photometry.flux[0, 0], photometry.flux_error[0, 0]]).all()


def test_not_detected_has_the_depth_as_error():
    deep, _ = convert(Survey(bands=["g"], depth={"g": 28.9}), [99.0, 20.0], [5.0, 0.1])
    unknown, _ = convert(MAGNITUDES, [99.0], [5.0])

    assert deep.flux[0, 0] == 0
    assert deep.flux_error[0, 0] == pytest.approx(10)  # 10^(-0.4 (28.9 - 31.4))
    assert unknown.flux[0, 0] == 0
    assert np.isnan(unknown.flux_error[0, 0])


def test_extinction_brightens_flux_and_error_alike():
    survey = Survey(**{**FLUXES.model_dump(), "extinction": "a_{band}"})
    raw, _ = convert(FLUXES, [2.0, -2.0], [0.5, 0.5])
    corrected, _ = convert(survey, [2.0, -2.0], [0.5, 0.5], a_g=np.array([2.5, 2.5]))

    assert_allclose(corrected.flux, 10 * raw.flux)
    assert_allclose(corrected.flux_error, 10 * raw.flux_error)


def test_reddening_is_extinction_with_a_coefficient():
    survey = Survey(bands=["g"], ebv="ebv", a_ebv={"g": 3.2})
    direct = Survey(bands=["g"], extinction="a_{band}")
    one, _ = convert(survey, [20.0], [0.1], ebv=np.array([0.5]))
    other, _ = convert(direct, [20.0], [0.1], a_g=np.array([1.6]))

    assert_allclose(one.flux, other.flux)
    assert one.magnitude[0, 0] == pytest.approx(20.0 - 1.6)


@pytest.mark.parametrize("extinction", [NAN, -999.0, 99.0])
def test_a_detection_without_extinction_is_not_observed_and_counted(extinction):
    survey = Survey(bands=["g"], extinction="a_{band}")
    a_g = np.array([0.1, extinction, extinction])
    photometry, implausible = convert(survey, [20.0, 20.0, 99.0], [0.1, 0.1, 0.1], a_g=a_g)

    assert_array_equal(photometry.state[:, 0], [DET, NO, ND])
    assert implausible == {"a_g: implausible value": 1}


def test_a_shared_reddening_counts_once_per_row():
    survey = Survey(bands=["g", "r"], ebv="ebv", a_ebv={"g": 3.2, "r": 2.3})
    columns = {"mag_g": [20.0, 20.0], "mag_r": [20.0, NAN], "ebv": [NAN, NAN]}
    columns |= {"mag_err_g": [0.1, 0.1], "mag_err_r": [0.1, 0.1]}
    _, implausible = photometry_from_columns(columns, survey)

    assert implausible == {"ebv: implausible value": 2}


def test_a_band_that_dust_does_not_dim_needs_no_reddening():
    survey = Survey(bands=["g", "r"], ebv="ebv", a_ebv={"g": 3.2, "r": 0.0})
    columns = {"mag_g": [20.0], "mag_r": [20.0], "ebv": [NAN]}
    columns |= {"mag_err_g": [0.1], "mag_err_r": [0.1]}
    photometry, _ = photometry_from_columns(columns, survey)

    assert photometry.state[0].tolist() == [NO, DET]


def test_an_optional_band_may_lack_columns():
    survey = Survey(bands=["u", "g"])
    columns = {"mag_u": [20.0], "mag_g": [20.0], "mag_err_g": [0.1]}
    photometry, _ = photometry_from_columns(columns, survey, optional_bands=["u"])

    assert photometry.state[0].tolist() == [NO, DET]
    assert photometry.n_observed.tolist() == [1]


def test_a_missing_column_is_told_with_the_closest_names_first():
    columns = {"redshift": [1.0], "MAG_G": [20.0], "mag_err_g": [0.1]}
    message = r"expected the column 'mag_g' \(did you mean 'MAG_G'\?\), found MAG_G, redshift, mag"

    with pytest.raises(InputError, match=message):
        photometry_from_columns(columns, MAGNITUDES)


def test_columns_of_different_length_are_told():
    with pytest.raises(InputError, match="one length, found mag_g: 2, mag_err_g: 1"):
        convert(MAGNITUDES, [20.0, 21.0], [0.1])


@pytest.mark.parametrize(
    "values",
    [
        np.array([20.0, NAN]),
        np.array([20.0, NAN], dtype=">f4"),
        pd.Series([20.0, None]),
        pd.array([20, None], dtype="Int64"),
        pd.array([20.0, None], dtype="double[pyarrow]"),
        np.array([20, None], dtype=object),
        np.array(["20.0", "n/a"]),
        np.array([b"20.0", b""], dtype=object),
        np.ma.masked_array([20.0, 5.0], mask=[False, True]),
    ],
    ids=lambda values: f"{type(values).__name__}-{values.dtype}",
)
def test_numbers_come_in_many_containers(values):
    photometry, implausible = photometry_from_columns(
        {"mag_g": values, "mag_err_g": [0.1, 0.1]}, MAGNITUDES
    )

    assert photometry.magnitude[0, 0] == pytest.approx(20.0)
    assert photometry.state[:, 0].tolist() == [DET, NO]
    assert implausible == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["20.0", "faint"], r"column 'mag_g' must hold numbers, row 1 .* holds 'faint'"),
        (np.array([20.0, {}], dtype=object), "row 1"),
        (np.ones((2, 3)), r"one number per row, it holds \(3,\)"),
        (np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"), "it holds datetime64"),
        (np.array([1j, 2j]), "it holds complex128"),
    ],
    ids=["text", "object", "matrix", "date", "complex"],
)
def test_what_is_no_number_is_told(values, message):
    with pytest.raises(InputError, match=message):
        photometry_from_columns({"mag_g": values, "mag_err_g": [0.1, 0.1]}, MAGNITUDES)


def test_further_inputs_are_kept_as_numbers():
    survey = Survey(bands=["g"], extra=["size", "seeing"])
    photometry, _ = convert(
        survey, [20.0, 21.0], [0.1, 0.1], size=pd.array([3, None]), seeing=np.array([0.7, 0.8])
    )

    assert photometry.extra_names == ("size", "seeing")
    assert_array_equal(photometry.extra, [[3, 0.7], [NAN, 0.8]])


def test_further_inputs_that_no_feature_can_hold_are_missing_and_counted():
    survey = Survey(bands=["g"], extra=["log_size"])
    photometry, implausible = convert(
        survey, np.full(4, 20.0), np.full(4, 0.1), log_size=np.array([0.3, -np.inf, 1e39, NAN])
    )

    assert_array_equal(photometry.extra[:, 0], [0.3, NAN, NAN, NAN])
    assert implausible == {"log_size: implausible value": 2}


def test_a_data_frame_is_a_mapping_of_columns():
    frame = pd.DataFrame({"mag_g": [20.0], "mag_err_g": [0.1]})
    photometry, _ = photometry_from_columns(frame, MAGNITUDES)

    assert photometry.magnitude[0, 0] == pytest.approx(20.0)


def test_no_rows_are_photometry_of_no_galaxies():
    photometry, implausible = convert(MAGNITUDES, np.empty(0), np.empty(0))

    assert photometry.flux.shape == (0, 1)
    assert implausible == {}


def test_a_galaxy_does_not_depend_on_its_neighbours():
    """Columns are converted in blocks; where a block ends must not matter."""
    generator = np.random.default_rng(0)
    value = generator.choice([20.0, 99.0, -99.0, 60.0, NAN], 20_000) + generator.normal(
        0, 1e-5, 20_000
    )
    error = generator.choice([0.1, 0.0], 20_000)
    whole, implausible = convert(MAGNITUDES, value, error)
    parts = [convert(MAGNITUDES, value[k::7], error[k::7]) for k in range(7)]

    for k, (part, _) in enumerate(parts):
        assert_array_equal(part.flux, whole.flux[k::7])
        assert_array_equal(part.state, whole.state[k::7])
    assert sum(sum(found.values()) for _, found in parts) == sum(implausible.values())


def test_photometry_of_disagreeing_shapes_is_refused():
    with pytest.raises(ValueError, match=r"state must have shape \(2, 1\), got \(1, 1\)"):
        Photometry(("g",), np.ones((2, 1)), np.ones((2, 1)), np.full((1, 1), 2, np.uint8))


def test_stacked_photometry_keeps_rows_and_extra():
    survey = Survey(bands=["g"], extra=["size"])
    one, _ = convert(survey, [20.0, 21.0], [0.1, 0.1], size=[1.0, 2.0])

    both = Photometry.concatenate([one[1:], one[np.array([0])]])

    assert_allclose(both.magnitude[:, 0], [21.0, 20.0])
    assert_array_equal(both.extra[:, 0], [2.0, 1.0])


def test_with_depth_fills_only_what_is_unknown():
    photometry, _ = convert(MAGNITUDES, [20.0, 99.0, -99.0], [0.1, 1.0, 1.0])
    filled = photometry.with_depth(np.array([7.0]))

    assert filled.flux_error[0] == photometry.flux_error[0]
    assert filled.flux_error[1] == 7.0
    assert np.isnan(filled.flux_error[2])


@pytest.mark.parametrize(
    ("survey", "value", "error"),
    [
        (FLUXES.model_copy(update={"flux_unit": "Jy", "not_detected": (0.0,)}), 3e-8, 2e-9),
        (IVARS.model_copy(update={"not_observed": (0.0,)}), 4000.0, 5e-6),
        (MAGNITUDES.model_copy(update={"not_observed": (0.0,)}), 20.0, 5e-5),
    ],
)
def test_a_sentinel_of_zero_is_met_by_zero_alone(survey, value, error):
    """Fluxes in Jy, inverse variances and errors of bright galaxies are all close to it."""
    photometry, implausible = convert(survey, [value, 0.0], [error, error])

    assert photometry.state[0, 0] == DET
    assert photometry.state[1, 0] != DET
    assert implausible == {}


def test_columns_of_no_band_are_told_even_where_every_band_is_optional():
    with pytest.raises(InputError, match="expected the columns 'mag_g', 'mag_err_g', found 0"):
        photometry_from_columns({"0": [20.0]}, MAGNITUDES, optional_bands=["g"])


def test_a_missing_extra_column_holds_a_declared_sentinel():
    survey = Survey(bands=["g"], extra=["size"])
    photometry, implausible = convert(survey, [20.0] * 3, [0.1] * 3, size=[-99.0, 0.0, 99.0])

    assert_array_equal(photometry.extra[:, 0], [NAN, 0, 99])
    assert implausible == {}


@pytest.mark.parametrize("container", ["frame", "arrow", "astropy", "records", "fits"])
def test_columns_may_come_in_any_table(container):
    columns = {"mag_g": np.array([20.0, 21.0]), "mag_err_g": np.array([0.1, 0.2])}
    records = np.rec.fromarrays(list(columns.values()), names=list(columns))
    table = {
        "frame": lambda: pd.DataFrame(columns),
        "arrow": lambda: pa.table(columns),
        "astropy": lambda: Table(columns, masked=True),
        "records": lambda: records,
        "fits": lambda: fits.BinTableHDU(records).data,
    }[container]()

    photometry, _ = photometry_from_columns(table, MAGNITUDES)

    assert_allclose(photometry.magnitude[:, 0], [20, 21])


@pytest.mark.parametrize("unit", [None, units.nJy])
def test_numbers_with_units_and_masks_of_astropy_are_what_they_say(unit):
    flux = np.array([2.0, 3.0]) if unit is None else [2.0, 3.0] * unit
    table = QTable({"f_g": flux, "e_g": Masked(flux / 2, mask=[False, True])})
    photometry, _ = photometry_from_columns(table, FLUXES)

    assert type(photometry.flux) is np.ndarray
    assert_allclose(photometry.flux[:, 0], [2, NAN])
    assert photometry.state[:, 0].tolist() == [DET, NO]


def test_masked_text_is_missing():
    value = np.ma.masked_array(["20", "21"], mask=[False, True])
    photometry, _ = convert(MAGNITUDES, [20.0, 20.0], [0.1, 0.1], mag_g=value)

    assert photometry.state[:, 0].tolist() == [DET, NO]
