import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.errors import InputError
from photoz.features import PhotometricFeatures
from photoz.photometry import Photometry, State

BANDS = ("g", "r", "i")
U_G, U_R, U_I, G_R, R_I, ERROR_G, ERROR_R, ERROR_I = range(8)


def observed(flux, error):
    flux, error = np.asarray(flux, dtype=float), np.asarray(error, dtype=float)
    return Photometry(BANDS, flux, error, np.full(flux.shape, State.DETECTED, dtype=np.uint8))


def change(photometry, row, band, flux, error, state):
    """The same photometry with one other measurement."""
    new = photometry[np.arange(len(photometry))]
    new.flux[row, band], new.flux_error[row, band], new.state[row, band] = flux, error, state
    return new


@pytest.fixture
def bright():
    generator = np.random.default_rng(0)
    flux = 10 ** generator.uniform(3, 5, (50, 3))
    return observed(flux, np.full((50, 3), [1.0, 2.0, 4.0]))


@pytest.fixture
def fitted(bright):
    return PhotometricFeatures(errors=True).fit(bright)


def test_every_column_has_a_name(fitted, bright):
    assert fitted.names == [
        "g", "r", "i", "g-r", "r-i", "log_error_g", "log_error_r", "log_error_i",
    ]  # fmt: skip
    assert fitted.transform(bright).shape == (50, len(fitted.names))


def test_errors_are_features_only_where_asked_for(bright):
    features = PhotometricFeatures(errors=False).fit(bright)

    assert features.names == ["g", "r", "i", "g-r", "r-i"]
    assert features.transform(bright).shape == (50, 5)


def test_bright_galaxies_have_their_magnitudes(fitted, bright):
    """At S/N of 250 and more a luptitude is the magnitude to a part in 10^4."""
    X = fitted.transform(bright)

    assert_allclose(X[:, [U_G, U_R, U_I]], bright.magnitude, atol=1e-4)


def test_colours_are_differences_of_neighbours(fitted, bright):
    X = fitted.transform(bright)

    assert_allclose(X[:, G_R], X[:, U_G] - X[:, U_R], atol=1e-5)
    assert_allclose(X[:, R_I], X[:, U_R] - X[:, U_I], atol=1e-5)


def test_colours_do_not_depend_on_distance(fitted, bright):
    farther = observed(bright.flux / 2, bright.flux_error)

    assert_allclose(
        fitted.transform(farther)[:, [G_R, R_I]],
        fitted.transform(bright)[:, [G_R, R_I]],
        atol=1e-3,
    )


def test_error_features_are_log_errors(fitted, bright):
    X = fitted.transform(bright)

    assert_allclose(X[:, [ERROR_G, ERROR_R, ERROR_I]], np.log10(bright.flux_error), rtol=1e-6)


@pytest.mark.parametrize(
    ("band", "lost"),
    [(0, {U_G, G_R, ERROR_G}), (1, {U_R, G_R, R_I, ERROR_R}), (2, {U_I, R_I, ERROR_I})],
)
def test_unobserved_band_is_nan_in_all_that_needs_it(fitted, bright, band, lost):
    unobserved = change(bright, 0, band, np.nan, np.nan, State.NOT_OBSERVED)
    X = fitted.transform(unobserved)

    assert set(np.flatnonzero(np.isnan(X[0]))) == lost
    assert not np.isnan(X[1:]).any()


def test_not_detected_is_faint_and_not_unobserved(fitted, bright):
    X = fitted.transform(change(bright, 0, 0, 0.0, np.nan, State.NOT_DETECTED))

    assert np.isfinite(X).all()
    assert X[0, U_G] > X[1:, U_G].max()
    assert X[0, ERROR_G] == pytest.approx(np.log10(fitted.depth_[0]), rel=1e-6)


def test_negative_flux_is_fainter_than_none(fitted):
    flux = [-2.0, -1.0, 0.0, 1.0, 2.0]
    faint = observed(np.stack([flux] * 3, axis=1), np.ones((5, 3)))
    luptitude = fitted.transform(faint)[:, [U_G, U_R, U_I]]

    assert np.isfinite(luptitude).all()
    assert (np.diff(luptitude, axis=0) < 0).all()


def test_depth_is_the_error_of_the_faintest_tenth():
    """Errors of bright galaxies grow with their own photon noise, faint ones show the sky."""
    flux = np.stack([np.arange(1.0, 101.0)] * 3, axis=1)
    error = np.where(flux <= 10, 3.0, 3.0 + flux)

    assert_allclose(PhotometricFeatures().fit(observed(flux, error)).depth_, 3)


def test_depth_is_learned_from_detected_galaxies_only(bright):
    """The error column of what was not detected may hold anything."""
    changed = change(bright, 0, 1, 0.0, 1e9, State.NOT_DETECTED)

    assert_allclose(PhotometricFeatures().fit(changed).depth_, [1, 2, 4])


def test_known_depth_is_taken_over(bright):
    features = PhotometricFeatures().fit(bright, depth={"r": 31.4 - 2.5})

    assert_allclose(features.depth_, [1, 10, 4])


def test_band_without_any_detection_is_an_error(bright):
    dark = Photometry(
        BANDS,
        np.where([True, False, True], bright.flux, 0),
        bright.flux_error,
        np.where([True, False, True], bright.state, State.NOT_DETECTED).astype(np.uint8),
    )

    with pytest.raises(InputError, match=r"no galaxy is detected in band 'r'.*\[survey\] depth"):
        PhotometricFeatures().fit(dark)
    assert PhotometricFeatures().fit(dark, depth={"r": 27.0}).depth_[1] > 0


def test_extra_columns_come_last_and_as_they_are(bright):
    extra = np.linspace(0, 1, 50)[:, np.newaxis].copy()
    extra[3] = np.nan
    photometry = Photometry(
        BANDS, bright.flux, bright.flux_error, bright.state, extra, ("half_light_radius",)
    )
    features = PhotometricFeatures(errors=False).fit(photometry)

    assert features.names[-1] == "half_light_radius"
    assert_allclose(features.transform(photometry)[:, -1], extra[:, 0], rtol=1e-6)


def test_other_bands_are_refused(fitted, bright):
    swapped = Photometry(("r", "g", "i"), bright.flux, bright.flux_error, bright.state)

    with pytest.raises(InputError, match=r"expected the bands .* g, r, i, found r, g, i"):
        fitted.transform(swapped)


def test_features_of_a_galaxy_are_its_own(fitted, bright):
    rows = np.array([30, 2, 17])

    assert_array_equal(fitted.transform(bright[rows]), fitted.transform(bright)[rows])


def test_no_galaxies_give_no_rows(fitted, bright):
    assert fitted.transform(bright[:0]).shape == (0, 8)


def test_features_survive_json(fitted, bright):
    again = PhotometricFeatures.from_dict(json.loads(json.dumps(fitted.to_dict())))

    assert again.names == fitted.names
    assert_array_equal(again.transform(bright), fitted.transform(bright))
