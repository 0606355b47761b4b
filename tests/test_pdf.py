import tracemalloc
import warnings

import numpy as np
import pytest
from astropy.utils.masked import Masked
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import norm

from photoz.errors import InputError
from photoz.pdf import RedshiftPDF

GRID = np.linspace(0, 3, 301)
SMALL_GRID = np.linspace(0, 2, 9)
LEVELS = np.array([0.0, 0.025, 0.16, 0.5, 0.84, 0.975, 1.0])

weights = arrays(np.float32, (3, 9), elements=st.sampled_from([0, 1e-6, 0.5, 1, 7, 1e6]))


def gaussians(means, sigmas, grid=GRID):
    means, sigmas = (np.atleast_2d(x).T for x in np.broadcast_arrays(means, sigmas))
    return RedshiftPDF.from_mixture(grid, np.ones_like(means, dtype=float), means, sigmas)


@pytest.fixture(scope="module")
def irregular():
    """Densities with gaps, steps and many peaks, none of them a textbook shape."""
    generator = np.random.default_rng(0)
    rough = generator.random((20, len(SMALL_GRID))) * (generator.random((20, 9)) > 0.3)
    rough[:, 4] += 0.1
    return RedshiftPDF.from_weights(SMALL_GRID, rough)


def linear(pz, row):
    return lambda z: np.interp(z, pz.z_grid, pz.density[row].astype(float))


@given(weights)
def test_weights_become_densities(raw):
    pz = RedshiftPDF.from_weights(SMALL_GRID, raw)

    assert (pz.density >= 0).all()
    assert_allclose(np.trapezoid(pz.density, SMALL_GRID, axis=1), 1, atol=1e-5)


@given(weights)
def test_weights_keep_their_ratios(raw):
    pz = RedshiftPDF.from_weights(SMALL_GRID, raw)
    known = raw.sum(axis=1) > 0

    peak = raw[known].max(axis=1, keepdims=True)
    expected = pz.density[known].max(axis=1, keepdims=True) * (raw[known] / peak)
    assert_allclose(pz.density[known], expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e20, 1e37])
def test_tiny_and_huge_weights_are_normalised(scale):
    flat = RedshiftPDF.from_weights(SMALL_GRID, np.full((1, 9), scale))

    assert_allclose(flat.density, 0.5, rtol=1e-6)


def test_zero_weights_become_flat():
    pz = RedshiftPDF.from_weights(SMALL_GRID, np.zeros((2, 9)))

    assert_allclose(pz.density, 0.5, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
@pytest.mark.parametrize("others", [0.0, 1.0])
def test_weights_that_are_no_weights_are_refused(bad, others):
    """One bad number must not turn a galaxy into one of which nothing is known."""
    raw = np.full((2, 9), others)
    raw[1, 3] = bad

    with pytest.raises(ValueError, match="finite and non-negative"):
        RedshiftPDF.from_weights(SMALL_GRID, raw)


def test_masked_weights_and_mixtures_are_no_numbers():
    raw = np.ma.masked_array(np.ones((2, 9)), mask=np.arange(18).reshape(2, 9) == 12)

    with pytest.raises(ValueError, match="weights must be finite and non-negative"):
        RedshiftPDF.from_weights(SMALL_GRID, raw)
    with pytest.raises(ValueError, match="weights must be finite and non-negative"):
        RedshiftPDF.from_mixture(SMALL_GRID, np.ones((2, 9)), raw, np.ones((2, 9)))


def test_a_grid_with_a_masked_point_is_none():
    """NaN under the mask must not be blamed on the weights."""
    grid = np.ma.masked_array(np.where(SMALL_GRID == 1, np.nan, SMALL_GRID), mask=SMALL_GRID == 1)
    one = np.ones((1, 1))

    with pytest.raises(ValueError, match="z_grid must rise uniformly from 0"):
        RedshiftPDF.from_mixture(grid, one, one, one)


def test_weights_are_not_changed():
    raw = np.full((1, 9), 4.0, dtype=np.float32)
    RedshiftPDF.from_weights(SMALL_GRID, raw)

    assert_array_equal(raw, 4)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (np.linspace(0.1, 2, 9), "rise uniformly from 0"),
        (np.linspace(0, 2, 9) ** 2, "rise uniformly from 0"),
        (np.linspace(0, -2, 9), "rise uniformly from 0"),
        (np.full(9, np.nan), "rise uniformly from 0"),
        (np.array([0.0, 2.0]), "at least 3 redshifts"),
        (np.zeros((3, 3)), "one axis"),
    ],
)
def test_grid_is_uniform_from_zero(grid, message):
    with pytest.raises(ValueError, match=message):
        RedshiftPDF(grid, np.full((1, 9), 0.5))


