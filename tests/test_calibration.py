import json

import numpy as np
import pytest
from numpy.polynomial import legendre
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm, skewnorm

from photoz.calibration import Calibration
from photoz.log_score import Truth
from photoz.metrics import coverage_68, log_loss, pit_ks
from photoz.pdf import RedshiftPDF
from photoz.pit_map import PitMap
from photoz.temperature import PowerTable, Temperature

GRID = np.linspace(0, 2, 201)
STEP = GRID[1]
COVERAGE_SD = np.sqrt(0.68 * 0.32)


def gaussians(mean, sigma):
    mean, sigma = (
        np.array(x, dtype=float)[:, np.newaxis] for x in np.broadcast_arrays(mean, sigma)
    )
    return RedshiftPDF.from_mixture(GRID, np.ones_like(mean), mean, sigma)


def survey(n_galaxies, stated, seed=0, sigma=0.04):
    """Gaussian p(z) of width `stated(magnitude) * sigma`, where the errors have `sigma`.

    Returns
    -------
    pz, z_spec, X with the magnitude as its only column
    """
    generator = np.random.default_rng(seed)
    mean = generator.uniform(0.4, 1.6, n_galaxies)
    magnitude = generator.uniform(18, 24, n_galaxies)
    width = sigma * stated(magnitude) * np.ones(n_galaxies)
    z_spec = generator.normal(mean, sigma)
    return gaussians(mean, width), z_spec, magnitude[:, np.newaxis]


def fit(sample, **settings):
    return Calibration.fit(*sample, magnitude_columns=[0], **settings)


def gain(calibration, sample):
    """By how much the calibration improves the log loss."""
    pz, z_spec, X = sample
    return log_loss(z_spec, pz) - log_loss(z_spec, calibration.apply(pz, X))


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_widths_that_are_wrong_are_put_right(factor):
    calibration = fit(survey(3000, lambda _: factor))
    pz, z_spec, X = survey(3000, lambda _: factor, seed=1)
    calibrated = calibration.apply(pz, X)

    assert_allclose(np.median(calibrated.std()), 0.04, rtol=0.05)
    assert coverage_68(z_spec, calibrated) == pytest.approx(0.68, abs=4 * COVERAGE_SD / 3000**0.5)


def test_widths_are_put_right_at_every_magnitude():
    """Too narrow for bright and too wide for faint galaxies, and right on the whole."""

    def stated(magnitude):
        return np.exp(0.15 * (magnitude - 21))

    calibration = fit(survey(6000, stated))
    pz, z_spec, X = survey(6000, stated, seed=1)
    calibrated = calibration.apply(pz, X)

    for low in (18, 20, 22):
        rows = (X[:, 0] >= low) & (X[:, 0] < low + 2)
        before, after = (coverage_68(z_spec[rows], p[rows]) for p in (pz, calibrated))
        assert after == pytest.approx(0.68, abs=0.05)
        assert abs(after - 0.68) < abs(before - 0.68) or abs(before - 0.68) < 0.05


def test_widths_are_put_right_by_width():
    """Without a magnitude the width itself tells which p(z) are too narrow."""
    generator = np.random.default_rng(0)
    mean, sigma = generator.uniform(0.5, 1.5, 6000), 0.03 * 3 ** generator.uniform(0, 1, 6000)
    z_spec = generator.normal(mean, sigma)
    pz, X = gaussians(mean, 0.05 * (sigma / 0.05) ** 1.5), np.empty((6000, 0))
    calibrated = Calibration.fit(pz, z_spec, X).apply(pz, X)

    for rows in (sigma < 0.04, sigma > 0.07):
        assert abs(coverage_68(z_spec[rows], pz[rows]) - 0.68) > 0.08
        assert coverage_68(z_spec[rows], calibrated[rows]) == pytest.approx(0.68, abs=0.04)


@pytest.mark.parametrize("factor", [0.6, 1.7])
def test_widths_are_put_right_where_a_band_is_missing(factor):
    """The widths are right but for galaxies without the second band."""
    generator = np.random.default_rng(2)
    without = generator.random(6000) < 0.3
    sigma = 0.03 * 3 ** generator.random(6000)
    pz, z_spec, X = survey(6000, lambda _: np.where(without, factor, 1.0), sigma=sigma)
    X = np.column_stack([X, np.where(without, np.nan, X[:, 0])])
    calibration = Calibration.fit(pz, z_spec, X, magnitude_columns=[0, 1])
    calibrated = Calibration.from_dict(calibration.to_dict()).apply(pz, X)

    for rows in (without, ~without):
        assert coverage_68(z_spec[rows], calibrated[rows]) == pytest.approx(0.68, abs=0.04)


