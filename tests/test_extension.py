"""Beyond the end of a range: only where the best lies there, and as long as that pays."""

import pytest

from photoz.estimators.base import Choice, Range
from photoz.estimators.network import NetworkPhotoz
from photoz.extension import extend
from photoz.trials import Scored, Trial

SPACE = {
    "updates": Range(100, 1600, log=True, beyond=4),
    "rate": Range(0.0, 1.0),
    "kind": Choice(("flat", "steep")),
}


def best(updates, value):
    parameters = {"updates": updates, "rate": 1.0, "kind": "steep"}
    return Trial(7, "complete", parameters, value, 1.0, tuned={"n_steps": 0})


def falling_to(lowest):
    """A loss that falls with the updates as far as to some number of them, and what was tried."""
    tried = []

    def objective(parameters, _on_step):
        updates = parameters["updates"]
        tried.append(updates)
        return Scored(1e4 / min(updates, lowest), {"n_steps": updates})

    return objective, tried


@pytest.mark.parametrize(
    ("start", "lowest", "expected", "fits"),
    [
        (1500, 10_000, 6000, [3000, 6000]),  # the range allows no more
        (1300, 10_000, 5200, [2600, 5200]),
        (1500, 3000, 3000, [3000, 6000]),  # the second doubling gains nothing
        (1500, 1500, 1500, [3000]),
        (1000, 10_000, 1000, []),  # not in the last tenth
    ],
)
def test_what_lies_at_the_end_is_doubled_as_long_as_that_pays(start, lowest, expected, fits):
    objective, tried = falling_to(lowest)
    found = extend(objective, SPACE, best(start, 1e4 / start))

    assert found.parameters == {"updates": expected, "rate": 1.0, "kind": "steep"}
    assert tried == fits
    assert found.number == 7
    assert found.value == 1e4 / expected
    assert found.tuned == {"n_steps": expected if fits and expected > start else 0}


def test_a_range_of_a_user_is_kept():
    objective, tried = falling_to(10_000)
    start = best(1600, 1e4 / 1600)

    assert extend(objective, {"updates": Range(100, 1600, log=True)}, start) == start
    assert tried == []


def test_a_doubling_must_gain_half_a_percent():
    for gain, expected in ((0.004, 1500), (0.006, 3000)):
        steps = iter([Scored(-2 - 2 * gain), Scored(0.0)])
        found = extend(lambda *_, steps=steps: next(steps), SPACE, best(1500, -2.0))
        assert found.parameters["updates"] == expected


def test_networks_may_train_for_longer_than_the_search_tries():
    assert NetworkPhotoz.search_space()["updates"].beyond > 1
