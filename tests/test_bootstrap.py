import numpy as np
import pandas as pd
import pytest
from astropy.utils.masked import Masked
from numpy.testing import assert_allclose

from photoz import bootstrap
from photoz.bootstrap import bootstrap_intervals, compare, losses
from photoz.errors import InputError
from photoz.metrics import DENSITY_METRICS, POINT_METRICS, score
from photoz.pdf import RedshiftPDF

N_GALAXIES = 400


@pytest.fixture(scope="module")
def sample():
    """Truths drawn from Gaussian p(z), one in twenty replaced by an outlier."""
    generator = np.random.default_rng(0)
    mean = generator.uniform(0.3, 1.8, (N_GALAXIES, 1))
    sigma = generator.uniform(0.03, 0.1, (N_GALAXIES, 1))
    pz = RedshiftPDF.from_mixture(np.linspace(0, 3, 301), np.ones_like(mean), mean, sigma)
    z_spec = pz.sample(1, generator)[:, 0]
    z_spec[::20] = generator.uniform(0, 3.3, N_GALAXIES // 20)
    return z_spec, pz


@pytest.fixture(scope="module")
def table(sample):
    return losses(*sample)


def test_metrics_of_losses_are_the_metrics(sample, table):
    z_spec, pz = sample
    expected = {name: score(name, z_spec, pz) for name in (*POINT_METRICS, *DENSITY_METRICS)}
    for name in ("bias", "sigma_nmad", "outlier_fraction"):
        expected[name + "_mode"] = POINT_METRICS[name](z_spec, pz.mode())

    metrics = table.metrics()

    assert metrics.keys() == expected.keys()
    assert len(metrics) == 17
    assert_allclose([metrics[name] for name in expected], list(expected.values()))


@pytest.mark.parametrize("n_galaxies", [1, 2, 3, 50, 401])
def test_fast_resampling_equals_the_metrics_of_drawn_rows(table, n_galaxies):
    """Order statistics by lookup and averages by product are the plain definitions."""
    generator = np.random.default_rng(n_galaxies)
    some = table[generator.integers(len(table), size=n_galaxies)]  # with ties
    rows = np.sort(generator.integers(n_galaxies, size=n_galaxies))
    plain = some[rows].metrics()

    fast = bootstrap._Resampler(some).metrics(np.bincount(rows, minlength=n_galaxies))

    assert fast.keys() == plain.keys() - {"pit_ks"}
    assert_allclose([fast[name] for name in fast], [plain[name] for name in fast], atol=1e-12)


@pytest.mark.parametrize("n_bootstrap", [1, 50])
@pytest.mark.parametrize("n_galaxies", [1, 20, N_GALAXIES])
def test_every_interval_holds_its_value(table, n_galaxies, n_bootstrap):
    """Even where a percentile would miss it, as that of a single resample surely does."""
    values = table[:n_galaxies].metrics()
    intervals = bootstrap_intervals(table[:n_galaxies], n_bootstrap=n_bootstrap)

    assert intervals.keys() == values.keys()
    for name, (low, high) in intervals.items():
        assert low <= values[name] <= high


def test_interval_of_a_mean_is_the_one_of_the_central_limit(table):
    low, high = bootstrap_intervals(table)["log_loss"]
    expected = table.log_loss.mean() + 1.96 * table.log_loss.std() / N_GALAXIES**0.5 * np.array(
        [-1, 1]
    )

    assert_allclose([low, high], expected, atol=0.1 * (high - low))


def test_interval_of_pit_ks_is_the_kolmogorov_bound_cut_at_zero(table):
    value = table.metrics()["pit_ks"]
    margin = 1.36 / N_GALAXIES**0.5

    assert bootstrap_intervals(table, n_bootstrap=2)["pit_ks"] == (
        max(value - margin, 0),
        value + margin,
    )


def test_groups_of_like_galaxies_widen_the_interval(table):
    by_loss = np.argsort(np.argsort(table.crps)) // 40  # ten groups, each of one quality
    alone = np.diff(bootstrap_intervals(table, n_bootstrap=300)["crps"])
    grouped = np.diff(bootstrap_intervals(table, groups=by_loss, n_bootstrap=300)["crps"])

    assert grouped > 2 * alone


def test_groups_of_one_galaxy_each_are_galaxies(table):
    names = np.char.add("field ", (1000 + np.arange(N_GALAXIES)).astype(str))

    grouped = bootstrap_intervals(table, groups=names, n_bootstrap=20)

    assert grouped == bootstrap_intervals(table, n_bootstrap=20)


def test_a_single_group_leaves_the_galaxies_to_be_resampled(table):
    one = bootstrap_intervals(table, groups=np.zeros(N_GALAXIES), n_bootstrap=20)

    assert one == bootstrap_intervals(table, n_bootstrap=20)


@pytest.mark.parametrize(
    "of",
    [
        lambda names: np.where(names == "9", None, names.astype(object)),
        lambda names: np.ma.masked_array(np.arange(N_GALAXIES) % 20 % 19 % 10, mask=names == "9"),
        lambda names: Masked(np.where(names == "9", "3", names), mask=names == "9"),
        lambda names: Masked(np.arange(N_GALAXIES) % 20 % 19 % 10, mask=names == "9"),
        lambda names: pd.Series(names, dtype="string").where(names != "9"),
    ],
)
def test_galaxies_without_a_group_are_a_group(table, of):
    """As in `evaluate`."""
    names = (np.arange(N_GALAXIES) % 10).astype(str)

    expected = compare(table.crps, table.crps**2, groups=names, n_bootstrap=50)
    assert compare(table.crps, table.crps**2, groups=of(names), n_bootstrap=50) == expected


def test_same_seed_same_interval(table):
    first = bootstrap_intervals(table, n_bootstrap=20, random_state=1)

    assert bootstrap_intervals(table, n_bootstrap=20, random_state=1) == first
    assert bootstrap_intervals(table, n_bootstrap=20, random_state=2) != first


def test_groups_of_another_length_are_an_error(table):
    message = r"groups must hold one value for each of 400 galaxies, got 3"
    with pytest.raises(InputError, match=message):
        bootstrap_intervals(table, groups=np.arange(3))


def test_metrics_without_galaxies_are_an_error(table):
    with pytest.raises(InputError, match="at least one galaxy with a redshift, got none"):
        table[:0].metrics()


def test_paired_comparison_sees_what_the_spread_of_galaxies_hides():
    generator = np.random.default_rng(0)
    galaxies = generator.normal(0, 1, 1000)
    better, worse = galaxies, galaxies + generator.normal(0.01, 0.05, 1000)
    # Unpaired, the standard error of the difference would be .045; paired it is .0016.
    result = compare(better, worse)

    assert result.low < result.difference < result.high < 0
    assert result.probability_better == 1
    assert result.difference == pytest.approx(better.mean() - worse.mean())


def test_comparison_is_antisymmetric():
    a, b = np.random.default_rng(0).normal(size=(2, 300))
    forth, back = compare(a, b), compare(b, a)

    assert_allclose([forth.difference, forth.low], [-back.difference, -back.high])
    assert_allclose(forth.probability_better, 1 - back.probability_better)


def test_equal_models_are_better_with_probability_one_half():
    assert compare(np.ones(50), np.ones(50)).probability_better == 0.5


def test_variance_between_seeds_widens_the_comparison():
    galaxies = np.random.default_rng(0).normal(size=2000)
    a = galaxies + np.array([[-0.1], [0.0], [0.1]]) - 0.05
    single, seeds = compare(a[1], galaxies), compare(a, galaxies)
    # The losses differ by a constant, so all the width is that of the seeds: 2 x 1.96 x .1.
    assert single.high - single.low == pytest.approx(0, abs=1e-12)
    assert_allclose(seeds.high - seeds.low, 2 * 1.96 * 0.1, rtol=0.1)
    assert seeds.difference == pytest.approx(-0.05)


@pytest.mark.parametrize("other", [np.zeros(4), np.zeros((2, 4)), np.zeros(0)])
def test_losses_of_other_galaxies_cannot_be_compared(other):
    with pytest.raises(InputError, match=r"must be of the same galaxies.*got \(3,\) and"):
        compare(np.zeros(3), other)


@pytest.mark.parametrize(
    "loss", [[1.0, np.nan, 2.0], np.ma.masked_array([1.0, 1.0, 2.0], mask=[0, 1, 0])]
)
def test_losses_that_are_not_finite_cannot_be_compared(loss):
    with pytest.raises(InputError, match="losses must be finite, 1 of 3 galaxies have others"):
        compare(loss, [1.0, 1.0, 2.0])


@pytest.mark.parametrize("masked", [np.ma.masked_array, Masked])
@pytest.mark.parametrize("together", [list, tuple])
def test_masked_losses_of_several_seeds_cannot_be_compared(masked, together):
    seeds = together([masked(np.ones(3), mask=[0, k, 0]) for k in (0, 1)])

    with pytest.raises(InputError, match="losses must be finite, 1 of 3 galaxies have others"):
        compare(np.ones((2, 3)), seeds)


def test_masked_groups_are_not_the_group_of_the_word_that_numpy_fills_in(table):
    names = np.where(np.arange(N_GALAXIES) % 3 == 0, "?", "field")
    hidden = np.ma.masked_array(names, mask=np.arange(N_GALAXIES) % 3 == 1)
    apart = np.array(["a", "b", "c"])[[0, 2, 1]][np.arange(N_GALAXIES) % 3]

    expected = compare(table.crps, table.crps**2, groups=apart, n_bootstrap=50)
    assert compare(table.crps, table.crps**2, groups=hidden, n_bootstrap=50) == expected


def test_no_resamples_are_refused(table):
    with pytest.raises(InputError, match="n_bootstrap must be at least 1, got 0"):
        bootstrap_intervals(table, n_bootstrap=0)
