import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from photoz.augment import Augmentation
from photoz.calibration import Calibration
from photoz.errors import InputError
from photoz.estimators.baseline import TrainzPhotoz
from photoz.features import PhotometricFeatures
from photoz.metrics import crps
from photoz.mock import make_mock_catalogue
from photoz.model import PhotozModel
from photoz.photometry import Photometry, State
from photoz.survey import Survey, load_survey

MASKED = np.ma.masked_array(np.full(60, 0.5), mask=np.arange(60) % 10 == 0)


class Spy(TrainzPhotoz):
    """Remembers what it was fitted to."""

    def _fit(self, train, validation, on_step):
        self.seen, self.seen_validation = train, validation
        super()._fit(train, validation, on_step)


def unfitted(features=None, augment=None):
    return PhotozModel(
        load_survey("lsst"),
        features or PhotometricFeatures(),
        augment or Augmentation(noise_copies=2),
        Spy(z_max=5.0, n_z=51, random_state=0),
    )


def spy(mock, features=None, augment=None, **fit):
    return unfitted(features, augment).fit(mock.photometry, mock.z_spec, **fit)


def test_photometry_beats_n_of_z(model, mock, test_photometry):
    z_spec = mock.z_spec[-len(test_photometry) :]
    floor = spy(mock[:500]).predict_pdf(test_photometry)

    assert crps(z_spec, model.predict_pdf(test_photometry)) < 0.7 * crps(z_spec, floor)


def test_copies_carry_redshift_weight_and_reliability_of_their_galaxy(mock):
    n = len(mock)
    weight = np.arange(1, n + 1) / n
    seen = spy(mock, sample_weight=weight, reliability=weight).estimator.seen

    assert_array_equal(seen.z_spec, np.tile(mock.z_spec, 3))
    assert_allclose(seen.weight / seen.weight[0], np.tile(weight, 3) / weight[0])
    assert_array_equal(seen.reliability, np.tile(weight, 3))


def test_validation_rows_get_no_copies(mock):
    model = spy(mock, validation=(mock.photometry[:40], mock.z_spec[:40]))
    seen = model.estimator.seen_validation

    assert_array_equal(seen.X, model.features.transform(mock.photometry[:40]))


def test_listed_noise_needs_error_features(mock):
    """Enlarged errors that the estimator cannot see would only be noise."""
    augment = Augmentation(noise_copies=1, noise_scale=0, depth_scale=3)
    X = spy(mock, PhotometricFeatures(errors=False), augment).estimator.seen.X

    assert_array_equal(X[: len(mock)], X[len(mock) :])


def test_bands_seen_unobserved_are_optional():
    mock = make_mock_catalogue(200, random_state=2)
    state = mock.photometry.state.copy()
    flux = mock.photometry.flux.copy()
    state[:20, 1], flux[:20, 1] = State.NOT_OBSERVED, np.nan
    photometry = type(mock.photometry)(
        mock.photometry.bands,
        flux,
        np.where(state == State.NOT_OBSERVED, np.nan, mock.photometry.flux_error),
        state,
    )
    model = PhotozModel(
        load_survey("lsst"), PhotometricFeatures(), Augmentation(), Spy(z_max=5.0, n_z=51)
    )

    assert model.fit(photometry, mock.z_spec).optional_bands == ("g",)


def test_band_dropout_makes_every_band_optional(mock):
    assert spy(mock, augment=Augmentation(band_dropout=0.1)).optional_bands == tuple("ugrizy")


def test_outside_training_is_one_band_too_bright(model, mock, test_photometry):
    bright = type(test_photometry)(
        test_photometry.bands,
        test_photometry.flux * np.where(np.arange(6) == 3, 1e6, 1),
        test_photometry.flux_error,
        test_photometry.state,
    )

    assert model.outside_training(mock.photometry[:500]).mean() < 0.02
    assert model.outside_training(bright).all()


def test_outside_training_is_also_a_combination_that_training_never_saw(model, mock):
    """Each band alone is that of some training galaxy."""
    train = mock.photometry[:500]
    rows = [np.argsort(train.flux[:, k])[[100, 400]] for k in range(6)]
    flux = np.array([train.flux[rows[k][:: -1 if k == 3 else 1], k] for k in range(6)]).T
    low, high = np.array([model.training_range[band] for band in train.bands]).T
    odd = Photometry(train.bands, flux, 0.1 * flux, np.full(flux.shape, 2, dtype=np.uint8))
    luptitude = odd.luptitude(model.features.depth_)

    assert ((luptitude >= low) & (luptitude <= high)).all()
    assert model.outside_training(odd).all()


def test_one_band_has_no_colours(mock):
    photometry = Photometry(
        ("i",), *(x[:, 3:4] for x in (mock.photometry.flux, mock.photometry.flux_error)),
        mock.photometry.state[:, 3:4],
    )  # fmt: skip
    model = PhotozModel(
        Survey(bands=["i"]), PhotometricFeatures(), Augmentation(noise_copies=0),
        TrainzPhotoz(),
    ).fit(photometry, mock.z_spec)  # fmt: skip

    assert model.occupancy is None
    assert not model.outside_training(photometry).any()