@pytest.mark.parametrize(
    ("density", "message"),
    [
        (np.full(9, 0.5), r"\(n_galaxies, n_z\) with n_z = 9"),
        (np.full((1, 8), 0.5), r"\(n_galaxies, n_z\) with n_z = 9"),
        (np.full((1, 9), 0.6), "integrate to 1, found 1.2"),
        (np.full((1, 9), np.nan), "finite and non-negative"),
        (np.ma.masked_array(np.full((1, 9), 0.5), mask=[[0, 1] * 4 + [0]]), "finite and non-neg"),
        (np.linspace(-0.5, 1.5, 9)[np.newaxis], "finite and non-negative"),
    ],
)
def test_what_is_no_density_is_refused(density, message):
    with pytest.raises(ValueError, match=message):
        RedshiftPDF(SMALL_GRID, density)


def test_at_is_linear_between_points(irregular):
    z = np.random.default_rng(1).uniform(0, 2, len(irregular))

    expected = [linear(irregular, row)(z[row]) for row in range(len(z))]
    assert_allclose(irregular.at(z), expected, atol=1e-6)


def test_cdf_is_the_integral_of_at(irregular):
    z = np.random.default_rng(2).uniform(0, 2, len(irregular))

    expected = [
        quad(linear(irregular, row), 0, z[row], points=SMALL_GRID[z[row] > SMALL_GRID])[0]
        for row in range(len(z))
    ]
    assert_allclose(irregular.cdf(z), expected, atol=2e-6)


def test_cdf_passes_through_cumulative(irregular):
    for k, z in enumerate(SMALL_GRID):
        assert_allclose(irregular.cdf(z), irregular.cumulative()[:, k], atol=1e-6)


@given(weights, st.floats(0, 1))
def test_cdf_of_a_quantile_is_its_level(raw, level):
    pz = RedshiftPDF.from_weights(SMALL_GRID, raw)

    assert_allclose(pz.cdf(pz.quantiles([level])[:, 0]), level, atol=2e-6)


@given(weights)
def test_quantiles_rise_with_their_level(raw):
    quantiles = RedshiftPDF.from_weights(SMALL_GRID, raw).quantiles(LEVELS)

    assert (np.diff(quantiles, axis=1) >= 0).all()
    assert (quantiles >= 0).all()
    assert (quantiles <= SMALL_GRID[-1]).all()


def test_beyond_the_grid_nothing_is_left():
    pz = gaussians([1.0, 1.0], 0.1)

    assert_array_equal(pz.at([-0.1, 3.1]), 0)
    assert_array_equal(pz.cdf([-0.1, 3.1]), [0, 1])


def test_ends_of_the_grid_belong_to_it():
    pz = RedshiftPDF.from_weights(SMALL_GRID, np.ones((2, 9)))

    assert_allclose(pz.at([0, 2]), 0.5)
    assert_allclose(pz.cdf([0, 2]), [0, 1])


@settings(deadline=None)
@given(st.floats(0.5, 2.5), st.floats(0.03, 0.1))
def test_gaussians_have_gaussian_points(mean, sigma):
    pz = gaussians(mean, sigma)

    assert_allclose([pz.mean()[0], pz.median()[0]], mean, atol=1e-4)
    assert_allclose(pz.mode()[0], mean, atol=5e-4)
    # Linear interpolation adds a sixth of the squared step to the variance.
    assert_allclose(pz.std()[0], sigma, rtol=1e-3)
    assert_allclose(pz.quantiles(LEVELS[1:-1])[0], norm(mean, sigma).ppf(LEVELS[1:-1]), atol=1e-3)


def test_mixture_is_the_sum_of_its_components():
    weight, mean, sigma = [0.3, 0.7], [0.5, 2.0], [0.1, 0.2]
    pz = RedshiftPDF.from_mixture(GRID, *(np.array([x]) for x in (weight, mean, sigma)))

    expected = sum(w * norm(m, s).pdf(GRID) for w, m, s in zip(weight, mean, sigma, strict=True))
    assert_allclose(pz.density[0], expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.0, 1e-9, 0.005, 0.02])
