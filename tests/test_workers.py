"""Several processes search one study: none waits in vain, and what one loses another repeats."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from photoz import study
from photoz.claim import do_once
from photoz.estimators.base import Range
from photoz.search import Scored, search

sys.path.insert(0, str(Path(__file__).parent))
from postgres import PASSWORD, postgres

SPACE = {"depth": Range(0.0, 9.0)}

WORKER = """
import json, platform, sys, time
from pathlib import Path

if len(sys.argv) > 3:  # as if on another machine, where only a heartbeat tells who lives
    platform.node = lambda: sys.argv[3]

from photoz import study
from photoz.claim import do_once
from photoz.estimators.base import Range
from photoz.search import Scored, search

study.HEARTBEAT_SECONDS = 2
place, folder = sys.argv[1], Path(sys.argv[2])
storage = place if "://" in place else Path(place)

def objective(parameters, _on_step):
    time.sleep(0.5)
    return Scored((parameters["depth"] - 4) ** 2)

def run():
    return search(
        objective, {"depth": Range(0.0, 9.0)}, study_name="bowl", storage=storage, n_trials=20
    )

def finish(_check_claim):
    (folder / "finishing").write_text("")
    result = run()
    return [[trial.number, trial.state, trial.value] for trial in result.trials]

print(json.dumps(do_once(finish, storage=storage, name="finish", meanwhile=run)))
"""


def start(place, folder, *machine):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(place), str(folder), *machine],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trials_of(place):
    storage = study.open_storage(place)
    try:
        return optuna.load_study(study_name="bowl", storage=storage).trials
    except KeyError:
        return []
    finally:
        if hasattr(storage, "engine"):
            storage.remove_session()
            storage.engine.dispose()


def wait_for(condition):
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.25)
    pytest.fail("nothing happened within five minutes")


def kill_one_of_three(place, folder, machines=((), (), ())):
    """Kill the process that finishes in the midst of a trial; what it and the others leave."""
    first = start(place, folder, *machines[0])
    wait_for((folder / "finishing").exists)
    others = [start(place, folder, *machine) for machine in machines[1:]]

    def first_is_held_in_a_trial():
        """It has finished a trial, as has another process, and is stopped in a second one."""
        first.send_signal(signal.SIGSTOP)
        states = {
            (f":{first.pid}:" in trial.user_attrs.get("process", ""), trial.state.name)
            for trial in trials_of(place)
        }
        if {(True, "COMPLETE"), (True, "RUNNING"), (False, "COMPLETE")} <= states:
            return True
        first.send_signal(signal.SIGCONT)
        return False

    wait_for(first_is_held_in_a_trial)
    first.kill()
    first.communicate()
    before = [trial for trial in trials_of(place) if trial.state.name == "COMPLETE"]
    told = [other.communicate(timeout=300) for other in others]
    assert [other.returncode for other in others] == [0, 0], told
    return before, trials_of(place), [json.loads(shown) for shown, _ in told]


def check_what_is_left(before, after, reports):
    complete = [trial for trial in after if trial.state.name == "COMPLETE"]
    # One that two processes began at once fails as well, and need not be repeated.
    lost = [trial for trial in after if trial.state.name == "FAIL" and trial.params]
    # One that died before it had any parameters is repeated with new ones.
    repeated = [trial for trial in complete if trial.system_attrs.get("fixed_params")]

    # Nothing that was finished is lost, and the others did the rest.
    assert {trial.number: trial.value for trial in before}.items() <= {
        trial.number: trial.value for trial in complete
    }.items()
    assert len(complete) == 20
    given_up = [trial.params for trial in lost]
    assert all(trial.params in given_up for trial in repeated)
    # One took the place of the process that finishes, and counts every trial.
    (report,) = [report for report in reports if report is not None]
    assert [number for number, _, _ in report] == list(range(20))
    assert sorted(value for _, _, value in report) == sorted(trial.value for trial in complete)


@pytest.mark.slow
def test_the_others_go_on_where_one_of_three_is_killed(tmp_path):
    check_what_is_left(*kill_one_of_three(tmp_path / "study.log", tmp_path))


@pytest.mark.slow
def test_other_machines_go_on_where_one_of_three_is_lost(tmp_path):
    with postgres() as address:
        place = f"postgresql+psycopg://{address}"
        machines = [["one"], ["two"], ["three"]]
        check_what_is_left(*kill_one_of_three(place, tmp_path, machines))


@pytest.mark.slow
def test_a_postgresql_server_that_refuses_is_named_without_password():
    with postgres() as address:
        wrong = address.replace(PASSWORD, "Wr0ng")
        with pytest.raises(
            study.InputError, match=r"storage of the search, .*\*\*\*@127"
        ) as caught:
            search(
                lambda *_: Scored(0.0), SPACE, study_name="bowl", n_trials=1,
                storage=f"postgresql+psycopg://{wrong}",
            )  # fmt: skip

    assert "Wr0ng" not in str(caught.value)


def test_a_trial_that_kills_its_process_again_and_again_is_given_up(tmp_path):
    """Each death is played: the process that ran it is one that has long gone."""
    place = tmp_path / "study.log"
    calls = count()

    def die(_parameters, _on_step):
        next(calls)
        raise SystemExit

    for _ in range(3):
        with pytest.raises(SystemExit):
            search(die, SPACE, study_name="bowl", storage=place, n_trials=3)
    result = search(lambda *_: Scored(1.0), SPACE, study_name="bowl", storage=place, n_trials=3)

    assert next(calls) == 3
    assert [trial.state for trial in result.trials] == ["failed", "complete", "complete"]
    assert "3 processes were killed as they ran it" in result.trials[0].error


def test_what_is_to_be_done_once_is_done_by_the_first(tmp_path):
    place = {"storage": tmp_path / "study.log", "name": "finish"}
    done = []

    def work(_check_claim):
        done.append("work")
        return len(done)

    assert do_once(work, meanwhile=lambda: done.append("help"), **place) == 1
    assert do_once(work, meanwhile=lambda: done.append("help"), **place) == 2
    assert done == ["work", "work"]


def test_an_error_in_what_is_done_once_is_raised(tmp_path):
    with pytest.raises(ZeroDivisionError):
        do_once(
            lambda _check_claim: 1 / 0,
            storage=tmp_path / "study.log",
            name="finish",
            meanwhile=lambda: None,
        )


def take(place, name, number=-1):
    """Mark a running trial as failed, as others do whose database has heard no heartbeat."""
    others = optuna.load_study(study_name=name, storage=study.open_storage(place))
    others.tell(others.trials[number].number, state=TrialState.FAIL)


def test_whoever_loses_the_claim_makes_nothing_visible_and_may_claim_again(tmp_path):
    place = tmp_path / "study.log"
    done = []

    def work(check_claim):
        done.append("begun")
        if len(done) == 1:
            take(place, "finish")
        check_claim()
        done.append("shown")
        return "result"

    result = do_once(work, storage=place, name="finish", meanwhile=lambda: None)

    assert result == "result"
    assert done == ["begun", "begun", "shown"]


def test_what_was_done_for_a_claim_that_was_lost_at_the_end_does_not_count(tmp_path):
    place = tmp_path / "study.log"
    numbers = count()

    def work(_check_claim):
        number = next(numbers)
        if number == 0:
            take(place, "finish")
        return number

    assert do_once(work, storage=place, name="finish", meanwhile=lambda: None) == 1


def test_one_finishes_where_the_first_dies_and_two_would_take_its_place(tmp_path):
    """The slower of the two finds the work done."""
    place = tmp_path / "study.log"
    options = {"storage": place, "name": "finish"}
    first = optuna.create_study(study_name="finish", storage=study.open_storage(place)).ask()
    first.set_user_attr("process", study.process_name(os.getppid()))  # one that lives
    done = []

    def meanwhile():
        take(place, "finish", first.number)  # it dies
        assert do_once(lambda _: "by the faster", meanwhile=pytest.fail, **options)

    slower = do_once(lambda _: done.append("again"), meanwhile=meanwhile, **options)

    assert slower is None
    assert not done


def test_a_trial_that_others_took_for_dead_is_repeated_and_ends_no_search(tmp_path):
    place = tmp_path / "study.log"
    depths = []

    def objective(parameters, on_step):
        depths.append(parameters["depth"])
        if len(depths) in {2, 4}:
            take(place, "bowl")
            others = optuna.load_study(study_name="bowl", storage=study.open_storage(place))
            others.enqueue_trial(parameters, {"deaths": 1})
        if len(depths) == 4:
            on_step(1, 0.5)
        return Scored(parameters["depth"])

    result = search(objective, SPACE, study_name="bowl", storage=place, n_trials=4)

    assert [trial.state for trial in result.trials] == ["complete"] * 4
    assert depths[1] == depths[2]
    assert depths[3] == depths[4]


@pytest.mark.slow
def test_the_first_may_end_while_others_help(tmp_path):
    first = start(tmp_path / "study.log", tmp_path)
    wait_for((tmp_path / "finishing").exists)
    second = start(tmp_path / "study.log", tmp_path)

    shown = [json.loads(process.communicate(timeout=300)[0]) for process in (first, second)]

    assert len(shown[0]) == 20
    assert shown[1] is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
