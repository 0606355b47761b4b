"""Claim: of several processes that share a storage, one does what must be done once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from photoz.errors import without_password
from photoz.study import begin, explained, open_storage, release_abandoned, run_trial, was_taken

__all__ = ["do_once"]

Result = TypeVar("Result")


class _TakenError(Exception):
    """The claim is another process's."""


def do_once(
    work: Callable[[Callable[[], None]], Result],
    *,
    storage: Path | str,
    name: str,
    meanwhile: Callable[[], None],
) -> Result | None:
    """Do the work in one of the processes that ask for it; the others do something else.

    The claim is a trial that runs as long as the work. So whoever is killed, or loses its
    machine, loses the claim as it loses its trials, and another process takes its place. One
    that only stood still may come back then: it is stopped where it asks whether the claim is
    still its own, and helps from there on.

    Parameters
    ----------
    work
        What one process is to do. It is given a function to call before it makes anything
        visible: that ends it where another process has taken its place.
    storage
        Journal file, or URL of a database, that the processes share.
    name
        Name of the work.
    meanwhile
        What the other processes do. Once they have done it they ask again whether the first
        one is still there.

    Returns
    -------
    object or None
        What `work` returned; None if another process did it since this one asked, or still
        does.
    """
    with explained(storage):
        study = optuna.create_study(
            study_name=name, storage=open_storage(storage), load_if_exists=True
        )
    earlier = _ended(study)
    while True:
        release_abandoned(study, storage, repeat=False)
        if _ended(study) > earlier:
            return None
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not running:
            if results := _hold(study, work, earlier):
                return results[0]
            time.sleep(0.2)  # whoever was faster, or both, shall be seen
            continue
        meanwhile()
        release_abandoned(study, storage, repeat=False)
        if not was_taken(study, running[0].number):
            return None


def _ended(study: optuna.Study) -> set[int]:
    """Numbers of the claims whose work was done, or failed for a reason of its own."""
    return {
        trial.number
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and not was_taken(study, trial.number)
    }


def _hold(
    study: optuna.Study, work: Callable[[Callable[[], None]], Result], earlier: set[int]
) -> list[Result]:
    """Do the work under a claim; nothing if another process has claimed it, or has done it."""
    results = []

    def objective(trial: optuna.Trial) -> float:
        begin(trial)

        def check() -> None:
            if was_taken(study, trial.number):
                raise _TakenError

        running: list[FrozenTrial]
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if any(other.number < trial.number for other in running) or _ended(study) > earlier:
            raise _TakenError
        try:
            results.append(work(check))
        except _TakenError:
            raise
        except Exception as error:
            trial.set_user_attr("error", without_password(f"{error}")[:2000])
            raise
        return 0.0

    if run_trial(study, objective, catch=(_TakenError,)):
        return results
    return []  # of no account, for another process has done it meanwhile, or will
