import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file, save_file
from scipy.stats import norm

from photoz.errors import InputError
from photoz.estimators.dense_networks import DenseNetworks, MixtureHead
from photoz.estimators.mixture_density import MixtureNetworks, log_likelihood
from photoz.estimators.network import NetworkPhotoz
from photoz.estimators.network_training import _batches
from photoz.estimators.training_plan import TrainingPlan, one_cycle
from photoz.metrics import cde_loss, log_loss
from photoz.pdf import RedshiftPDF

SMALL = {"width": 32, "layers": 2, "n_components": 3, "members": 2, "z_max": 3.0, "n_z": 301}


def draw(n_galaxies, seed):
    """Features that tell the redshift up to a scatter of 0.05, and one that tells nothing."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.1, 2.0, n_galaxies)
    shift = generator.normal(0, 0.05, n_galaxies)
    X = np.stack(
        [20 + z_spec + shift, np.sin(2 * (z_spec + shift)), generator.random(n_galaxies)], axis=1
    )
    return X.astype(np.float32), z_spec


def floor(z_spec, n_galaxies):
    """The redshifts of the training galaxies, for every galaxy alike."""
    grid = np.linspace(0, 3, 301)
    counts, _ = np.histogram(z_spec, np.append(grid, 3.01) - 0.005)
    return RedshiftPDF.from_weights(grid, np.tile(counts, (n_galaxies, 1)))


@pytest.fixture(scope="module")
def fitted():
    return NetworkPhotoz(**SMALL, updates=150, random_state=0).fit(*draw(2000, 0))


@pytest.fixture(scope="module")
def galaxies():
    return draw(5000, 1)


def test_held_out_galaxies_are_predicted_better_than_by_n_of_z(fitted, galaxies):
    X, z_spec = galaxies
    pz = fitted.predict_pdf(X)

    assert cde_loss(z_spec, pz) < 3 * cde_loss(z_spec, floor(z_spec, len(X)))
    assert abs(np.median(pz.cdf(z_spec)) - 0.5) < 0.05


def test_one_set_of_features_may_mean_two_redshifts():
    generator = np.random.default_rng(0)
    z_spec = np.where(generator.random(2000) < 0.5, 0.5, 1.5) + generator.normal(0, 0.03, 2000)
    X = generator.random((2000, 2))

    pz = NetworkPhotoz(**SMALL, updates=150, random_state=0).fit(X, z_spec).predict_pdf(X[:50])

    assert_allclose(pz.cdf(1.0), 0.5, atol=0.15)
    assert (pz.at(np.full(50, 1.0)) < 0.1 * pz.at(np.full(50, 0.5))).all()


def test_density_of_a_galaxy_depends_on_no_other_galaxy(fitted, galaxies):
    X, _ = galaxies
    together = fitted.predict_pdf(X).density
    tolerance = 1e-5 * together.max()
    shuffled = np.random.default_rng(0).permutation(len(X))

    for rows in (np.array([4999]), np.arange(7), np.arange(100, 3333), shuffled):
        assert_allclose(fitted.predict_pdf(X[rows]).density, together[rows], atol=tolerance)


def test_same_seed_same_density_and_no_other(galaxies):
    X, _ = galaxies
    train = draw(300, 2)
    first, again, other = (
        NetworkPhotoz(**SMALL, updates=30, random_state=seed).fit(*train).predict_pdf(X[:100])
        for seed in (0, 0, 1)
    )

    assert_array_equal(first.density, again.density)
    assert not np.allclose(first.density, other.density, rtol=1e-3)


def test_state_of_torch_is_left_alone(galaxies):
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()

    NetworkPhotoz(**SMALL, updates=10, random_state=0).fit(*draw(300, 2)).predict(galaxies[0])

    assert_array_equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == n_threads


def test_saved_network_gives_the_same_density(fitted, galaxies, tmp_path):
    X, _ = galaxies
    fitted.save(tmp_path)
    loaded = NetworkPhotoz.load(tmp_path)

    assert_array_equal(loaded.predict_pdf(X).density, fitted.predict_pdf(X).density)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_mixture_is_the_density(fitted, galaxies):
    X, _ = galaxies
    weights, means, sigmas = fitted.predict_mixture(X)
    density = RedshiftPDF.from_mixture(fitted.z_grid_, weights, means, sigmas).density

    assert weights.shape == means.shape == sigmas.shape == (len(X), 2 * 3)
    assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert_allclose(density, fitted.predict_pdf(X).density, atol=1e-5 * density.max())


def test_no_component_is_narrower_than_two_steps_of_the_grid():
    """The feature gives the redshift exactly, so that nothing else stops the width."""
    z_spec = np.linspace(0.1, 2.9, 1000)
    X = z_spec[:, np.newaxis]
    coarse = {**SMALL, "n_z": 31}

    network = NetworkPhotoz(**coarse, updates=150, random_state=0).fit(X, z_spec)
    sigmas = network.predict_mixture(X)[2]

    assert sigmas.min() >= 0.2
    assert sigmas.min() < 0.25


@pytest.fixture
def head():
    return MixtureHead(location=0.1, scale=0.3, narrowest=0.01, z_max=1.0)


@pytest.fixture
def raw():
    """Mixtures of 3 members, 50 galaxies and 4 components, much of them below 0 and beyond 1."""
    return 2 * np.random.default_rng(0).standard_normal((3, 50, 12), dtype=np.float32)


def likelihood(head, raw, z_spec):
    """What training maximises: density of each member, galaxy and redshift."""
    outputs = torch.from_numpy(np.repeat(raw, len(z_spec), axis=1)).transpose(1, 2)
    z = torch.from_numpy(np.tile(z_spec, raw.shape[1])).expand(len(raw), -1)
    density = log_likelihood(head, outputs, z).exp().numpy()
    return density.reshape(len(raw), raw.shape[1], len(z_spec))


def test_likelihood_is_a_density_between_zero_and_z_max(head, raw):
    z = np.linspace(0, 1, 401)

    assert_allclose(np.trapezoid(likelihood(head, raw, z), z), 1, rtol=2e-3)


def test_what_is_predicted_is_what_was_trained(head, raw):
    """Training is in torch, prediction in numpy. No component here lies far beyond the grid."""
    raw = raw / 4
    z = np.linspace(0, 1, 81)
    weights, means, sigmas = (part[:, np.newaxis].astype(float) for part in head.mixture(raw))
    parts = norm(means, sigmas)
    density = (weights * parts.pdf(z[:, np.newaxis])).sum(axis=2)
    inside = (weights * (parts.cdf(1) - parts.cdf(0))).sum(axis=2)

    assert_allclose(density / inside, likelihood(head, raw, z).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_layers_predict_as_they_were_trained(head, n_layers):
    """Each member's activations have a slope of its own, which its layers take over."""
    plan = TrainingPlan(
        (5, *[16] * n_layers, 4), 3, head, 10, 256, 1e-3, 0.0, device="cpu", seed=0
    )
    networks = MixtureNetworks(plan, torch.Generator().manual_seed(0))
    inputs = 3 * np.random.default_rng(0).standard_normal((50, 5), dtype=np.float32)
    with torch.inference_mode():
        raw = networks(torch.from_numpy(inputs)).transpose(1, 2).numpy()

    predicted = networks.trained().mixture(inputs)

    for part, expected in zip(predicted, head.mixture(raw), strict=True):
        assert_allclose(part, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("members", "slopes"), [(1, [8**0.5]), (2, [2**0.5, 32**0.5]), (4, [1, 2, 4, 8])]
)
def test_slopes_of_the_members_are_spread_around_one_middle(head, members, slopes):
    plan = TrainingPlan((5, 16, 4), members, head, 10, 256, 1e-3, 0.0, device="cpu", seed=0)

    assert_allclose(plan.slopes, slopes)


