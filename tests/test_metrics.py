from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import erf
from scipy.stats import kstest, norm

from photoz import metrics, point_metrics
from photoz.errors import InputError
from photoz.metrics import (
    DENSITY_METRICS,
    POINT_METRICS,
    bias,
    catastrophic_fraction,
    cde_loss,
    cde_loss_per_galaxy,
    coverage_68,
    coverage_95,
    crps,
    crps_per_galaxy,
    log_loss,
    log_loss_per_galaxy,
    outlier_fraction,
    outlier_fraction_lsst,
    pit,
    pit_ks,
    pit_outlier_fraction,
    rmse,
    score,
    sigma_iqr,
    sigma_nmad,
    tomographic_bias,
)
from photoz.pdf import RedshiftPDF
from photoz.point_metrics import equal_number_bins

MEAN, SIGMA = 1.2, 0.1
HIDDEN = np.ma.masked_array([0.1, 0.3], mask=[False, True])
PER_GALAXY = (cde_loss_per_galaxy, crps_per_galaxy, log_loss_per_galaxy, pit)


def gaussian(z_max=3.0, n_z=601, n_galaxies=1, mean=MEAN, sigma=SIGMA):
    z_grid = np.linspace(0, z_max, n_z)
    mean, sigma = np.full((n_galaxies, 1), mean), np.full((n_galaxies, 1), sigma)
    return RedshiftPDF.from_mixture(z_grid, np.ones((n_galaxies, 1)), mean, sigma)


def ragged(n_galaxies=6, n_z=12, seed=3):
    """Densities that are anything but smooth, some of them zero on whole cells."""
    generator = np.random.default_rng(seed)
    weights = generator.gamma(0.3, size=(n_galaxies, n_z))
    weights[:, 4:6] = 0
    return RedshiftPDF.from_weights(np.linspace(0, 2.2, n_z), weights)


def uniform_below(top, z_max=2.0, n_z=201, n_galaxies=1):
    """Uniform density over the whole grid, which ends at `top`."""
    assert top == z_max
    return RedshiftPDF.from_weights(np.linspace(0, z_max, n_z), np.ones((n_galaxies, n_z)))


def gaussian_crps(z):
    """Closed form of Gneiting & Raftery (2007), equation 21."""
    x = (z - MEAN) / SIGMA
    return SIGMA * (x * (2 * norm.cdf(x) - 1) + 2 * norm.pdf(x) - 1 / np.sqrt(np.pi))


def brute_force_crps(z_spec, pz, row):
    """Numerical integral of the definition, from the linear density alone."""
    z_grid, density = pz.z_grid, pz.density[row].astype(float)
    density = density / np.trapezoid(density, z_grid)

    def cdf(z):
        below = z_grid < z
        nodes = np.append(z_grid[below], z)
        return np.trapezoid(np.interp(nodes, z_grid, density), nodes)

    nodes = np.unique(np.append(z_grid, np.clip(z_spec, 0, z_grid[-1])))
    parts = [
        quad(lambda z: (cdf(z) - (z >= z_spec)) ** 2, low, high, epsabs=1e-13)[0]
        for low, high in pairwise(nodes)
    ]
    return sum(parts) + max(z_spec - z_grid[-1], 0) + max(-z_spec, 0)


@pytest.mark.parametrize("z_spec", [-0.01, 0.0, 0.37, 0.6, 1.0, 1.999, 2.2, 2.9])
def test_crps_is_exact_for_a_density_linear_between_grid_points(z_spec):
    pz = ragged()
    expected = [brute_force_crps(z_spec, pz, row) for row in range(len(pz))]

    assert_allclose(crps_per_galaxy(np.full(len(pz), z_spec), pz), expected, atol=1e-10)


@pytest.mark.parametrize("z_spec", [0.6, 1.1, 1.2, 1.33, 2.9])
def test_crps_agrees_with_the_closed_form_of_a_gaussian(z_spec):
    # A density drawn with straight lines is wider than the curve by step^2 / 6 in variance:
    # less than 1e-5 of this CRPS on a grid of 3001 points.
    assert_allclose(crps([z_spec], gaussian(n_z=3001)), gaussian_crps(z_spec), rtol=2e-5)


@pytest.mark.parametrize("z_spec", [0.0, 0.45, 1.0, 2.0])
def test_crps_agrees_with_the_closed_form_of_a_uniform(z_spec):
    # On [0, w] the integrals of (z / w)^2 below and (1 - z / w)^2 above the truth.
    width = 2.0
    expected = (z_spec**3 + (width - z_spec) ** 3) / (3 * width**2)

    assert_allclose(crps([z_spec], uniform_below(width)), expected, atol=1e-6)


