"""The whole flow of an experiment: read, split, search, fit, calibrate, test, track, export."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photoz.errors import InputError, without_password
from photoz.family import Family
from photoz.outcome import Outcome, blend_families
from photoz.record import record, tracked_data
from photoz.results import Results
from photoz.samples import Samples, load_samples
from photoz.search import Trial
from photoz.settings import FLOORS, Experiment
from photoz.tracking import EstimatorRun, Tracking

__all__ = ["OnProgress", "run"]

logger = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int | None], None]
"""Called with what is counted, how many are done and, if known, out of how many."""

_BLEND = "blend"


def run(
    experiment: Experiment, directory: Path, *, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Run an experiment and write its results.

    An estimator that fails does not end the others: the report says which failed and why.

    Parameters
    ----------
    experiment
        What to run.
    directory
        Where the results go: ``report.json``, ``report.html``, ``models/`` and
        ``test_predictions.parquet``. What stands there is replaced once all is complete.
    on_progress
        Called after every trial with the estimator, the trials done and their number.

    Returns
    -------
    dict
        What ``report.json`` holds.

    Raises
    ------
    InputError
        If the catalogue or the settings cannot be used.
    RuntimeError
        If every estimator but the floors failed.
    """
    samples = load_samples(experiment)
    tracking = Tracking(
        experiment.tracking.uri,
        experiment.name,
        data=tracked_data(experiment, samples),
        metric=experiment.search.metric,
    )
    with Results(directory, experiment, samples) as results:
        flow = _Flow(experiment, samples, tracking, results, on_progress)
        for name in (*experiment.families, *FLOORS):
            flow.attempt(name, flow.search)
        if experiment.blend_members:
            flow.attempt(_BLEND, flow.blend)
        return flow.finish()


@dataclass(frozen=True, eq=False)
class _Flow:
    """What the estimators of one run share, and what became of them."""

    experiment: Experiment
    samples: Samples
    tracking: Tracking
    results: Results
    on_progress: OnProgress | None
    versions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    def attempt(self, name: str, make: Callable[[str, EstimatorRun], Outcome]) -> None:
        """Make an estimator and keep it; where that fails, keep the reason."""
        try:
            with self.tracking.run(name) as tracked, _traced(tracked):
                outcome = make(name, tracked)
                bundle = self.results.add(outcome, tracked.run_id)
                record(outcome, tracked, self.experiment, self.samples)
                # Whoever fetches a registered model must not get the galaxies that trained it.
                if name not in FLOORS:
                    self.versions[name] = tracked.log_model(bundle)
        except Exception as error:
            # Whatever it was, it must not cost the others the hours they took.
            self.results.remove(name)
            self.failed[name] = error
            logger.warning("%s failed: %s", name, _reason(error))

    def search(self, name: str, tracked: EstimatorRun) -> Outcome:
        """Search the parameters of an estimator, and fit and test the best of them."""
        family = Family(name, self.experiment, self.samples)
        found, candidate = family.search(
            storage=self.experiment.search.storage
            or self.tracking.folder / f"{self.experiment.name}.optuna.log",
            on_trial=_on_trial(family, tracked, self.on_progress),
        )
        return family.finish(found, candidate)

    def blend(self, _name: str, _tracked: EstimatorRun) -> Outcome:
        """Blend the estimators; not without one that failed, which would be another blend."""
        wanted = self.experiment.blend_members
        if lacking := [name for name in wanted if name not in self.results.outcomes]:
            msg = f"the blend needs {', '.join(lacking)}, which failed."
            raise RuntimeError(msg)
        members = {name: self.results.outcomes[name] for name in wanted}
        return blend_families(members, self.samples, self.experiment.seed)

    def finish(self) -> dict[str, Any]:
        """Crown the champion and write the results, if there are any."""
        reasons = {name: _reason(error) for name, error in self.failed.items()}
        if not set(self.results.outcomes) - set(FLOORS):
            errors = [self.failed[name] for name in self.experiment.families]
            msg = "; ".join(f"{name} failed: {reason}" for name, reason in reasons.items())
            at_fault = all(isinstance(error, InputError) for error in errors)
            raise (InputError if at_fault else RuntimeError)(msg) from errors[0]
        version = self.versions[self.results.champion]
        self.results.registered = self.tracking.promote(version).to_dict()
        return self.results.finish(reasons)


def _reason(error: Exception) -> str:
    """One line on what was raised, without passwords."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    return without_password(f"{kind}{' '.join(str(error).split())}")[:2000]


@contextmanager
def _traced(tracked: EstimatorRun) -> Iterator[None]:
    """Keep the traceback of a failure with its run."""
    try:
        yield
    except Exception:
        tracked.log_artifacts({"traceback.txt": traceback.format_exc()})
        raise


def _on_trial(
    family: Family, tracked: EstimatorRun, on_progress: OnProgress | None
) -> Callable[[Trial], None]:
    def on_trial(trial: Trial) -> None:
        tracked.log_trial(trial)
        if on_progress is not None:
            on_progress(family.name, trial.number + 1, family.n_trials)

    return on_trial
