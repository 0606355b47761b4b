import numpy as np
import pytest
import qp
from numpy.testing import assert_allclose, assert_array_equal

from photoz.adapters.qp import from_qp, quantiles_to_qp, to_qp
from photoz.errors import InputError
from photoz.pdf import RedshiftPDF
from photoz.prediction import QUANTILE_LEVELS

Z_GRID = np.linspace(0, 3, 301)


@pytest.fixture
def pz(rng):
    """Two Gaussians per galaxy, well inside the grid."""
    means, sigmas = rng.uniform(0.6, 2.2, (8, 2)), rng.uniform(0.03, 0.1, (8, 2))
    return RedshiftPDF.from_mixture(Z_GRID, rng.uniform(0.2, 1, (8, 2)), means, sigmas)


def test_a_file_of_qp_gives_the_densities_back(pz, tmp_path):
    to_qp(pz, np.arange(8)).write_to(str(tmp_path / "pz.hdf5"))

    back = from_qp(qp.read(str(tmp_path / "pz.hdf5")), Z_GRID)

    assert_allclose(back.density, pz.density, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "object_id", [np.arange(8) + 2**60, np.array([f"J{k}" for k in range(8)])]
)
def test_identities_and_further_columns_come_back(pz, object_id, tmp_path):
    to_qp(pz, object_id, ancil={"flag": np.arange(8) % 3}).write_to(str(tmp_path / "pz.hdf5"))

    ancil = qp.read(str(tmp_path / "pz.hdf5")).ancil

    assert_array_equal(ancil["object_id"], object_id)
    assert_array_equal(ancil["flag"], np.arange(8) % 3)
    assert_allclose(ancil["zmode"], pz.mode())


def test_what_qp_computes_from_it_is_what_we_compute(pz):
    ensemble = to_qp(pz)

    assert_allclose(ensemble.mean()[:, 0], pz.mean(), atol=1e-3)
    assert_allclose(ensemble.pdf(0.905)[:, 0], pz.at(0.905), rtol=1e-5, atol=1e-6)
    assert_allclose(ensemble.cdf(0.9)[:, 0], pz.cdf(0.9), atol=1e-5)
    assert_allclose(ensemble.ppf([0.16, 0.5]), pz.quantiles([0.16, 0.5]), atol=2e-3)


def test_single_precision_keeps_files_small(pz):
    assert to_qp(pz).objdata["yvals"].dtype == np.float32


def test_galaxies_without_density_are_flat_and_have_no_mode(pz):
    usable = np.arange(10) % 5 > 0
    ensemble = to_qp(pz, np.arange(10), usable=usable)

    assert_array_equal(np.isnan(ensemble.ancil["zmode"]), ~usable)
    assert_allclose(ensemble.objdata["yvals"][~usable], 1 / 3)
    assert_array_equal(ensemble.objdata["yvals"][usable], pz.density)


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one_galaxy_are_ensembles_too(pz, n, tmp_path):
    to_qp(pz[:n], np.arange(n)).write_to(str(tmp_path / "pz.hdf5"))

    back = qp.read(str(tmp_path / "pz.hdf5"))

    assert back.npdf == n
    assert_allclose(from_qp(back, Z_GRID).density, pz[:n].density, rtol=1e-5, atol=1e-6)


def test_quantiles_come_back_at_their_levels(pz, tmp_path):
    quantiles = pz.quantiles(QUANTILE_LEVELS)
    made = quantiles_to_qp(quantiles, QUANTILE_LEVELS, pz.mode(), np.arange(8))
    made.write_to(str(tmp_path / "pz.hdf5"))

    back = qp.read(str(tmp_path / "pz.hdf5"))

    assert_allclose(back.ppf(np.array(QUANTILE_LEVELS)), quantiles, atol=1e-6)
    assert_array_equal(back.ancil["object_id"], np.arange(8))


def test_unknown_quantiles_are_flat_over_the_range_of_the_others(pz):
    quantiles = pz.quantiles([0.1, 0.5, 0.9])
    quantiles[3] = np.nan
    mode = np.where(np.arange(8) == 3, np.nan, pz.mode())
    ensemble = quantiles_to_qp(quantiles, [0.1, 0.5, 0.9], mode)

    low, high = np.nanmin(quantiles), np.nanmax(quantiles)
    assert_allclose(ensemble.ppf([0.1, 0.5])[3], low + (high - low) * np.array([0.1, 0.5]))
    assert np.isnan(ensemble.ancil["zmode"][3])


def test_an_ensemble_of_another_code_becomes_densities():
    loc, scale = np.array([[0.5], [1.0]]), np.array([[0.1], [0.2]])
    normal = qp.Ensemble(qp.stats.norm, data={"loc": loc, "scale": scale})
    pz = from_qp(normal, Z_GRID)

    assert_allclose(pz.mean(), [0.5, 1.0], atol=1e-4)
    assert_allclose(pz.std(), [0.1, 0.2], atol=1e-3)


def test_columns_of_another_length_are_refused(pz):
    with pytest.raises(InputError, match=r"object_id must .* \(8,\), got \(7,\)"):
        to_qp(pz, np.arange(7))
