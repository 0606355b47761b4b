"""The search finds good parameters, survives what may interrupt it, and says what failed."""

import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from photoz.errors import InputError
from photoz.estimators.base import Choice, Range
from photoz.sampling import is_hopeless
from photoz.search import Scored, _suggest, search, study_name
from photoz.starts import starts
from photoz.study import open_storage

SPACE = {
    "rate": Range(1e-3, 1.0, log=True),
    "depth": Range(1, 9),
    "kind": Choice(("flat", "steep")),
}


def bowl(parameters, _on_step):
    """A smooth loss with its minimum, 0, at rate 0.1, depth 4, flat."""
    loss = np.log10(parameters["rate"] / 0.1) ** 2 + 0.1 * (parameters["depth"] - 4) ** 2
    return Scored(loss + (parameters["kind"] == "steep"), {"n_steps": parameters["depth"] * 10})


def never(_parameters, _on_step):
    pytest.fail("a stored trial was run again")


@pytest.fixture
def study(tmp_path):
    return {"study_name": "bowl", "storage": tmp_path / "study.log"}


def outcomes(result):
    return [(trial.number, trial.state, trial.parameters, trial.value) for trial in result.trials]


def test_search_beats_random_trials(study):
    generator = np.random.default_rng(0)
    random_values = [
        bowl(
            {
                "rate": 10 ** generator.uniform(-3, 0),
                "depth": generator.integers(1, 10),
                "kind": generator.choice(["flat", "steep"]),
            },
            None,
        ).value
        for _ in range(1000)
    ]

    result = search(bowl, SPACE, n_trials=40, **study)

    # The best of 40 random trials lies at the 2.5 per cent quantile on average.
    assert result.best.value < np.quantile(random_values, 0.025)
    assert result.best == min(result.trials, key=lambda trial: trial.value)


def test_defaults_are_the_first_trial(study):
    defaults = {"rate": 0.02, "depth": 7, "kind": "steep"}

    result = search(bowl, SPACE, n_trials=3, defaults=defaults, **study)

    assert result.trials[0].parameters == defaults
    assert result.trials[1].parameters != defaults


def test_defaults_outside_of_the_space_move_into_it(study):
    defaults = {"rate": 5.0, "depth": 0, "kind": "other"}

    result = search(bowl, SPACE, n_trials=1, defaults=defaults, **study)

    assert result.best.parameters == {"rate": 1.0, "depth": 1, "kind": "flat"}


def test_no_trials_evaluate_the_defaults_once(study):
    result = search(bowl, SPACE, n_trials=0, defaults={"depth": 7}, **study)

    assert len(result.trials) == 1
    # A range without a default gives its middle, on its own scale.
    assert result.best.parameters["depth"] == 7
    assert result.best.parameters["rate"] == pytest.approx(10**-1.5)


def test_a_fixed_space_is_evaluated_once(study):
    result = search(lambda *_: Scored(1.5), {}, n_trials=30, **study)

    assert outcomes(result) == [(0, "complete", {}, 1.5)]


def test_parameters_keep_their_types(study):
    seen = []

    def objective(parameters, on_step):
        seen.append([type(value) for value in parameters.values()])
        return bowl(parameters, on_step)

    search(objective, SPACE, n_trials=3, **study)

    assert seen == [[float, int, str]] * 3


def test_what_a_fit_tuned_is_kept(study):
    def objective(_parameters, _on_step):
        return Scored(0.5, {"n_steps": np.int64(120), "width": np.float64(0.02)})

    search(objective, SPACE, n_trials=1, **study)
    stored = search(objective, SPACE, n_trials=1, **study)

    assert stored.best.tuned == {"n_steps": 120, "width": 0.02}


def test_a_finished_study_is_reused(study):
    first = search(bowl, SPACE, n_trials=12, **study)

    again = search(never, SPACE, n_trials=12, **study)

    assert again == first


