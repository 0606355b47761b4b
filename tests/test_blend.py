import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, Pool
from photoz.calibration import Calibration
from photoz.errors import InputError
from photoz.estimators.baseline import KnnPhotoz
from photoz.features import PhotometricFeatures
from photoz.log_score import Truth
from photoz.metrics import log_loss
from photoz.model import PhotozModel
from photoz.pdf import RedshiftPDF
from photoz.photometry import Photometry, State
from photoz.pooling import _keeps_mean_redshift
from photoz.survey import load_survey

GRID = np.linspace(0, 2, 201)
STEP = GRID[1]
BANDS = ("g", "r")


def gaussians(mean, sigma):
    mean, sigma = (x[:, np.newaxis] for x in np.broadcast_arrays(mean, float(sigma)))
    return RedshiftPDF.from_mixture(GRID, np.ones_like(mean), mean, sigma)


def independent(n_galaxies, sigmas, seed=0):
    """Members that each measured z_spec with an error of their own."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.5, 1.5, n_galaxies)
    return [gaussians(generator.normal(z_spec, s), s) for s in sigmas], z_spec


def flat(n_galaxies):
    return RedshiftPDF.from_weights(GRID, np.ones((n_galaxies, len(GRID))))


def pooled_loss(pool, pzs, z_spec):
    return log_loss(z_spec, pool.apply(pzs))


def test_log_pool_of_gaussians_is_a_gaussian():
    """Precisions add up, each times its weight, and means follow them and the tilt."""
    weights, means, sigmas = np.array([0.5, 1.2]), np.array([0.9, 1.1]), np.array([0.1, 0.15])
    pool = Pool("log", tuple(weights), epsilon=1e-12, tilt=3.0)
    pooled = pool.apply([gaussians(np.array([m]), s) for m, s in zip(means, sigmas, strict=True)])

    precision = weights / sigmas**2
    assert_allclose(pooled.mean(), (precision @ means + 3.0) / precision.sum(), rtol=1e-4)
    assert_allclose(pooled.std(), precision.sum() ** -0.5, rtol=5e-3)


def test_linear_pool_is_the_weighted_mean():
    pzs, _ = independent(20, [0.1, 0.2])
    pooled = Pool("linear", (0.3, 0.7)).apply(pzs)

    assert_allclose(pooled.density, 0.3 * pzs[0].density + 0.7 * pzs[1].density, atol=1e-5)


@pytest.mark.parametrize("kind", ["log", "linear"])
@pytest.mark.parametrize("best", [0, 1])
def test_a_single_member_can_be_the_pool(kind, best):
    pzs, _ = independent(20, [0.1, 0.2])
    pooled = Pool(kind, tuple(float(k == best) for k in range(2)), epsilon=1e-9).apply(pzs)

    assert_allclose(pooled.density, pzs[best].density, atol=1e-5)


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_pooled_p_is_a_density(kind):
    generator = np.random.default_rng(0)
    rough = generator.random((2, 100, len(GRID))) * (generator.random((2, 100, len(GRID))) > 0.9)
    pooled = Pool(kind, (0.4, 0.6), 5e-4).apply([RedshiftPDF.from_weights(GRID, r) for r in rough])

    assert (pooled.density >= 0).all()
    assert_allclose(np.trapezoid(pooled.density, GRID, axis=1), 1, atol=1e-5)


def test_a_redshift_ruled_out_by_one_member_is_not_ruled_out():
    pzs = [gaussians(np.array([z]), 0.03) for z in (0.5, 1.5)]
    pooled = Pool("log", (0.5, 0.5), epsilon=5e-4).apply(pzs)

    assert_allclose(pooled.cdf(1.0), 0.5, atol=0.01)
    assert pooled.n_peaks().tolist() == [2]


def test_pooling_makes_nothing_narrower_than_two_steps():
    pzs = [gaussians(np.array([1.003]), 2 * STEP)] * 3

    low, high = Pool("log", (1.0,) * 3, 5e-4).apply(pzs).quantiles([0.16, 0.84])[0]
    assert (high - low) / 2 == pytest.approx(2 * STEP, rel=0.05)


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_every_galaxy_is_pooled_by_itself(kind):
    pzs, _ = independent(3000, [0.05, 0.1])
    pool, rows = Pool(kind, (0.7, 0.6), 5e-4), np.random.default_rng(0).permutation(3000)[:100]
    whole = pool.apply(pzs).density[rows]

    tolerance = 1e-5 * whole.max(axis=1, keepdims=True)
    assert (np.abs(pool.apply([pz[rows] for pz in pzs]).density - whole) < tolerance).all()


def test_independent_members_are_multiplied():
    """Bayes: with a flat prior and independent errors the posterior is the plain product."""
    pzs, z_spec = independent(3000, [0.08, 0.12])
    pool = Pool.fit(pzs, z_spec)

    assert pool.kind == "log"
    assert_allclose(pool.weights, 1, atol=0.12)
    test, z_test = independent(3000, [0.08, 0.12], seed=1)
    truth = (0.08**-2 + 0.12**-2) ** -0.5
    expected = np.log(truth * np.sqrt(2 * np.pi * np.e))
    assert pooled_loss(pool, test, z_test) == pytest.approx(expected, abs=0.05)
    assert pooled_loss(pool, test, z_test) < min(log_loss(z_test, pz) for pz in test) - 0.1


def test_log_weights_are_the_best_there_are():
    """Against the score at weights around them, by the plain way through `apply`."""
    pzs, z_spec = independent(1500, [0.1, 0.1, 0.15])
    pool = Pool.fit(pzs, z_spec)
    best = pooled_loss(pool, pzs, z_spec)

    assert pool.kind == "log"
    for member in range(3):
        for shift in (-0.15, 0.15):
            weights = np.array(pool.weights)
            weights[member] += shift
            moved = replace(pool, weights=tuple(weights))
            assert pooled_loss(moved, pzs, z_spec) > best
    for shift in (-0.5, 0.5):
        assert pooled_loss(replace(pool, tilt=pool.tilt + shift), pzs, z_spec) > best


def test_the_tilt_mends_the_mean_redshift_that_a_product_shifts():
    """Density that rises with redshift, twice the prior of both members, counts once."""
    generator = np.random.default_rng(0)
    z_spec = np.log1p(generator.random(6000) * np.expm1(3)) / 1.5
    prior, pzs = np.exp(1.5 * GRID), []
    for sigma in (0.3, 0.4):
        measured = generator.normal(z_spec, sigma)
        deviation = (GRID - measured[:, np.newaxis]) / sigma
        pzs.append(RedshiftPDF.from_weights(GRID, prior * np.exp(-0.5 * deviation**2)))
    pool = Pool.fit(pzs, z_spec)
    straight = replace(pool, tilt=0.0)

    assert pool.kind == "log"
    assert pool.tilt == pytest.approx(-1.5, abs=0.2)
    assert abs((pool.apply(pzs).mean() - z_spec).mean()) < 1e-3
    assert (straight.apply(pzs).mean() - z_spec).mean() > 0.01
    assert pooled_loss(pool, pzs, z_spec) < pooled_loss(straight, pzs, z_spec)


def test_linear_weights_are_the_best_there_are():
    """Members that are right for one half of the galaxies each, and nobody knows which."""
    z_spec = np.random.default_rng(0).uniform(0.5, 1.5, 2000)
    shift = np.where(np.random.default_rng(1).random(2000) < 0.3, 0.2, 0.0)
    pzs = [gaussians(z_spec + shift, 0.05), gaussians(z_spec + 0.2 - shift, 0.05)]
    pool = Pool.fit(pzs, z_spec)

    shares = np.linspace(0.01, 0.99, 99)
    losses = [pooled_loss(Pool("linear", (w, 1 - w)), pzs, z_spec) for w in shares]
    assert pool.kind == "linear"
    assert pool.weights[0] == pytest.approx(shares[np.argmin(losses)], abs=0.011)


def test_twins_count_as_one():
    """The same member twice knows nothing more: multiplied as if independent, it would."""
    (pz,), z_spec = independent(2000, [0.1])
    pool = Pool.fit([pz, pz], z_spec)

    assert sum(pool.weights) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("n_galaxies", [60, 2000])
def test_members_that_know_nothing_do_no_harm(n_galaxies):
    (pz,), z_spec = independent(n_galaxies, [0.05])
    pool = Pool.fit([flat(n_galaxies), pz], z_spec)
    test, z_test = independent(2000, [0.05], seed=1)

    assert pooled_loss(pool, [flat(2000), *test], z_test) < log_loss(z_test, test[0]) + 0.02


def test_a_single_member_needs_no_weights():
    (pz,), z_spec = independent(100, [0.05])
    pool = Pool.fit([pz], z_spec)

    assert pool.weights == (1.0,)
    assert_array_equal(pool.apply([pz]).density, pz.density)


def test_no_galaxy_has_a_part_in_its_own_weights():
    pzs, z_spec = independent(1000, [0.08, 0.12])
    folds = np.arange(1000) // 200
    other = np.where(folds == 2, z_spec + 0.04 * (-1) ** np.arange(1000), z_spec)
    first, second = (Pool.cross_fit(pzs, z, folds).density for z in (z_spec, other))

    assert_array_equal(first[folds == 2], second[folds == 2])
    assert not np.array_equal(first[folds == 1], second[folds == 1])


def test_wrong_labels_do_not_flatten_the_pool():
    pzs, z_spec = independent(3000, [0.08, 0.12])
    generator = np.random.default_rng(1)
    listed = np.where(generator.random(3000) < 0.1, generator.permutation(z_spec), z_spec)
    told, untold = (sum(Pool.fit(pzs, listed, reliability=r).weights) for r in (0.9, None))

    assert told == pytest.approx(2, abs=0.25)
    assert untold < told


def test_only_galaxies_with_weight_count():
    """Each member is good for one half of the galaxies, and only the first half counts."""
    (a, b), z_first = independent(500, [0.08, 0.3])
    (c, d), z_second = independent(500, [0.3, 0.08], seed=1)
    pzs = [RedshiftPDF.concatenate(pair) for pair in ((a, c), (b, d))]
    # As wide as the member is bad for the half that counts, and wrong for the other one.
    z_spec = np.concatenate([z_first, z_second[::-1]])
    pool = Pool.fit(pzs, z_spec, sample_weight=np.repeat([1.0, 1e-9], 500))

    assert pooled_loss(pool, [a, b], z_first) < log_loss(z_first, a)


def test_all_galaxies_of_a_range_of_redshift_may_be_without_weight():
    z_spec = np.linspace(0.2, 1.8, 500)
    pzs = [gaussians(z_spec, 0.1), flat(500)]

    pool = Pool.fit(pzs, z_spec, sample_weight=np.where(z_spec < 0.7, 0.0, 1.0))

    assert pooled_loss(pool, pzs, z_spec) <= log_loss(z_spec, pzs[0])


def test_a_pool_that_shifts_n_of_z_is_seen():
    pzs, z_spec = independent(4000, [0.05])
    truth = Truth.of(pzs[0], z_spec)
    posterior = gaussians(np.clip(pzs[0].mean(), 0.5, 1.5), 0.05)

    assert _keeps_mean_redshift(gaussians(z_spec, 0.05), truth)
    assert not _keeps_mean_redshift(gaussians(z_spec + 0.02, 0.05), truth)
    assert not _keeps_mean_redshift(gaussians(1.2 * posterior.mean() - 0.2, 0.05), truth)


def test_members_worse_than_nothing_leave_a_flat_density():
    """Both are sure of what is wrong: no weight above 0 would help."""
    z_spec = np.linspace(0.3, 0.8, 200)
    wrong = [gaussians(z_spec + shift, 0.02) for shift in (0.8, 0.9)]

    pooled = Pool("log", (0.0, 0.0), 5e-4).apply(wrong)

    assert_allclose(pooled.density, 0.5, rtol=1e-5)
    assert len(Pool.cross_fit(wrong, z_spec)) == 200


def test_galaxies_without_weight_beyond_one_fold_teach_nothing():
    pzs, z_spec = independent(100, [0.05, 0.1])
    folds = np.arange(100) % 5
    weight = np.where(folds == 0, 1.0, 0.0)

    pool = Pool.fit(pzs, z_spec, folds, sample_weight=weight)

    assert np.isfinite(pool.weights).all()
    assert np.isfinite(Pool.cross_fit(pzs, z_spec, folds, sample_weight=weight).density).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sample_weight": np.full(100, np.nan)}, "no negative, missing or infinite value"),
        ({"sample_weight": np.full(100, -1.0)}, "no negative, missing or infinite value"),
        ({"sample_weight": np.zeros(100)}, "not all zero"),
        ({"reliability": 2.0}, "one for all, got shape "),
        ({"reliability": np.full(100, np.nan)}, "between 0 and 1"),
    ],
)
def test_weights_and_reliabilities_are_checked(given, message):
    pzs, z_spec = independent(100, [0.05, 0.1])

    with pytest.raises(InputError, match=message):
        Pool.fit(pzs, z_spec, **given)


def test_galaxies_that_hardly_count_do_not_hide_a_shift():
    """Their wrong redshifts would widen the standard error of the mean."""
    z_spec = np.repeat(np.linspace(0.2, 1.8, 400), 2)
    is_wrong = np.arange(800) % 2 == 1
    labels = np.where(is_wrong, 2 - z_spec, z_spec)
    shifted = gaussians(z_spec + 0.015, 0.05)
    truth = Truth.of(shifted, labels, np.where(is_wrong, 1e-9, 1.0))

    assert not _keeps_mean_redshift(shifted, truth)


def test_mean_redshift_comes_before_the_log_score():
    """One galaxy in ten lies at the second redshift, which a product all but rules out."""
    generator = np.random.default_rng(0)
    near = generator.normal(0.8, 0.12, 3000)
    z_spec = np.where(generator.random(3000) < 0.1, near + 0.5, near)
    # Measured with an error as large as the spread of the galaxies: half way to their mean.
    means = [(0.8 + generator.normal(near, 0.12)) / 2 for _ in range(2)]
    weights, sigmas = np.full((3000, 2), [0.9, 0.1]), np.full((3000, 2), 0.12 / 2**0.5)
    pzs = [
        RedshiftPDF.from_mixture(GRID, weights, np.stack([m, m + 0.5], axis=1), sigmas)
        for m in means
    ]
    chosen, product = Pool.fit(pzs, z_spec), Pool("log", (0.8, 0.8), 5e-4)
    truth = Truth.of(pzs[0], z_spec)

    assert _keeps_mean_redshift(chosen.apply(pzs), truth)
    assert not _keeps_mean_redshift(product.apply(pzs), truth)
    assert pooled_loss(product, pzs, z_spec) < pooled_loss(chosen, pzs, z_spec)
    assert abs((chosen.apply(pzs).mean() - z_spec).mean()) < 0.01
    assert abs((product.apply(pzs).mean() - z_spec).mean()) > 0.02


def test_a_pool_that_shifts_n_of_z_is_drawn_towards_its_best_member():
    """The second member knows something of its own, but is wrong by a third of its error."""
    generator = np.random.default_rng(0)
    z_spec = generator.normal(1, 0.15, 4000)
    pzs = []
    for sigma, shift in ((0.04, 0.0), (0.06, 0.02)):
        measured = generator.normal(z_spec, sigma)
        precision = sigma**-2 + 0.15**-2
        posterior = (measured / sigma**2 + 1 / 0.15**2) / precision
        pzs.append(gaussians(posterior + shift, precision**-0.5))
    truth = Truth.of(pzs[0], z_spec)
    chosen, undrawn = Pool.fit(pzs, z_spec), Pool("log", (0.95, 0.76), 5e-4)

    assert chosen.kind == "log"
    assert 0.1 < chosen.weights[1] < 0.3
    assert pooled_loss(chosen, pzs, z_spec) < log_loss(z_spec, pzs[0]) - 0.05
    assert pooled_loss(undrawn, pzs, z_spec) < pooled_loss(chosen, pzs, z_spec)
    assert _keeps_mean_redshift(chosen.apply(pzs), truth)
    assert not _keeps_mean_redshift(undrawn.apply(pzs), truth)


def test_pool_survives_json():
    pool = Pool("log", (0.4, 0.9), 5e-4, -0.7)

    assert Pool.from_dict(json.loads(json.dumps(pool.to_dict()))) == pool


def test_pools_of_before_the_tilt_have_none():
    content = {"kind": "log", "weights": [0.4, 0.9], "epsilon": 5e-4}

    assert Pool.from_dict(content) == Pool("log", (0.4, 0.9), 5e-4, tilt=0.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"weights": (0.5, -0.1)}, r"weights and ε must be finite and 0 or more"),
        ({"weights": (0.5, np.nan)}, r"weights and ε must be finite and 0 or more"),
        ({"epsilon": -1e-4}, r"weights and ε must be finite and 0 or more"),
        ({"tilt": np.inf}, r"and the tilt finite, got Pool\(kind='log'"),
        ({"kind": "linear"}, r"a linear pool has no tilt, got 0.3; leave it out"),
    ],
)
def test_numbers_of_a_pool_are_checked(numbers, message):
    given = {"kind": "log", "weights": (0.5, 0.5), "epsilon": 5e-4, "tilt": 0.3}

    with pytest.raises(ValueError, match=message):
        Pool(**{**given, **numbers})


def test_the_tilt_does_not_fill_the_far_end_of_a_long_grid():
    """Narrow p(z) that are all too low would have to be tilted much; the floor ε is everywhere."""
    generator = np.random.default_rng(0)
    grid, z_spec = np.linspace(0, 42, 4201), generator.uniform(0.5, 1.5, (1000, 1))
    pzs = [
        RedshiftPDF.from_mixture(grid, np.ones_like(z_spec), means, np.full_like(z_spec, 0.05))
        for means in (generator.normal(z_spec - 0.01, 0.05) for _ in range(2))
    ]
    pool = Pool.fit(pzs, z_spec[:, 0])

    assert pool.kind == "log"
    assert pool.tilt > 0
    assert pool.apply(pzs).cdf(3.0).min() > 0.998


def test_members_must_predict_the_same_galaxies():
    pz = flat(10)
    other = RedshiftPDF.from_weights(np.linspace(0, 3, 201), np.ones((10, 201)))

    for wrong in (pz[:5], other):
        with pytest.raises(ValueError, match=r"same galaxies on one redshift grid, got .*201"):
            Pool.fit([pz, wrong], np.ones(10))
    with pytest.raises(ValueError, match="at least one member, got none"):
        Pool.fit([], np.ones(10))
    with pytest.raises(ValueError, match="expected densities of 2 members, got 1"):
        Pool("log", (1.0, 1.0)).apply([pz])


def catalogue(n_galaxies, seed=0):
    """Two bands whose colour is the redshift, with noise."""
    generator = np.random.default_rng(seed)
    z_spec = generator.uniform(0.1, 1.5, n_galaxies)
    r = generator.uniform(20, 23, n_galaxies)
    magnitude = np.stack([r + z_spec + generator.normal(0, 0.05, n_galaxies), r], axis=1)
    flux = 10 ** (-0.4 * (magnitude - 31.4))
    state = np.full(flux.shape, State.DETECTED, dtype=np.uint8)
    return Photometry(BANDS, flux, 0.03 * flux, state), z_spec


def knn(n_neighbours, z_max=2.0):
    survey = load_survey({"bands": list(BANDS), "magnitude": "{band}", "error": "e{band}"})
    estimator = KnnPhotoz(n_neighbours=n_neighbours, bandwidth=0.04, z_max=z_max, n_z=201)
    model = PhotozModel(
        survey, PhotometricFeatures(errors=False), Augmentation(0, 0.0, 0.0), estimator
    )
    return model.fit(*catalogue(400))


@pytest.fixture(scope="module")
def members():
    return {"few": knn(5), "many": knn(60)}


def test_blend_pools_uncalibrated_members(members):
    photometry, _ = catalogue(50, seed=1)
    pool = Pool("log", (0.6, 0.5), 5e-4)
    calibrated = PhotozModel.__new__(PhotozModel)
    calibrated.__dict__.update(members["few"].__dict__, calibration=_widen())
    blend = PhotozBlend({**members, "few": calibrated}, pool)

    expected = pool.apply([m.predict_pdf(photometry) for m in members.values()])
    assert_allclose(blend.predict_pdf(photometry).density, expected.density, rtol=1e-6)


def _widen():
    generator = np.random.default_rng(0)
    z_spec = generator.uniform(0.5, 1.5, 500)
    pz = gaussians(generator.normal(z_spec, 0.1), 0.05)
    return Calibration.fit(pz, z_spec, np.zeros((500, 3)))


def test_blend_is_calibrated_unless_told_otherwise(members):
    photometry, _ = catalogue(50, seed=1)
    pool, widen = Pool("log", (0.6, 0.5), 5e-4), _widen()
    blend = PhotozBlend(members, pool, widen)
    plain = blend.predict_pdf(photometry, calibrated=False)

    X = members["few"].features.transform(photometry)
    assert (blend.predict_pdf(photometry).std() > 1.2 * plain.std()).all()
    assert_array_equal(blend.predict_pdf(photometry).density, widen.apply(plain, X).density)


def test_blend_beats_its_members(members):
    photometry, z_spec = catalogue(600, seed=1)
    pzs = [m.predict_pdf(photometry[:300]) for m in members.values()]
    blend = PhotozBlend(members, Pool.fit(pzs, z_spec[:300]))
    test, z_test = photometry[300:], z_spec[300:]

    best = min(log_loss(z_test, m.predict_pdf(test)) for m in members.values())
    assert log_loss(z_test, blend.predict_pdf(test)) < best + 0.01


def test_blend_has_what_its_members_share(members):
    blend = PhotozBlend(members, Pool("linear", (0.5, 0.5)))
    far, _ = catalogue(2)
    far.flux[0] *= 1e6

    assert blend.survey == members["few"].survey
    assert_array_equal(blend.z_grid, members["few"].z_grid)
    assert blend.optional_bands == ()
    assert blend.outside_training(far).tolist() == [True, False]


def test_bands_are_optional_if_every_member_can_do_without():
    few, many = knn(5), knn(60)
    few.optional_bands, many.optional_bands = ("g", "r"), ("r",)

    blend = PhotozBlend({"few": few, "many": many}, Pool("linear", (0.5, 0.5)))
    assert blend.optional_bands == ("r",)


def test_no_galaxies_are_no_exception(members):
    blend = PhotozBlend(members, Pool("log", (0.6, 0.5), 5e-4), _widen())

    assert len(blend.predict_pdf(catalogue(5)[0][:0])) == 0


def test_members_must_fit_the_pool_and_each_other(members):
    with pytest.raises(ValueError, match="expected 3 members, as the pool has weights, got"):
        PhotozBlend(members, Pool("linear", (0.2, 0.4, 0.4)))
    with pytest.raises(ValueError, match="'other' has another survey or redshift grid than 'few'"):
        PhotozBlend({"few": members["few"], "other": knn(5, z_max=3.0)}, Pool("linear", (1, 0)))