def test_skewed_errors_are_mapped():
    """No power of a symmetric p(z) can follow a skewed truth; the map of F can."""
    pz, _, X = survey(5000, lambda _: 1.0)
    errors = skewnorm(4).rvs(5000, random_state=1) - skewnorm(4).mean()
    z_spec = pz.median() + 0.04 * errors / skewnorm(4).std()
    calibration = fit((pz, z_spec, X))

    assert calibration.pit_map is not None
    assert pit_ks(z_spec, calibration.apply(pz, X)) < 0.5 * pit_ks(z_spec, pz)


@pytest.mark.parametrize("n_galaxies", [50, 150, 500])
def test_small_samples_do_not_spoil_what_is_right(n_galaxies):
    """Fitted freely, 3 + 4 numbers would cost 7 / (2 n) nats: .07 at 50 galaxies."""
    large = survey(2000, lambda _: 1.0, seed=99)
    losses = [-gain(fit(survey(n_galaxies, lambda _: 1.0, seed=s)), large) for s in range(6)]

    assert np.mean(losses) < 1.5 / n_galaxies


@pytest.mark.parametrize("n_galaxies", [50, 500])
def test_small_samples_mend_what_is_wrong(n_galaxies):
    large = survey(2000, lambda _: 0.5, seed=99)
    possible = log_loss(large[1], large[0]) - log_loss(
        *survey(2000, lambda _: 1.0, seed=99)[1::-1]
    )
    gains = [gain(fit(survey(n_galaxies, lambda _: 0.5, seed=s)), large) for s in range(3)]

    assert np.mean(gains) > 0.8 * possible


def test_calibration_of_one_galaxy_is_none():
    """Where nothing is learned that holds for other folds, p(z) stays as it is."""
    pz, X = RedshiftPDF.from_weights(GRID, np.ones((200, len(GRID)))), np.zeros((200, 1))
    calibration = Calibration.fit(pz, np.linspace(0, 2, 200), X)

    assert_allclose(calibration.apply(pz, X).density, pz.density, rtol=1e-5)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("factor", [0.7, 1.0])
def test_cross_fitted_score_never_gets_worse(seed, factor):
    pz, z_spec, X = survey(120, lambda _: factor, seed=seed)
    calibrated = Calibration.cross_fit(pz, z_spec, X, magnitude_columns=[0])

    assert log_loss(z_spec, calibrated) <= log_loss(z_spec, pz) + 1e-6


def test_no_galaxy_has_a_part_in_its_own_calibration():
    pz, z_spec, X = survey(1000, lambda _: 0.6)
    folds = np.arange(1000) // 200
    other = np.where(folds == 2, np.random.default_rng(1).uniform(0, 2, 1000), z_spec)
    first, second = (Calibration.cross_fit(pz, z, X, folds) for z in (z_spec, other))

    assert_array_equal(first.density[folds == 2], second.density[folds == 2])
    assert not np.array_equal(first.density[folds == 1], second.density[folds == 1])


def test_calibrated_p_is_a_density():
    calibration = fit(survey(1000, lambda m: 0.5 + 0.1 * (m - 18)))
    generator = np.random.default_rng(0)
    rough = generator.random((300, len(GRID))) * (generator.random((300, len(GRID))) > 0.5)
    rough[0], rough[1:3, 1:] = 0, 0
    magnitude = np.append(generator.uniform(-99, 99, 299), np.nan)
    calibrated = calibration.apply(RedshiftPDF.from_weights(GRID, rough), magnitude[:, np.newaxis])

    assert (calibrated.density >= 0).all()
    assert_allclose(np.trapezoid(calibrated.density, GRID, axis=1), 1, atol=1e-5)


def test_every_galaxy_is_calibrated_by_itself():
    calibration = fit(survey(1000, lambda m: 0.5 + 0.1 * (m - 18)))
    pz, _, X = survey(2000, lambda _: 1.0, seed=1)
    whole = calibration.apply(pz, X).density
    rows = np.random.default_rng(0).permutation(2000)[:300]

    tolerance = 1e-5 * whole.max(axis=1, keepdims=True)[rows]
    assert (np.abs(calibration.apply(pz[rows], X[rows]).density - whole[rows]) < tolerance).all()


def test_nothing_in_nothing_out():
    calibration = fit(survey(500, lambda _: 0.5))

    assert len(calibration.apply(gaussians([], []), np.empty((0, 1)))) == 0


def test_calibration_survives_json():
    sample = survey(1000, lambda m: 0.5 + 0.1 * (m - 18))
    calibration = fit(sample)
    again = Calibration.from_dict(json.loads(json.dumps(calibration.to_dict())))

    assert again == calibration
    assert_array_equal(
        again.apply(sample[0], sample[2]).density, calibration.apply(sample[0], sample[2]).density
    )


def test_identity_survives_json():
    assert Calibration.from_dict(json.loads(json.dumps(Calibration().to_dict()))) == Calibration()