def test_density_is_the_mean_of_the_members(head, raw):
    grid = np.linspace(0, 1, 201)
    members = [RedshiftPDF.from_mixture(grid, *head.mixture(raw[k : k + 1])) for k in range(3)]
    pz = RedshiftPDF.from_mixture(grid, *head.mixture(raw))

    mean = np.mean([member.density for member in members], axis=0)
    assert_allclose(pz.density, mean, rtol=0.01, atol=0.01 * mean.max())


def test_mixture_far_beyond_the_grid_lies_at_its_end(head):
    raw = np.array([[[0, -1e4, -20], [0, 1e4, -20]]], dtype=np.float32)

    pz = RedshiftPDF.from_mixture(np.linspace(0, 1, 201), *head.mixture(raw))

    assert_array_equal(pz.mode(), [0, 1])


def test_learns_from_galaxies_with_missing_bands(galaxies):
    X_train, z_spec_train = draw(2000, 0)
    X_train[::3, 0] = np.nan
    X, z_spec = galaxies
    X = np.where([True, False, False], np.nan, X).astype(np.float32)

    network = NetworkPhotoz(**SMALL, updates=150, random_state=0).fit(X_train, z_spec_train)
    pz = network.predict_pdf(X)

    # sin(2 z) alone leaves two redshifts, and says which two.
    assert cde_loss(z_spec, pz) < 2 * cde_loss(z_spec, floor(z_spec, len(X)))


