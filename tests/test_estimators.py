"""The contract: what every photo-z estimator must do, whatever its algorithm."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from photoz.errors import InputError
from photoz.estimators import ESTIMATORS, get_estimator
from photoz.estimators.base import Choice, Range
from photoz.pdf import RedshiftPDF
from photoz.settings_tables import tried

SMALL = {
    "forest": {"n_trees": 8, "n_threads": 1},
    "boosting": {"n_components": 2, "n_rounds": 30, "n_threads": 1},
    "network": {"width": 16, "layers": 2, "n_components": 3, "updates": 150, "members": 1},
    "trainz": {},
    "knn": {},
}
"""Parameters that make fits quick, for each estimator that has some to make quick."""

CHECKED = {
    "forest": {"n_trees": 5, "bandwidth": 0.01, "temperature": 1.0},
    "boosting": {"n_rounds": 15},
}
"""What else makes the fifty checks of scikit-learn quick: choosing a kernel is slow."""

UNEQUAL_WEIGHTS = {
    "forest": "the bootstrap draws by weight",
    "boosting": "leaves are limited in rows, not in weight",
    "network": "minibatches draw rows",
    "knn": "a neighbour of weight two takes one of the places, not two",
}
"""Why a weight of two is not the same as two rows, for those for which it is not; their own
tests called test_weights_count_as_galaxies ask for what holds in its place."""


def estimator_for_tests(name, **parameters):
    return get_estimator(name)(**{"z_max": 2.0, "n_z": 201, **SMALL[name], **parameters})


def make_galaxies(n_galaxies, seed):
    """Four colours that bend with redshift, with noise; one in ten colours is missing."""
    generator = np.random.default_rng(seed)
    z_spec = generator.gamma(4, 0.15, n_galaxies).clip(0.01, 1.9)
    phase = np.array([0.0, 0.5, 1.0, 1.5])
    X = np.sin(2 * z_spec[:, np.newaxis] + phase) + 0.05 * generator.normal(size=(n_galaxies, 4))
    X[generator.random(X.shape) < 0.1] = np.nan
    return X.astype(np.float32), z_spec


def cde_loss(z_spec, pz):
    return np.mean(np.trapezoid(pz.density**2, pz.z_grid, axis=1) - 2 * pz.at(z_spec))


TRAIN, TEST = make_galaxies(400, 1), make_galaxies(300, 2)

each = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request):
    return estimator_for_tests(request.param, random_state=0).fit(*TRAIN)


def test_pdf_is_a_density(fitted):
    pz = fitted.predict_pdf(TEST[0])

    assert pz.density.shape == (len(TEST[0]), fitted.n_z)
    assert (pz.density >= 0).all()
    assert_allclose(np.trapezoid(pz.density, pz.z_grid, axis=1), 1, atol=1e-5)


@each
def test_a_wide_range_of_redshifts_keeps_a_fine_grid(name, tmp_path):
    X, z_spec = TRAIN[0], 3.5 * TRAIN[1]
    estimator = get_estimator(name)(**SMALL[name], random_state=0).fit(X, z_spec)
    estimator.save(tmp_path)
    loaded = type(estimator).load(tmp_path)

    assert estimator.z_grid_[-1] == pytest.approx(1.05 * (1 + z_spec.max()) - 1)
    assert estimator.z_grid_[1] <= 0.004
    assert_allclose(loaded.z_grid_, estimator.z_grid_)
    assert loaded.predict_pdf(X[:2]).density.shape == (2, len(estimator.z_grid_))


def test_photometry_beats_n_of_z(fitted):
    floor = estimator_for_tests("trainz").fit(*TRAIN).predict_pdf(TEST[0])
    loss, of_floor = cde_loss(TEST[1], fitted.predict_pdf(TEST[0])), cde_loss(TEST[1], floor)

    if type(fitted) is get_estimator("trainz"):
        assert loss == of_floor
    else:
        assert loss < of_floor


def test_same_seed_gives_same_density(fitted):
    again = type(fitted)(**fitted.get_params()).fit(*TRAIN)

    assert np.array_equal(again.predict_pdf(TEST[0]).density, fitted.predict_pdf(TEST[0]).density)


def test_density_depends_on_its_galaxy_only(fitted):
    X = TEST[0]
    whole = fitted.predict_pdf(X).density
    backwards = fitted.predict_pdf(X[::-1]).density[::-1]
    chunks = np.concatenate([fitted.predict_pdf(part).density for part in np.split(X, [1, 8, 99])])

    peak = whole.max(axis=1, keepdims=True)
    assert (np.abs(backwards - whole) <= 1e-5 * peak).all()
    assert (np.abs(chunks - whole) <= 1e-5 * peak).all()


def test_new_process_gives_same_density(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    np.save(tmp_path / "X.npy", TEST[0])
    name = next(name for name in ESTIMATORS if get_estimator(name) is type(fitted))
    script = (
        "import numpy as np; from pathlib import Path;"
        "from photoz.estimators import get_estimator;"
        f"estimator = get_estimator({name!r}).load(Path('model'));"
        "np.save('density.npy', estimator.predict_pdf(np.load('X.npy')).density)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)

    density = fitted.predict_pdf(TEST[0]).density
    peak = density.max(axis=1, keepdims=True)
    assert (np.abs(np.load(tmp_path / "density.npy") - density) <= 1e-5 * peak).all()


def test_no_galaxies_are_a_valid_input(fitted):
    pz = fitted.predict_pdf(np.empty((0, 4), dtype=np.float32))

    assert isinstance(pz, RedshiftPDF)
    assert pz.density.shape == (0, fitted.n_z)
    assert fitted.predict(np.empty((0, 4), dtype=np.float32)).shape == (0,)


@each
def test_feature_may_be_missing_at_prediction_only(name):
    X, z_spec = np.nan_to_num(TRAIN[0]), TRAIN[1]
    missing = X[:5].copy()
    missing[:, 1] = np.nan

    pz = estimator_for_tests(name, random_state=0).fit(X, z_spec).predict_pdf(missing)

    assert np.isfinite(pz.density).all()


@each
def test_rows_without_weight_hardly_matter(name):
    X, z_spec = TRAIN
    garbage = np.random.default_rng(3).permutation(z_spec)
    weight = np.repeat([1.0, 0.0], len(z_spec))
    weighted = estimator_for_tests(name, random_state=0).fit(
        np.concatenate([X, X]), np.concatenate([z_spec, garbage]), weight
    )
    polluted = estimator_for_tests(name, random_state=0).fit(
        np.concatenate([X, X]), np.concatenate([z_spec, garbage])
    )
    clean = estimator_for_tests(name, random_state=0).fit(X, z_spec)

    losses = [cde_loss(TEST[1], e.predict_pdf(TEST[0])) for e in (weighted, clean, polluted)]
    if name == "trainz":
        assert_allclose(losses[0], losses[1], rtol=1e-4)
    else:
        assert abs(losses[0] - losses[1]) < 0.5 * (losses[2] - losses[1])


@each
@pytest.mark.parametrize(
    ("wrong", "message"),
    [(2.5, "up to z_max = 2, found 2.5"), (-0.1, "found -0.1"), (np.nan, "NaN")],
)
def test_redshift_off_the_grid_is_an_error(name, wrong, message):
    z_spec = TRAIN[1].copy()
    z_spec[7] = wrong

    # That of NaN is scikit-learn's own.
    with pytest.raises(ValueError if np.isnan(wrong) else InputError, match=re.escape(message)):
        estimator_for_tests(name).fit(TRAIN[0], z_spec)


@pytest.mark.parametrize("weight", [np.zeros(400), np.full(400, -1.0), np.ones(3)])
def test_weights_that_cannot_be_are_an_error_of_the_input(weight):
    with pytest.raises(InputError, match=r"sample_weight must have shape \(400,\)"):
        estimator_for_tests("trainz").fit(*TRAIN, sample_weight=weight)


@each
def test_reliability_is_accepted_and_checked(name):
    estimator = estimator_for_tests(name, random_state=0)
    estimator.fit(*TRAIN, reliability=np.full(len(TRAIN[1]), 0.95))

    assert np.isfinite(estimator.predict_pdf(TEST[0]).density).all()
    with pytest.raises(InputError, match="reliability must hold 400 probabilities"):
        estimator.fit(*TRAIN, reliability=np.full(len(TRAIN[1]), 1.5))


@pytest.mark.parametrize("name", ["forest", "boosting", "network"])
def test_step_may_end_the_fit(name):
    def stop(step, loss):
        assert step > 0
        assert np.isfinite(loss)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        estimator_for_tests(name, random_state=0).fit(*TRAIN, validation=TEST, on_step=stop)


@pytest.mark.parametrize("name", ["forest", "boosting", "network"])
def test_steps_without_validation_rows_are_told_without_a_loss(name):
    told, alone = [], estimator_for_tests(name, random_state=0).fit(*TRAIN)
    watched = estimator_for_tests(name, random_state=0)
    watched.fit(*TRAIN, on_step=lambda step, loss: told.append((step, loss)))
    steps, losses = np.array(told).T

    assert len(steps) > 2
    assert (np.diff(steps) > 0).all()
    assert steps[0] >= 1
    assert steps[-1] <= watched.n_steps
    assert np.isnan(losses).all()
    assert (watched.predict(TEST[0]) == alone.predict(TEST[0])).all()


@each
def test_tuned_parameters_repeat_the_choice(name):
    chosen = estimator_for_tests(name, random_state=0).fit(*TRAIN, validation=TEST)
    repeated = estimator_for_tests(name, random_state=0, **chosen.tuned_).fit(*TRAIN)

    a, b = (estimator.predict_pdf(TEST[0]).density for estimator in (chosen, repeated))
    assert_allclose(b, a, atol=1e-4 * a.max())


@each
def test_limits_hold_defaults_and_what_is_searched_and_leave_no_parameter_out(name):
    estimator_class = get_estimator(name)
    defaults = estimator_class().get_params(deep=False)
    for space in (estimator_class.trial_parameters(), estimator_class.fold_parameters(), defaults):
        for parameter, value in space.items():
            estimator_class.check_parameter(parameter, value)
    for parameter, searched in estimator_class.search_space().items():
        for value in tried(searched):
            estimator_class.check_parameter(parameter, value)

    for parameter in set(defaults) - {"random_state"}:
        with pytest.raises(InputError, match=f"{parameter} must be .*, got 'wrong'"):
            estimator_class.check_parameter(parameter, "wrong")


@each
def test_search_space_holds_constructor_parameters(name):
    cls = get_estimator(name)
    for parameter, values in cls.search_space().items():
        assert isinstance(values, Range | Choice)
        for end in tried(values):
            assert cls(**{parameter: end}).get_params()[parameter] == end
    assert set(cls.trial_parameters()) | set(cls.fold_parameters()) <= set(cls().get_params())


def expected_failures(estimator):
    name = next(name for name in ESTIMATORS if get_estimator(name) is type(estimator))
    if name not in UNEQUAL_WEIGHTS:
        return {}
    kinds = ("dense", "sparse")
    return {
        f"check_sample_weight_equivalence_on_{kind}_data": UNEQUAL_WEIGHTS[name] for kind in kinds
    }


# scikit-learn's checks draw targets far beyond any redshift, hence the wide grid.
@parametrize_with_checks(
    [
        estimator_for_tests(name, z_max=400, n_z=401, **CHECKED.get(name, {}))
        for name in ESTIMATORS
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_contract(estimator, check, monkeypatch):
    # p(z) is of single precision, and its last digit may follow a galaxy's place in memory.
    allclose = partial(estimator_checks.assert_allclose_dense_sparse, rtol=1e-6)
    monkeypatch.setattr(estimator_checks, "assert_allclose_dense_sparse", allclose)

    check(estimator)


@each
def test_galaxies_of_no_weight_change_nothing(name):
    """Neither the grid nor the scale of the inputs."""
    X, z_spec = TRAIN
    wild = np.full((40, X.shape[1]), -99, dtype=X.dtype), np.full(40, 1.9)
    both = np.concatenate([X, wild[0]]), np.concatenate([z_spec, wild[1]])
    weight = np.repeat([1.0, 0.0], [len(X), 40])

    found, expected = (
        estimator_for_tests(name, random_state=0).fit(*rows, **given).predict_pdf(TEST[0])
        for rows, given in ((both, {"sample_weight": weight}), (TRAIN, {}))
    )

    assert_array_equal(found.density, expected.density)


def test_too_few_galaxies_with_weight_are_an_error():
    weight = np.r_[1.0, np.zeros(len(TRAIN[1]) - 1)]

    with pytest.raises(InputError, match="expected 2 galaxies or more with a weight above 0"):
        estimator_for_tests("forest").fit(*TRAIN, sample_weight=weight)


@each
def test_validation_redshifts_beyond_the_grid_are_an_error(name):
    with pytest.raises(InputError, match="validation must hold redshifts from 0 to z_max = 2"):
        estimator_for_tests(name).fit(*TRAIN, validation=(TEST[0][:5], np.full(5, 9.0)))


@each
@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, np.random.RandomState(0)])
def test_a_seed_that_is_none_is_an_error_of_every_family(name, seed):
    with pytest.raises(InputError, match="random_state must be a whole number, at least 0"):
        estimator_for_tests(name).set_params(random_state=seed).fit(*TRAIN)


def test_parameters_out_of_numpy_are_saved(tmp_path):
    estimator = estimator_for_tests("forest", n_trees=np.int64(3), max_features=np.float32(0.5))
    estimator.fit(*TRAIN).save(tmp_path)

    assert type(estimator).load(tmp_path).n_trees == 3
