import numpy as np
import pytest
from numpy.testing import assert_allclose

from photoz.bootstrap import losses
from photoz.cells import CELL_METRICS, make_cells, photometric_conditions
from photoz.errors import InputError
from photoz.pdf import RedshiftPDF
from photoz.photometry import Photometry, State

N_GALAXIES = 300


@pytest.fixture(scope="module")
def table():
    pz = RedshiftPDF.from_weights(np.linspace(0, 2, 101), np.ones((N_GALAXIES, 101)))
    return losses(np.linspace(0.01, 1.99, N_GALAXIES), pz)


def make_photometry(state):
    state = np.array(state, dtype=np.uint8)
    flux = np.where(state == State.NOT_OBSERVED, np.nan, np.where(state == 1, 0.0, 100.0))
    flux[:, -1] *= 2.0
    return Photometry(("g", "r", "i"), flux, np.where(np.isnan(flux), np.nan, 1.0), state)


def test_numeric_cells_hold_every_galaxy_once(table):
    magnitude = np.random.default_rng(0).uniform(18, 25, N_GALAXIES)
    magnitude[:30] = np.nan

    cells = make_cells(table, {"r (AB mag)": magnitude}, 3, n_bootstrap=5)

    assert [cell.n_galaxies for cell in cells] == [90, 90, 90, 30]
    assert [cell.label for cell in cells][-1] == "unknown"
    assert [cell.center is None for cell in cells] == [False, False, False, True]


def test_cells_rise_with_the_condition(table):
    cells = make_cells(table, {"z_phot": np.arange(N_GALAXIES)[::-1]}, 5, n_bootstrap=5)

    assert [cell.center for cell in cells] == sorted(cell.center for cell in cells)
    assert cells[0].label == "0 to 59"


def test_words_make_a_cell_each(table):
    words = np.where(np.arange(N_GALAXIES) < 100, "no u", "all")

    cells = make_cells(table, {"bands": words}, 3, n_bootstrap=5)

    assert {cell.label: cell.n_galaxies for cell in cells} == {"all": 200, "no u": 100}


def test_cell_metrics_are_those_of_its_galaxies(table):
    inside = np.arange(N_GALAXIES) < 100
    (first, *_) = make_cells(table, {"number": np.arange(N_GALAXIES)}, 3, n_bootstrap=5)
    expected = table[inside].metrics()

    assert first.metrics == {name: expected[name] for name in CELL_METRICS}
    for name, (low, high) in first.intervals.items():
        assert low <= expected[name] <= high


def test_miscoverage_is_what_chance_does_not_explain(table):
    # The flat p(z) covers all galaxies from .32 to 1.68, and none of the others.
    cells = make_cells(table, {"z": table.z_spec // 0.5}, 4, n_bootstrap=5)
    middle = cells[1]

    assert middle.metrics["coverage_68"] == 1
    assert_allclose(middle.miscoverage, 0.32 - 2 * np.sqrt(0.68 * 0.32 / middle.n_galaxies))


def test_conditions_name_magnitude_colour_and_missing_bands():
    states = [[2, 2, 2]] * 60 + [[1, 2, 2]] * 60 + [[1, 2, 0]] * 60 + [[0, 2, 2]] * 3

    conditions = photometric_conditions(make_photometry(states))

    assert list(conditions) == ["i (AB mag)", "r - i (AB mag)", "bands"]
    assert_allclose(conditions["i (AB mag)"][0], 31.4 - 2.5 * np.log10(200))
    assert_allclose(conditions["r - i (AB mag)"][0], 2.5 * np.log10(2))
    assert np.isnan(conditions["i (AB mag)"][120])
    assert conditions["bands"][[0, 60, 120, 180]].tolist() == [
        "all detected",
        "g not detected",
        "g not detected; i not observed",
        "rarer patterns",
    ]


def test_reference_band_can_be_chosen():
    conditions = photometric_conditions(make_photometry([[2, 2, 2]]), "g")

    assert list(conditions) == ["g (AB mag)", "g - r (AB mag)", "bands"]


def test_unknown_reference_band_is_an_error():
    with pytest.raises(InputError, match="reference_band must be one of g, r, i, got 'Y'"):
        photometric_conditions(make_photometry([[2, 2, 2]]), "Y")