def test_components_are_no_narrower_than_two_steps(sigma):
    pz = gaussians(1.234, sigma)

    assert_allclose(pz.std(), 2 * pz.step, rtol=1e-2)


def test_component_beyond_the_grid_is_still_a_density():
    pz = gaussians([-1.0, 5.0], 0.1)

    assert (pz.median() < 0.3).tolist() == [True, False]


def test_mode_at_the_edge_stays_on_the_grid():
    pz = RedshiftPDF.from_weights(SMALL_GRID, np.stack([np.arange(9.0), np.arange(9.0)[::-1]]))

    assert_array_equal(pz.mode(), [2, 0])


def test_odds_is_the_mass_around_the_mode():
    pz = gaussians([1.0, 1.0], [0.12, 0.03])

    expected = [1 - 2 * norm.sf(0.12 / sigma) for sigma in (0.12, 0.03)]
    assert_allclose(pz.odds(), expected, atol=1e-3)
    assert_allclose(pz.odds(width=0.03)[0], 1 - 2 * norm.sf(0.5), atol=1e-3)


def test_separate_peaks_are_counted():
    equal, tiny, single = [0.5, 0.5], [0.99, 0.01], [1.0, 0.0]
    pz = RedshiftPDF.from_mixture(
        GRID, np.array([equal, tiny, single]), np.full((3, 2), [0.5, 2.0]), np.full((3, 2), 0.1)
    )

    assert_array_equal(pz.n_peaks(), [2, 1, 1])
    assert_array_equal(pz.n_peaks(share=0.005), [2, 2, 1])


def test_samples_follow_the_density():
    pz = gaussians([0.5, 2.0], [0.05, 0.2])
    pit = np.stack([pz.cdf(z) for z in pz.sample(2000, random_state=1).T])

    # Uniform on (0, 1): mean 1/2 and variance 1/12, here to four standard errors.
    assert_allclose(pit.mean(axis=0), 0.5, atol=4 / np.sqrt(12 * 2000))
    assert_allclose(pit.var(axis=0), 1 / 12, atol=4 / np.sqrt(180 * 2000))


def test_same_seed_same_samples(irregular):
    assert_array_equal(irregular.sample(5, random_state=3), irregular.sample(5, random_state=3))


def test_n_of_z_is_the_weighted_mean_of_the_densities(irregular):
    weight = np.arange(len(irregular))

    assert_allclose(irregular.n_of_z(), irregular.density.mean(axis=0), rtol=1e-6)
    assert_allclose(irregular.n_of_z(weight), weight @ irregular.density / weight.sum(), rtol=1e-6)
    assert_allclose(np.trapezoid(irregular.n_of_z(weight), SMALL_GRID), 1, atol=1e-5)


def test_every_galaxy_is_by_itself(irregular):
    rows = np.array([7, 0, 12])
    part = irregular[rows]

    assert_array_equal(part.quantiles(LEVELS), irregular.quantiles(LEVELS)[rows])
    assert_array_equal(part.mode(), irregular.mode()[rows])
    assert_array_equal(part.cdf(0.7), irregular.cdf(0.7)[rows])


def test_parts_put_together_are_the_whole(irregular):
    whole = RedshiftPDF.concatenate([irregular[:3], irregular[3:3], irregular[3:]])

    assert_array_equal(whole.density, irregular.density)


def test_parts_on_other_grids_are_not_put_together(irregular):
    with pytest.raises(ValueError, match="share one redshift grid"):
        RedshiftPDF.concatenate([irregular, gaussians(1, 0.1)])


def test_no_galaxies_are_no_exception():
    pz = RedshiftPDF(GRID, np.empty((0, len(GRID))))

    assert len(pz) == 0
    assert pz.quantiles(LEVELS).shape == (0, len(LEVELS))
    assert pz.sample(4).shape == (0, 4)
    for points in (pz.mean(), pz.median(), pz.mode(), pz.std(), pz.odds(), pz.n_peaks()):
        assert points.shape == (0,)
    assert pz.at(np.empty(0)).shape == pz.cdf(np.empty(0)).shape == (0,)
    with pytest.raises(ValueError, match="at least one galaxy, got none"):
        pz.n_of_z()


