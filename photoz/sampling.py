"""Sampling: which parameters a search tries next, which trials it gives up, what decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from photoz.study import kept_trials

__all__ = ["LatePruner", "ReseededTPE", "is_hopeless", "parameter_importance"]

# The best tenth of fewer trials is not even one.
_FEWEST_TO_TELL = 10
# When a trial is given up, as whole searches and replays of them chose it (experiments/NOTES.md).
_FEWEST_TO_JUDGE = 2
_FEWEST_REPORTS = 2
_JUDGED_FROM = 0.25
_GAIN_QUANTILE = 0.9
_RECENT = 3
_FURTHER = 2


class ReseededTPE(BaseSampler):
    """TPE whose random numbers follow from (seed, trial number), after given first trials.

    Parameters
    ----------
    seed
        Seed of the study.
    starts
        Parameters of the first trials; see `starts`.
    """

    def __init__(self, seed: int, starts: Sequence[dict[str, Any]]) -> None:
        self._seed = seed
        self._starts = starts
        self._given: dict[str, Any] | None = None
        self._sampler = TPESampler()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Begin the random numbers of this trial."""
        number = sum(earlier.number < trial.number for earlier in kept_trials(study))
        entropy = np.random.SeedSequence((self._seed, number))
        self._sampler = TPESampler(seed=int(entropy.generate_state(1)[0]))
        self._given = self._starts[number] if number < len(self._starts) else None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Parameters that are drawn together: as TPE says."""
        together: dict[str, BaseDistribution]
        together = self._sampler.infer_relative_search_space(study, trial)
        return together

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw parameters together: as TPE does, except in the first trials."""
        if self._given is not None:
            return {name: self._given[name] for name in search_space}
        drawn: dict[str, Any] = self._sampler.sample_relative(study, trial, search_space)
        return drawn

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401
        """Draw one parameter: as TPE does, except in the first trials."""
        if self._given is not None:
            return self._given[name]
        return self._sampler.sample_independent(study, trial, name, distribution)


class LatePruner(BasePruner):
    """Give up trials that are hopeless by the losses that their fits report; see `is_hopeless`.

    It asks nothing but the study, so that a search that is resumed gives up the same trials.

    Parameters
    ----------
    n_wanted
        How many of the best trials are of use.
    """

    def __init__(self, n_wanted: int) -> None:
        self._n_wanted = n_wanted

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether to give up this trial at its last step."""
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        curves = [other.intermediate_values for other in complete]
        return is_hopeless(trial.intermediate_values, curves, self._n_wanted)


def is_hopeless(
    curve: Mapping[int, float], complete: Sequence[Mapping[int, float]], n_wanted: int
) -> bool:
    """Whether even a good end would leave a trial behind the best ones.

    A trial is judged when a quarter of the usual way lies behind it, by its lowest recent loss
    (of three reports, as far as there are, since the last one may be an outlier) less what it
    may yet gain: what the trials that went further gained from that step to their end (nine in
    ten of them no more), or twice what its last report gained on those before, so that those
    that learn slowly have their time; so a first report is not judged. It is hopeless if that is
    above what the last of the trials wanted had at its end. Losses of longer ago do not count, its
    own or others': fits that learn their rows by heart rise again.

    Parameters
    ----------
    curve
        Losses of the trial, by step.
    complete
        Those of the trials that came to their end, in any order.
    n_wanted
        How many of the best trials are of use. Where fewer came to their end, but two at least,
        it is the worst of them that counts.
    """
    complete = [other for other in complete if other]
    if len(curve) < _FEWEST_REPORTS or len(complete) < _FEWEST_TO_JUDGE:
        return False
    step = max(curve)
    longer = [other for other in complete if min(other) <= step < max(other)]
    if not longer or step < _JUDGED_FROM * np.median([max(other) for other in complete]):
        return False
    gains = [_recent(other, step) - _end(other) for other in longer]
    reached, before = _recent(curve, step), max(at for at in curve if at < step)
    gained = _FURTHER * (_recent(curve, before) - reached)
    hoped = reached - max(float(np.quantile(gains, _GAIN_QUANTILE)), gained, 0.0)
    return hoped > sorted(map(_end, complete))[:n_wanted][-1]


def _recent(curve: Mapping[int, float], step: int) -> float:
    """Lowest of the last few losses up to a step."""
    steps = sorted(at for at in curve if at <= step)
    return min(curve[at] for at in steps[-_RECENT:])


def _end(curve: Mapping[int, float]) -> float:
    return curve[max(curve)]


def parameter_importance(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Share of each parameter in what tells the best tenth of the trials from all of them.

    The highest comes first. Empty where there is too little to tell by.

    Parameters
    ----------
    trials
        Trials of one study; those that are not complete do not count.

    References
    ----------
    Watanabe, Bansal & Hutter (2023), https://arxiv.org/abs/2304.10255
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    values = sorted(trial.value for trial in complete if trial.value is not None)
    if len(values) < _FEWEST_TO_TELL or values[math.ceil(0.1 * len(values)) - 1] == values[-1]:
        return {}
    among_these = optuna.create_study()
    among_these.add_trials(complete)
    found = optuna.importance.get_param_importances(among_these)
    return {name: float(share) for name, share in found.items()}
