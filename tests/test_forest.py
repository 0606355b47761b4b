"""The random forest: its own walk through the trees, its kernel, and what it refuses."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.tree import DecisionTreeRegressor

from photoz.errors import InputError
from photoz.estimators.cosines import CosineRegression, cosines_of_rank
from photoz.estimators.forest import ForestPhotoz
from photoz.estimators.smoothing import gaussian_kernel
from photoz.estimators.trees import Trees, galaxies_of


def make_galaxies(n_galaxies, seed=0):
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.05, 1.5, n_galaxies)
    X = np.column_stack([z_spec, z_spec**2, np.cos(z_spec)])
    X += 0.03 * generator.normal(size=X.shape)
    return X.astype(np.float32), z_spec


def make_forest(**parameters):
    defaults = {"n_trees": 10, "n_z": 201, "z_max": 2.0, "n_threads": 1, "random_state": 0}
    return ForestPhotoz(**defaults | parameters)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_walk_ends_in_the_leaf_that_scikit_learn_finds(missing):
    X, z_spec = make_galaxies(500)
    X[np.random.default_rng(1).random(X.shape) < missing] = np.nan
    fitted = DecisionTreeRegressor(min_samples_leaf=3, random_state=0).fit(X, z_spec)
    index = np.rint(z_spec / 0.01).astype(int)
    trees = Trees.grow(fitted.tree_, X, index, np.ones(500, dtype=int), 201)
    new, _ = make_galaxies(300, seed=2)
    new[::7, 1] = np.nan

    ours, theirs = trees.walk(new)[:, 0], fitted.apply(new)

    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs))


def test_leaf_holds_the_redshifts_of_its_rows():
    X, z_spec = make_galaxies(200)
    fitted = DecisionTreeRegressor(min_samples_leaf=5, random_state=0).fit(X, z_spec)
    index = np.rint(z_spec / 0.01).astype(int)
    trees = Trees.grow(fitted.tree_, X, index, np.ones(200, dtype=int), 201)

    histogram = trees.histogram(X[:1], trees.contents(201))[0]

    leaf = fitted.apply(X)
    expected = np.bincount(index[leaf == leaf[0]], minlength=201)
    assert_allclose(histogram, expected / expected.sum(), rtol=1e-6)


def test_joined_trees_average_their_histograms():
    X, z_spec = make_galaxies(200)
    index, count = np.rint(z_spec / 0.01).astype(int), np.ones(200, dtype=int)
    parts = [
        Trees.grow(DecisionTreeRegressor(max_depth=d).fit(X, z_spec).tree_, X, index, count, 201)
        for d in (1, 3, 2)
    ]
    joined = Trees.join(parts)

    mean = np.mean([part.histogram(X, part.contents(201)) for part in parts], axis=0)

    assert_allclose(joined.histogram(X, joined.contents(201)), mean, atol=1e-7)


def test_number_of_threads_changes_nothing():
    X, z_spec = make_galaxies(300)
    one, two = (make_forest(n_threads=n).fit(X, z_spec).predict_pdf(X).density for n in (1, 2))

    assert np.array_equal(one, two)


def test_kernel_is_never_narrower_than_two_steps():
    X, z_spec = make_galaxies(300)
    narrow = make_forest(bandwidth=1e-6, temperature=1.0).fit(X, z_spec).predict_pdf(X)

    assert (narrow.std() > 2 * 0.99 * narrow.step).all()


def test_kernel_loses_nothing_at_redshift_zero():
    z_grid = np.linspace(0, 2, 201)
    weight = np.full(201, z_grid[1])
    weight[[0, -1]] /= 2

    mass = gaussian_kernel(z_grid, 0.05) @ weight

    assert_allclose(mass[:50], np.sqrt(2 * np.pi), rtol=1e-3)


def test_copies_of_a_galaxy_do_not_narrow_what_is_chosen_out_of_bag():
    """Copies are the galaxy itself: a tree that drew one must not judge another."""
    X, z_spec = make_galaxies(300)
    generator = np.random.default_rng(1)
    # Features without a word on redshift, so that only a leak could look sharp.
    X = generator.normal(size=(300, 3)).astype(np.float32)
    copies = np.concatenate([X + 0.01 * generator.normal(size=X.shape) for _ in range(4)])

    forest = make_forest(n_trees=20).fit(copies, np.tile(z_spec, 4))

    assert forest.predict_pdf(generator.normal(size=(200, 3))).std().mean() > 0.3


def test_rounded_redshifts_are_learned_from():
    X, z_spec = make_galaxies(2000)
    test, z_test = make_galaxies(200, seed=3)

    z_phot = make_forest().fit(X, z_spec.round(1)).predict(test)

    assert np.median(np.abs(z_phot - z_test)) < 0.05


def test_max_rows_bounds_the_size():
    X, z_spec = make_galaxies(1000)
    whole, part = (make_forest(max_rows=n).fit(X, z_spec).trees_ for n in (1000, 100))

    assert len(part.child) < len(whole.child) / 4
    assert part.count.sum() == 10 * 100


def test_saved_forest_is_plain_arrays_without_training_rows(tmp_path):
    X, z_spec = make_galaxies(300)
    make_forest().fit(X, z_spec).save(tmp_path)

    with np.load(tmp_path / "forest.npz", allow_pickle=False) as saved:
        arrays = dict(saved)

    assert all(array.dtype != object for array in arrays.values())
    assert not any(len(X) in array.shape for array in arrays.values())


def test_regression_predicts_rows_from_fits_that_have_not_seen_them():
    """Where features know nothing, honest predictions have no correlation with the target."""
    generator = np.random.default_rng(0)
    X, z_spec = generator.normal(size=(150, 10)).astype(np.float32), generator.random(150)
    target = cosines_of_rank(z_spec, 1)

    regression, honest = CosineRegression.fit(X, target, np.ones(150), np.arange(150))

    assert np.corrcoef(regression.predict(X)[:, 0], target[:, 0])[0, 1] > 0.5
    assert np.corrcoef(honest[:, 0], target[:, 0])[0, 1] < 0.2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_trees": 0}, "n_trees must be a whole number, at least 1, got 0"),
        ({"max_features": 1.5}, "max_features must be a number, above 0 and at most 1, got 1.5"),
        ({"max_rows": 0}, "max_rows must be a whole number, at least 1, got 0"),
        (
            {"bandwidth": -0.1},
            "bandwidth must be a number, above 0, or None .* got -0.1",
        ),
    ],
)
def test_wrong_parameter_is_an_error(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_forest(**parameters).fit(*make_galaxies(50))


def test_rows_that_cannot_be_trusted_at_all_are_an_error():
    X, z_spec = make_galaxies(50)

    with pytest.raises(InputError, match="at least 2 training rows must have a weight"):
        make_forest().fit(X, z_spec, reliability=np.zeros(50))


def test_wrong_redshifts_of_known_frequency_are_taken_off():
    X, truth = make_galaxies(2000)
    generator = np.random.default_rng(1)
    wrong = generator.random(2000) < 0.2
    z_spec = np.where(wrong, generator.permutation(truth), truth)
    new, z_new = make_galaxies(500, seed=2)
    forest = make_forest(bandwidth=0.02, temperature=1.0, min_leaf=20)

    untold = forest.fit(X, z_spec).predict_pdf(new)
    told = forest.fit(X, z_spec, reliability=np.full(2000, 0.8)).predict_pdf(new)

    def near(pz):
        return np.mean(pz.cdf(z_new + 0.2) - pz.cdf(np.maximum(z_new - 0.2, 0)))

    assert near(untold) < 0.9
    assert near(told) > 0.97


def test_copies_are_known_by_their_repeating_redshifts():
    z_spec = np.array([0.3, 0.5, 0.3, 0.7])

    assert galaxies_of(np.tile(z_spec, 3)).tolist() == [0, 1, 2, 3] * 3
    assert galaxies_of(z_spec).tolist() == [0, 1, 2, 3]
    assert galaxies_of(np.append(np.tile(z_spec, 2), 0.3)).tolist() == list(range(9))
