"""Fingerprints: galaxies are known again, whatever the file, and others are not."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from photoz.identity import fingerprints, label_values
from photoz.mock import make_mock_catalogue
from photoz.photometry import State


@pytest.fixture(scope="module")
def photometry():
    return make_mock_catalogue(3000, not_observed=0.05, random_state=4).photometry


def test_precision_of_the_file_hardly_matters(photometry):
    single = replace(photometry, flux=photometry.flux.astype(np.float32).astype(float))

    assert (fingerprints(single) == fingerprints(photometry)).mean() > 0.98


def test_other_galaxies_have_other_fingerprints(photometry):
    known = fingerprints(photometry)

    assert len(np.unique(known[known > 0])) == (known > 0).sum()
    brighter = replace(photometry, flux=photometry.flux * 1.01)
    assert not np.isin(fingerprints(brighter)[known > 0], known).any()


def test_ids_may_be_bytes_that_are_no_text():
    ids = np.array([b"\xff\x00", b"\xfe\x00", b"7", "7"], dtype=object)

    labels = label_values(ids)

    assert len(set(labels.tolist())) == 3
    assert labels[2] == labels[3]


def test_few_detected_bands_are_no_identity(photometry):
    n_detected = (photometry.state == State.DETECTED).sum(axis=1)

    assert_array_equal(fingerprints(photometry) == 0, n_detected < 3)


def test_sign_and_order_of_the_fluxes_count(photometry):
    rows = photometry[(photometry.state == State.DETECTED).all(axis=1)]
    negative, turned = replace(rows, flux=-rows.flux), replace(rows, flux=rows.flux[:, ::-1])

    assert not np.isin(fingerprints(negative), fingerprints(rows)).any()
    assert not np.isin(fingerprints(turned), fingerprints(rows)).any()


def test_whole_numbers_are_one_identity_in_every_type():
    """A missing value makes integers floats."""
    labels = [label_values(np.array(["1", "7"]).astype(kind)) for kind in ("U", "S", int, float)]

    assert all((found == labels[0]).all() for found in labels)
    assert label_values(np.array([1.5])) == label_values(np.array(["1.5"]))


def test_text_of_broken_files_has_a_label():
    assert len(label_values(np.array(["\udcff"], dtype=object))) == 1
