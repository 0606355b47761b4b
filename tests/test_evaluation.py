import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from photoz.errors import InputError
from photoz.evaluation import evaluate
from photoz.metrics import tomographic_bias
from photoz.pdf import RedshiftPDF

N_GALAXIES = 900


@pytest.fixture(scope="module")
def sample():
    """Calibrated Gaussian p(z), but twice too narrow for the faintest third."""
    generator = np.random.default_rng(0)
    magnitude = generator.uniform(18, 24, N_GALAXIES)
    mean = generator.uniform(0.3, 1.8, (N_GALAXIES, 1))
    z_grid, one = np.linspace(0, 3, 301), np.ones_like(mean)
    drawn = RedshiftPDF.from_mixture(z_grid, one, mean, 0.1 * one)
    claimed = np.where(magnitude > 22, 0.05, 0.1)[:, np.newaxis]
    return (
        drawn.sample(1, generator)[:, 0],
        RedshiftPDF.from_mixture(z_grid, one, mean, claimed),
        {"i (AB mag)": magnitude, "bands": np.where(magnitude < 19, "all", "no u")},
    )


@pytest.fixture(scope="module")
def result(sample):
    z_spec, pz, conditions = sample
    return evaluate(z_spec, pz, conditions=conditions, n_bootstrap=100)


def test_seventeen_metrics_lie_in_their_intervals(result):
    assert len(result.metrics) == 17
    assert result.intervals.keys() == result.metrics.keys()
    for name, (low, high) in result.intervals.items():
        assert low <= result.metrics[name] <= high


def test_the_worst_cell_is_found(result):
    worst = result.worst_cell

    assert worst.condition == "i (AB mag)"
    assert worst.label.startswith("22")
    # A Gaussian of twice the claimed width has erf(.9945 / 2 / sqrt 2) = .381 inside.
    assert worst.metrics["coverage_68"] == pytest.approx(0.381, abs=0.06)


def test_every_table_holds_every_galaxy(result):
    for condition in ("i (AB mag)", "bands", "z_phot"):
        cells = [cell for cell in result.cells if cell.condition == condition]

        assert sum(cell.n_galaxies for cell in cells) == N_GALAXIES


def test_curves_are_finer_and_only_of_numbers(result):
    assert len(result.curve("z_phot")) == 9
    assert len(result.curve("i (AB mag)")) == 9
    assert result.curve("bands") == ()


def test_truths_beyond_the_grid_are_counted_and_scored(sample):
    z_spec, pz, _ = sample
    moved = np.concatenate([[3.5, 9.0, -0.01], z_spec[3:]])

    result = evaluate(moved, pz, n_bootstrap=5)

    assert result.n_off_grid == 3
    assert result.losses.pit[:3].tolist() == [1, 1, 0]
    assert np.isfinite(list(result.metrics.values())).all()


