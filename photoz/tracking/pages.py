"""Pages: what makes MLflow's pages show the families side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from mlflow import MlflowClient

__all__ = [
    "HEADLINES",
    "experiment_addresses",
    "metrics_table",
    "page_address",
    "page_tags",
    "run_colour",
]

HEADLINES = ("cde_loss", "crps", "sigma_nmad", "outlier_fraction")
"""Metrics that are shown beside a model."""

_COLUMNS = ("log_loss", *HEADLINES, "bias", "pit_ks", "coverage_68", "coverage_95")

# Colours that the colour-blind can tell apart (Okabe & Ito 2008); the floors are grey.
_COLOURS = {
    "forest": "#009e73",
    "boosting": "#e69f00",
    "network": "#0072b2",
    "blend": "#d55e00",
    "knn": "#777777",
    "trainz": "#bbbbbb",
}
_OTHER_COLOUR = "#cc79a7"

_VIEW = "held-out"
_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"


def page_address(port: int, host: str = "127.0.0.1") -> str:
    """Address of MLflow's list of experiments, without what it has for language models."""
    return f"{_site(port, host)}/experiments?workflowType=machine_learning"


def experiment_addresses(
    client: MlflowClient, port: int, host: str = "127.0.0.1"
) -> dict[str, str]:
    """Addresses of the held-out metrics of each experiment, by its name, newest first."""
    return {
        found.name: f"{_site(port, host)}/experiments/{found.experiment_id}/runs"
        f"?viewStateShareKey={_VIEW}&workflowType=machine_learning"
        for found in client.search_experiments(order_by=["last_update_time DESC"])
        if _VIEW_TAG in found.tags
    }


def _site(port: int, host: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/#"


def page_tags(metric: str) -> dict[str, str]:
    """Tags of an experiment that give its page a view of the held-out metrics.

    MLflow keeps the views that a person saves in such tags, and ignores one that it cannot
    read.

    Parameters
    ----------
    metric
        Name of the metric that the runs are sorted by.
    """
    columns = [f"test/{name}" for name in dict.fromkeys((metric, *_COLUMNS))]
    state = {
        "searchFilter": "tags.stage = 'final'",
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": True,
        "selectedColumns": [f"metrics.`{name}`" for name in columns],
        # The charts of these come first; MLflow adds those of other metrics by the alphabet.
        "compareRunSections": [
            {"uuid": "test", "name": "test", "display": True, "isReordered": True}
        ],
        "compareRunCharts": [
            {
                "type": "BAR",
                "uuid": name,
                "metricKey": name,
                "metricSectionId": "test",
                "deleted": False,
                "isGenerated": True,
            }
            for name in columns
        ],
        "isAccordionReordered": True,
    }
    now = int(1e3 * time.time())
    view = {"name": "Held-out metrics", "createdAt": now, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": f"test/{metric}",
        _VIEW_TAG: json.dumps(view),
    }


def run_colour(estimator: str) -> dict[str, str]:
    """Tag of a run that gives it the colour of its family in every chart."""
    return {"mlflow.runColor": _COLOURS.get(estimator, _OTHER_COLOUR)}


def metrics_table(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], n_test: int
) -> str:
    """Held-out metrics with their intervals, as a table in Markdown."""
    lines = [f"{n_test} held-out galaxies", "", "| metric | value | 95 % |", "|---|---|---|"]
    for name, value in metrics.items():
        ends = " to ".join(f"{end:.4g}" for end in intervals.get(name, ()))
        lines.append(f"| {name} | {value:.4g} | {ends} |")
    return "\n".join(lines)