def test_uncalibrated_is_what_the_estimator_says(mock, test_photometry):
    model = spy(mock[:500])
    raw = model.predict_pdf(test_photometry)
    model.calibration = Calibration.fit(
        raw, mock.z_spec[500:], model.features.transform(test_photometry)
    )

    assert_array_equal(model.predict_pdf(test_photometry, calibrated=False).density, raw.density)


def test_other_bands_are_refused(model):
    other = make_mock_catalogue(10, bands=("g", "r", "i", "z", "y"), random_state=0)

    with pytest.raises(
        InputError, match=r"expected the bands .* found g, r, i, z, y; give a survey"
    ):
        model.predict_pdf(other.photometry)


def test_zero_galaxies_give_zero_densities(model, test_photometry):
    assert len(model.predict_pdf(test_photometry[:0])) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z_spec": np.ones(70)}, r"z_spec must hold one value for each of the 60 galaxies, got"),
        ({"z_spec": np.ones(50)}, r"shape \(50,\); choose the same rows of both"),
        (
            {"sample_weight": np.ones(70)},
            r"sample_weight must have shape \(60,\), .* \(70,\)",
        ),
        ({"sample_weight": np.full(60, -1.0)}, r"got shape \(60,\), 60 of such values"),
        ({"sample_weight": MASKED}, r"got shape \(60,\), 6 of such values"),
        ({"reliability": np.ones(70)}, "reliability must hold 60 probabilities"),
        ({"reliability": MASKED}, "6 of them out of that range"),
        ({"reliability": 0.0}, "weight and reliability above 0 to fit, found none among 60;"),
    ],
)
def test_redshifts_of_other_rows_are_refused(mock, given, message):
    """Told of the galaxies that were given, not of their copies."""
    arguments = {"z_spec": mock.z_spec[:60], **given}

    with pytest.raises(InputError, match=message):
        unfitted().fit(mock.photometry[:60], **arguments)


def test_masked_redshifts_are_missing_ones(mock):
    hidden = np.ma.masked_array(mock.z_spec[:60], mask=MASKED.mask)
    validation = (mock.photometry[:60], hidden)

    with pytest.raises(ValueError, match="y contains NaN"):
        unfitted().fit(mock.photometry[:60], hidden)
    assert len(spy(mock[:60], validation=validation).estimator.seen_validation) == 54


def test_parameters_are_checked_before_copies_are_made(mock):
    model = unfitted()
    model.estimator.set_params(random_state=-1)

    with pytest.raises(InputError, match="random_state must be a whole number, at least 0"):
        model.fit(mock.photometry, mock.z_spec)


def test_what_is_no_photometry_is_refused(model, mock):
    table = pd.DataFrame(mock.to_columns())

    for ask in (lambda: unfitted().fit(table, mock.z_spec), lambda: model.predict_pdf(table)):
        with pytest.raises(InputError, match=r"a DataFrame; .*\.from_columns"):
            ask()


def test_no_galaxy_cannot_be_fitted(mock):
    with pytest.raises(InputError, match="above 0 to fit, found none among 0; bring galaxies"):
        unfitted().fit(mock.photometry[:0], mock.z_spec[:0])


@pytest.mark.parametrize(
    "ask",
    [PhotozModel.predict_pdf, PhotozModel.outside_training, lambda model, _: model.z_grid],
)
def test_an_unfitted_model_says_so(test_photometry, ask):
    with pytest.raises(NotFittedError, match="Spy instance is not fitted yet"):
        ask(unfitted(), test_photometry)


@pytest.mark.parametrize("share", ["sample_weight", "reliability"])
def test_galaxies_that_do_not_count_shape_nothing(mock, share):
    """Neither depths nor ranges, colours or what was seen; nor do others get other copies."""
    few = mock[:300]
    wild = mock[300:400]
    photometry = wild.photometry
    photometry = type(photometry)(
        photometry.bands, 1e4 * photometry.flux, 1e6 * photometry.flux_error, photometry.state
    )
    counts = np.repeat([1.0, 0.0], [300, 100])

    found = unfitted(augment=Augmentation(noise_copies=2)).fit(
        Photometry.concatenate([few.photometry, photometry]),
        np.concatenate([few.z_spec, wild.z_spec]),
        **{share: counts},
    )
    expected = spy(few)

    assert_array_equal(found.features.depth_, expected.features.depth_)
    assert found.learned() == expected.learned()
    assert_array_equal(found.seen, expected.seen)
    assert_array_equal(found.estimator.seen.X, expected.estimator.seen.X)


def test_one_reliability_may_stand_for_all(mock):
    seen = spy(mock, reliability=0.9).estimator.seen

    assert_array_equal(seen.reliability, np.full(3 * len(mock), 0.9))


def test_galaxies_of_other_bands_are_refused():
    other = make_mock_catalogue(60, bands=("g", "r", "i"), random_state=0)

    with pytest.raises(InputError, match="extra columns u, g, r, i, z, y, found g, r, i; give"):
        unfitted().fit(other.photometry, other.z_spec)
