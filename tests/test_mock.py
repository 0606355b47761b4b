"""Mock galaxies: their true p(z) is true, and their columns read back as they are."""

import time

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest

from photoz.catalogue import read, write
from photoz.errors import InputError
from photoz.metrics import cde_loss
from photoz.mock import make_mock_catalogue, universe
from photoz.pdf import RedshiftPDF
from photoz.photometry import State, photometry_from_columns
from photoz.survey import Survey, load_survey

Z_GRID = np.linspace(0, 3, 151)


@pytest.fixture(scope="module", params=["deep", "shallow", "incomplete"])
def truth(request):
    """True redshifts and true densities."""
    options = {
        "deep": {},
        "shallow": {"depth": dict.fromkeys("ugrizy", 26.0)},
        "incomplete": {"bands": ("g", "r", "z", "w1"), "not_observed": 0.2},
    }
    mock = make_mock_catalogue(180, random_state=1, **options[request.param])
    return mock.z_spec, mock.true_pdf(Z_GRID)


def test_the_true_density_is_calibrated(truth):
    """Where redshifts are drawn from p(z), their cumulative probabilities are uniform."""
    z_spec, pz = truth

    assert kstest(pz.cdf(z_spec), "uniform").pvalue > 0.01


def test_the_true_density_beats_n_of_z(truth):
    z_spec, pz = truth
    n_of_z = np.histogram(make_mock_catalogue(20_000, random_state=2).z_spec, 150, (0, 3))[0]
    floor = RedshiftPDF.from_weights(Z_GRID, np.tile(np.r_[0, n_of_z], (len(z_spec), 1)))

    assert cde_loss(z_spec, pz) < cde_loss(z_spec, floor) - 1


def test_without_photometry_the_true_density_is_n_of_z():
    unseen = make_mock_catalogue(1, not_observed=1.0).true_pdf(Z_GRID)
    z_spec = make_mock_catalogue(50_000, bands=("i",), random_state=2).z_spec

    assert unseen.density.shape == (1, len(Z_GRID))
    # 1.63 / sqrt(n): 1 per cent of honest samples lie further off.
    for z in (0.2, 0.5, 1.0, 2.0):
        assert unseen.cdf(z)[0] == pytest.approx(np.mean(z_spec < z), abs=1.63 / 50_000**0.5)


def test_leaving_out_what_is_negligible_changes_nothing(monkeypatch):
    mock = make_mock_catalogue(15, depth=dict.fromkeys("ugrizy", 24.0), random_state=5)
    quick = mock.true_pdf(Z_GRID).density
    monkeypatch.setattr(universe, "NEGLIGIBLE", np.inf)

    assert_allclose(quick, mock.true_pdf(Z_GRID).density, atol=1e-4)


def test_equal_colours_give_two_peaks():
    mock = make_mock_catalogue(60, degenerate=True, random_state=3)
    branches = mock[(mock.z_spec > 0.3) & (mock.z_spec < 0.8) & (mock.photometry.n_observed == 6)]
    pz = branches.true_pdf(Z_GRID)
    below = pz.cdf(1.0)

    def mass(z):
        return pz.cdf(z + 0.1) - pz.cdf(z - 0.1)

    assert len(branches) > 10
    # Most galaxies may as well lie at 1 + x, and hardly anywhere else.
    assert np.mean((below > 0.01) & (below < 0.99)) > 0.5
    assert np.median(mass(branches.z_spec) + mass(2 - branches.z_spec)) > 0.9


def test_colours_are_smooth_in_redshift():
    drawn_from = make_mock_catalogue(1).universe
    z = np.linspace(0.01, 3, 3000)
    magnitude = -2.5 * np.log10(drawn_from.fluxes(z, np.full(len(z), 0.4)))

    assert np.abs(np.diff(magnitude, 2)).max() < 1e-3  # mag per step of 0.001, squared


def test_same_seed_same_galaxies():
    one, other = (make_mock_catalogue(100, random_state=5) for _ in range(2))

    assert_array_equal(one.photometry.flux, other.photometry.flux)
    assert_array_equal(one.z_spec, other.z_spec)
    assert not np.array_equal(one.z_spec, make_mock_catalogue(100, random_state=6).z_spec)


def test_the_true_density_of_a_galaxy_does_not_depend_on_others():
    mock = make_mock_catalogue(20, random_state=7)
    whole = mock.true_pdf(Z_GRID).density

    assert_array_equal(mock[np.array([13])].true_pdf(Z_GRID).density[0], whole[13])


def test_a_finer_grid_gives_the_same_density():
    mock = make_mock_catalogue(20, depth=dict.fromkeys("ugrizy", 26.0), random_state=8)
    coarse = mock.true_pdf(np.linspace(0, 3, 301)).quantiles([0.16, 0.5, 0.84])
    fine = mock.true_pdf(np.linspace(0, 3, 601)).quantiles([0.16, 0.5, 0.84])

    assert_allclose(coarse, fine, atol=0.01)


def test_the_columns_fit_the_builtin_survey():
    mock = make_mock_catalogue(500, depth={"u": 25.0}, not_observed=0.1, random_state=9)
    survey = load_survey("lsst").model_copy(update={"depth": {"u": 25.0}})
    photometry, implausible = photometry_from_columns(mock.to_columns(), survey)

    assert implausible == {}
    assert_array_equal(photometry.state, mock.photometry.state)
    assert_allclose(photometry.flux, mock.photometry.flux, rtol=1e-4)
    assert_allclose(photometry.flux_error[:, 0], mock.photometry.flux_error[:, 0], rtol=1e-4)
    assert set(np.unique(photometry.state[:, 0])) == set(State)


def test_a_mock_file_can_train(tmp_path):
    mock = make_mock_catalogue(200, bands=("g", "r", "J"), random_state=10)
    write(pa.table(mock.to_columns()), tmp_path / "mock.parquet")
    survey = Survey(bands=["g", "r", "J"], id="object_id", coordinates=["ra", "dec"])
    catalogue = read(tmp_path / "mock.parquet", survey, training=True)

    assert len(catalogue) == 200
    assert_allclose(catalogue.ra, mock.ra)
    assert_array_equal(catalogue.z_spec, mock.z_spec)


def test_missing_measurements_are_as_frequent_as_asked():
    state = make_mock_catalogue(5000, not_observed=0.3, random_state=11).photometry.state

    assert np.mean(state == State.NOT_OBSERVED) == pytest.approx(0.3, abs=0.01)


def test_no_galaxies_are_a_mock_too():
    mock = make_mock_catalogue(0)

    assert len(mock) == 0
    assert mock.true_pdf(Z_GRID).density.shape == (0, len(Z_GRID))


def test_an_unknown_band_lists_the_known_ones():
    with pytest.raises(InputError, match="unknown band 'q'; mock bands are u, g, r"):
        make_mock_catalogue(10, bands=("g", "q"))


def test_many_galaxies_take_little_time():
    started = time.process_time()
    make_mock_catalogue(200_000)

    assert time.process_time() - started < 2  # 0.3 s on the machine where it was written


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"not_observed": 5.0}, "not_observed from 0 to 1 and finite depths, got 10, 5.0"),
        ({"not_observed": np.nan}, "not_observed from 0 to 1"),
        ({"depth": {"g": np.nan}}, "finite depths"),
        ({"n_galaxies": -1}, "n_galaxies from 0"),
        ({"bands": ("g", "g")}, "none twice, got .'g', 'g'"),
        ({"bands": ()}, "at least one band"),
    ],
)
def test_a_mock_that_cannot_be_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        make_mock_catalogue(**{"n_galaxies": 10, **given})
