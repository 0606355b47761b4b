"""The best of a search is extended as long as that pays."""

import numpy as np
import pytest

from photoz.estimators.base import Choice, Range
from photoz.estimators.network import NetworkPhotoz
from photoz.extension import extend
from photoz.trials import Scored, Trial

SPACE = {
    "updates": Range(100, 1600, log=True, beyond=6400),
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
        (1500, 10_000, 6000, [3000, 6000]),  # 6400 is the most
        (100, 500, 800, [200, 400, 800, 1600]),
        (1500, 3000, 3000, [3000, 6000]),  # the second doubling gains nothing
        (700, 700, 700, [1400]),
        (3300, 10_000, 3300, []),
    ],
)
def test_the_best_is_doubled_as_long_as_that_pays(start, lowest, expected, fits):
    objective, tried = falling_to(lowest)
    found = extend(objective, SPACE, best(start, 1e4 / start))

    assert found.parameters == {"updates": expected, "rate": 1.0, "kind": "steep"}
    assert tried == fits
    assert found.number == 7
    assert found.value == 1e4 / min(expected, lowest)
    assert found.tuned == {"n_steps": expected if expected > start else 0}


def test_a_plain_range_is_kept():
    objective, tried = falling_to(10_000)
    start = best(1600, 1e4 / 1600)

    assert extend(objective, {"updates": Range(100, 1600, log=True)}, start) == start
    assert tried == []


def test_a_doubling_must_gain_half_a_percent():
    for gain, expected in ((0.004, 1500), (0.006, 3000)):
        steps = iter([Scored(-2 - 2 * gain), Scored(0.0)])
        found = extend(lambda *_, steps=steps: next(steps), SPACE, best(1500, -2.0))
        assert found.parameters["updates"] == expected


def test_a_score_that_is_no_number_is_no_gain():
    start = best(1500, -2.0)

    assert extend(lambda *_: Scored(np.nan), SPACE, start) == start


def test_networks_may_train_for_longer_than_the_search_tries():
    updates = NetworkPhotoz.search_space()["updates"]
    assert updates.beyond > updates.high
