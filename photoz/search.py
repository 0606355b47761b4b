"""Search: a space of parameters -> an Optuna study -> the best parameters."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from photoz.errors import InputError, without_password
from photoz.estimators.base import Choice, OnStep, Range
from photoz.study import (
    ReseededTPE,
    kept_trials,
    mark_started,
    open_study,
    parameter_importance,
    release_abandoned,
)

__all__ = ["Objective", "Scored", "SearchResult", "Trial", "search", "study_name"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """What one trial reached.

    Parameters
    ----------
    value
        Score of the trial, the lower the better.
    tuned
        Parameters that the fit chose by itself, such as the step at which it stopped.
    """

    value: float
    tuned: dict[str, Any] = field(default_factory=dict)


Objective = Callable[[dict[str, Any], OnStep], Scored]
"""Fits and scores one choice of parameters; tells `OnStep` of its progress where it can."""


@dataclass(frozen=True)
class Trial:
    """One finished trial.

    Parameters
    ----------
    number
        Place in the study, from 0; killed trials are repeated and leave no gap.
    state
        ``complete``, ``pruned`` or ``failed``.
    parameters
        The values that were tried.
    value
        The score; the last loss reported where pruned; None where failed.
    seconds
        Wall time.
    error
        What was raised where failed.
    tuned
        Parameters that the fit chose by itself.
    curve
        Losses that the fit reported on its way, by step.
    """

    number: int
    state: str
    parameters: dict[str, Any]
    value: float | None
    seconds: float
    error: str | None = None
    tuned: dict[str, Any] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search and the best of them.

    Parameters
    ----------
    best
        The complete trial of the lowest value.
    trials
        All finished trials, in order.
    seconds
        Wall time of the trials, those of earlier, interrupted processes included.
    timed_out
        Whether the time ran out before the trials did.
    importance
        Share of each parameter in what tells the best trials from the others; empty where
        there are too few to tell.
    """

    best: Trial
    trials: tuple[Trial, ...]
    seconds: float
    timed_out: bool
    importance: dict[str, float] = field(default_factory=dict)


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
        Parameters of the first trial, moved into the space where they lie outside.
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
    start = None if defaults is None and n_trials else _starting_point(space, defaults or {})
    study = open_study(storage, study_name, planned=planned, sampler=ReseededTPE(seed, start))
    raised: list[Exception] = []
    trials: list[Trial] = []
    while True:
        release_abandoned(study, storage)
        n_told, trials = len(trials), _finished(study)[:planned]
        for trial in trials[n_told:]:
            if on_trial is not None:
                on_trial(trial)
        spent = sum(trial.seconds for trial in trials)
        timed_out = len(trials) < planned and timeout is not None and spent >= timeout
        if len(trials) == planned or timed_out:
            best = _best(trials, raised)
            importance = parameter_importance(kept_trials(study)[:planned])
            return SearchResult(best, tuple(trials), spent, timed_out, importance)
        if len(kept_trials(study)) < planned:
            study.optimize(
                lambda trial: _evaluate(trial, objective, space, raised),
                n_trials=1,
                catch=(Exception,),
            )
        else:
            time.sleep(1)  # the last trials are with other processes


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
    'sdss-forest-5ef85c3cffa4'
    """
    canonical = json.dumps(parts, sort_keys=True, default=_plain)
    return f"{prefix}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _evaluate(
    trial: optuna.Trial,
    objective: Objective,
    space: Mapping[str, Range | Choice],
    raised: list[Exception],
) -> float:
    """Run the objective for Optuna; put its error, or what it tuned, beside the trial."""
    mark_started(trial)
    parameters = {name: _suggest(trial, name, options) for name, options in space.items()}
    try:
        scored = objective(parameters, _progress(trial))
        _check_score(scored.value)
        trial.set_user_attr("tuned", json.loads(json.dumps(scored.tuned, default=_plain)))
    except optuna.TrialPruned:
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
        # A report takes milliseconds to store: four for every doubling of the step are enough.
        rung = int(4 * math.log2(step + 1))
        if rung <= last_rung or math.isinf(loss):
            return
        last_rung = rung
        trial.report(float(loss), step)
        if trial.should_prune():
            msg = f"worse than the others at step {step}"
            raise optuna.TrialPruned(msg)

    return on_step


def _starting_point(
    space: Mapping[str, Range | Choice], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Defaults moved into the space; the middle of a range that has no default."""
    start: dict[str, Any] = {}
    for name, options in space.items():
        default = defaults.get(name)
        if isinstance(options, Choice):
            start[name] = default if default in options.options else options.options[0]
            continue
        if default is None:
            ends = options.low, options.high
            default = math.sqrt(math.prod(ends)) if options.log else sum(ends) / 2
        inside = min(max(default, options.low), options.high)
        start[name] = round(inside) if options.integer else float(inside)
    return start


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
