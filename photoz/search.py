"""Search: a space of parameters -> an Optuna study -> the best parameters."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from photoz.errors import InputError, without_password
from photoz.estimators.base import Choice, OnStep, Range
from photoz.sampling import LatePruner, ReseededTPE, parameter_importance
from photoz.starts import starts
from photoz.study import (
    begin,
    deaths,
    is_beginning,
    kept_trials,
    open_study,
    release_abandoned,
    run_trial,
)
from photoz.trials import Objective, Scored, SearchResult, Trial

__all__ = ["Objective", "Scored", "SearchResult", "Trial", "search", "study_name"]

logger = logging.getLogger(__name__)

_MOST_DEATHS = 3


class _SurplusError(Exception):
    """Two processes began the last trial at once; this one was later."""


def search(
    objective: Objective,
    space: Mapping[str, Range | Choice],
    *,
    study_name: str,
    storage: Path | str,
    n_trials: int,
    timeout: float | None = None,
    seed: int = 0,
    defaults: Mapping[str, Any] | None = None,
    warm_start: Mapping[str, Any] | None = None,
    n_wanted: int = 2,
    on_trial: Callable[[Trial], None] | None = None,
) -> SearchResult:
    """Find the parameters of the lowest score.

    A study of that name which was interrupted is continued, and a finished one is reused.
    The sampler is seeded anew from (seed, trial number) before every trial, so that a study
    that was interrupted ends as one that was not.

    Parameters
    ----------
    objective
        Fits and scores one choice of parameters. A trial that raises, or whose score is not
        a finite number, is recorded as failed, and the search goes on.
    space
        What may be tried. Where it is empty, the objective is called once.
    study_name
        Name of the study; see the function `study_name`.
    storage
        Journal file, which serves the processes of one machine; or the URL of a database
        that serves any number of machines.
    n_trials
        Number of trials to finish, failed and pruned ones included; 0 tries the defaults only.
    timeout
        Seconds of trials after which no further one begins.
    seed
        Seed of the sampler.
    defaults
        Parameters of the first trial, moved into the space where they lie outside; the middle
        of the space where there are none.
    warm_start
        Parameters of the second trial; what they lack in the space is as in the first. Up to
        the tenth the rest are a Latin hypercube; see `starts`.
    n_wanted
        How many of the best trials are of use: one that will not be among them is given up.
    on_trial
        Called with every finished trial in order, stored ones first.

    Raises
    ------
    InputError
        If the space or the storage cannot be used, or every trial raised an `InputError`.
    RuntimeError
        If every trial failed, and not for its input alone.
    """
    _check(space, n_trials, timeout)
    planned = n_trials if n_trials and space else 1
    sampler = ReseededTPE(seed, starts(space, defaults, warm_start, seed))
    pruner = LatePruner(n_wanted)
    study = open_study(storage, study_name, planned=planned, sampler=sampler, pruner=pruner)
    raised: list[Exception] = []
    n_told = 0
    while True:
        release_abandoned(study, storage)
        trials = _finished(study)[:planned]
        spent = sum(trial.seconds for trial in trials)
        timed_out = len(trials) < planned and timeout is not None and spent >= timeout
        ended = len(trials) == planned or timed_out
        # In order: those that come after one that still runs elsewhere wait for it.
        ready = sum(ended or trial.number == place for place, trial in enumerate(trials))
        for trial in trials[n_told:ready]:
            if on_trial is not None:
                on_trial(trial)
        n_told = ready
        if ended:
            best = _best(trials, raised)
            importance = parameter_importance(kept_trials(study)[:planned])
            return SearchResult(best, tuple(trials), spent, timed_out, importance)
        if is_beginning(study):
            time.sleep(0.1)
        elif _has_more(study, planned):
            run_trial(
                study,
                lambda trial: _evaluate(trial, objective, space, planned, raised),
                catch=(Exception,),
            )
        else:
            time.sleep(0.5)  # the last trials are with other processes


def study_name(prefix: str, *parts: Any) -> str:  # noqa: ANN401
    """Name of a study that holds a hash of all that its trials depend on.

    Parameters
    ----------
    prefix
        Readable beginning of the name.
    parts
        What the trials depend on: values that JSON can hold, dataclasses and numpy scalars.

    Examples
    --------
    >>> study_name("sdss-forest", {"min_leaf": Range(1, 50, log=True)}, "log_loss", 0)
    'sdss-forest-c1cf29872b9f'
    """
    canonical = json.dumps(parts, sort_keys=True, default=_plain)
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _evaluate(
    trial: optuna.Trial,
    objective: Objective,
    space: Mapping[str, Range | Choice],
    planned: int,
    raised: list[Exception],
) -> float:
    """Run the objective for Optuna; put its error, or what it tuned, beside the trial."""
    earlier = [other for other in kept_trials(trial.study) if other.number < trial.number]
    if len(earlier) >= planned:
        raise _SurplusError
    parameters = {name: _suggest(trial, name, options) for name, options in space.items()}
    begin(trial)
    try:
        _check_deaths(deaths(trial))
        scored = objective(parameters, _progress(trial))
        _check_score(scored.value)
        trial.set_user_attr("tuned", json.loads(json.dumps(scored.tuned, default=_plain)))
    except (optuna.TrialPruned, UpdateFinishedTrialError):
        raise
    except Exception as error:
        raised.append(error)
        text = without_password(f"{type(error).__name__}: {error}")[:2000]
        trial.set_user_attr("error", text)
        logger.warning("the trial with %s failed: %s", parameters, text)
        raise
    return float(scored.value)


def _suggest(trial: optuna.Trial, name: str, options: Range | Choice) -> Any:  # noqa: ANN401
    if isinstance(options, Choice):
        return trial.suggest_categorical(name, options.options)
    if options.integer:
        return trial.suggest_int(name, int(options.low), int(options.high), log=options.log)
    return trial.suggest_float(name, options.low, options.high, log=options.log)


def _progress(trial: optuna.Trial) -> OnStep:
    """Report the losses of a fit to Optuna, and end the fit of a hopeless trial."""
    last_rung = -1

    def on_step(step: int, loss: float) -> None:
        nonlocal last_rung
        if math.isnan(loss):
            msg = f"the loss is NaN at step {step}"
            raise optuna.TrialPruned(msg)
        # A report takes milliseconds to store: eight for every doubling of the step are enough.
        rung = int(8 * math.log2(step + 1))
        if rung <= last_rung or math.isinf(loss):
            return
        last_rung = rung
        trial.report(float(loss), step)
        if trial.should_prune():
            msg = f"worse than the others at step {step}"
            raise optuna.TrialPruned(msg)

    return on_step


def _has_more(study: optuna.Study, planned: int) -> bool:
    """Whether there are trials to begin, or to repeat."""
    kept = kept_trials(study)
    return len(kept) < planned or any(trial.state == TrialState.WAITING for trial in kept)


def _finished(study: optuna.Study) -> list[Trial]:
    return [
        Trial(
            number=number,
            state="failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
            parameters=trial.params,
            value=trial.value,
            seconds=trial.duration.total_seconds() if trial.duration else 0.0,
            error=trial.user_attrs.get("error"),
            tuned=trial.user_attrs.get("tuned", {}),
            curve=trial.intermediate_values,
        )
        for number, trial in enumerate(kept_trials(study))
        if trial.state.is_finished()
    ]


def _best(trials: Sequence[Trial], raised: Sequence[Exception]) -> Trial:
    scored = [(trial.value, trial.number, trial) for trial in trials if trial.state == "complete"]
    if scored:
        return min(scored)[-1]
    errors = [trial.error for trial in trials if trial.error is not None]
    first = errors[0] if errors else "none; all were given up for their losses"
    msg = f"none of the {len(trials)} trials of the search came to an end; first error: {first}"
    # The input is to blame only if no trial failed for another reason.
    at_fault = all(error.startswith(InputError.__name__) for error in errors)
    raise (InputError if errors and at_fault else RuntimeError)(msg) from next(iter(raised), None)


def _check(space: Mapping[str, Range | Choice], n_trials: int, timeout: float | None) -> None:
    if n_trials < 0:
        msg = f"the number of trials must be 0 or more, got {n_trials}."
        raise InputError(msg)
    if timeout is not None and not timeout > 0:
        msg = f"the timeout must be above 0 seconds, got {timeout}; leave it out for none."
        raise InputError(msg)
    for name, options in space.items():
        if isinstance(options, Choice):
            fits, expected = bool(options.options), "at least one choice"
        else:
            fits = options.low <= options.high and (options.low > 0 or not options.log)
            expected = "low <= high, and low > 0 where log = true"
        if not fits:
            msg = f"the search space of {name} needs {expected}, got {options}."
            raise InputError(msg)


def _check_deaths(n_deaths: int) -> None:
    if n_deaths >= _MOST_DEATHS:
        msg = f"{n_deaths} processes were killed as they ran it, for want of memory perhaps."
        raise RuntimeError(msg)


def _check_score(value: float) -> None:
    if not math.isfinite(value):
        msg = f"the score of the trial is {value}, not a finite number."
        raise ValueError(msg)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Form of a value that JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        return {type(value).__name__: asdict(value)}
    if isinstance(value, np.generic):
        return value.item()
    msg = f"expected values that JSON can hold, found {type(value).__name__}: {value!r}."
    raise TypeError(msg)
