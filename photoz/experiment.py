"""The whole flow of an experiment: read, split, search, fit, calibrate, test, track, export."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from photoz.claim import do_once
from photoz.errors import InputError, without_password
from photoz.estimators import get_estimator
from photoz.family import Family
from photoz.integrity import check_replaceable
from photoz.outcome import Outcome, blend_families
from photoz.progress import OnProgress
from photoz.record import record, tracked_data
from photoz.results import Results
from photoz.samples import Samples, load_samples
from photoz.search import Trial, study_name
from photoz.settings import FLOORS, Experiment
from photoz.tracking import EstimatorRun, Store, Tracking
from photoz.warm_start import warm_starts

__all__ = ["OnProgress", "run"]

logger = logging.getLogger(__name__)

_BLEND = "blend"


def run(
    experiment: Experiment,
    directory: Path,
    *,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> dict[str, Any] | None:
    """Run an experiment and write its results.

    An estimator that fails does not end the others: the report says which failed and why.

    Any number of processes that share the storage of the search may run the same experiment:
    the first one finishes it, the others help to search. Where the first one is killed, one
    of the others takes its place.

    Parameters
    ----------
    experiment
        What to run.
    directory
        Where the results go: ``report.json``, ``report.html``, ``models/`` and
        ``test_predictions.parquet``. What stands there is replaced once all is complete.
    workers
        Processes of this machine that search; those beyond this one are started anew, so a
        script must guard what it does by ``if __name__ == "__main__"``.
    on_progress
        Called after every trial with the estimator, the trials done and their number, and
        during the fits that follow with their name, the steps done and their number.

    Returns
    -------
    dict or None
        What ``report.json`` holds; None where another process finishes the experiment.

    Raises
    ------
    InputError
        If the catalogue or the settings cannot be used, or `directory` holds something else.
    RuntimeError
        If every estimator but the floors failed.
    """
    check_replaceable(directory, "report.json")
    for name in experiment.families:
        get_estimator(name).load_libraries()  # else every trial would fail for want of them
    samples = load_samples(experiment)
    families = _families(experiment, samples)
    storage = _storage(experiment)

    def finish(check_claim: Callable[[], None]) -> dict[str, Any]:
        tracking = Tracking(
            experiment.tracking.uri,
            experiment.name,
            data=tracked_data(experiment, samples),
            metric=experiment.search.metric,
        )
        with Results(directory, experiment, samples) as results:
            flow = _Flow(experiment, samples, tracking, results, on_progress)
            for family in families:
                flow.attempt(family.name, partial(flow.search, family))
                check_claim()
            if experiment.blend_members:
                flow.attempt(_BLEND, flow.blend)
                check_claim()
            return flow.finish()

    with _helpers(experiment, workers - 1):
        return do_once(
            finish,
            storage=storage,
            name=study_name(
                f"{experiment.name}-finish",
                [family.study for family in families],
                experiment.search.model_dump(exclude={"storage"}),
                experiment.blend_members,
            ),
            meanwhile=lambda: _help(families, storage, on_progress),
        )


def _families(experiment: Experiment, samples: Samples) -> list[Family]:
    starts = warm_starts(experiment)
    return [
        Family(name, experiment, samples, starts.get(name, {}))
        for name in (*experiment.families, *FLOORS)
    ]


def _storage(experiment: Experiment) -> Path | str:
    folder = Store.find(experiment.tracking.uri).folder
    return experiment.search.storage or folder / f"{experiment.name}.optuna.log"


def _help(
    families: Sequence[Family], storage: Path | str, on_progress: OnProgress | None = None
) -> None:
    """Search, and leave the rest to the process that finishes the experiment."""
    for family in families:
        try:
            family.search(storage=storage, on_trial=_on_trial(family, None, on_progress))
        except (RuntimeError, InputError) as error:  # the next family may have more luck
            logger.warning("%s failed: %s", family.name, _reason(error))


def _help_parent(experiment: Experiment) -> None:
    """Help the process that started this one, as long as that lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process

    def check_parent(_what: str, _done: int, _total: int | None) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            sys.exit()

    try:
        families = _families(experiment, load_samples(experiment))
        _help(families, _storage(experiment), check_parent)
    except Exception as error:  # a traceback of this process could show a password
        logger.warning("a worker ended: %s", _reason(error))


@contextmanager
def _helpers(experiment: Experiment, n_helpers: int) -> Iterator[None]:
    """Processes that help to search meanwhile."""
    # Not forked: LightGBM and torch have threads, which would be lost.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_help_parent, args=(experiment,), daemon=True)
        for _ in range(n_helpers)
    ]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


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

    def attempt(self, name: str, make: Callable[[EstimatorRun], Outcome]) -> None:
        """Make an estimator and keep it; where that fails, keep the reason."""
        try:
            with self.tracking.run(name) as tracked, _traced(tracked):
                outcome = make(tracked)
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

    def search(self, family: Family, tracked: EstimatorRun) -> Outcome:
        """Search the parameters of an estimator, and fit and test the best of them."""
        found = family.search(
            storage=_storage(self.experiment),
            on_trial=_on_trial(family, tracked, self.on_progress),
        )
        on_progress = self.on_progress or (lambda *_: None)
        return family.finish(family.choose(found, on_progress), on_progress)

    def blend(self, _tracked: EstimatorRun) -> Outcome:
        """Blend the estimators; not without one that failed, which would be another blend."""
        wanted = self.experiment.blend_members
        if lacking := [name for name in wanted if name not in self.results.outcomes]:
            msg = f"the blend needs {', '.join(lacking)}, which failed."
            raise RuntimeError(msg)
        members = {name: self.results.outcomes[name] for name in wanted}
        on_progress = self.on_progress or (lambda *_: None)
        return blend_families(members, self.samples, self.experiment.seed, on_progress)

    def finish(self) -> dict[str, Any]:
        """Crown the champion and write the results, if there are any."""
        reasons = {name: _reason(error) for name, error in self.failed.items()}
        if not set(self.results.outcomes) - set(FLOORS):
            errors = [self.failed[name] for name in self.experiment.families]
            msg = "; ".join(f"{name} failed: {reason}" for name, reason in reasons.items())
            at_fault = all(isinstance(error, InputError) for error in errors)
            raise (InputError if at_fault else RuntimeError)(msg) from errors[0]
        version = self.versions[self.results.champion]
        try:
            self.results.registered = self.tracking.promote(version).to_dict()
        except Exception as error:
            # A store that is gone by now must not cost the results.
            logger.warning("the champion was not promoted: %s", _reason(error))
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
    family: Family, tracked: EstimatorRun | None, on_progress: OnProgress | None
) -> Callable[[Trial], None]:
    def on_trial(trial: Trial) -> None:
        if tracked is not None:
            tracked.log_trial(trial)
        if on_progress is not None:
            on_progress(family.name, trial.number + 1, family.n_trials)

    return on_trial