def test_crps_of_a_truth_beyond_the_grid_adds_the_distance():
    pz = ragged()
    at_the_end = crps_per_galaxy(np.full(len(pz), pz.z_grid[-1]), pz)

    assert_allclose(crps_per_galaxy(np.full(len(pz), pz.z_grid[-1] + 0.7), pz), at_the_end + 0.7)


def test_crps_of_a_sharp_density_is_the_absolute_error():
    sharp = gaussian(n_z=3001, sigma=1e-4)  # widened to two steps: 2e-3

    assert_allclose(crps([0.7], sharp), MEAN - 0.7, atol=2e-3)


def test_cde_loss_agrees_with_the_closed_form_of_a_gaussian():
    # The integral of a squared Gaussian is 1 / (2 sqrt(pi) sigma).
    expected = 1 / (2 * np.sqrt(np.pi) * SIGMA) - 2 * norm.pdf(1.3, MEAN, SIGMA)

    assert_allclose(cde_loss([1.3], gaussian()), expected, rtol=1e-4)


def test_log_loss_agrees_with_the_closed_form_of_a_gaussian():
    assert_allclose(log_loss([1.3], gaussian()), -norm.logpdf(1.3, MEAN, SIGMA), atol=1e-3)


def test_log_loss_has_its_floor_at_1e_4():
    assert log_loss([2.9], gaussian()) == -np.log(1e-4)


def test_truth_beyond_the_grid_has_no_density():
    squared = cde_loss([2.9], gaussian())  # so far out that only the squared norm is left

    assert cde_loss([3.1], gaussian()) == squared


def test_truth_beyond_the_grid_has_log_loss_at_the_floor():
    assert log_loss([2.5], uniform_below(2.0)) == -np.log(1e-4)


@pytest.mark.parametrize(("z_spec", "expected"), [(-0.001, 0), (3.0001, 1), (40.0, 1)])
def test_pit_beyond_the_grid_is_at_its_end(z_spec, expected):
    assert pit([z_spec], gaussian()) == [expected]


def test_pit_agrees_with_the_gaussian_cdf():
    z_spec = np.linspace(0.9, 1.5, 13)
    expected = 0.5 * (1 + erf((z_spec - MEAN) / SIGMA / np.sqrt(2)))

    assert_allclose(pit(z_spec, gaussian(n_galaxies=13)), expected, atol=2e-4)


def test_pit_ks_equals_the_kolmogorov_smirnov_statistic():
    z_spec = np.random.default_rng(0).uniform(0, 2, 57)
    pz = uniform_below(2.0, n_galaxies=57)

    assert_allclose(pit_ks(z_spec, pz), kstest(z_spec / 2, "uniform").statistic, atol=1e-6)


def test_truths_drawn_from_pz_have_nominal_calibration():
    pz = RedshiftPDF.concatenate([ragged(500, seed=seed) for seed in range(20)])
    z_spec = pz.sample(1, random_state=1)[:, 0]
    # Binomial standard deviation of 10,000 galaxies: .0047 at .68, .0022 at .95, 1.4e-4 at 2e-4.
    assert_allclose(coverage_68(z_spec, pz), 0.68, atol=0.015)
    assert_allclose(coverage_95(z_spec, pz), 0.95, atol=0.007)
    assert pit_ks(z_spec, pz) < 1.63 / np.sqrt(len(pz))
    assert pit_outlier_fraction(z_spec, pz) < 2e-4 + 4 * 1.4e-4


@pytest.mark.parametrize("loss", [cde_loss, crps, log_loss])
@pytest.mark.parametrize("change", [{"mean": MEAN + 0.05}, {"sigma": 0.07}, {"sigma": 0.15}])
def test_density_losses_are_proper(loss, change):
    """No p(z) scores better than the one that the truths were drawn from."""
    n_galaxies = 2000
    pz = gaussian(n_galaxies=n_galaxies)
    z_spec = pz.sample(1, random_state=5)[:, 0]

    assert loss(z_spec, pz) < loss(z_spec, gaussian(n_galaxies=n_galaxies, **change))


def test_coverage_bounds_are_equal_tailed():
    # PIT of .05, .16, .5, .84, .95, .99, moved inwards by a hair where float32 decides.
    z_spec = 2 * np.array([0.05, 0.160001, 0.5, 0.839999, 0.95, 0.99])
    pz = uniform_below(2.0, n_galaxies=6)

    assert coverage_68(z_spec, pz) == 3 / 6
    assert coverage_95(z_spec, pz) == 5 / 6


