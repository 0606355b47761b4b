"""Results: the folder of files that an experiment leaves behind."""

from __future__ import annotations

import glob
import json
import os
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

import photoz
from photoz.bundle import save_model
from photoz.card import make_card
from photoz.outcome import Outcome
from photoz.prediction import prediction_columns
from photoz.process import is_gone, process_name
from photoz.report import EstimatorDetails, write_report
from photoz.samples import Samples
from photoz.settings import FLOORS, Experiment

__all__ = ["Results", "abandoned_folders", "library_versions"]

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "lightgbm", "torch", "optuna", "mlflow")


class Results:
    """Folder of results that appears under its name only when all of it is there.

    Parameters
    ----------
    directory
        Where the results go; what stands there is replaced at the end.
    experiment
        The experiment.
    samples
        Its galaxies.

    Attributes
    ----------
    outcomes
        What became of each estimator so far, by name.
    registered
        What became of the champion in the registry, empty where there is none.
    """

    def __init__(self, directory: Path, experiment: Experiment, samples: Samples) -> None:
        self.directory = directory
        self.experiment = experiment
        self.samples = samples
        self.outcomes: dict[str, Outcome] = {}
        self.registered: dict[str, str] = {}
        self._entries: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self._clear_abandoned()
        # Named after the process, so that two runs at once never share a folder. Some file
        # systems know no colon.
        process = str(process_name(os.getpid())).replace(":", ",")
        self._folder = self.directory.with_name(f".{self.directory.name}.{process}.partial")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, outcome: Outcome, run_id: str | None) -> Path:
        """Keep an outcome and write its bundle.

        Parameters
        ----------
        outcome
            What became of an estimator.
        run_id
            Its run in MLflow.

        Returns
        -------
        Path
            The bundle, in the folder that is still to be renamed.
        """
        place = Path("models") / outcome.name
        outcome.model.provenance = self._provenance(outcome)
        save_model(outcome.model, self._folder / place)
        self.outcomes[outcome.name] = outcome
        self._entries[outcome.name] = outcome.entry(place.as_posix(), run_id)
        return self._folder / place

    def remove(self, name: str) -> None:
        """Forget an outcome, if there is one of that name."""
        self.outcomes.pop(name, None)
        self._entries.pop(name, None)
        shutil.rmtree(self._folder / "models" / name, ignore_errors=True)

    def finish(self, failed: Mapping[str, str]) -> dict[str, Any]:
        """Write the report and the test predictions, and give the folder its name.

        Parameters
        ----------
        failed
            Why the estimators that failed did, by name.

        Returns
        -------
        dict
            What ``report.json`` holds.
        """
        text = json.dumps({**self.report(), "failed": dict(failed)}, indent=1)
        (self._folder / "report.json").write_text(text, encoding="utf-8")
        report: dict[str, Any] = json.loads(text)
        write_report(
            report,
            {name: self._details(outcome) for name, outcome in self.outcomes.items()},
            self._folder / "report.html",
            metric=self.experiment.search.metric,
        )
        self._write_predictions()
        if self.directory.exists():
            self.directory.replace(self._folder / "replaced")
        self._folder.rename(self.directory)
        shutil.rmtree(self.directory / "replaced", ignore_errors=True)
        return report

    def report(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return {
            "name": self.experiment.name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "photoz_version": photoz.__version__,
            "data": self.samples.summary(),
            "split_sha256": self.samples.split_sha256,
            "estimators": self._entries,
            "champion": self.champion,
            "registered": self.registered,
        }

    @property
    def champion(self) -> str:
        """The best on validation rows; the floors never are."""
        metric = self.experiment.search.metric
        rivals = [name for name in self.outcomes if name not in FLOORS]
        return min(rivals, key=lambda name: self.outcomes[name].validation.metrics[metric])

    def _clear_abandoned(self) -> None:
        """Remove what processes that were killed left beside the results."""
        name = self.directory.name
        for folder in self.directory.parent.glob(f".{glob.escape(name)}.*,[0-9]*.partial"):
            process = folder.name.removeprefix(f".{name}.").removesuffix(".partial")
            if not is_gone(process.replace(",", ":"), one_machine=False):
                continue
            if (folder / "replaced").exists() and not self.directory.exists():
                # It was killed between the two renames: complete, but for its name.
                shutil.rmtree(folder / "replaced")
                folder.rename(self.directory)
            shutil.rmtree(folder, ignore_errors=True)

    def _provenance(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "experiment": self.experiment.name,
            "seed": self.experiment.seed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_sha256": self.samples.sha256,
            "split_sha256": self.samples.split_sha256,
            "simulated": self.samples.is_simulated,
            "n_fitted": len(self.samples.fitted),
            "versions": library_versions(),
            "validation": outcome.validation.metrics,
            "test": outcome.test.metrics,
        }

    def _details(self, outcome: Outcome) -> EstimatorDetails:
        trials = outcome.search.trials if outcome.search else ()
        return EstimatorDetails(
            outcome.test,
            [(trial.number, trial.value, trial.state) for trial in trials],
            {trial.number: trial.error for trial in trials if trial.error is not None},
            outcome.importance,
            outcome.search.importance if outcome.search else {},
            make_card(outcome, self.experiment, self.samples),
        )

    def _write_predictions(self) -> None:
        test = self.samples.test
        columns: dict[str, Any] = {
            self.samples.survey.id or "objectId": self.samples.test_id,
            "z_spec": test.z_spec,
        }
        for name, outcome in self.outcomes.items():
            columns |= prediction_columns(outcome.model, test.photometry, name=name)
        pq.write_table(pa.table(columns), self._folder / "test_predictions.parquet")


def abandoned_folders(parent: Path) -> list[Path]:
    """Folders of results that a process of this machine, now gone, left unfinished in `parent`."""
    node = platform.node()
    found = []
    for folder in sorted(parent.glob(".*.partial")):
        _, mark, rest = folder.name.removesuffix(".partial").partition(f".{node},")
        process = f"{node}:{rest.replace(',', ':')}"
        # One that was killed between two renames is complete: the next run gives it its name.
        is_complete = (folder / "replaced").exists()
        if mark and not is_complete and is_gone(process, one_machine=False):
            found.append(folder)
    return found


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the figures."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