@pytest.mark.parametrize("ask", [RedshiftPDF.at, RedshiftPDF.cdf])
def test_redshifts_must_fit_the_galaxies(ask, irregular):
    with pytest.raises(ValueError, match=r"shape \(20,\), one redshift per galaxy, got \(3,\)"):
        ask(irregular, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="must not hold NaN"):
        ask(irregular, np.nan)


@pytest.mark.parametrize("ask", [RedshiftPDF.at, RedshiftPDF.cdf])
@pytest.mark.parametrize("masked", [np.ma.masked_array, Masked])
def test_masked_redshifts_are_missing_ones(masked, ask, irregular):
    """Whatever number stands under the mask."""
    z = np.linspace(0.1, 1.9, len(irregular))

    assert_array_equal(ask(irregular, masked(z, mask=z < 0)), ask(irregular, z))
    with pytest.raises(ValueError, match="must not hold NaN: leave out the galaxies without"):
        ask(irregular, masked(z, mask=z > 1))


@pytest.mark.parametrize(
    "levels", [[-0.1], [1.1], [np.nan], [[0.5]], np.ma.masked_array([0.5], mask=[True])]
)
def test_levels_are_probabilities(levels, irregular):
    with pytest.raises(ValueError, match="probabilities between 0 and 1"):
        irregular.quantiles(levels)


def test_qp_agrees(irregular):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        qp = pytest.importorskip("qp")
        reference = qp.interp.create_ensemble(
            xvals=SMALL_GRID, yvals=irregular.density.astype(float)
        )
        pdf, cdf = reference.pdf(SMALL_GRID), reference.cdf(SMALL_GRID)

    assert_allclose(irregular.density, pdf, atol=1e-5)
    # At the first point qp gives what a jump from zero would hold.
    assert_allclose(irregular.cumulative()[:, 1:], cdf[:, 1:], atol=1e-5)


COMPACT = (0.001, 0.01, 0.05, 0.16, 0.3, 0.42, 0.5, 0.58, 0.7, 0.84, 0.95, 0.99, 0.999)


def test_gaussian_comes_back_from_its_quantiles():
    pz = gaussians([0.8, 1.5], [0.05, 0.2])
    back = RedshiftPDF.from_quantiles(GRID, COMPACT, pz.quantiles(COMPACT).astype(np.float32))

    peak = pz.density.max(axis=1, keepdims=True)
    assert_allclose(back.density / peak, pz.density / peak, atol=5e-3)


def test_quantiles_survive_the_way_there_and_back():
    two = RedshiftPDF.from_mixture(
        GRID, np.array([[0.7, 0.3]]), np.array([[0.5, 2.0]]), np.array([[0.05, 0.1]])
    )
    given = two.quantiles(COMPACT)

    back = RedshiftPDF.from_quantiles(GRID, COMPACT, given)
    assert_allclose(two.cdf(back.quantiles(COMPACT)[0, 3]), 0.16, atol=2e-3)
    assert_allclose(two.cdf(back.quantiles(COMPACT)[0, 9]), 0.84, atol=2e-3)
    # What lies between two levels on both sides of a gap may be anywhere between them.
    assert back.cdf(1.25) - back.cdf(0.9) < 0.05


def test_equal_quantiles_at_an_end_of_the_grid_stay_a_density():
    given = np.zeros((2, len(COMPACT)))
    given[1] = GRID[-1]

    density = RedshiftPDF.from_quantiles(GRID, COMPACT, given).density
    assert_array_equal(density.argmax(axis=1), [0, len(GRID) - 1])


@pytest.mark.parametrize(
    ("levels", "quantiles", "message"),
    [
        ([0.5, 0.4], [[1.0, 1.1]], "levels must rise"),
        ([0.0, 0.4], [[1.0, 1.1]], "levels must rise"),
        ([0.1, 0.4], [[1.1, 1.0]], "none may fall"),
        ([0.1, 0.4], [[np.nan, 1.0]], "none may fall or be NaN"),
        ([0.1, 0.4], np.ma.masked_array([[0.9, 1.0]], mask=[[1, 0]]), "none may fall or be NaN"),
        ([0.1, 0.4], [1.0, 1.1], r"shape \(n_galaxies, 2\)"),
    ],
)
def test_quantiles_of_another_form_are_refused(levels, quantiles, message):
    with pytest.raises(ValueError, match=message):
        RedshiftPDF.from_quantiles(GRID, levels, quantiles)