def test_unknown_magnitudes_are_average_ones():
    pz, z_spec, X = survey(2000, lambda m: np.exp(0.15 * (m - 21)))
    X = np.column_stack([X, X + 0.5, np.full(2000, np.nan)])
    X[::3, 0], X[::5, 1] = np.nan, np.nan
    calibration = Calibration.fit(pz, z_spec, X, magnitude_columns=[0, 1, 2])
    same = gaussians([1.0, 1.0], 0.05)
    unknown, average = calibration.apply(
        same, np.array([[np.nan] * 3, [21.0, 21.5, np.nan]])
    ).std()

    assert unknown == pytest.approx(average, rel=0.02)


def test_masked_features_are_unknown_ones():
    pz, z_spec, X = survey(2000, lambda m: np.exp(0.15 * (m - 21)))
    calibration = Calibration.fit(pz, z_spec, X, magnitude_columns=[0])
    same, known = gaussians([1.0, 1.0], 0.05), np.array([[23.0], [99.0]])
    masked = np.ma.masked_array(known, mask=known == 99)

    expected = np.where(known == 99, np.nan, known)
    assert_array_equal(calibration.known_log_beta(masked), calibration.known_log_beta(expected))
    assert_array_equal(
        calibration.apply(same, masked).density, calibration.apply(same, expected).density
    )


def test_one_magnitude_stands_in_for_another():
    """A band that is not observed must not look like a change of brightness."""
    pz, z_spec, X = survey(2000, lambda m: np.exp(0.15 * (m - 21)))
    X = np.column_stack([X, X + 3])
    calibration = Calibration.fit(pz, z_spec, X, magnitude_columns=[0, 1])
    same = gaussians([1.0, 1.0], 0.05)
    one, two = calibration.apply(same, np.array([[23.0, np.nan], [np.nan, 26.0]])).std()

    assert one == pytest.approx(two, rel=0.02)


def test_magnitudes_are_not_extrapolated():
    calibration = fit(survey(2000, lambda m: np.exp(0.15 * (m - 21))))
    faint, fainter = calibration.apply(
        gaussians([1.0, 1.0], 0.05), np.array([[25.0], [99.0]])
    ).std()

    assert fainter == pytest.approx(faint, rel=1e-6)


@pytest.mark.parametrize("n_steps", [2.0, 2.5, 4.0])
def test_nothing_becomes_narrower_than_two_steps(n_steps):
    """The truth lies exactly on the mean, so that the log score alone would see no end."""
    mean = np.random.default_rng(0).uniform(0.5, 1.5, 1000)
    pz, X = gaussians(mean, n_steps * STEP), np.zeros((1000, 1))
    calibrated = Calibration.fit(pz, pz.mean(), X).apply(pz, X)

    assert calibrated.std().min() > 0.97 * 2 * STEP
    assert calibrated.std().max() < 1.01 * n_steps * STEP


def test_a_sharp_peak_beside_a_wide_one_is_kept_resolved():
    weights, means = np.full((500, 2), [0.4, 0.6]), np.full((500, 2), [0.5, 1.5])
    pz = RedshiftPDF.from_mixture(GRID, weights, means, np.full((500, 2), [2.2 * STEP, 0.2]))
    z_spec, X = np.full(500, 1.5), np.zeros((500, 1))
    calibrated = Calibration.fit(pz, z_spec, X).apply(pz, X)
    peak = np.where(GRID < 0.75, calibrated.density[0], 0)
    mean, square = (np.average(GRID**k, weights=peak) for k in (1, 2))

    assert np.sqrt(square - mean**2) > 0.97 * 2 * STEP


def test_wrong_labels_do_not_widen():
    pz, z_spec, X = survey(4000, lambda _: 1.0)
    generator = np.random.default_rng(1)
    wrong = generator.random(4000) < 0.1
    z_listed = np.where(wrong, generator.permutation(z_spec), z_spec)
    clean, told, untold = (
        np.median(Calibration.fit(pz, z, X, reliability=r).apply(pz, X).std())
        for z, r in ((z_spec, None), (z_listed, 0.9), (z_listed, None))
    )

    assert told == pytest.approx(clean, rel=0.02)
    assert untold > 1.03 * clean


def test_weights_say_which_galaxies_count():
    narrow, wide = survey(2000, lambda _: 0.6), survey(2000, lambda _: 1.5, seed=1)
    pz = RedshiftPDF.concatenate([narrow[0], wide[0]])
    z_spec, X = (np.concatenate([narrow[k], wide[k]]) for k in (1, 2))
    weight = np.repeat([1.0, 0.0], 2000)
    calibration = Calibration.fit(pz, z_spec, X, sample_weight=weight)

    assert_allclose(np.median(calibration.apply(*narrow[::2]).std()), 0.04, rtol=0.05)


