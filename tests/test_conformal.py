"""Conformal coverage: what order statistics promise for any model and any number of galaxies."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.testing import assert_allclose

from photoz.calibration import Calibration
from photoz.conformal import ConformalMap
from photoz.errors import InputError
from photoz.pdf import RedshiftPDF

Z_GRID = np.linspace(0, 2, 801)


def density_of(n_galaxies, sigma=0.1):
    means = np.linspace(0.6, 1.4, n_galaxies)[:, np.newaxis]
    return RedshiftPDF.from_mixture(Z_GRID, np.ones_like(means), means, np.full_like(means, sigma))


@pytest.mark.parametrize("n_kept", [39, 100, 257])
def test_intervals_hold_what_they_state_on_the_mean_over_samples(n_kept):
    """A model whose PIT is far from uniform; each repeat keeps other galaxies."""
    generator = np.random.default_rng(0)
    inside = {0.68: [], 0.95: []}
    for _ in range(2000):
        fitted = ConformalMap.fit(generator.beta(2, 2, n_kept))
        new = np.interp(
            generator.beta(2, 2, 20), [0, *fitted.positions, 1], [0, *fitted.levels, 1]
        )
        for stated, hits in inside.items():
            hits.append(np.abs(new - 0.5) <= stated / 2 + 0.5 / (n_kept + 1))

    for stated, hits in inside.items():
        assert np.mean(hits) > stated - 0.006
        assert np.mean(hits) < stated + 2 / (n_kept + 1) + 0.006


def test_new_cumulative_distribution_is_the_map_of_the_old():
    pz = density_of(20)
    fitted = ConformalMap.fit(np.random.default_rng(1).beta(3, 2, 500))

    mapped = RedshiftPDF(Z_GRID, fitted.apply(pz.density, pz.step))

    at = pz.quantiles(fitted.positions)
    for k, level in enumerate(fitted.levels):
        assert_allclose(mapped.cdf(at[:, k]), level, atol=0.004)


def test_well_calibrated_densities_hardly_change():
    pz = density_of(5)
    uniform = (np.arange(9999) + 0.5) / 9999

    mapped = ConformalMap.fit(uniform).apply(pz.density, pz.step)

    assert_allclose(mapped, pz.density, atol=0.02 * pz.density.max())


def test_too_few_galaxies_are_refused():
    with pytest.raises(InputError, match="needs 39 galaxies or more kept apart, got 38"):
        ConformalMap.fit(np.linspace(0, 1, 38))


@pytest.mark.parametrize(
    "pit", [np.linspace(0, 1.1, 44), np.ma.masked_array(np.full(44, 0.5), mask=np.arange(44) > 39)]
)
def test_what_is_no_pit_is_refused(pit):
    with pytest.raises(InputError, match="pit must be between 0 and 1, found 4 values that are"):
        ConformalMap.fit(pit)


def test_calibration_keeps_it_through_json():
    fitted = Calibration(conformal=ConformalMap.fit(np.linspace(0.01, 0.8, 60)), n_galaxies=60)
    pz = density_of(3)

    again = Calibration.from_dict(json.loads(json.dumps(asdict(fitted))))

    assert again == fitted
    changed = again.apply(pz, np.zeros((3, 1))).density
    assert np.abs(changed - pz.density).max() > 0.1
