"""Tracking: everything that MLflow is told, and what is read back from it."""

import os

# MLflow reads these as it is imported: it shall not call home, draw bars across ours, or take
# what a model needs from a lock file that happens to lie in the working directory.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
# It would show a server's URL, password included, on standard output after every run.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from photoz.tracking.cleaning import OldRun, find_old_runs, remove_run
from photoz.tracking.contents import Content, TrackedData
from photoz.tracking.doctor import Move, find_moves, mend
from photoz.tracking.estimator_run import EstimatorRun
from photoz.tracking.models import fetch_bundle
from photoz.tracking.pages import experiment_addresses, page_address
from photoz.tracking.registry import ROW_LOSSES, Verdict, promote, row_losses
from photoz.tracking.runs import Tracking
from photoz.tracking.store import Store, is_local, serve
from photoz.tracking.versions import ModelVersion, list_versions

__all__ = [
    "ROW_LOSSES",
    "Content",
    "EstimatorRun",
    "ModelVersion",
    "Move",
    "OldRun",
    "Store",
    "TrackedData",
    "Tracking",
    "Verdict",
    "experiment_addresses",
    "fetch_bundle",
    "find_moves",
    "find_old_runs",
    "is_local",
    "list_versions",
    "mend",
    "page_address",
    "promote",
    "remove_run",
    "row_losses",
    "serve",
]
