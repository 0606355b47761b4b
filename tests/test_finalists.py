"""The best trials of a search meet again in fits of full size."""

import math

import pytest

from photoz.finalists import best_finalist
from photoz.trials import Scored, Trial


def trial(number, value, state="complete"):
    tuned = {"bandwidth": 0.01}
    return Trial(number, state, {"min_leaf": number}, value, 1.0, tuned=tuned)


TRIALS = [trial(0, -1.0), trial(1, -1.9), trial(2, -3.0, "pruned"), trial(3, -2.0), trial(4, -1.8)]


def test_fits_of_full_size_decide_among_the_three_best_of_a_search():
    in_full = {0: -9.0, 1: -2.5, 2: -9.0, 3: -2.4, 4: -2.6}
    found = best_finalist(
        lambda parameters: Scored(in_full[parameters["min_leaf"]], {"bandwidth": 0.02}), TRIALS, 3
    )

    assert found == Trial(4, "complete", {"min_leaf": 4}, -1.8, 1.0, tuned={"bandwidth": 0.02})


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_fit_of_full_size_without_a_score_comes_last(lost):
    in_full = {1: -2.5, 3: lost, 4: lost}
    found = best_finalist(lambda parameters: Scored(in_full[parameters["min_leaf"]]), TRIALS, 3)

    assert found.number == 1


def test_the_better_trial_is_kept_where_fits_of_full_size_are_equal():
    assert best_finalist(lambda _: Scored(0.0), TRIALS, 3).number == 3


def test_a_single_trial_learns_what_a_fit_of_full_size_tunes():
    found = best_finalist(lambda _: Scored(0.0, {"bandwidth": 0.02}), TRIALS[:1], 3)

    assert (found.number, found.tuned) == (0, {"bandwidth": 0.02})
