"""The best trials of a search meet again out of fold."""

import math
from dataclasses import replace

import pytest

from photoz.finalists import judge_finalists
from photoz.trials import Trial


def trial(number, value, state="complete"):
    tuned = {"bandwidth": 0.01}
    return Trial(number, state, {"min_leaf": number}, value, 1.0, tuned=tuned)


TRIALS = [trial(0, -1.0), trial(1, -1.9), trial(2, -3.0, "pruned"), trial(3, -2.0), trial(4, -1.8)]


def judged(scores):
    """A judge by number of the trial, and the numbers that it was asked about."""
    asked = []

    def judge(trial):
        asked.append(trial.number)
        return scores[trial.number], f"densities of {trial.number}"

    return judge, asked


def test_folds_decide_among_the_three_best_of_a_search():
    judge, asked = judged({1: -2.5, 3: -2.4, 4: -2.6})

    assert judge_finalists(judge, TRIALS, 3) == [
        (TRIALS[4], "densities of 4"),
        (TRIALS[1], "densities of 1"),
        (TRIALS[3], "densities of 3"),
    ]
    assert asked == [3, 1, 4]


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_trial_without_a_score_out_of_fold_comes_last(lost):
    judge, _ = judged({1: -2.5, 3: lost, 4: lost})

    assert judge_finalists(judge, TRIALS, 3)[0] == (TRIALS[1], "densities of 1")


def test_the_better_trial_is_kept_where_folds_find_no_difference():
    judge, _ = judged({1: 0.0, 3: 0.0, 4: 0.0})

    assert judge_finalists(judge, TRIALS, 3)[0] == (TRIALS[3], "densities of 3")


def test_equal_parameters_are_judged_once():
    judge, asked = judged({0: 0.0, 1: 0.0, 3: 0.0})
    twins = [trial(5, -1.95), *TRIALS[:4]]
    twins[0] = replace(twins[0], parameters=TRIALS[3].parameters)

    assert judge_finalists(judge, twins, 3)[0] == (TRIALS[3], "densities of 3")
    assert asked == [3, 1, 0]