def test_a_band_that_was_never_missing_may_be_missing_later(fitted, galaxies):
    X, z_spec = galaxies
    X = np.where([False, True, False], np.nan, X).astype(np.float32)

    dz = (fitted.predict(X) - z_spec) / (1 + z_spec)

    assert np.median(np.abs(dz)) < 0.05


def test_features_far_from_the_training_ones_give_a_density(fitted):
    X = np.array([[1e30, -1e30, 0], [np.nan, np.nan, np.nan]], dtype=np.float32)

    assert np.isfinite(fitted.predict_pdf(X).density).all()


def test_weights_count_as_galaxies():
    """Equal features, redshifts 0.5 and 1.5 alike often, but the second weighs three times."""
    generator = np.random.default_rng(0)
    high = generator.random(2000) < 0.5
    z_spec = np.where(high, 1.5, 0.5) + generator.normal(0, 0.03, 2000)
    X = generator.random((2000, 2))
    network = NetworkPhotoz(**SMALL, updates=150, random_state=0)

    pz = network.fit(X, z_spec, np.where(high, 3.0, 1.0)).predict_pdf(X[:50])

    assert_allclose(pz.cdf(1.0), 0.25, atol=0.12)


def test_galaxies_without_weight_are_not_learned():
    X, z_spec = draw(1000, 0)
    wrong = np.arange(1000) % 2 == 0
    network = NetworkPhotoz(**SMALL, updates=150, random_state=0)

    network.fit(X, np.where(wrong, 2.8, z_spec), (~wrong).astype(float))

    assert network.predict_pdf(X).cdf(2.5).mean() > 0.99


def test_wrong_redshifts_of_known_frequency_do_not_widen_the_density(galaxies):
    X_train, z_spec_train = draw(2000, 0)
    generator = np.random.default_rng(0)
    wrong = generator.random(2000) < 0.2
    z_spec_train = np.where(wrong, generator.permutation(z_spec_train), z_spec_train)
    X, z_spec = galaxies
    network = NetworkPhotoz(**SMALL, updates=150, random_state=0)

    plain = log_loss(z_spec, network.fit(X_train, z_spec_train).predict_pdf(X))
    network.fit(X_train, z_spec_train, reliability=np.full(2000, 0.8))

    assert log_loss(z_spec, network.predict_pdf(X)) < plain - 0.04