def test_more_trials_continue_and_fewer_take_the_first_ones(study, tmp_path):
    twenty = search(bowl, SPACE, n_trials=20, study_name="bowl", storage=tmp_path / "other.log")

    twelve = search(bowl, SPACE, n_trials=12, **study)
    continued = search(bowl, SPACE, n_trials=20, **study)
    first_twelve = search(bowl, SPACE, n_trials=12, **study)

    assert outcomes(continued) == outcomes(twenty)
    assert first_twelve == twelve


def test_another_seed_is_another_search(study):
    first = search(bowl, SPACE, n_trials=3, study_name="a", storage=study["storage"], seed=0)
    second = search(bowl, SPACE, n_trials=3, study_name="b", storage=study["storage"], seed=1)

    assert outcomes(first) != outcomes(second)


@pytest.mark.parametrize("n_before", [0, 1, 14])
def test_an_interrupted_study_ends_as_an_undisturbed_one(study, n_before):
    defaults = {"rate": 0.5, "depth": 2, "kind": "steep"}
    options = {**study, "n_trials": 16, "defaults": defaults}
    undisturbed = search(bowl, SPACE, **{**options, "study_name": "undisturbed"})
    calls = count()

    def interrupted(parameters, on_step):
        if next(calls) == n_before:
            raise KeyboardInterrupt
        return bowl(parameters, on_step)

    with pytest.raises(KeyboardInterrupt):
        search(interrupted, SPACE, **options)
    resumed = search(interrupted, SPACE, **options)

    assert outcomes(resumed) == outcomes(undisturbed)
    assert next(calls) == 17  # no finished trial is run again


KILLED = """
import os, signal, sys
from pathlib import Path
from test_search import SPACE, bowl
from photoz.search import search

n_calls = 0

def objective(parameters, on_step):
    global n_calls
    n_calls += 1
    if n_calls == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return bowl(parameters, on_step)

storage = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
search(objective, SPACE, study_name="bowl", storage=storage, n_trials=15)
"""


@pytest.mark.parametrize(
    "storage", ["study.log", pytest.param("sqlite:///{}/study.db", marks=pytest.mark.slow)]
)
def test_a_killed_study_ends_as_an_undisturbed_one(tmp_path, storage):
    place = storage.format(tmp_path) if "://" in storage else tmp_path / storage
    undisturbed = search(bowl, SPACE, study_name="other", storage=place, n_trials=15)
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(place)],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    calls = count()

    def counted(parameters, on_step):
        next(calls)
        return bowl(parameters, on_step)

    resumed = search(counted, SPACE, study_name="bowl", storage=place, n_trials=15)

    assert killed.returncode == -signal.SIGKILL
    assert outcomes(resumed) == outcomes(undisturbed)
    assert next(calls) == 4


@pytest.mark.parametrize("drawn", [[], ["rate"], [*SPACE]])
def test_a_trial_killed_as_it_began_is_repeated_in_its_place(study, monkeypatch, drawn):
    undisturbed = search(bowl, SPACE, n_trials=8, **{**study, "study_name": "other"})
    search(bowl, SPACE, n_trials=3, **study)
    killed = optuna.load_study(study_name="bowl", storage=open_storage(study["storage"])).ask()
    for name in drawn:
        _suggest(killed, name, SPACE[name])
    monkeypatch.setattr("photoz.study._STARTING_SECONDS", 1)
    resumed = search(bowl, SPACE, n_trials=8, **study)

    assert outcomes(resumed) == outcomes(undisturbed)