def test_pit_outliers_lie_on_both_sides():
    z_spec = 2 * np.array([0.5e-4, 2e-4, 0.5, 1 - 2e-4, 1 - 0.5e-4])

    assert pit_outlier_fraction(z_spec, uniform_below(2.0, n_galaxies=5)) == 2 / 5


@pytest.mark.parametrize("per_galaxy", PER_GALAXY, ids=lambda f: f.__name__)
def test_chunks_change_nothing(per_galaxy, monkeypatch):
    pz = ragged(50)
    z_spec = np.linspace(-0.1, 2.4, 50)[::-1]
    whole = per_galaxy(z_spec, pz)
    monkeypatch.setattr(metrics, "_CHUNK", 7 * len(pz.z_grid))

    assert_allclose(per_galaxy(z_spec, pz), whole, rtol=1e-12)


@pytest.mark.parametrize("per_galaxy", PER_GALAXY, ids=lambda f: f.__name__)
def test_row_order_changes_nothing(per_galaxy):
    pz = ragged(40)
    z_spec = np.random.default_rng(0).uniform(0, 2, 40)
    order = np.random.default_rng(1).permutation(40)

    assert_allclose(per_galaxy(z_spec[order], pz[order]), per_galaxy(z_spec, pz)[order])


def test_sigmas_of_a_gaussian_equal_its_standard_deviation():
    # Of 20,001 equally likely quantiles: 1.4826 is 1 / Phi^-1(3/4), 1.349 is 2 Phi^-1(3/4).
    z_phot = norm.ppf((np.arange(20_001) + 0.5) / 20_001, scale=0.02)
    z_spec = np.zeros_like(z_phot)

    assert_allclose(sigma_nmad(z_spec, z_phot), 0.02, rtol=1e-3)
    assert_allclose(sigma_iqr(z_spec, z_phot), 0.02, rtol=1e-3)


def test_sigma_nmad_is_taken_about_the_median():
    z_phot = np.array([0.10, 0.11, 0.12, 0.13, 0.14])

    assert_allclose(sigma_nmad(np.zeros(5), z_phot), 1.4826 * 0.01)


def test_point_metrics_by_hand():
    z_spec = np.array([0.0, 1.0, 1.0, 3.0])
    z_phot = np.array([0.2, 1.0, 0.8, 4.2])  # dz = .2, 0, -.1, .3

    assert_allclose(bias(z_spec, z_phot), (0 + 0.2) / 2)
    assert_allclose(rmse(z_spec, z_phot), np.sqrt((0.04 + 0 + 0.01 + 0.09) / 4))
    assert outlier_fraction(z_spec, z_phot) == 2 / 4
    assert outlier_fraction(z_spec, z_phot, threshold=0.25) == 1 / 4
    assert catastrophic_fraction(z_spec, z_phot) == 1 / 4


def test_outlier_threshold_itself_is_no_outlier():
    assert outlier_fraction([0.0, 0.0], [0.15, -0.1500001]) == 1 / 2


def test_lsst_outliers_are_beyond_three_sigma_where_scatter_is_large():
    dz = np.append(np.linspace(-0.1349, 0.1349, 101), 0.35)  # sigma_iqr .1, to 1 per cent

    assert outlier_fraction_lsst(np.zeros(102), dz) == 1 / 102
    assert outlier_fraction_lsst(np.zeros(102), np.append(dz[:-1], 0.29)) == 0


def test_lsst_outliers_are_beyond_006_where_scatter_is_small():
    assert outlier_fraction_lsst(np.zeros(5), [0, 0, 0, 0.061, -0.059]) == 1 / 5


@pytest.mark.parametrize("metric", POINT_METRICS.values(), ids=POINT_METRICS)
def test_perfect_redshifts_score_zero(metric):
    z_spec = np.linspace(0.1, 2, 30)

    assert metric(z_spec, z_spec) == 0


@pytest.mark.parametrize("metric", [bias, sigma_nmad, sigma_iqr, rmse], ids=lambda f: f.__name__)
def test_errors_are_scaled_by_the_truth(metric):
    z_spec, z_phot = np.array([1.0, 1.0, 1.0]), np.array([1.2, 1.6, 3.0])

    assert_allclose(metric(z_spec, z_phot), metric([0, 0, 0], [0.1, 0.3, 1.0]))


