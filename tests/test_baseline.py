"""The floors: n(z) for every galaxy, and nearest neighbours."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from photoz.estimators.baseline import KnnPhotoz, TrainzPhotoz


def make_galaxies(n_galaxies, seed=0):
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.1, 1.5, n_galaxies)
    X = np.column_stack([z_spec, 10 * np.cos(z_spec)]) + 0.02 * generator.normal(
        size=(n_galaxies, 2)
    )
    return X.astype(np.float32), z_spec


def test_trainz_is_the_weighted_n_of_z():
    z_spec = np.array([0.5, 1.5, 1.5])
    X = np.zeros((3, 1))

    pz = TrainzPhotoz(z_max=2.0).fit(X, z_spec, [2.0, 1.0, 1.0]).predict_pdf(X[:1])

    # Half of the weight stands at either redshift.
    assert_allclose(pz.cdf(1.0), 0.5, atol=1e-4)
    assert_allclose(pz.mean(), 1.0, atol=1e-4)


def test_trainz_is_the_same_for_every_galaxy():
    X, z_spec = make_galaxies(100)

    density = TrainzPhotoz().fit(X, z_spec).predict_pdf(X).density

    assert (density == density[0]).all()


def test_one_neighbour_gives_a_gaussian_at_its_redshift():
    X, z_spec = make_galaxies(100)

    pz = KnnPhotoz(n_neighbours=1, bandwidth=0.02).fit(X, z_spec).predict_pdf(X)

    assert_allclose(pz.mode(), z_spec, atol=1e-3)
    assert_allclose(pz.std(), 0.02, rtol=0.02)


def test_scale_of_a_feature_does_not_matter():
    X, z_spec = make_galaxies(200)
    scaled = X * np.array([1, 1000], dtype=np.float32) + np.float32(5)

    plain = KnnPhotoz(bandwidth=0.05).fit(X, z_spec).predict_pdf(X[:20]).density
    other = KnnPhotoz(bandwidth=0.05).fit(scaled, z_spec).predict_pdf(scaled[:20]).density

    assert_allclose(other, plain, atol=0.02 * plain.max())


def test_feature_that_was_never_observed_changes_nothing():
    X, z_spec = make_galaxies(100)
    wide = np.column_stack([X, np.full(100, np.nan, dtype=np.float32)])

    plain = KnnPhotoz(bandwidth=0.05).fit(X, z_spec).predict_pdf(X).density
    other = KnnPhotoz(bandwidth=0.05).fit(wide, z_spec).predict_pdf(wide).density

    assert np.array_equal(plain, other)


def test_galaxy_without_reliability_is_no_neighbour():
    X, z_spec = make_galaxies(100)
    wrong = np.concatenate([z_spec, np.full(100, 1.9)])
    reliability = np.repeat([1.0, 0.0], 100)
    knn = KnnPhotoz(bandwidth=0.05, z_max=2.0)
    twice = np.concatenate([X, X])

    trusted = knn.fit(twice, wrong, reliability=reliability).predict_pdf(X).density

    assert np.array_equal(trusted, knn.fit(X, z_spec).predict_pdf(X).density)


def test_copies_of_a_galaxy_do_not_narrow_the_bandwidth():
    """A copy is the galaxy itself: the bandwidth must be judged without it."""
    _, z_spec = make_galaxies(200)
    X = np.random.default_rng(1).normal(size=(200, 2))

    chosen = KnnPhotoz(z_max=2.0).fit(np.tile(X, (4, 1)), np.tile(z_spec, 4)).tuned_

    assert chosen["bandwidth"] > 0.1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbours": 0}, "n_neighbours must be a whole number, at least 1, got 0"),
        ({"bandwidth": 0.0}, "bandwidth must be a number, above 0, or None to be chosen, got 0.0"),
    ],
)
def test_wrong_parameter_is_an_error(parameters, message):
    with pytest.raises(ValueError, match=message):
        KnnPhotoz(**parameters).fit(*make_galaxies(50))
