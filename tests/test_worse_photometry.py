"""What p(z) does where the photometry is worse than usual, or fits two redshifts alike."""

from dataclasses import replace

import numpy as np
import pytest

from photoz.augment import Augmentation
from photoz.estimators import get_estimator
from photoz.features import PhotometricFeatures
from photoz.metrics import crps
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.photometry import State
from photoz.survey import load_survey

pytestmark = pytest.mark.slow

FAMILIES = {
    "forest": {"n_trees": 40},
    "boosting": {},
    "network": {"members": 1},
}
N_TRAIN = 4000
N_TEST = 1500
# The same u band, so shallow that many galaxies are not detected in it.
DEPTH = {"u": 25.5}


def fit(family, mock, augment, **grid):
    estimator = get_estimator(family)(**FAMILIES[family], **grid, random_state=0)
    features = PhotometricFeatures(errors=True)
    model = PhotozModel(load_survey("lsst"), features, augment, estimator)
    n_train = len(mock) * 4 // 5
    validation = (mock.photometry[n_train:], mock.z_spec[n_train:])
    return model.fit(mock.photometry[:n_train], mock.z_spec[:n_train], validation=validation)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    mock = make_mock_catalogue(N_TRAIN, depth=DEPTH, random_state=0)
    return fit(request.param, mock, Augmentation(noise_copies=3, band_dropout=0.1))


@pytest.fixture(scope="module")
def observed():
    """Galaxies that are seen in every band, and least clearly in u."""
    mock = make_mock_catalogue(4 * N_TEST, depth=DEPTH, random_state=1)
    photometry = mock.photometry
    detected = np.flatnonzero((photometry.state == State.DETECTED).all(axis=1))
    clearness = photometry.flux[detected, 0] / photometry.flux_error[detected, 0]
    return photometry[detected[np.argsort(clearness)[:N_TEST]]]


def with_u(photometry, state, flux, error):
    states, fluxes, errors = (
        part.copy() for part in (photometry.state, photometry.flux, photometry.flux_error)
    )
    states[:, 0], fluxes[:, 0], errors[:, 0] = state, flux, error
    return replace(photometry, state=states, flux=fluxes, flux_error=errors)


def widths(pz):
    return np.diff(pz.quantiles([0.16, 0.84]), axis=1)[:, 0]


def test_a_galaxy_that_drops_out_of_u_lies_further_away(model, observed):
    one_sigma = 10 ** (-0.4 * (DEPTH["u"] - 31.4))
    dropout = with_u(observed, State.NOT_DETECTED, 0.0, one_sigma)
    shift = model.predict_pdf(dropout).mean() - model.predict_pdf(observed).mean()

    assert len(observed) >= 1000
    assert shift.mean() > 3 * shift.std() / len(shift) ** 0.5


def test_a_galaxy_that_was_not_observed_in_u_is_less_certain(model, observed):
    unobserved = with_u(observed, State.NOT_OBSERVED, np.nan, np.nan)

    wider = np.log(widths(model.predict_pdf(unobserved)) / widths(model.predict_pdf(observed)))

    assert wider.mean() > 3 * wider.std() / len(wider) ** 0.5


def test_larger_errors_widen_the_density(model, observed):
    doubled = replace(observed, flux_error=2 * observed.flux_error)

    wide, usual = (widths(model.predict_pdf(it)).mean() for it in (doubled, observed))

    assert wide > 1.05 * usual


@pytest.fixture(scope="module")
def branches():
    """Galaxies whose redshifts 1 - x and 1 + x have the same colours, and their true p(z)."""
    mock = make_mock_catalogue(600, degenerate=True, random_state=1)
    return mock, mock.true_pdf(np.linspace(0, 3.2, 321))


@pytest.mark.parametrize(
    ("family", "n_train", "most"),
    [("forest", 4000, 1.15), ("boosting", 4000, 1.15), ("network", 10_000, 1.05)],
)
def test_both_redshifts_of_a_colour_are_kept(branches, family, n_train, most):
    """No CRPS is better than that of the true p(z); few galaxies leave trees further from it."""
    new, truth = branches
    mock = make_mock_catalogue(n_train, degenerate=True, random_state=0)
    pz = fit(family, mock, Augmentation(), z_max=3.2, n_z=321).predict_pdf(new.photometry)
    share, expected = pz.cdf(1.0), truth.cdf(1.0)
    twofold = (expected > 0.2) & (expected < 0.8)

    assert twofold.sum() > 100
    assert np.mean((share > 0.05) & (share < 0.95), where=twofold) > 0.95
    assert crps(new.z_spec, pz) < most * crps(new.z_spec, truth)
