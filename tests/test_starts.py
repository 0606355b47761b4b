"""Starts: given trials first, then an even spread over the whole space."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from photoz.estimators.base import Choice, Range
from photoz.starts import N_STARTS, starts

SPACE = {
    "rate": Range(1e-3, 1.0, log=True),
    "scale": Range(-2.0, 0.5),
    "leaf": Range(1, 8),
    "rounds": Range(20, 2000, log=True),
    "errors": Choice((True, False)),
    "copies": Choice((0, 4, 9)),
    "width": Choice((192,)),
}


@pytest.fixture(params=range(5))
def spread(request):
    """What follows the first trial."""
    return starts(SPACE, {}, None, request.param)[1:]


def test_there_are_as_many_as_the_sampler_draws_at_random(spread):
    assert len(spread) == N_STARTS - 1
    assert len(starts(SPACE, {}, {"leaf": 3}, 0)) == N_STARTS


@pytest.mark.parametrize("name", ["rate", "scale"])
def test_each_part_of_a_range_has_one(spread, name):
    low, high = SPACE[name].low, SPACE[name].high
    values = np.array([start[name] for start in spread])
    if SPACE[name].log:
        low, high, values = np.log(low), np.log(high), np.log(values)

    parts = np.floor((values - low) / (high - low) * len(spread))

    assert sorted(parts) == list(range(len(spread)))


def test_integers_are_spread_over_their_range(spread):
    counts = Counter(start["leaf"] for start in spread)

    assert {1, 8} <= set(counts) <= set(range(1, 9))
    assert max(counts.values()) <= 2  # nine among eight


def test_integers_are_spread_on_the_scale_of_their_range(spread):
    values = sorted(start["rounds"] for start in spread)

    assert all(isinstance(value, int) for value in values)
    assert 20 <= values[0] < 20 * 100 ** (1 / 9) < values[1]
    assert values[4] == pytest.approx(200, rel=0.3)


@pytest.mark.parametrize("name", ["errors", "copies"])
def test_each_choice_comes_as_often_as_another(spread, name):
    counts = Counter(start[name] for start in spread)

    assert set(counts) == set(SPACE[name].options)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_single_choice_is_always_taken(spread):
    assert {start["width"] for start in spread} == {192}


def test_parameters_are_spread_independently_of_each_other():
    drawn = [start for seed in range(40) for start in starts(SPACE, {}, None, seed)[1:]]
    columns = np.array([[start["scale"], start["leaf"], start["errors"]] for start in drawn])

    assert np.abs(np.triu(np.corrcoef(columns.T), 1)).max() < 0.15


def test_given_parameters_come_first():
    found = starts(SPACE, {"leaf": 7, "scale": 9.0, "errors": 3}, {"rate": 0.2}, 0)

    first = {"rate": pytest.approx(10**-1.5), "scale": 0.5, "leaf": 7, "rounds": 200}
    assert found[0] == {**first, "errors": True, "copies": 0, "width": 192}
    assert found[1] == {**found[0], "rate": 0.2}


def test_a_seed_gives_the_same_again_and_another_does_not():
    assert starts(SPACE, {}, None, 3) == starts(SPACE, {}, None, 3)
    assert starts(SPACE, {}, None, 3)[1:] != starts(SPACE, {}, None, 4)[1:]


def test_nothing_to_search_has_one_start():
    assert starts({}, {"leaf": 3}, None, 0) == [{}]