SHARED = """
import sys, time
from test_search import SPACE, bowl
from photoz.search import search

def slow(parameters, on_step):
    time.sleep(0.2)
    return bowl(parameters, on_step)

result = search(slow, SPACE, study_name="bowl", storage=sys.argv[1], n_trials=14)
print(result.best.value, len(result.trials), flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path):
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(tmp_path / "study.log")],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    first, second = (worker.communicate(timeout=60)[0] for worker in workers)

    result = search(
        never,
        SPACE,
        study_name="bowl",
        storage=tmp_path / "study.log",
        n_trials=14,
    )

    assert first == second == f"{result.best.value} 14\n"
    # Neither took the other's trial for an abandoned one, nor drew what the other had drawn.
    assert len({trial.parameters["rate"] for trial in result.trials}) == 14


def test_a_journal_with_a_broken_last_line_is_continued(study):
    search(bowl, SPACE, n_trials=3, **study)
    with study["storage"].open("a") as journal:
        journal.write('{"op_code": 4, "worker')

    search(bowl, SPACE, n_trials=5, **study)

    lines = study["storage"].read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_a_trial_that_raises_is_recorded_and_the_search_goes_on(study):
    def objective(parameters, on_step):
        if parameters["kind"] == "steep":
            msg = "too steep"
            raise ArithmeticError(msg)
        return bowl(parameters, on_step)

    result = search(objective, SPACE, n_trials=12, **study)

    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert len(result.trials) == 12
    assert 0 < len(failed) < 12
    assert {(trial.value, trial.error) for trial in failed} == {
        (None, "ArithmeticError: too steep")
    }
    assert result.best.parameters["kind"] == "flat"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_a_failed_trial(study, value):
    scores = iter([value, 1.0])

    result = search(lambda *_: Scored(next(scores)), SPACE, n_trials=2, **study)

    assert [trial.state for trial in result.trials] == ["failed", "complete"]
    assert f"the score of the trial is {value}" in result.trials[0].error


def fail(error):
    raise error


def test_a_search_in_which_every_trial_failed_is_an_error(study):
    errors = (TypeError(f"reason {number}") for number in count())
    message = "none of the 3 trials .* first error: TypeError: reason 0"

    with pytest.raises(RuntimeError, match=message) as caught:
        search(lambda *_: fail(next(errors)), SPACE, n_trials=3, **study)

    assert str(caught.value.__cause__) == "reason 0"


def test_a_mistake_of_the_user_in_every_trial_is_shown_as_such(study):
    with pytest.raises(InputError, match="first error: InputError: z_max is below"):
        search(lambda *_: fail(InputError("z_max is below")), SPACE, n_trials=3, **study)


def test_a_search_that_failed_throughout_is_tried_anew(study):
    with pytest.raises(RuntimeError, match="disk is full"):
        search(lambda *_: fail(OSError("disk is full")), SPACE, n_trials=2, **study)

    result = search(bowl, SPACE, n_trials=2, **study)

    assert [trial.state for trial in result.trials] == ["complete", "complete"]


def stepwise(n_steps):
    """An objective that reports a loss falling towards the depth, and counts its steps."""

    def objective(parameters, on_step):
        for step in range(100):
            n_steps[-1] += 1
            on_step(step, parameters["depth"] + 1 / (1 + step))
        return Scored(parameters["depth"])

    def counted(parameters, on_step):
        n_steps.append(0)
        return objective(parameters, on_step)

    return counted


def test_hopeless_trials_are_pruned_and_good_ones_are_not(study):
    n_steps = []

    result = search(stepwise(n_steps), {"depth": Range(1, 1000)}, n_trials=16, **study)

    pruned = [trial.state == "pruned" for trial in result.trials]
    depths = np.array([trial.parameters["depth"] for trial in result.trials])
    assert 3 < sum(pruned) < 12
    assert depths[pruned].min() > sorted(depths)[1]
    assert [steps < 100 for steps in n_steps] == pruned
    assert not pruned[result.best.number]


def test_the_first_trials_of_a_search_are_its_starts(study):
    space, given = {"depth": Range(1, 1000), "kind": Choice(("a", "b"))}, {"depth": 3.0}

    result = search(
        lambda parameters, _: Scored(parameters["depth"]),
        space,
        n_trials=12,
        defaults=given,
        warm_start={"depth": 5.0},
        **study,
    )

    tried = [trial.parameters for trial in result.trials]
    expected = starts(space, given, {"depth": 5.0}, 0)
    assert tried[: len(expected)] == expected
    assert all(parameters not in expected for parameters in tried[len(expected) :])


def test_an_interrupted_study_gives_up_the_same_trials(study):
    space = {"depth": Range(1, 1000)}
    undisturbed = search(stepwise([]), space, n_trials=12, **{**study, "study_name": "other"})
    calls = count()

    def interrupted(parameters, on_step):
        killed = next(calls) == 7

        def killed_underway(step, loss):
            if killed and step == 20:
                raise KeyboardInterrupt
            on_step(step, loss)

        return stepwise([])(parameters, killed_underway)

    with pytest.raises(KeyboardInterrupt):
        search(interrupted, space, n_trials=12, **study)
    resumed = search(interrupted, space, n_trials=12, **study)

    assert outcomes(resumed) == outcomes(undisturbed)
    assert "pruned" in {trial.state for trial in resumed.trials}


ENDS = (1.0, 1.1, 1.2, 1.3)


def falling(end, last_step=100):
    """Losses that fall by 0.5 from every step to twice that step."""
    return {step: end + 0.5 * np.log2(last_step / step) for step in range(5, last_step + 1, 5)}


def until(step, curve):
    return {at: loss for at, loss in curve.items() if at <= step}


@pytest.mark.parametrize("step", [25, 70, 95])
@pytest.mark.parametrize(("end", "hopeless"), [(0.9, False), (1.09, False), (1.17, True)])
def test_a_trial_is_hopeless_if_its_usual_end_is_worse_than_the_second_best(step, end, hopeless):
    complete = [falling(other) for other in ENDS]

    assert is_hopeless(until(step, falling(end)), complete, n_wanted=2) == hopeless


@pytest.mark.parametrize(
    ("step", "n_complete"), [(20, 4), (50, 1), (100, 4)], ids=["early", "beside one", "at the end"]
)
def test_nobody_is_hopeless(step, n_complete):
    complete = [falling(end) for end in ENDS[:n_complete]]

    assert not is_hopeless(until(step, falling(9.0)), complete, n_wanted=2)


def test_two_that_came_to_their_end_are_enough_to_judge_a_third():
    complete = [falling(end) for end in ENDS[:2]]

    assert is_hopeless(until(50, falling(1.17)), complete, n_wanted=2)
    assert not is_hopeless(until(50, falling(1.09)), complete, n_wanted=2)


@pytest.mark.parametrize(("n_complete", "hopeless"), [(4, False), (3, False), (2, True)])
def test_a_trial_that_may_be_one_of_those_wanted_goes_on(n_complete, hopeless):
    """It will end at 1.17: third of the others, or behind both of them."""
    complete = [falling(end) for end in ENDS[:n_complete]]

    assert is_hopeless(until(50, falling(1.17)), complete, n_wanted=3) == hopeless


def rising_again(end, last_step=100):
    """Losses that are lowest half way, and end 0.3 above that."""
    return {step: end - 0.3 + 0.006 * abs(step - last_step // 2) for step in range(5, 101, 5)}


@pytest.mark.parametrize(("loss", "hopeless"), [(0.95, False), (1.09, False), (1.17, True)])
def test_losses_that_others_had_on_their_way_do_not_make_a_trial_hopeless(loss, hopeless):
    """Fits that learn their rows by heart, as 0.8 half way and 1.1 at the end."""
    complete = [rising_again(end) for end in ENDS]

    assert is_hopeless({45: loss, 50: loss}, complete, n_wanted=2) == hopeless


def test_losses_that_a_trial_had_long_ago_do_not_keep_it_from_being_hopeless():
    complete = [falling(end) for end in ENDS]
    learned_by_heart = {step: 0.5 + 0.02 * step for step in range(40, 71, 5)}

    assert is_hopeless(learned_by_heart, complete, n_wanted=2)
    assert not is_hopeless(until(50, learned_by_heart), complete, n_wanted=2)


@pytest.mark.parametrize(("gain", "hopeless"), [(0.2, False), (0.05, True)])
def test_what_the_last_report_gained_is_hoped_for_twice_more(gain, hopeless):
    """Of the others, none gained anything past half way; the second best ended at 1.1."""
    complete = [dict.fromkeys(range(5, 101, 5), end) for end in ENDS]

    assert is_hopeless({45: 1.4 + gain, 50: 1.4}, complete, n_wanted=2) == hopeless


@pytest.mark.parametrize(("loss", "hopeless"), [(1.7, False), (1.8, True)])
def test_a_trial_may_hope_for_what_nine_in_ten_gained_at_most(loss, hopeless):
    """From half way on the others gained 0, .1, .2 and .8: nine in ten of them .62."""
    gains = (0, 0.1, 0.2, 0.8)
    complete = [{50: end + gain, 100: end} for end, gain in zip(ENDS, gains, strict=True)]

    assert is_hopeless({45: loss, 50: loss}, complete, n_wanted=2) == hopeless


def test_a_trial_that_rises_is_not_expected_to_rise_further():
    complete = [rising_again(end) for end in ENDS]

    assert not is_hopeless({35: 0.9, 40: 1.05, 45: 1.07, 50: 1.08}, complete, n_wanted=2)


def test_trials_that_report_nothing_or_once_are_not_judged():
    complete = [falling(end) for end in ENDS]

    assert not is_hopeless({}, complete, n_wanted=2)
    assert not is_hopeless({50: 9.0}, complete, n_wanted=2)


def test_trials_that_report_nothing_are_no_measure():
    assert not is_hopeless({45: 9.0, 50: 9.0}, [{}] * 9, n_wanted=2)


def test_a_slow_start_is_no_reason_to_prune(study):
    numbers = count()

    def objective(_parameters, on_step):
        slow = next(numbers) == 11
        for step in range(100):
            on_step(step, 9 * 0.9**step if slow else 2.0)
        return Scored(0.0 if slow else 2.0)

    result = search(objective, {"depth": Range(1, 1000)}, n_trials=12, **study)

    assert result.best == result.trials[-1]


def test_a_diverging_fit_is_given_up(study):
    def objective(parameters, on_step):
        if parameters["kind"] == "steep":
            on_step(3, np.nan)
        return bowl(parameters, on_step)

    result = search(objective, SPACE, n_trials=8, **study)

    assert {trial.state for trial in result.trials if trial.parameters["kind"] == "steep"} == {
        "pruned"
    }


def test_few_of_many_steps_are_stored(study):
    def objective(_parameters, on_step):
        for step in range(1000):
            on_step(step, 1.0)
        return Scored(1.0)

    search(objective, SPACE, n_trials=1, **study)

    assert len(study["storage"].read_text().splitlines()) < 80


def test_the_timeout_ends_a_search_and_is_told(study):
    options = {**study, "n_trials": 10}

    cut = search(bowl, SPACE, timeout=1e-6, **options)
    reused = search(bowl, SPACE, timeout=1e-6, **options)
    completed = search(bowl, SPACE, timeout=1000, **options)

    assert cut.timed_out
    assert len(cut.trials) == 1
    assert reused == cut
    assert not completed.timed_out
    assert len(completed.trials) == 10


def test_the_parameter_that_decides_is_called_important(study):
    def of_rate_alone(parameters, _on_step):
        return Scored(np.log10(parameters["rate"] / 0.1) ** 2)

    few = search(of_rate_alone, SPACE, n_trials=9, **study)
    many = search(of_rate_alone, SPACE, n_trials=30, **study)

    assert few.importance == {}
    assert set(many.importance) == set(SPACE)
    assert next(iter(many.importance)) == "rate"
    assert many.importance["rate"] > 0.5
    assert sum(many.importance.values()) == pytest.approx(1)


def test_a_trial_keeps_the_losses_of_its_fit(study):
    def in_steps(_parameters, on_step):
        for step in (1, 2, 4):
            on_step(step, 1 / step)
        return Scored(0.2)

    result = search(in_steps, SPACE, n_trials=1, **study)

    assert result.best.curve == {1: 1.0, 2: 0.5, 4: 0.25}


def test_every_finished_trial_is_told_stored_ones_too(study):
    search(bowl, SPACE, n_trials=2, **study)
    told = []

    result = search(bowl, SPACE, n_trials=4, on_trial=told.append, **study)

    assert told == list(result.trials)
    assert [trial.number for trial in told] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_trials": -1}, "number of trials must be 0 or more, got -1"),
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"space": {"depth": Range(9, 1)}}, "search space of depth needs low <= high"),
        ({"space": {"rate": Range(0, 1.0, log=True)}}, "search space of rate needs .* low > 0"),
        ({"space": {"kind": Choice(())}}, "search space of kind needs at least one choice"),
    ],
)
def test_a_search_that_cannot_be_is_refused(study, options, message):
    with pytest.raises(InputError, match=message):
        search(bowl, **{"space": SPACE, "n_trials": 3, **study, **options})


@pytest.mark.parametrize(
    "url",
    ["nosuch://me:secret@host/name", "postgresql+nodriver://me:secret@host", "sqlite:////no/x"],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(url):
    with pytest.raises(InputError, match=r"storage of the search, .* cannot be used") as caught:
        search(bowl, SPACE, study_name="bowl", storage=url, n_trials=1)

    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["my notes", "my notes\n{}\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)

    with pytest.raises(InputError, match=r"notes\.txt, cannot be used .* no journal"):
        search(bowl, SPACE, study_name="bowl", storage=file, n_trials=1)

    assert file.read_text() == content


def test_the_name_of_a_study_follows_from_its_parts():
    parts = ({"depth": Range(1, 9)}, "log_loss", 0, np.float64(0.5))
    name = study_name("bowl", *parts)

    assert study_name("bowl", *parts) == name
    others = [
        study_name("bowl", {"depth": Range(1, 8)}, *parts[1:]),
        study_name("bowl", {"depth": Choice((1, 9))}, *parts[1:]),
        study_name("bowl", parts[0], "crps", *parts[2:]),
        study_name("bowl", *parts[:2], 1, parts[3]),
    ]
    assert len({name, *others}) == 5


def test_a_study_cannot_be_named_after_what_json_cannot_hold():
    with pytest.raises(TypeError, match="expected values that JSON can hold, found set"):
        study_name("bowl", {1, 2})


def test_a_signal_that_meets_the_lock_of_the_journal_is_an_interruption(tmp_path, monkeypatch):
    """Optuna's lock would answer with a `RuntimeError`, as if the search had failed."""
    storage = open_storage(tmp_path / "trials.log")
    study = optuna.create_study(storage=storage)
    acquire = JournalFileOpenLock.acquire

    def met(lock):
        signal.raise_signal(signal.SIGINT)
        return acquire(lock)

    monkeypatch.setattr(JournalFileOpenLock, "acquire", met)
    with pytest.raises(KeyboardInterrupt):
        study.ask()
    monkeypatch.undo()

    assert study.ask().number == 1


