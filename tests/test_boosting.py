import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.estimators.base import Rows
from photoz.estimators.boosting import BoostingPhotoz
from photoz.estimators.labels import n_of_z_at
from photoz.estimators.linear_leaves import Scaling, add_steps, newton_steps
from photoz.estimators.mixture_likelihood import MixtureLikelihood, starting_scores
from photoz.metrics import cde_loss, log_loss
from photoz.pdf import RedshiftPDF

SMALL = {"n_components": 3, "n_rounds": 40, "z_max": 3.0, "n_z": 301, "n_threads": 1}


def draw(n_galaxies, seed):
    """Features that tell the redshift up to a scatter of 0.05, and one that tells nothing."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.1, 2.0, n_galaxies)
    shift = generator.normal(0, 0.05, n_galaxies)
    X = np.stack(
        [20 + z_spec + shift, np.sin(2 * (z_spec + shift)), generator.random(n_galaxies)], axis=1
    )
    return X.astype(np.float32), z_spec


@pytest.fixture(scope="module")
def train():
    return draw(1500, 0)


@pytest.fixture(scope="module")
def galaxies():
    return draw(2000, 1)


@pytest.fixture(scope="module")
def fitted(train):
    return BoostingPhotoz(**SMALL, random_state=0).fit(*train)


def test_held_out_galaxies_are_predicted_better_than_by_n_of_z(fitted, train, galaxies):
    X, z_spec = galaxies
    counts, _ = np.histogram(train[1], np.append(fitted.z_grid_, 3.01) - 0.005)
    floor = RedshiftPDF.from_weights(fitted.z_grid_, np.tile(counts, (len(X), 1)))
    pz = fitted.predict_pdf(X)

    assert cde_loss(z_spec, pz) < 3 * cde_loss(z_spec, floor)
    assert abs(np.median(pz.cdf(z_spec)) - 0.5) < 0.05


def test_one_set_of_features_may_mean_two_redshifts():
    generator = np.random.default_rng(0)
    z_spec = np.where(generator.random(2000) < 0.5, 0.5, 1.5) + generator.normal(0, 0.03, 2000)
    X = generator.random((2000, 2))
    model = BoostingPhotoz(**{**SMALL, "ridge": 1000}, random_state=0)

    model.fit(X[:1500], z_spec[:1500], validation=(X[1500:], z_spec[1500:]))
    pz = model.predict_pdf(X[:50])

    assert_allclose(pz.cdf(1.0), 0.5, atol=0.35)
    assert_allclose(pz.cdf(1.0).mean(), 0.5, atol=0.05)
    assert (pz.at(np.full(50, 1.0)) < 0.1 * pz.at(np.full(50, 0.5))).all()


def likelihood(n_galaxies=20, **doubts):
    generator = np.random.default_rng(0)
    z_spec = generator.uniform(0.1, 2, n_galaxies)
    scores = generator.normal(0, 1, (9, n_galaxies))
    return MixtureLikelihood(z_spec, narrowest=0.1, z_max=3.0, **doubts), scores


def log_likelihood(mixture, scores):
    """The definition, one galaxy and one component at a time."""
    total = 0.0
    for i, z in enumerate(mixture.z_spec):
        logits, means, widths = scores[:, i].reshape(3, -1)
        weights = np.exp(logits) / np.exp(logits).sum()
        sigmas = np.sqrt(np.exp(2 * widths) + mixture.narrowest**2)
        normal = np.exp(-0.5 * ((z - means) / sigmas) ** 2) / sigmas / np.sqrt(2 * np.pi)
        p = (weights * normal).sum()
        if mixture.reliability is not None:
            r = mixture.reliability[i]
            p = r * p + (1 - r) * mixture.background[i]
        total += np.log(p)
    return total


@pytest.mark.parametrize(
    "doubts", [{}, {"reliability": np.linspace(0.1, 1, 20), "background": np.full(20, 0.4)}]
)
def test_gradient_is_the_numerical_derivative(doubts):
    mixture, scores = likelihood(**doubts)
    scores[6:] = np.clip(scores[6:], None, 1)  # widths are cut off at z_max
    gradient, _ = mixture.derivatives(scores)

    for index in np.ndindex(scores.shape):
        shift = np.zeros_like(scores)
        shift[index] = 1e-5
        up, down = (log_likelihood(mixture, scores + s * shift) for s in (1, -1))
        assert_allclose(gradient[index], (down - up) / 2e-5, rtol=1e-4, atol=1e-6)


def test_curvature_is_positive_however_far_the_truth():
    mixture, scores = likelihood()
    scores *= 30

    gradient, curvature = mixture.derivatives(scores.astype(np.float32))

    assert np.isfinite(gradient).all()
    assert np.isfinite(curvature).all()
    assert (curvature > 0).all()


def test_loss_is_the_log_loss_of_the_mixture(fitted, galaxies):
    """Far from the ends of the grid, where the cut leaves all of the mixture."""
    X, z_spec = galaxies
    inside = (z_spec > 0.4) & (z_spec < 1.7)
    weights, means, sigmas = (part[inside] for part in fitted.predict_mixture(X))
    widths = 0.5 * np.log(np.maximum(sigmas**2 - 0.02**2, 1e-12))
    scores = np.concatenate([np.log(weights + 1e-300), means, widths], axis=1).T
    mixture = MixtureLikelihood(z_spec[inside], narrowest=0.02, z_max=3.0)

    expected = log_loss(z_spec[inside], fitted.predict_pdf(X[inside]))

    assert_allclose(mixture.loss(scores), expected, atol=0.01)


def test_newton_step_of_a_quadratic_loss_is_the_regression():
    generator = np.random.default_rng(0)
    terms = np.column_stack([np.ones(400), generator.normal(size=(400, 2))])
    leaf = (terms[:, 1] > 0).astype(np.int16)
    truth = generator.normal(size=(2, 1, 3))
    target = np.zeros((400, 1))
    add_steps(target, terms, leaf, truth)

    found = newton_steps(terms, -target.T, np.ones((1, 400)), leaf, n_leaves=3, ridge=1e-9)

    assert_allclose(found[:2], truth, atol=0.05)
    assert_array_equal(found[2], 0)


def test_unobserved_and_extreme_features_stay_in_range():
    X = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    X[:, 2] = np.nan
    terms = Scaling.learn(X).terms(np.array([[1e9, np.nan, 5.0]], dtype=np.float32))

    assert terms[0, 0] == 1
    assert 2 < terms[0, 1] < 4
    assert terms[0, 2] == 0
    assert np.isfinite(terms).all()


def test_density_of_a_galaxy_depends_on_no_other_galaxy(fitted, galaxies):
    X, _ = galaxies
    together = fitted.predict_pdf(X).density
    tolerance = 1e-5 * together.max()
    shuffled = np.random.default_rng(0).permutation(len(X))

    for rows in (np.array([1999]), np.arange(7), np.arange(100, 1333), shuffled):
        assert_allclose(fitted.predict_pdf(X[rows]).density, together[rows], atol=tolerance)


def test_same_seed_same_density_with_any_threads(train, galaxies):
    X, _ = galaxies
    first, again, other = (
        BoostingPhotoz(**{**SMALL, "n_rounds": 10, "n_threads": threads}, random_state=seed)
        .fit(*train).predict_pdf(X[:100]).density
        for seed, threads in ((0, 1), (0, 2), (1, 1))
    )  # fmt: skip

    assert_array_equal(first, again)
    assert not np.allclose(first, other, rtol=1e-3)


def test_loaded_model_gives_the_same_density_in_a_fresh_process(fitted, galaxies, tmp_path):
    X = galaxies[0][:100]
    X[:10, 1] = np.nan
    fitted.save(tmp_path / "model")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import sys, pathlib, numpy as np\n"
        "from photoz.estimators.boosting import BoostingPhotoz\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "model = BoostingPhotoz.load(folder / 'model')\n"
        "np.save(folder / 'p.npy', model.predict_pdf(np.load(folder / 'X.npy')).density)\n"
    )
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=root)

    assert_array_equal(np.load(tmp_path / "p.npy"), fitted.predict_pdf(X).density)


def test_few_galaxies_without_validation_rows_are_not_learned_by_heart(galaxies):
    """Every round that only learns the noise makes the densities of other galaxies worse."""
    few = draw(200, 3)
    settings = {**SMALL, "random_state": 0}
    X, z_spec = galaxies

    def log_score(n_rounds):
        fitted = BoostingPhotoz(**{**settings, "n_rounds": n_rounds}).fit(*few)
        return np.log(fitted.predict_pdf(X).at(z_spec).clip(1e-4)).mean()

    assert log_score(None) > log_score(300) + 0.5


def test_validation_rows_stop_the_rounds_that_nobody_set(train):
    stopped = BoostingPhotoz(**{**SMALL, "n_rounds": None}, random_state=0)
    stopped.fit(*draw(400, 3), validation=train)

    assert 10 < stopped.tuned_["n_rounds"] < 300


def test_stopping_point_repeats_the_fit(train, galaxies):
    small = draw(200, 3)
    settings = {**SMALL, "learning_rate": 0.5, "patience": 5, "random_state": 0}
    stopped = BoostingPhotoz(**settings).fit(*small, validation=train)

    assert 1 <= stopped.tuned_["n_rounds"] < SMALL["n_rounds"]

    repeated = BoostingPhotoz(**{**settings, **stopped.tuned_}).fit(*small)
    X, _ = galaxies

    assert repeated.tuned_ == {}
    assert_array_equal(repeated.predict_pdf(X).density, stopped.predict_pdf(X).density)


def test_steps_are_reported_and_may_end_the_fit(train, galaxies):
    seen = []

    def stop_at_10(step, loss):
        seen.append((step, loss))
        if step == 10:
            raise StopIteration

    with pytest.raises(StopIteration):
        BoostingPhotoz(**SMALL).fit(*train, validation=galaxies, on_step=stop_at_10)

    assert [step for step, _ in seen] == [5, 10]
    assert seen[1][1] < seen[0][1]


def test_reports_what_it_would_end_with():
    """It ends at its best round, however much worse the later ones are."""
    reports = {}
    boosting = BoostingPhotoz(**{**SMALL, "n_rounds": 300, "learning_rate": 0.5, "patience": 40})
    X, z_spec = draw(300, 2)
    boosting.fit(
        X[:150], z_spec[:150], validation=(X[150:], z_spec[150:]), on_step=reports.__setitem__
    )

    losses = list(reports.values())
    assert losses == sorted(losses, reverse=True)
    assert max(reports) > boosting.tuned_["n_rounds"]
    found = log_loss(z_spec[150:], boosting.predict_pdf(X[150:]))
    assert losses[-1] == pytest.approx(found, abs=0.05)


def test_weights_count_as_galaxies():
    """One feature value, two redshifts: the weights decide which is the likelier one.

    There is nothing to split either, so that every round is a single leaf.
    """
    z_spec = np.repeat([0.5, 1.5], 500)
    X = np.zeros((1000, 1))
    weight = np.where(z_spec < 1, 3.0, 1.0)

    pz = BoostingPhotoz(**SMALL, random_state=0).fit(X, z_spec, weight).predict_pdf(X[:1])

    assert_allclose(pz.cdf(1.0), 0.75, atol=0.03)


def test_wrong_redshifts_do_not_widen_the_density_where_they_are_declared(galaxies):
    X, z_spec = draw(1500, 4)
    generator = np.random.default_rng(5)
    wrong = generator.random(1500) < 0.1
    z_listed = np.where(wrong, generator.uniform(0.1, 2.0, 1500), z_spec)
    model = BoostingPhotoz(**SMALL, random_state=0)
    naive = model.fit(X, z_listed).predict_pdf(galaxies[0])
    aware = model.fit(X, z_listed, reliability=np.full(1500, 0.9)).predict_pdf(galaxies[0])

    assert cde_loss(galaxies[1], aware) < cde_loss(galaxies[1], naive)


def test_components_start_between_quantiles_of_the_weighted_redshifts():
    rows = Rows(np.zeros((4, 1)), np.array([0.0, 1.0, 2.0, 9.0]), np.array([1.0, 1.0, 1.0, 0.0]))

    logits, means, _ = starting_scores(rows, 1, narrowest=0.1).reshape(3, 1)

    assert logits == 0
    assert means == 1.0


def test_background_is_a_density():
    z_spec = np.sort(np.random.default_rng(0).exponential(1, 5000))
    density = n_of_z_at(Rows(np.zeros((5000, 1)), z_spec, np.ones(5000)), np.linspace(0, 12, 1201))

    assert_allclose(np.trapezoid(density, z_spec), 1, atol=0.03)


def test_no_component_is_narrower_than_two_steps_of_the_grid():
    """The feature gives the redshift exactly, so that nothing else stops the width."""
    z_spec = np.linspace(0.1, 2.9, 1000)
    X = z_spec[:, np.newaxis]

    sigmas = BoostingPhotoz(**{**SMALL, "n_z": 31}).fit(X, z_spec).predict_mixture(X)[2]

    assert sigmas.min() >= 0.2
    assert sigmas.min() < 0.3


def test_large_training_sets_are_bounded():
    X, z_spec = draw(600, 0)
    boosting = BoostingPhotoz(**SMALL, max_rows=200, random_state=0).fit(X, z_spec)
    rows = np.sort(np.random.default_rng(0).permutation(600)[:200])

    assert_allclose(boosting.scaling_.table, Scaling.learn(X[rows]).table)


def test_the_average_of_members_is_sharper_than_one(train, galaxies):
    X, z_spec = galaxies
    few = [part[:300] for part in train]
    parameters = {**SMALL, "n_rounds": 80}

    def losses(members, seed):
        model = BoostingPhotoz(**parameters, members=members, random_state=seed).fit(*few)
        return -np.log(model.predict_pdf(X).at(z_spec))

    single = np.mean([losses(1, seed) for seed in range(3)], axis=0)
    gain = single - losses(4, 0)

    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


def test_members_have_trees_and_draws_of_their_own(train):
    model = BoostingPhotoz(**SMALL, members=3, random_state=0).fit(*train)

    assert len(model.trees_) == len(np.unique(model.trees_)) == 3 * SMALL["n_rounds"]
    first = model.coefficients_[:3]
    assert not np.allclose(first[0], first[1])
    assert not np.allclose(first[1], first[2])


def test_the_first_rounds_of_members_move_scores_by_the_mean_of_their_steps(train):
    """Of one round each: members start alike, so a fit of one member is the first of them."""
    alone = BoostingPhotoz(**{**SMALL, "n_rounds": 1}, random_state=0).fit(*train)
    both = BoostingPhotoz(**{**SMALL, "n_rounds": 1}, members=2, random_state=0).fit(*train)

    assert_allclose(2 * both.coefficients_[0], alone.coefficients_[0], rtol=1e-6)


def test_the_stopping_point_counts_rounds_of_all_members(train, galaxies):
    parameters = {**SMALL, "n_rounds": 200, "patience": 5, "members": 2}
    model = BoostingPhotoz(**parameters, random_state=0).fit(*train, validation=galaxies)
    rounds = model.tuned_["n_rounds"]
    again = BoostingPhotoz(**{**parameters, "n_rounds": rounds}, random_state=0).fit(*train)

    assert len(model.trees_) == 2 * rounds
    assert_array_equal(model.predict_pdf(train[0]).density, again.predict_pdf(train[0]).density)
