"""Claim: of several processes that share a storage, one does what must be done once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.trial import TrialState

from photoz.errors import without_password
from photoz.study import explained, mark_started, open_storage, release_abandoned

__all__ = ["do_once"]

Result = TypeVar("Result")


class _TakenError(Exception):
    """Another process was faster."""


def do_once(
    work: Callable[[], Result],
    *,
    storage: Path | str,
    name: str,
    meanwhile: Callable[[], None],
) -> Result | None:
    """Do the work in the first of the processes that ask for it; the others do something else.

    The claim is a trial that runs as long as the work. So whoever is killed, or loses its
    machine, loses the claim as it loses its trials, and another process takes its place.

    Parameters
    ----------
    work
        What one process is to do.
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
        What `work` returned; None if another process did it, or still does.
    """
    with explained(storage):
        study = optuna.create_study(
            study_name=name, storage=open_storage(storage), load_if_exists=True
        )
    while True:
        holder = _holder(study, storage)
        if holder is None:
            if results := _hold(study, work):
                return results[0]
            time.sleep(0.2)  # whoever was faster, or both, shall be seen
            continue
        meanwhile()
        release_abandoned(study, storage, repeat=False)
        trial = study.get_trials(deepcopy=False)[holder]
        if trial.state != TrialState.FAIL or "error" in trial.user_attrs:
            return None


def _holder(study: optuna.Study, storage: Path | str) -> int | None:
    """Number of the claim that holds."""
    release_abandoned(study, storage, repeat=False)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return running[0].number if running else None


def _hold(study: optuna.Study, work: Callable[[], Result]) -> list[Result]:
    """Do the work under a claim; nothing if another process claimed it first."""
    results = []

    def objective(trial: optuna.Trial) -> float:
        mark_started(trial)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if any(other.number < trial.number for other in running):
            raise _TakenError
        try:
            results.append(work())
        except Exception as error:
            trial.set_user_attr("error", without_password(f"{error}")[:2000])
            raise
        return 0.0

    study.optimize(objective, n_trials=1, catch=(_TakenError,))
    return results
