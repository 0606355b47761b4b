"""Study: Optuna's record of a search, in a file or a database that outlives the process."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, fail_stale_trials
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from photoz.errors import InputError, without_password
from photoz.process import is_gone, process_name, uninterrupted

__all__ = [
    "HEARTBEAT_SECONDS",
    "begin",
    "deaths",
    "explained",
    "is_beginning",
    "kept_trials",
    "open_storage",
    "open_study",
    "release_abandoned",
    "run_trial",
    "was_taken",
]

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the search itself tells of its trials

# Trials that have begun bear this mark; one that is younger than this many seconds may get it.
_PROCESS = "process"
_DEATHS = "deaths"
_STARTING_SECONDS = 10

HEARTBEAT_SECONDS = 30
"""How often a process tells a database that it lives; twice as long and it is taken for dead."""

_JOURNAL_BEGINS = b'{"op_code"'


def open_study(
    storage: Path | str, name: str, *, planned: int, sampler: BaseSampler, pruner: BasePruner
) -> optuna.Study:
    """Continue the study of that name, or begin it.

    Parameters
    ----------
    storage
        Journal file or URL of a database.
    name
        Name of the study.
    planned
        Number of trials it is to have. Where that many have failed, and no other, the
        reason lay outside the study: it is begun anew.
    sampler
        What draws the parameters.
    pruner
        What gives up hopeless trials.

    Raises
    ------
    InputError
        If the storage cannot be used.
    """
    options = {
        "study_name": name,
        "load_if_exists": True,
        "sampler": sampler,
        "pruner": pruner,
    }
    with explained(storage):
        opened = open_storage(storage, on_death=_repeat)
        study = optuna.create_study(storage=opened, **options)
        states = [trial.state for trial in kept_trials(study)]
        if len(states) >= planned and set(states) == {TrialState.FAIL}:
            optuna.delete_study(study_name=name, storage=opened)
            study = optuna.create_study(storage=opened, **options)
    return study


@contextmanager
def explained(storage: Path | str) -> Iterator[None]:
    """Say which storage cannot be used, without its password."""
    try:
        yield
    except Exception as error:
        reason = without_password(f"{type(error).__name__}: {error}".partition("\n")[0])
        msg = (
            f"the storage of the search, {without_password(str(storage))}, cannot be used "
            f"({reason}); expected a file that can be written, or the URL of a database such as "
            "postgresql+psycopg://user@host/name."
        )
        raise InputError(msg) from error


def kept_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials but the killed, which ended with neither a result nor an error of their own."""
    return [trial for trial in study.get_trials(deepcopy=False) if not _is_killed(trial)]


def run_trial(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    *,
    catch: tuple[type[Exception], ...],
) -> bool:
    """Run one trial.

    Parameters
    ----------
    study
        The study.
    objective
        What the trial is; it calls `begin` once its parameters are drawn.
    catch
        Errors of the objective that do not go further.

    Returns
    -------
    bool
        False where the others took this process for dead meanwhile, as when it stood still
        for longer than the heartbeat may be silent: what the objective returned is lost.
    """
    numbers = []

    def numbered(trial: optuna.Trial) -> float:
        numbers.append(trial.number)
        with interruptible():
            return objective(trial)

    try:
        # Optuna tells an interruption of the objective alone from an error of its own.
        with uninterrupted() as interruptible:
            study.optimize(numbered, n_trials=1, catch=catch)
    except (AssertionError, UpdateFinishedTrialError, ValueError):
        # So Optuna answers whoever tells the end of a trial that has ended.
        if not numbers or not was_taken(study, numbers[0]):
            raise
        return False
    return True


def begin(trial: optuna.Trial) -> None:
    """Mark a trial as one of this process, so that others see whether it lives."""
    trial.set_user_attr(_PROCESS, process_name(os.getpid()))


