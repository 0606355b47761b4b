"""Occupancy: what it knows of the training galaxies, and what it does not hold of them."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from photoz.features import PhotometricFeatures
from photoz.mock import make_mock_catalogue
from photoz.occupancy import Occupancy

N_TRAIN = 4000


@pytest.fixture(scope="module")
def luptitude():
    photometry = make_mock_catalogue(8000, not_observed=0.02, random_state=3).photometry
    return photometry.luptitude(PhotometricFeatures().fit(photometry).depth_)


@pytest.fixture(scope="module")
def occupancy(luptitude):
    return Occupancy.learn(luptitude[:N_TRAIN])


@pytest.mark.parametrize("n_train", [300, 1000, N_TRAIN])
def test_one_in_a_hundred_of_the_same_kind_is_outside(luptitude, n_train):
    outside = Occupancy.learn(luptitude[:n_train]).is_outside(luptitude[N_TRAIN:])

    # 1 % was asked for; small samples know their own edges less well.
    assert 0.003 < outside.mean() < (0.02 if n_train >= 1000 else 0.04)


def test_bands_of_different_galaxies_are_outside(luptitude, occupancy, rng):
    mixed = np.column_stack([rng.permutation(band) for band in luptitude[N_TRAIN:].T])

    assert occupancy.is_outside(mixed).mean() > 0.95


def test_a_hole_between_two_kinds_of_galaxies_is_outside(rng):
    """Its magnitude and each of its colours lie within those of the training galaxies."""
    blue = rng.normal([22.0, 21.5, 21.5], 0.05, (500, 3))
    red = rng.normal([22.0, 20.5, 19.0], 0.05, (500, 3))
    occupancy = Occupancy.learn(np.concatenate([blue, red]))
    between = np.array([[22.0, 21.0, 20.25]])

    assert occupancy.is_outside(between).all()
    assert not occupancy.is_outside(np.array([[22.0, 21.5, 21.5], [22.0, 20.5, 19.0]])).any()


def test_unobserved_bands_do_not_count(luptitude, occupancy):
    galaxies = luptitude[N_TRAIN:].copy()
    whole = occupancy.is_outside(galaxies)
    galaxies[:, 0] = np.nan
    galaxies[5:, 1:] = np.nan

    assert not (occupancy.is_outside(galaxies) & ~whole).any()
    assert not occupancy.is_outside(galaxies)[5:].any()


def test_far_away_is_outside(luptitude, occupancy):
    for band in range(6):
        far = luptitude[:20].copy()
        far[:, band] = 1e9
        assert occupancy.is_outside(far)[~np.isnan(luptitude[:20]).any(axis=1)].all()


def test_a_galaxy_does_not_depend_on_the_others(luptitude, occupancy):
    alone = np.concatenate([occupancy.is_outside(row[np.newaxis]) for row in luptitude[:50]])

    assert_array_equal(alone, occupancy.is_outside(luptitude)[:50])


def test_what_is_saved_comes_back(luptitude, occupancy):
    content = json.loads(json.dumps(occupancy.to_dict()))

    assert_array_equal(Occupancy.from_dict(content).occupied, occupancy.occupied)
    assert_array_equal(
        Occupancy.from_dict(content).is_outside(luptitude), occupancy.is_outside(luptitude)
    )


def test_it_stays_small(luptitude):
    largest = Occupancy.learn(np.tile(luptitude, (20, 1)))

    assert len(json.dumps(largest.to_dict())) < 20_000


def test_a_band_pair_never_observed_together_is_no_obstacle(rng):
    luptitude = rng.normal(22, 1, (200, 3))
    luptitude[:100, 0], luptitude[100:, 1] = np.nan, np.nan

    assert Occupancy.learn(luptitude).is_outside(luptitude).mean() < 0.05


def test_no_galaxies_are_a_valid_input(occupancy):
    assert occupancy.is_outside(np.empty((0, 6))).shape == (0,)