def test_reports_the_validation_loss_where_it_tells_good_from_bad(galaxies):
    reports = {}
    network = NetworkPhotoz(**SMALL, updates=123, random_state=0)

    network.fit(*draw(500, 0), validation=galaxies, on_step=reports.__setitem__)

    assert list(reports) == list(range(9, 21))
    z_spec = galaxies[1]
    assert_allclose(reports[20], log_loss(z_spec, network.predict_pdf(galaxies[0])), atol=0.01)
    assert network.tuned_ == {}


def test_learning_curve_is_of_the_training_rows_and_falls(fitted):
    updates, losses = zip(*fitted.learning_curve_.items(), strict=True)

    assert len(updates) == 100
    assert (updates[0], updates[-1]) == (2, 150)
    # At its end it is what the fit has reached on rows like those of the training.
    X, z_spec = draw(2000, 0)
    assert losses[-1] == pytest.approx(log_loss(z_spec, fitted.predict_pdf(X)), abs=0.15)
    assert losses[0] > losses[-1] + 0.5


def test_validation_rows_do_not_change_the_fit(galaxies):
    X, _ = galaxies
    network = NetworkPhotoz(**SMALL, updates=20, random_state=0)
    train = draw(300, 0)
    alone = network.fit(*train).predict(X)

    watched = network.fit(*train, validation=galaxies, on_step=lambda _step, _loss: None)

    assert_array_equal(watched.predict(X), alone)


def test_a_report_may_end_the_fit(galaxies):
    def stop(step, _loss):
        raise InterruptedError(step)

    network = NetworkPhotoz(**SMALL, updates=50)
    with pytest.raises(InterruptedError, match=r"^9$"):
        network.fit(*galaxies, validation=galaxies, on_step=stop)


def test_large_activations_overflow_nowhere(head):
    weights = [np.full((1, 6, 2), 1e4, np.float32), np.zeros((1, 3, 6), np.float32)]
    biases = [np.zeros((1, 6, 1), np.float32), np.zeros((1, 3, 1), np.float32)]
    inputs = np.array([[-10, -10], [10, 10]], dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = DenseNetworks(weights, biases, head).mixture(inputs)

    assert np.isfinite(found).all()


def test_layers_that_do_not_follow_on_each_other_are_refused(fitted, tmp_path):
    fitted.save(tmp_path)
    arrays = load_file(tmp_path / "network.safetensors")
    del arrays["networks.weights.1"], arrays["networks.biases.1"]
    for part in ("weights", "biases"):
        arrays[f"networks.{part}.1"] = arrays.pop(f"networks.{part}.2")[:, :, :1]
    save_file(arrays, tmp_path / "network.safetensors")

    with pytest.raises(ValueError, match=r"expected layers that follow on each other, found"):
        NetworkPhotoz.load(tmp_path)


def test_a_fit_without_torch_leaves_what_was_fitted(galaxies, monkeypatch):
    X, _ = galaxies
    network = NetworkPhotoz(**SMALL, updates=30, random_state=0).fit(*draw(300, 0))
    before = network.predict(X)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="torch"):
        network.fit(*draw(300, 1))

    assert_array_equal(network.predict(X), before)


def test_a_fit_that_is_ended_leaves_networks_that_fit_their_scaling(galaxies):
    def stop(step, _loss):
        raise InterruptedError(step)

    X, _ = galaxies
    network = NetworkPhotoz(**SMALL, updates=30, random_state=0).fit(*draw(300, 0))
    before = network.predict(X)
    with pytest.raises(InterruptedError):
        network.fit(X + 100, draw(5000, 1)[1], on_step=stop)

    assert_array_equal(network.predict(X), before)


def test_each_pass_takes_every_row_once():
    batches = _batches(100, 3, 20, torch.Generator().manual_seed(0))

    for _ in range(2):
        one_pass = torch.cat([next(batches) for _ in range(5)], dim=1)
        assert_array_equal(one_pass.sort(dim=1).values, np.tile(np.arange(100), (3, 1)))