@pytest.mark.parametrize(
    "told", [{"datetime_start"}, {"state", "values"}], ids=["its beginning", "its end"]
)
def test_a_signal_that_meets_what_is_told_of_a_trial_is_an_interruption(study, monkeypatch, told):
    """Optuna would answer with an `UnboundLocalError`, as if the search had failed."""
    append = JournalFileBackend.append_logs
    met = []

    def interrupted(backend, logs):
        append(backend, logs)
        if not met and told <= set(logs[0]):
            met.append(logs)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(JournalFileBackend, "append_logs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(bowl, SPACE, n_trials=5, **study)
    monkeypatch.undo()
    resumed = search(bowl, SPACE, n_trials=5, **study)

    assert len(met) == 1
    assert [trial.state for trial in resumed.trials] == ["complete"] * 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_lost_the_lock_as_it_stood_still_goes_on(tmp_path, monkeypatch):
    """Others take a lock that is not given back in time; what has been written counts."""
    journal = tmp_path / "trials.log"
    study = optuna.create_study(storage=open_storage(journal))
    write = os.fsync

    def stand_still(descriptor):
        write(descriptor)
        Path(f"{journal}.lock").unlink()

    monkeypatch.setattr("optuna.storages.journal._file.os.fsync", stand_still)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    monkeypatch.undo()

    (trial,) = optuna.load_study(study_name=study.study_name, storage=open_storage(journal)).trials
    assert trial.state == TrialState.COMPLETE
