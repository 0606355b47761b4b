"""A band is worth what its measurements tell of the redshift, and no more."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from photoz.importance import permutation_importance
from photoz.metrics import log_loss
from photoz.pdf import RedshiftPDF


class OneBand:
    """A model that reads the redshift off the flux of one band, its width off an error."""

    def __init__(self, band, width_band):
        self.band, self.width_band = band, width_band

    def predict_pdf(self, photometry, *, calibrated=True):
        assert not calibrated
        mean = photometry.flux[:, photometry.bands.index(self.band)]
        width = photometry.flux_error[:, photometry.bands.index(self.width_band)]
        grid = np.linspace(0, 3, 301)
        ones = np.ones((len(mean), 1))
        return RedshiftPDF.from_mixture(grid, ones, mean[:, None], width[:, None])


@pytest.fixture
def galaxies(test_photometry, rng):
    """Galaxies whose redshift is the flux in r, known to the error in g."""
    z_spec = rng.uniform(0.3, 2.5, len(test_photometry))
    width = rng.uniform(0.03, 0.3, len(z_spec))
    flux, error = (np.ones_like(test_photometry.flux) for _ in range(2))
    bands = test_photometry.bands
    flux[:, bands.index("r")] = np.clip(z_spec + width * rng.normal(size=len(z_spec)), 0.1, 2.9)
    error[:, bands.index("g")] = width
    return replace(test_photometry, flux=flux, flux_error=error), z_spec


def test_only_bands_that_the_model_reads_are_worth_something(galaxies):
    found = {item.name: item for item in permutation_importance(OneBand("r", "g"), *galaxies)}

    assert list(found) == list("ugrizy")
    assert found["r"].log_loss > 10 * found["r"].standard_error
    # The error belongs to the band too.
    assert found["g"].log_loss > 3 * found["g"].standard_error
    assert {found[band].log_loss for band in "uizy"} == {0.0}


def test_importance_is_the_rise_of_the_log_loss(galaxies):
    photometry, z_spec = galaxies
    model = OneBand("r", "g")
    (found,) = (
        item for item in permutation_importance(model, photometry, z_spec) if item.name == "r"
    )

    # Reference: the mean over many other orders.
    generator, k = np.random.default_rng(1), photometry.bands.index("r")
    rises = []
    for _ in range(50):
        flux = photometry.flux.copy()
        flux[:, k] = flux[generator.permutation(len(flux)), k]
        shuffled = model.predict_pdf(replace(photometry, flux=flux), calibrated=False)
        intact = model.predict_pdf(photometry, calibrated=False)
        rises.append(log_loss(z_spec, shuffled) - log_loss(z_spec, intact))
    assert_allclose(found.log_loss, np.mean(rises), atol=4 * np.std(rises))


def test_further_input_columns_are_asked_too(galaxies):
    photometry, z_spec = galaxies
    with_size = replace(photometry, extra=z_spec[:, None], extra_names=("size",))

    class BySize:
        def predict_pdf(self, photometry, *, calibrated):
            assert not calibrated
            grid, ones = np.linspace(0, 3, 301), np.ones((len(photometry), 1))
            return RedshiftPDF.from_mixture(grid, ones, photometry.extra, 0.05 * ones)

    found = {
        item.name: item.log_loss for item in permutation_importance(BySize(), with_size, z_spec)
    }
    assert found.pop("size") > 1
    assert set(found.values()) == {0.0}


def test_no_more_galaxies_are_asked_than_allowed(galaxies):
    sizes = []

    class Counting(OneBand):
        def predict_pdf(self, photometry, *, calibrated):
            sizes.append(len(photometry))
            return super().predict_pdf(photometry, calibrated=calibrated)

    permutation_importance(Counting("r", "g"), *galaxies, n_galaxies=50)

    assert sizes == [50] * 7


def test_same_seed_same_importance_and_nothing_is_changed(model, mock):
    photometry, z_spec = mock.photometry[-200:], mock.z_spec[-200:]
    flux = photometry.flux.copy()

    first = permutation_importance(model, photometry, z_spec, random_state=3)

    assert first == permutation_importance(model, photometry, z_spec, random_state=3)
    assert first != permutation_importance(model, photometry, z_spec, random_state=4)
    assert_allclose(photometry.flux, flux)
    assert max(item.log_loss for item in first) > 0.1
