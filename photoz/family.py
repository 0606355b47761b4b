"""Family: from one estimator's search space to its tested model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import photoz
from photoz.estimators import get_estimator
from photoz.estimators.base import OnStep
from photoz.extension import extend
from photoz.finalists import judge_finalists
from photoz.outcome import Outcome, RunnerUp, test_model
from photoz.progress import OnProgress, Tell
from photoz.protocol import (
    Candidate,
    HeldBack,
    add_conformal,
    calibrate,
    default_parameters,
    hold_back,
)
from photoz.samples import Samples
from photoz.search import Scored, SearchResult, Trial, search, study_name
from photoz.settings import FLOORS, Experiment

__all__ = ["Chosen", "Family"]


# Raised with what changes the trials of a search under the same version and settings.
_REVISION = 4

# A pool hardly gains by more than two further networks, which cost it as much time as the best.
_RUNNERS_UP = 2


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a family's fits are made of.

    Parameters
    ----------
    found
        The search, its `best` and `seconds` those of the choice.
    held_back
        Densities of the best, if to choose it needed them.
    runners_up
        What the best was compared with, where a blend is to pool that as well.
    """

    found: SearchResult
    held_back: HeldBack | None = None
    runners_up: tuple[RunnerUp, ...] = ()


@dataclass(frozen=True, eq=False)
class Family:
    """One estimator of an experiment.

    Parameters
    ----------
    name
        Name of the estimator.
    experiment
        What to search and how long.
    samples
        The galaxies.
    warm_start
        Parameters, within the space, that the second trial tries; see `warm_starts`.
    """

    name: str
    experiment: Experiment
    samples: Samples
    warm_start: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_trials(self) -> int:
        """Trials that a search of this family takes."""
        return max(self.experiment.search.trials, 1) if self._space[0] else 1

    def search(self, *, storage: Path | str, on_trial: Callable[[Trial], None]) -> SearchResult:
        """Search the parameters on the validation rows.

        Parameters
        ----------
        storage
            Journal file or database of the study.
        on_trial
            Called with every finished trial.
        """
        settings = self.experiment.search
        space, _ = self._space
        defaults = default_parameters(self.name)
        return search(
            self._objective,
            space,
            study_name=self.study,
            storage=storage,
            n_trials=settings.trials,
            timeout=settings.timeout,
            seed=self.experiment.seed,
            defaults={key: defaults[key] for key in space if key in defaults},
            warm_start=self.warm_start,
            n_wanted=self._n_wanted,
            on_trial=on_trial,
        )

    def choose(self, found: SearchResult, on_progress: OnProgress = lambda *_: None) -> Chosen:
        """The best choice that more than the trials of a search can tell.

        Where trials tell little, the best few are compared out of fold, or where there are many
        galaxies on the validation galaxies; the best is extended where that pays. Neither is done
        where the time has run out or nothing is to be searched.

        Parameters
        ----------
        found
            What `search` returned.
        on_progress
            Called as by `finish`.
        """
        best, held_back = found.best, None
        runners_up: tuple[RunnerUp, ...] = ()
        if found.timed_out or self.experiment.search.trials == 0:
            return Chosen(found)
        started = time.perf_counter()
        if n_finalists := get_estimator(self.name).n_finalists():
            tell = partial(on_progress, f"{self.name}, its best trials out of fold")
            judge = partial(self._judge, tell)
            (best, held_back), *others = judge_finalists(judge, found.trials, n_finalists)
            if self.name in self.experiment.blend_members:
                runners_up = tuple(
                    RunnerUp(self._candidate(one), made) for one, made in others[:_RUNNERS_UP]
                )
            del others  # densities of all galaxies are large
        extended = extend(self._objective, self._space[0], best)
        seconds = found.seconds + time.perf_counter() - started
        if extended.parameters != best.parameters:
            held_back = None
        return Chosen(replace(found, best=extended, seconds=seconds), held_back, runners_up)

    def finish(
        self,
        chosen: Chosen,
        on_progress: OnProgress = lambda *_: None,
    ) -> Outcome:
        """Fit the best choice to all but the held-out galaxies, calibrate and test it.

        Parameters
        ----------
        chosen
            What `choose` returned.
        on_progress
            Called with what is fitted, how many steps are done, and how many there are.
        """
        candidate, held_back = self._candidate(chosen.found.best), chosen.held_back
        if held_back is None:
            tell = partial(on_progress, f"{self.name}, out of fold")
            held_back = hold_back(candidate, self.samples, tell)
        started = time.perf_counter()
        model = candidate.fit(self.samples.fitted, partial(on_progress, f"{self.name}, final fit"))
        fit_seconds = time.perf_counter() - started
        validated = held_back.complete.pz
        if self.name not in FLOORS:
            model.calibration, validated = calibrate(model.features, held_back)
            if self.samples.kept is not None:
                add_conformal(model, self.samples.kept)
        outcome = test_model(
            self.name,
            candidate.parameters,
            model,
            held_back,
            validated,
            samples=self.samples,
            fit_seconds=fit_seconds,
            seed=self.experiment.seed,
        )
        return replace(outcome, search=chosen.found, runners_up=chosen.runners_up)

    def _objective(self, parameters: dict[str, Any], on_step: OnStep) -> Scored:
        train, validation = self.samples.train, self.samples.validation
        candidate = self._with({**self._space[1], **parameters})
        return candidate.trial(train, validation, self.experiment.search.metric, on_step)

    def _judge(self, tell: Tell, trial: Trial) -> tuple[float, HeldBack]:
        held_back = hold_back(self._candidate(trial), self.samples, tell)
        return held_back.score(self.experiment.search.metric), held_back

    @property
    def _n_wanted(self) -> int:
        """Trials that matter: the best with its runners-up, or with one that is nearly as good."""
        return 1 + (_RUNNERS_UP if get_estimator(self.name).n_finalists() else 1)

    @property
    def _space(self) -> tuple[dict[str, Any], dict[str, Any]]:
        space, fixed = self.experiment.space(self.name)
        # One grid for all, whatever rows a fold happens to hold.
        return space, {"z_max": self.samples.z_max, "n_z": self.samples.n_z, **fixed}

    def _candidate(self, trial: Trial) -> Candidate:
        return self._with({**self._space[1], **trial.parameters, **trial.tuned})

    def _with(self, parameters: dict[str, Any]) -> Candidate:
        return Candidate(self.name, parameters, self.samples.survey, self.experiment.seed)

    @property
    def study(self) -> str:
        """Name of the study: it changes with everything that a trial's score depends on."""
        experiment, samples = self.experiment, self.samples
        return study_name(
            f"{experiment.name}-{self.name}",
            {"data": samples.sha256, "split": samples.split_sha256},
            {"survey": samples.survey.model_dump(mode="json")},
            {"catalogue": experiment.catalogue.model_dump(mode="json")},
            self._space,
            {"metric": experiment.search.metric, "seed": experiment.seed},
            {"trials": get_estimator(self.name).trial_parameters()},
            photoz.__version__,
            _REVISION,
            *([{"conformal": share}] if (share := experiment.calibration.conformal) else []),
            *([dict(self.warm_start)] if self.warm_start else []),
        )