@pytest.mark.parametrize(
    ("metric", "dz"), [(outlier_fraction, 0.16), (outlier_fraction_lsst, 0.061)]
)
def test_outliers_are_scaled_by_the_truth(metric, dz):
    nearby, distant = np.zeros(5), np.array([0, 0, 0, 0, dz])

    assert metric(nearby, distant) == 1 / 5
    assert metric(distant, nearby) == 0


def test_tomographic_bias_of_a_shifted_sample_is_the_shift():
    means = np.linspace(0.5, 1.5, 100)
    pz = RedshiftPDF.from_mixture(
        np.linspace(0, 3, 301), np.ones((100, 1)), means[:, None], np.full((100, 1), 0.05)
    )
    z_spec = means - 0.02
    expected = 0.02 / (1 + z_spec.reshape(5, 20).mean(axis=1))

    assert_allclose(tomographic_bias(z_spec, pz), expected, rtol=1e-3)


def test_equal_number_bins_hold_equal_numbers():
    values = np.random.default_rng(0).permutation(100)

    assert (np.bincount(equal_number_bins(values, 5)) == 20).all()


def test_equal_values_share_a_bin_in_any_order_of_rows():
    values = np.array([1.0, 1, 2, 2, 2, 2, 2, 3, 4, 4])

    assert equal_number_bins(values, 5).tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 3, 3]
    assert equal_number_bins(values[::-1], 5).tolist() == [3, 3, 2, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("name", [*DENSITY_METRICS, *POINT_METRICS])
def test_score_by_name_is_the_metric_of_the_median(name):
    pz = ragged(30)
    z_spec = np.linspace(0.1, 2, 30)
    expected = (
        DENSITY_METRICS[name](z_spec, pz)
        if name in DENSITY_METRICS
        else POINT_METRICS[name](z_spec, pz.median())
    )

    assert score(name, z_spec, pz) == expected


@pytest.mark.parametrize("name", [*DENSITY_METRICS, *POINT_METRICS])
def test_no_galaxies_have_no_value(name):
    assert np.isnan(score(name, [], gaussian()[:0]))


def test_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown metric 'cde'; known are cde_loss, crps"):
        score("cde", [1.0], gaussian())


@pytest.mark.parametrize(
    ("z_spec", "message"),
    [
        ([0.1, 0.2], r"one redshift per galaxy, shape \(1,\), got \(2,\)"),
        ([np.nan], "found 1 values that are not; leave out the galaxies without a redshift"),
        ([np.inf], "must be finite and above -1, found 1"),
        ([-1.0], "must be finite and above -1, found 1"),
    ],
)
@pytest.mark.parametrize("name", ["crps", "sigma_nmad"])
def test_unusable_truth_is_an_error(name, z_spec, message):
    with pytest.raises(InputError, match=message):
        score(name, z_spec, gaussian()) if name == "crps" else sigma_nmad(z_spec, [0.3])


@pytest.mark.parametrize("z_phot", [[0.1, np.nan], HIDDEN])
def test_unusable_z_phot_is_an_error(z_phot):
    with pytest.raises(InputError, match="z_phot must be finite, found 1 values that are not"):
        bias([0.1, 0.2], z_phot)


@pytest.mark.parametrize("values", [[0.1, np.nan], HIDDEN])
def test_values_that_are_missing_have_no_bin(values):
    with pytest.raises(InputError, match="values to bin must be finite, found 1 that are not"):
        equal_number_bins(values, 2)


def test_every_public_metric_is_listed_by_name():
    listed = {*DENSITY_METRICS, *POINT_METRICS}

    assert listed <= set(metrics.__all__)
    assert set(POINT_METRICS) <= set(point_metrics.__all__)


def test_pit_and_cde_loss_agree_with_qp():
    qp = pytest.importorskip("qp")
    pz = gaussian(n_galaxies=41, sigma=0.2)
    # On points of the grid: between them qp draws the cumulative distribution straight. Its own
    # metric classes move everything to another grid first, so only cdf and pdf are compared.
    z_spec = pz.z_grid[140:345:5]
    ensemble = qp.Ensemble(qp.interp, data={"xvals": pz.z_grid, "yvals": pz.density})
    squared = np.trapezoid(ensemble.pdf(pz.z_grid) ** 2, pz.z_grid, axis=1)
    qp_cde = np.mean(squared - 2 * np.diag(ensemble.pdf(z_spec)))

    assert_allclose(pit(z_spec, pz), np.diag(ensemble.cdf(z_spec)), atol=1e-6)
    assert_allclose(cde_loss(z_spec, pz), qp_cde, rtol=1e-6)