def test_truth_beyond_the_grid_is_a_miss_and_no_more():
    pz, z_spec, X = survey(2000, lambda _: 0.6)
    beyond = np.where(np.arange(2000) % 200 == 0, 7.0, z_spec)
    inside = Calibration.fit(pz, z_spec, X).apply(pz, X)

    assert_allclose(
        np.median(Calibration.fit(pz, beyond, X).apply(pz, X).std()),
        np.median(inside.std()),
        rtol=0.02,
    )


def test_number_of_galaxies_is_kept():
    assert fit(survey(137, lambda _: 1.0)).n_galaxies == 137


def test_table_gives_powers_of_p():
    """Against the plain way: raise to the power, normalise, look up."""
    pz, z_spec, _ = survey(60, lambda _: 1.2, sigma=0.08)
    z_spec[0], log_beta = 5.0, np.linspace(-1.5, 0.7, 60)
    density, slope = PowerTable.of(pz, z_spec).density(log_beta)

    def plain(shift):
        power = pz.density.astype(float) ** np.exp(log_beta + shift)[:, np.newaxis]
        return RedshiftPDF.from_weights(GRID, power).at(z_spec)

    assert_allclose(density, plain(0), rtol=2e-4, atol=1e-12)
    near = plain(0) > 1e-3
    expected = (np.log(plain(1e-2)[near]) - np.log(plain(-1e-2)[near])) / 2e-2
    assert_allclose(slope[near], expected, atol=2e-3)


def test_temperature_is_a_power_of_p():
    pz, _, X = survey(50, lambda _: 1.0)
    tempered = Temperature((np.log(0.5), 0.0, 0.0)).apply(pz.density, STEP, X)

    expected = RedshiftPDF.from_weights(GRID, np.sqrt(pz.density)).density
    assert_allclose(tempered, expected, atol=1e-3)


def test_map_multiplies_p_by_the_slope_of_g():
    pz, _, _ = survey(50, lambda _: 1.0)
    coefficients = (0.3, -0.2, 0.1)
    mapped = PitMap(coefficients).apply(pz.density, STEP)

    slope = np.exp(legendre.legval(2 * pz.cumulative() - 1, [0, *coefficients]))
    expected = RedshiftPDF.from_weights(GRID, pz.density * slope).density
    assert_allclose(mapped, expected, atol=1e-3)


def test_map_makes_known_pit_uniform():
    """PIT drawn from a map of the fitted family itself are undone by it."""
    pz, _, _ = survey(20_000, lambda _: 1.0)
    uniform = np.linspace(-1, 1, 2001)
    slope = np.exp(legendre.legval(uniform, [0, 0.3, -0.3]))
    levels = np.random.default_rng(2).choice(uniform, 20_000, p=slope / slope.sum())
    z_spec = norm(pz.mean(), 0.04).ppf(np.clip(0.5 + levels / 2, 1e-3, 1 - 1e-3))
    pit_map = PitMap.fit(pz, Truth.of(pz, z_spec))

    assert_allclose(pit_map.coefficients, [0.3, -0.3, 0, 0], atol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"z_spec": np.full(10, np.nan)},
            r"a finite redshift for each of the 10 densities.*10 of",
        ),
        (
            {"z_spec": np.ma.masked_array(np.ones(10), mask=np.arange(10) < 3)},
            r"a finite redshift for each of the 10 densities.*3 of",
        ),
        ({"z_spec": np.ones(9)}, r"got shape \(9,\)"),
        ({"X": np.zeros((9, 1))}, r"X must have shape \(10, n_features\), got \(9, 1\)"),
        ({"X": np.zeros(10)}, r"X must have shape \(10, n_features\), got \(10,\)"),
        ({"folds": np.zeros(10)}, "at least two different ones, got shape .* with 1"),
        ({"folds": [0.0, 1.0, np.nan] + [1.0] * 7}, r"with 2, 1 missing\."),
        (
            {"folds": np.ma.masked_array(np.arange(10), mask=np.arange(10) < 3)},
            "with 7, 3 missing",
        ),
        ({"folds": np.arange(9)}, r"a label for each of 10 galaxies.*shape \(9,\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, message):
    pz, z_spec, X = survey(10, lambda _: 1.0)
    arguments = {"z_spec": z_spec, "X": X, **change}

    with pytest.raises(ValueError, match=message):
        Calibration.fit(pz, **arguments)
    with pytest.raises(ValueError, match=message):
        Calibration.cross_fit(pz, **arguments)


def test_features_of_other_galaxies_are_refused():
    pz, _, X = survey(10, lambda _: 1.0)

    with pytest.raises(ValueError, match=r"X must have shape \(10, n_features\), got \(9, 1\)"):
        Calibration().apply(pz, X[:9])
