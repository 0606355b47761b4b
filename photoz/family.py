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
from photoz.finalists import best_finalist
from photoz.outcome import Outcome, test_model
from photoz.protocol import Candidate, add_conformal, calibrate, default_parameters, hold_back
from photoz.samples import Samples
from photoz.search import Scored, SearchResult, Trial, search, study_name
from photoz.settings import FLOORS, Experiment

__all__ = ["Family"]


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
            on_trial=on_trial,
        )

    def choose(self, found: SearchResult) -> SearchResult:
        """The search with the best choice that more than its trials can tell.

        Where trials tell little, the first few are fitted again in full; the best is extended
        where that pays. Neither is done where the time has run out or nothing is to be searched.

        Parameters
        ----------
        found
            What `search` returned.
        """
        best, is_searched = found.best, self.experiment.search.trials > 0
        if found.timed_out or not is_searched:
            return found
        started = time.perf_counter()
        if n_finalists := get_estimator(self.name).n_finalists():
            best = best_finalist(self._final_objective, found.trials, n_finalists)
        best = extend(self._objective, self._space[0], best)
        return replace(found, best=best, seconds=found.seconds + time.perf_counter() - started)

    def finish(
        self,
        found: SearchResult,
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> Outcome:
        """Fit the best choice to all but the held-out galaxies, calibrate and test it.

        Parameters
        ----------
        found
            What `choose` returned.
        on_progress
            Called with what is fitted, how many steps are done, and how many there are.
        """
        best = found.best
        candidate = self._candidate({**self._space[1], **best.parameters, **best.tuned})
        fold_steps = partial(on_progress, f"{self.name}, out of fold")
        held_back = hold_back(candidate, self.samples, fold_steps)
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
        return replace(outcome, search=found)

    def _objective(self, parameters: dict[str, Any], on_step: OnStep) -> Scored:
        return self._score(parameters, on_step, in_full=False)

    def _final_objective(self, parameters: Mapping[str, Any]) -> Scored:
        return self._score(parameters, lambda _step, _loss: None, in_full=True)

    def _score(self, parameters: Mapping[str, Any], on_step: OnStep, *, in_full: bool) -> Scored:
        train, validation = self.samples.train, self.samples.validation
        candidate = self._candidate({**self._space[1], **parameters})
        metric = self.experiment.search.metric
        return candidate.trial(train, validation, metric, on_step, in_full=in_full)

    @property
    def _space(self) -> tuple[dict[str, Any], dict[str, Any]]:
        space, fixed = self.experiment.space(self.name)
        # One grid for all, whatever rows a fold happens to hold.
        return space, {"z_max": self.samples.z_max, "n_z": self.samples.n_z, **fixed}

    def _candidate(self, parameters: dict[str, Any]) -> Candidate:
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
            *([{"conformal": share}] if (share := experiment.calibration.conformal) else []),
            *([dict(self.warm_start)] if self.warm_start else []),
        )