@pytest.mark.parametrize("factor", [1e-60, 1e-300, 1e60])
def test_likelihoods_of_any_size_keep_their_shape(factor):
    """Those of a template fit, exp(-chi2 / 2), are far beyond single precision."""
    likelihood = np.exp(-0.5 * ((GRID - 1) / 0.05) ** 2)[np.newaxis]

    assert_allclose(
        RedshiftPDF.from_weights(GRID, factor * likelihood).density,
        RedshiftPDF.from_weights(GRID, likelihood).density,
        atol=1e-5,
    )


def test_a_mixture_beyond_the_grid_is_cut_off_there():
    pz = gaussians([3.5, -1.0, 1.0], [0.03, 0.05, 0.05])

    assert pz.median()[0] > 2.99
    assert pz.median()[1] < 0.01
    assert_allclose(pz.median()[2], 1, atol=1e-6)


def test_mixtures_beyond_the_grid_take_bounded_memory():
    n_galaxies, n_components = 2000, 32
    shape = (n_galaxies, n_components)
    means = 5 + np.random.default_rng(0).random(shape)
    few = RedshiftPDF.from_mixture(GRID, np.ones(shape)[:3], means[:3], np.full(shape, 0.05)[:3])

    tracemalloc.start()
    pz = RedshiftPDF.from_mixture(GRID, np.ones(shape), means, np.full(shape, 0.05))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # All components on the grid would be 32 times its size, and that more than once.
    assert peak < 16 * n_galaxies * len(GRID) * 8
    assert_array_equal(pz[:3].density, few.density)


def test_mixtures_may_be_lists():
    listed = [[0.3, 0.7]], [[1, 2]], [[0.1, 0.2]]
    pz = RedshiftPDF.from_mixture(GRID.tolist(), *listed)

    expected = RedshiftPDF.from_mixture(GRID, *(np.array(part) for part in listed))
    assert_array_equal(pz.density, expected.density)


@pytest.mark.parametrize(
    ("parts", "shapes"),
    [
        (([0.3, 0.7], [1, 2], [0.1, 0.2]), r"\(2,\), \(2,\), \(2,\)"),
        (([[1.0]], [[1.0, 2.0]], [[0.1]]), r"\(1, 1\), \(1, 2\), \(1, 1\)"),
    ],
)
def test_mixtures_of_another_form_are_refused(parts, shapes):
    with pytest.raises(InputError, match=rf"\(n_galaxies, n_components\), got {shapes};"):
        RedshiftPDF.from_mixture(GRID, *parts)


@pytest.mark.parametrize("shape", [(9,), (2, 8), (1, 2, 9)])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"with n_z = 9, got .*; those of a single galaxy are"):
        RedshiftPDF.from_weights(SMALL_GRID, np.ones(shape))


@pytest.mark.parametrize("row", [0, -1, np.int64(3)])
def test_a_single_row_is_asked_for_as_a_list(irregular, row):
    with pytest.raises(InputError, match=rf"found the number {row}; use pz\[\[{row}\]\]"):
        irregular[row]

    assert len(irregular[[row]]) == 1


def test_std_is_of_the_shape_alone():
    """As far as single precision leaves the integral open."""
    pz = gaussians([2.9], [0.02])
    off = RedshiftPDF(GRID, pz.density * np.float32(1 + 3e-6))

    assert_allclose(off.std(), pz.std(), rtol=1e-6)


def test_mixtures_without_weight_become_flat():
    pz = RedshiftPDF.from_mixture(GRID, np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), 0.1))

    assert_allclose(pz.density, 1 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        ([0.0, 0.0], r"shape \(2,\), 0 values below 0 and the sum 0\."),
        ([3.0, -1.0], r"shape \(2,\), 1 values below 0 and the sum 2\."),
        ([1.0, np.nan], "the sum nan"),
        (np.ma.masked_array([1.0, 1.0], mask=[False, True]), "the sum nan"),
        ([1e308, 1e308], "the sum inf"),
        ([1.0], r"shape \(1,\)"),
    ],
)
def test_n_of_z_without_weights_is_an_error(weight, found):
    with pytest.raises(InputError, match=rf"weights must have shape \(2,\), no .*{found}"):
        gaussians([1.0, 2.0], [0.1, 0.1]).n_of_z(weight)