def is_beginning(study: optuna.Study) -> bool:
    """Whether a trial draws its parameters, or its process was killed a moment ago as it did.

    Whoever begins another one meanwhile might draw what is that trial's to draw.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return any(_PROCESS not in trial.user_attrs for trial in running)


def was_taken(study: optuna.Study, number: int) -> bool:
    """Whether others marked this trial as that of a dead process."""
    return _is_killed(study.get_trials(deepcopy=False)[number])


def release_abandoned(study: optuna.Study, storage: Path | str, *, repeat: bool = True) -> None:
    """Mark the trials of processes that are gone as failed, and repeat them.

    Parameters
    ----------
    study
        The study.
    storage
        Where it is kept: processes of other machines share a database only, and tell by
        their heartbeat that they live.
    repeat
        Whether their parameters are to be tried again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _is_abandoned(trial, one_machine=not _is_url(storage)):
            try:
                study.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):
                continue  # another process was faster
            if repeat:
                _repeat(study, trial)


def deaths(trial: optuna.Trial) -> int:
    """How many processes have been killed as they ran this trial."""
    return int(trial.user_attrs.get(_DEATHS, 0))


def _is_killed(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def _repeat(study: optuna.Study, trial: FrozenTrial) -> None:
    """Let the parameters of a trial, whose process was killed, be tried again.

    Where only some of them were drawn, all are: those drawn after fixed ones would differ.
    """
    parameters = trial.params if _PROCESS in trial.user_attrs else {}
    study.enqueue_trial(parameters, {_DEATHS: trial.user_attrs.get(_DEATHS, 0) + 1})


def _is_abandoned(trial: FrozenTrial, *, one_machine: bool) -> bool:
    process = trial.user_attrs.get(_PROCESS)
    if process is None:
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0
        return time.time() - begun > _STARTING_SECONDS
    # This process has left its own behind if it asks for others' now.
    return process == process_name(os.getpid()) or is_gone(process, one_machine=one_machine)


def open_storage(
    storage: Path | str, *, on_death: Callable[[optuna.Study, FrozenTrial], None] | None = None
) -> BaseStorage:
    """Open a journal file or a database.

    Parameters
    ----------
    storage
        Journal file or URL of a database.
    on_death
        Called with the trials whose heartbeat has stopped; a journal has none.
    """
    if _is_url(storage):
        try:
            return _open_database(str(storage), on_death)
        except ImportError:
            raise
        except Exception:
            time.sleep(1)  # two processes that make the tables at once stand in each other's way
            return _open_database(str(storage), on_death)
    # The lock of a relative path would be looked for in the wrong folder.
    journal = Path(storage).absolute()
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = _Lock(str(journal), grace_period=10)
    if journal.exists():
        _cut_broken_line(journal, lock)
    return JournalStorage(_Journal(str(journal), lock_obj=lock))


class _Lock(JournalFileOpenLock):
    """Lock that others may have taken from a process that stood still for ten seconds.

    What it has to write it then writes all the same, in one piece; that is no reason to fail.
    """

    def release(self) -> None:
        with suppress(RuntimeError):
            super().release()


class _Journal(JournalFileBackend):
    """Journal file whose lock no signal finds half taken: optuna would raise another error."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with uninterrupted():
            super().append_logs(logs)


def _open_database(
    url: str, on_death: Callable[[optuna.Study, FrozenTrial], None] | None
) -> RDBStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            url,
            # A server may have closed a connection that was idle during a long trial.
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT_SECONDS,
            heartbeat_stale_trial_callback=on_death,
        )


def _is_url(storage: Path | str) -> bool:
    return isinstance(storage, str) and "://" in storage


def _cut_broken_line(journal: Path, lock: _Lock) -> None:
    """Remove the half line of a process that died as it wrote: Optuna would write on in it."""
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.startswith(_JOURNAL_BEGINS[: len(content)]):
            msg = "the file is no journal of a search"
            raise ValueError(msg)
        if not content.endswith(b"\n"):
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()
