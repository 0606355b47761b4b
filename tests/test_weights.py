import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.errors import InputError
from photoz.weights import check_reliability, check_weight

HIDDEN = np.ma.masked_array([1, 2, 3], mask=[False, True, False])


def test_weights_have_mean_one():
    given = np.random.default_rng(0).lognormal(0, 5, 1000)

    # To the last digit: committed figures depend on it.
    assert_array_equal(check_weight(given, 1000), given / given.mean())
    assert_array_equal(check_weight(None, 3), np.ones(3))


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e300, np.finfo(float).max])
def test_weights_of_any_size_count_as_their_ratios_say(size):
    assert_allclose(check_weight([size, size, 0, size], 4), [4 / 3, 4 / 3, 0, 4 / 3])


def test_masked_weights_are_missing_ones():
    with pytest.raises(
        InputError, match=r"got shape \(3,\), 1 of such values and the largest nan"
    ):
        check_weight(HIDDEN, 3)
    assert_allclose(check_weight(HIDDEN[[0, 2]], 2), [0.5, 1.5])


def test_masked_reliabilities_are_missing_ones():
    with pytest.raises(InputError, match=r"got shape \(3,\), 1 of them out of that range"):
        check_reliability(HIDDEN / 4, 3)
    with pytest.raises(InputError, match="1 of them out of that range"):
        check_reliability(np.ma.masked, 3)
    assert_allclose(check_reliability(HIDDEN[[0, 2]] / 4, 2), [0.25, 0.75])
