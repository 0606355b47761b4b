import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, Pool
from photoz.calibration import Calibration
from photoz.catalogue import to_array
from photoz.conformal import ConformalMap
from photoz.errors import InputError
from photoz.estimators.boosting import BoostingPhotoz
from photoz.features import PhotometricFeatures
from photoz.mixture_form import mixtures_of, pdf_from_mixtures
from photoz.model import PhotozModel
from photoz.pit_map import PitMap
from photoz.prediction import prediction_columns
from photoz.scoring import score_catalogue
from photoz.survey import load_survey
from photoz.temperature import Temperature

N_COMPONENTS = 3
STRONG = Temperature(
    (0.3, -0.4, -0.5, 0.6), (0, 1), (25.0, 24.0), (0.0, -1.0), (1.0, 0.5), missing=(1,)
)

CONFORMAL = ConformalMap((0.5,), (0.4,), 39)

CALIBRATIONS = {
    "none": None,
    "map": Calibration(None, PitMap((0.2, -0.2))),
    "all": Calibration(
        STRONG, PitMap((0.2, -0.2, -0.1, 0.05)), 9, ConformalMap((0.5,), (0.4,), 39)
    ),
}


@pytest.fixture(scope="module")
def boosting(mock):
    estimator = BoostingPhotoz(
        n_components=N_COMPONENTS, n_rounds=20, z_max=4.0, n_z=201, random_state=0
    )
    unfitted = PhotozModel(load_survey("lsst"), PhotometricFeatures(), Augmentation(), estimator)
    return unfitted.fit(mock.photometry[:500], mock.z_spec[:500])


def difference(found, expected):
    return (np.abs(found.density - expected.density).max(axis=1) / expected.density.max()).max()


@pytest.mark.parametrize("calibration", CALIBRATIONS.values(), ids=CALIBRATIONS.keys())
def test_mixtures_give_back_the_calibrated_densities(boosting, test_photometry, calibration):
    boosting.calibration = calibration
    mixtures = mixtures_of(boosting, test_photometry)
    stored = json.loads(json.dumps(calibration.reduced().to_dict())) if calibration else None
    back = pdf_from_mixtures(boosting.z_grid, mixtures, stored)

    assert mixtures.shape == (len(test_photometry), 3 * N_COMPONENTS + 1)
    assert difference(back, boosting.predict_pdf(test_photometry)) < 1e-5


def test_a_file_holds_all_that_reading_back_needs(boosting, mock, catalogue_file, tmp_path):
    boosting.calibration = CALIBRATIONS["all"]
    score_catalogue(boosting, catalogue_file, tmp_path / "out.parquet", pdf="mixture")
    table = pq.read_table(tmp_path / "out.parquet")
    metadata = {key: json.loads(value) for key, value in table.schema.metadata.items()}
    grid = metadata[b"photoz.z_grid"]
    back = pdf_from_mixtures(
        np.linspace(0, grid["z_max"], grid["n_z"]),
        to_array(table["photoz_mixture"]),
        metadata[b"photoz.mixture"]["calibration"],
    )

    assert difference(back, boosting.predict_pdf(mock.photometry)) < 1e-4


def test_unusable_galaxies_have_no_mixture(boosting, test_photometry):
    state = test_photometry.state.copy()
    state[3] = 0
    hidden = type(test_photometry)(
        test_photometry.bands, test_photometry.flux, test_photometry.flux_error, state
    )
    found = prediction_columns(boosting, hidden, pdf="mixture")["photoz_mixture"]

    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [3]
    with pytest.raises(ValueError, match="weights must be finite"):
        pdf_from_mixtures(boosting.z_grid, found, None)


def test_masked_mixtures_are_missing_ones(boosting, test_photometry):
    mixtures = mixtures_of(boosting, test_photometry)
    hidden = np.ma.masked_array(mixtures, mask=np.zeros_like(mixtures, dtype=bool))
    hidden[3] = np.ma.masked

    with pytest.raises(ValueError, match="weights must be finite"):
        pdf_from_mixtures(boosting.z_grid, hidden, None)


def test_models_without_mixtures_are_refused(model, boosting, catalogue_file, tmp_path):
    blend = PhotozBlend({"boosting": boosting}, Pool("linear", (1.0,)))
    for other, found in ((model, "ForestPhotoz"), (blend, "PhotozBlend")):
        with pytest.raises(InputError, match=rf"are mixtures \(.*found {found}; ask for quant"):
            score_catalogue(other, catalogue_file, tmp_path / "out.parquet", pdf="mixture")


def test_qp_does_not_take_mixtures_of_ours(boosting, catalogue_file, tmp_path):
    with pytest.raises(InputError, match="got pdf 'mixture'; ask for quantiles or a grid"):
        score_catalogue(boosting, catalogue_file, tmp_path / "out.qp.hdf5", pdf="mixture")


def test_other_shapes_are_refused(boosting):
    with pytest.raises(ValueError, match=r"3 \* n_components \+ 1\), got shape \(2, 6\)"):
        pdf_from_mixtures(boosting.z_grid, np.ones((2, 6)), None)
