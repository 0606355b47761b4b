"""Tracking: everything that MLflow is told, and what is read back from it."""

import os

# MLflow reads these as it is imported: it shall not call home, draw bars across ours, or take
# what a model needs from a lock file that happens to lie in the working directory.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")

from photoz.tracking.contents import Content, TrackedData
from photoz.tracking.models import fetch_bundle
from photoz.tracking.pages import page_address
from photoz.tracking.runs import EstimatorRun, Tracking
from photoz.tracking.store import Store, serve

__all__ = [
    "Content",
    "EstimatorRun",
    "Store",
    "TrackedData",
    "Tracking",
    "fetch_bundle",
    "page_address",
    "serve",
]