def test_tomography_is_the_metric_with_its_error(sample, result):
    z_spec, pz, _ = sample

    assert [b.n_galaxies for b in result.tomography] == [N_GALAXIES // 5] * 5
    assert_allclose([b.bias for b in result.tomography], tomographic_bias(z_spec, pz))
    # The truth scatters about p(z) by .1 in every bin.
    errors = [b.standard_error for b in result.tomography]
    assert_allclose(errors, 0.1 / (N_GALAXIES / 5) ** 0.5, rtol=0.15)


def test_tomography_of_equal_p_z_has_one_bin():
    pz = RedshiftPDF.from_weights(np.linspace(0, 2, 101), np.ones((60, 101)))

    assert len(evaluate(np.linspace(0, 2, 60), pz, n_bootstrap=5).tomography) == 1


def test_both_redshift_distributions_have_unit_integral(sample, result):
    _, pz, _ = sample
    n_of_z = result.n_of_z

    assert_allclose(n_of_z.stacked, pz.n_of_z(), atol=1e-6)
    assert_allclose(np.trapezoid(n_of_z.stacked, n_of_z.z_grid), 1, atol=1e-5)
    assert_allclose(np.sum(n_of_z.truth * np.diff(n_of_z.edges)), 1)


def test_evaluation_is_json(result):
    text = json.dumps(result.to_dict(), allow_nan=False)

    assert json.loads(text)["metrics"] == result.metrics
    assert json.loads(text)["worst_cell"]["condition"] == "i (AB mag)"


def test_groups_reach_the_intervals(sample):
    z_spec, pz, _ = sample
    fields = np.repeat(["a", "b", "c"], N_GALAXIES // 3)
    alone = evaluate(z_spec, pz, n_bootstrap=50)
    grouped = evaluate(z_spec, pz, groups=fields, n_bootstrap=50)

    assert grouped.metrics == alone.metrics
    assert grouped.intervals != alone.intervals


@pytest.mark.parametrize("n_galaxies", [1, 2, 5])
def test_a_handful_of_galaxies_can_be_evaluated(sample, n_galaxies):
    z_spec, pz, conditions = sample
    some = {name: values[:n_galaxies] for name, values in conditions.items()}

    result = evaluate(z_spec[:n_galaxies], pz[:n_galaxies], conditions=some, n_bootstrap=5)

    json.dumps(result.to_dict(), allow_nan=False)
    assert result.n_galaxies == n_galaxies


def test_no_galaxy_is_an_error(sample):
    with pytest.raises(InputError, match="at least one galaxy with a redshift, got none"):
        evaluate([], sample[1][:0])


def test_condition_of_another_length_is_an_error(sample):
    z_spec, pz, _ = sample
    with pytest.raises(InputError, match=r"condition 'r' must have shape \(900,\), got \(2,\)"):
        evaluate(z_spec, pz, conditions={"r": [20.0, 21.0]})


def test_masked_values_are_unknown(sample):
    z_spec, pz, _ = sample
    mask = np.arange(len(z_spec)) < 50
    size = np.ma.masked_array(np.where(mask, 99.0, z_spec), mask=mask)

    cells = evaluate(z_spec, pz, n_bootstrap=5, conditions={"size": size}).cells

    assert {cell.n_galaxies for cell in cells if cell.label == "unknown"} == {50}
    with pytest.raises(InputError, match=r"z_spec must be finite .* found 50 values that are not"):
        evaluate(np.ma.masked_array(z_spec, mask=mask), pz)


def test_objects_are_numbers_or_words(sample):
    z_spec, pz, _ = sample
    words = np.array(["a", "b", None] * len(z_spec), dtype=object)[: len(z_spec)]
    given = {"number": z_spec.astype(object), "word": words}

    cells = evaluate(z_spec, pz, n_bootstrap=5, groups=words, conditions=given).cells

    labels = [cell.label for cell in cells if cell.condition == "word"]
    assert labels == ["a", "b", "unknown"]
    assert sum(cell.condition == "number" for cell in cells) == 3


@pytest.mark.parametrize(
    "of",
    [
        lambda ids: pd.Series([str(number) for number in ids]),
        lambda ids: pd.Series([str(number) for number in ids], dtype=object),
        lambda ids: np.array(ids.tolist(), dtype=object),
        lambda ids: np.array([Decimal(int(number)) for number in ids]),
        lambda ids: np.ma.masked_array(ids, mask=ids == ids.max()),
    ],
)
def test_groups_with_long_identities_stay_apart(sample, of):
    """Of 19 digits a float keeps 16: all these groups would be one, and galaxies be resampled."""
    z_spec, pz, _ = sample
    # Of equal length, so that words have the order of the numbers.
    ids = 1_152_921_504_606_846_976 + np.arange(len(z_spec)) % 30

    found = evaluate(z_spec, pz, n_bootstrap=20, groups=of(ids))

    small = evaluate(z_spec, pz, n_bootstrap=20, groups=np.arange(len(z_spec)) % 30)
    assert found.intervals == small.intervals


def test_text_stays_words(sample):
    z_spec, pz, _ = sample
    fields = pd.Series(["1", "10", "2"] * (len(z_spec) // 3))

    cells = evaluate(z_spec, pz, n_bootstrap=5, conditions={"field": fields}).cells

    assert [cell.label for cell in cells if cell.condition == "field"] == ["1", "10", "2"]


@pytest.mark.parametrize("missing", [None, pd.NA, np.nan])
@pytest.mark.parametrize("number", [float, Decimal])
def test_objects_that_are_numbers_may_be_missing(sample, missing, number):
    z_spec, pz, _ = sample
    values = np.array([number(k) for k in range(len(z_spec))], dtype=object)
    values[:50] = missing

    result = evaluate(z_spec, pz, n_bootstrap=5, conditions={"size": values})

    assert len(result.curve("size")) > 3
    assert {c.n_galaxies for c in result.cells if c.label == "unknown"} == {50}


def test_groups_of_another_shape_are_told(sample):
    z_spec, pz, _ = sample

    for groups in (z_spec[:, np.newaxis], z_spec[:, np.newaxis].astype(object)):
        with pytest.raises(InputError, match=r"groups must have shape \(\d+,\), got \(\d+, 1\)"):
            evaluate(z_spec, pz, groups=groups)