def test_learning_rate_rises_and_falls_to_zero_once():
    rate = np.array([one_cycle(progress) for progress in np.linspace(0, 1, 101)])
    peak = rate.argmax()

    assert rate[peak] == 1
    assert rate[0] < 0.1
    assert rate[-1] == 0
    assert (np.diff(rate[: peak + 1]) > 0).all()
    assert (np.diff(rate[peak:]) < 0).all()


def test_trials_are_as_large_as_the_fit_of_the_best():
    """Alone, smaller networks are best than in company."""
    assert NetworkPhotoz.trial_parameters() == {}
    assert set(NetworkPhotoz.search_space()) <= set(NetworkPhotoz().get_params())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"width": 0}, "width must be a whole number, at least 1, got 0"),
        ({"members": 0}, "members must be a whole number, at least 1, got 0"),
        ({"updates": 0}, "updates must be .* at least 1, or None to follow .* rows, got 0"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda, got 'tpu'"),
    ],
)
def test_impossible_parameters_are_named(parameters, message):
    with pytest.raises(InputError, match=message):
        NetworkPhotoz(**parameters).fit(*draw(50, 0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA")
def test_cuda_where_there_is_none_is_named():
    with pytest.raises(InputError, match="device is 'cuda', but torch finds none"):
        NetworkPhotoz(device="cuda").fit(*draw(50, 0))


def test_saved_state_holds_no_galaxies(fitted, tmp_path):
    fitted.save(tmp_path)
    state = json.loads(Path(tmp_path, "estimator.json").read_text())
    networks = fitted.networks_
    n_numbers = sum(part.size for part in [*networks.weights, *networks.biases])

    assert (tmp_path / "network.safetensors").stat().st_size < 4 * n_numbers + 4096
    assert state["tuned"] == {}


def test_fits_side_by_side_give_the_same_and_leave_the_threads_as_they_were(galaxies):
    X, _ = galaxies
    before = torch.get_num_threads()

    def fit(seed):
        return NetworkPhotoz(**SMALL, updates=30, random_state=seed).fit(*draw(300, 0))

    alone = fit(0)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fit, [0, 1, 0]))

    # Predictions one after the other: side by side BLAS has other threads, and another last digit.
    assert_array_equal(together[0].predict(X), alone.predict(X))
    assert_array_equal(together[2].predict(X), alone.predict(X))
    assert torch.get_num_threads() == before


def test_validation_rows_choose_how_long_to_train():
    """A redshift that swings with the feature takes longer than one that hardly changes."""

    def draw_swinging(n_rows, seed):
        X = np.random.default_rng(seed).uniform(-1, 1, (n_rows, 1)).astype(np.float32)
        return X, (1.5 + np.sin(2 * np.pi * X[:, 0])).astype(np.float64)

    train, validation = draw_swinging(600, 0), draw_swinging(200, 1)
    steps = []
    network = NetworkPhotoz(**SMALL, random_state=0)
    network.fit(*train, validation=validation, on_step=lambda step, _: steps.append(step))
    shortest = NetworkPhotoz(**SMALL, random_state=0).fit(*train)
    repeated = NetworkPhotoz(**SMALL, random_state=0, **network.tuned_).fit(*train)
    X, z_spec = draw_swinging(200, 2)
    pz = network.predict_pdf(X)

    assert network.tuned_["updates"] > 2 * list(shortest.learning_curve_)[-1]
    assert pz.at(z_spec).mean() > 1.2 * shortest.predict_pdf(X).at(z_spec).mean()
    assert_allclose(repeated.predict_pdf(X).density, pz.density)
    assert steps == sorted(set(steps))


def test_a_longer_training_must_be_worth_it():
    X, z_spec = draw(600, 0)
    unrelated = np.random.default_rng(0).permutation(z_spec)
    network = NetworkPhotoz(**SMALL, random_state=0)
    network.fit(X[:400], unrelated[:400], validation=(X[400:], unrelated[400:]))

    assert network.tuned_ == {"updates": 120}
