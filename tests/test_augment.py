from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from photoz.augment import Augmentation, without_one_band
from photoz.photometry import Photometry, State

BANDS = ("g", "r", "i", "z")
OFF = {"noise_copies": 1, "noise_scale": 0.0, "depth_scale": 0.0}
ONE_MAGNITUDE = 0.4 * np.log(10)


@pytest.fixture(scope="module")
def galaxies():
    """Detected galaxies, a few of them with a band not detected, not observed, or negative."""
    generator = np.random.default_rng(0)
    error = np.full((4000, 4), [1.0, 2.0, 3.0, 4.0])
    flux = error * generator.uniform(20, 100, error.shape)
    state = np.full(error.shape, State.DETECTED, dtype=np.uint8)
    flux[:100, 0], state[:100, 0] = 0, State.NOT_DETECTED
    flux[100:200, 1], error[100:200, 1], state[100:200, 1] = np.nan, np.nan, State.NOT_OBSERVED
    flux[200:300, 2] = -1
    return Photometry(BANDS, flux, error, state)


def copies(photometry, random_state=0, **settings):
    """The copies alone, and the rows that they are copies of."""
    n_galaxies = len(photometry)
    augmented, rows = Augmentation(**settings).apply(photometry, random_state)
    return augmented[n_galaxies:], photometry[rows[n_galaxies:]]


def same(a, b):
    return all(
        np.array_equal(getattr(a, x.name), getattr(b, x.name), equal_nan=True)
        for x in fields(a)
        if isinstance(getattr(a, x.name), np.ndarray)
    )


@pytest.mark.parametrize("n_copies", [0, 1, 3])
def test_originals_come_first_and_unchanged(galaxies, n_copies):
    augmented, rows = Augmentation(n_copies, band_dropout=0.3).apply(galaxies, 0)

    assert same(augmented[: len(galaxies)], galaxies)
    assert_array_equal(rows, np.tile(np.arange(len(galaxies)), len(augmented) // len(galaxies)))


@pytest.mark.parametrize(
    ("settings", "n_copies"),
    [
        ({"noise_copies": 0, "depth_scale": 0}, 0),
        ({"noise_copies": 3, "depth_scale": 0}, 3),
        ({"noise_copies": 0, "depth_scale": 1}, 1),
        ({"noise_copies": 0, "depth_scale": 0, "band_dropout": 0.1}, 1),
        ({"noise_copies": 2, "band_dropout": 0.1}, 2),
    ],
)
def test_listed_noise_and_dropout_need_a_copy(galaxies, settings, n_copies):
    augmented, _ = Augmentation(**settings).apply(galaxies, 0)

    assert len(augmented) == len(galaxies) * (1 + n_copies)


def test_hidden_noise_is_that_share_of_the_error(galaxies):
    copy, original = copies(galaxies, **{**OFF, "noise_scale": 0.5})
    usual = original.state == State.DETECTED
    usual[200:300, 2] = False  # there the cap on the noise is below the error
    noise = ((copy.flux - original.flux) / original.flux_error)[usual]

    assert noise.mean() == pytest.approx(0, abs=4 * 0.5 / noise.size**0.5)
    assert noise.std() == pytest.approx(0.5, rel=4 / (2 * noise.size) ** 0.5)


def test_hidden_noise_is_not_listed(galaxies):
    copy, original = copies(galaxies, **{**OFF, "noise_scale": 0.5})

    assert_array_equal(copy.flux_error, original.flux_error)


def test_hidden_noise_is_at_most_a_magnitude():
    """An error larger than the flux would scatter the copy over all magnitudes."""
    flux, error = np.full((4000, 1), 10.0), np.full((4000, 1), 1e6)
    faint = Photometry(("g",), flux, error, np.full((4000, 1), State.DETECTED, dtype=np.uint8))
    copy, _ = copies(faint, **{**OFF, "noise_scale": 1.0})

    assert copy.flux.std() == pytest.approx(10 * ONE_MAGNITUDE, rel=0.05)


def test_listed_noise_adds_up_to_the_listed_error(galaxies):
    copy, original = copies(galaxies, **{**OFF, "depth_scale": 3.0})
    detected = original.state == State.DETECTED
    added = np.sqrt(copy.flux_error**2 - original.flux_error**2)[detected]
    noise = (copy.flux - original.flux)[detected]
    told_apart = added > 0.1

    assert np.std(noise[told_apart] / added[told_apart]) == pytest.approx(1, rel=0.05)


def test_listed_errors_follow_the_square_of_a_uniform(galaxies):
    copy, original = copies(galaxies, **{**OFF, "depth_scale": 3.0})
    ratio = copy.flux_error / original.flux_error
    scale = np.sqrt(np.nanmax(ratio, axis=1) ** 2 - 1)

    # s = 3 u^2 has the quantile 3 q^2.
    assert_allclose(np.quantile(scale, [0.25, 0.5, 0.75]), 3 * np.array([1, 4, 9]) / 16, atol=0.1)
    assert scale.max() <= 3
    assert_allclose(ratio / np.nanmax(ratio, axis=1, keepdims=True), 1 + 0 * ratio)


def test_hidden_noise_of_deeper_copies_is_that_share_of_the_geometric_mean_error(galaxies):
    settings = {**OFF, "depth_scale": 3.0}
    plain, original = copies(galaxies, **settings)
    copy, _ = copies(galaxies, **{**settings, "noise_scale": 0.5})
    usual = original.state == State.DETECTED
    usual[200:300, 2] = False  # there the cap on the noise is below the error
    unit = np.sqrt(original.flux_error * copy.flux_error)[usual]
    listed = np.sqrt(copy.flux_error**2 - original.flux_error**2)[usual]
    noise = (copy.flux - original.flux)[usual]

    assert_array_equal(copy.flux_error, plain.flux_error)
    scaled = noise / np.hypot(0.5 * unit, listed)
    assert scaled.std() == pytest.approx(1, rel=4 / (2 * noise.size) ** 0.5)


def test_without_noise_a_copy_is_the_original(galaxies):
    copy, original = copies(galaxies, **OFF)

    assert same(copy, original)


def test_what_was_not_detected_gets_no_flux(galaxies):
    copy, original = copies(galaxies, noise_copies=2)
    undetected = original.state == State.NOT_DETECTED

    assert_array_equal(copy.flux[undetected], 0)
    assert_array_equal(copy.state, original.state)


def test_what_was_not_observed_stays_so(galaxies):
    copy, original = copies(galaxies, noise_copies=2, band_dropout=0.5)
    missing = original.state == State.NOT_OBSERVED

    assert (copy.state[missing] == State.NOT_OBSERVED).all()
    assert np.isnan(copy.flux[missing]).all()


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_dropped_bands_are_not_observed_and_never_all(dropout, seed):
    flux, state = np.full((200, 4), 10.0), np.full((200, 4), State.DETECTED, dtype=np.uint8)
    state[:50, 1:], flux[:50, 1:] = State.NOT_OBSERVED, np.nan
    full = Photometry(BANDS, flux, np.where(np.isnan(flux), np.nan, 1.0), state)
    copy, _ = copies(full, seed, **OFF, band_dropout=dropout)
    missing = copy.state == State.NOT_OBSERVED

    assert_array_equal(np.isnan(copy.flux), missing)
    assert_array_equal(np.isnan(copy.flux_error), missing)
    assert (copy.n_observed > 0).all()


def test_each_band_is_dropped_as_often_as_asked_for(galaxies):
    copy, _ = copies(galaxies[300:], **OFF, band_dropout=0.2)
    dropped = (copy.state == State.NOT_OBSERVED).mean(axis=0)

    assert_allclose(dropped, 0.2, atol=4 * np.sqrt(0.2 * 0.8 / len(copy)))


def test_copies_differ_from_each_other(galaxies):
    augmented, _ = Augmentation(2).apply(galaxies, 0)
    first, second = augmented[len(galaxies) : 2 * len(galaxies)], augmented[2 * len(galaxies) :]
    detected = galaxies.state == State.DETECTED

    assert (first.flux[detected] != second.flux[detected]).all()


def test_same_seed_same_copies(galaxies):
    first, again = (Augmentation(2, band_dropout=0.2).apply(galaxies, 7)[0] for _ in range(2))

    assert same(first, again)


def test_originals_are_not_changed(galaxies):
    before = galaxies[np.arange(len(galaxies))]
    Augmentation(2, band_dropout=0.5).apply(galaxies, 0)

    assert same(galaxies, before)


def test_no_galaxies_give_no_copies(galaxies):
    augmented, rows = Augmentation(2, band_dropout=0.2).apply(galaxies[:0], 0)

    assert len(augmented) == len(rows) == 0


@pytest.mark.parametrize("name", ["noise_copies", "noise_scale", "depth_scale"])
def test_negative_settings_are_refused(name):
    with pytest.raises(ValueError, match=f"must not be negative, got .*{name}=-1"):
        Augmentation(**{name: -1})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2.0, np.nan])
def test_dropout_is_a_probability_below_one(dropout):
    with pytest.raises(ValueError, match="at least 0 and below 1, got"):
        Augmentation(band_dropout=dropout)


def test_settings_survive_a_dictionary():
    settings = Augmentation(noise_copies=3, noise_scale=0.2, depth_scale=1.0, band_dropout=0.1)

    assert Augmentation(**settings.to_dict()) == settings


def test_one_band_is_taken_from_each_galaxy(galaxies):
    incomplete = without_one_band(galaxies, 0)

    before = galaxies.state != State.NOT_OBSERVED
    after = incomplete.state != State.NOT_OBSERVED
    assert (before.sum(axis=1) - after.sum(axis=1) == 1).all()
    assert not (after & ~before).any()
    assert np.isnan(incomplete.flux[~after]).all()
    assert_array_equal(incomplete.flux[after], galaxies.flux[after])
    # Every band is as likely as the others to go.
    assert_allclose((before & ~after)[300:].mean(axis=0), 0.25, atol=0.03)


def test_only_band_of_a_galaxy_stays():
    state = np.array([[State.NOT_OBSERVED, State.DETECTED]], dtype=np.uint8)
    single = Photometry(("g", "r"), np.array([[np.nan, 5.0]]), np.array([[np.nan, 1.0]]), state)

    assert_array_equal(without_one_band(single, 0).state, state)


def test_many_galaxies_get_fewer_copies():
    settings = Augmentation(9, depth_scale=0)

    assert [settings.n_copies(n) for n in (10_000, 60_000, 120_000, 200_000)] == [9, 4, 1, 0]
    assert Augmentation(9, depth_scale=3.0).n_copies(2_000_000) == 1
