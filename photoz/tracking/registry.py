"""Registry: which version of a registered model is the champion, and on what grounds."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from photoz.bootstrap import Losses, compare
from photoz.errors import without_password

__all__ = [
    "ROW_LOSSES",
    "Verdict",
    "promote",
    "register",
    "row_losses",
]

PREFIX = "photoz-"
"""Begins the name of every registered model."""

CHAMPION = "champion"
"""Alias of the version that is in use."""

CHALLENGER = "challenger"
"""Alias of the newest version that has not been shown to be better than the champion."""

VERSION_TAG = "photoz_version"
"""Tag of every run of this package."""

METRIC_TAG = "metric"
"""Tag of a run that names the metric of its search: models are compared by it."""

ROW_LOSSES = "out_of_fold.parquet"
"""Artifact of a run that holds the losses of single galaxies."""

_LOSSES = ("log_loss", "cde_loss", "crps")
_FEWEST_SHARED = 500
_PROBABILITY = 0.95
# Rank correlation of two models' losses of the same galaxies, .55 and more of any two families on
# the named sets; of 500 other galaxies it scatters by .045 about 0.
_SAME_GALAXIES = 0.1
_LONGEST_DESCRIPTION = 5000


@dataclass(frozen=True)
class Verdict:
    """What was decided of a version of a registered model.

    Parameters
    ----------
    model, version
        Name of the registered model, and the version.
    alias
        ``champion`` or ``challenger``.
    grounds
        Why, in one sentence with the figures.
    """

    model: str
    version: str
    alias: str
    grounds: str

    def __str__(self) -> str:
        return f"{self.model} version {self.version}, {self.alias}: {self.grounds}."

    def to_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def row_losses(ids: NDArray[np.str_], losses: Losses, groups: NDArray[Any] | None = None) -> bytes:
    """Losses of single galaxies, to compare models with that were fitted at other times.

    Parameters
    ----------
    ids
        Identities of the galaxies, shape ``(n_galaxies,)``.
    losses
        Their losses by fits that have not seen them.
    groups
        What a bootstrap resamples, shape ``(n_galaxies,)``; None for single galaxies.

    Returns
    -------
    bytes
        A Parquet file.
    """
    columns: dict[str, Any] = {"id": ids}
    columns |= {name: getattr(losses, name).astype(np.float32) for name in _LOSSES}
    file = pa.BufferOutputStream()
    table = pa.table(columns if groups is None else {**columns, "group": groups})
    pq.write_table(table, file, compression="zstd")
    return bytes(file.getvalue())


def register(
    client: MlflowClient, name: str, model_id: str, *, run_id: str, family: str, description: str
) -> str:
    """Make a logged model the newest version of a registered model.

    Parameters
    ----------
    client
        Client of the current store.
    name
        Name of the registered model, made where there is none.
    model_id, run_id
        The logged model, and its run.
    family
        Name of the estimator.
    description
        What the registry shows beside the version.

    Returns
    -------
    str
        The version.
    """
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id,
        tags={"family": family},
        description=description,
        model_id=model_id,
    )
    # A server sets the tag by itself; without one, the page of the model would lack its version.
    versions = json.dumps([{"name": name, "version": made.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})
    return str(made.version)


def promote(client: MlflowClient, name: str, version: str, *, by_hand_of: str = "") -> Verdict:
    """Make a version the champion if it is shown to be better, else the challenger.

    The losses of the version and of the champion are joined by the identities of galaxies
    that neither fit has seen, and their difference is resampled. The version is better where
    at least 500 galaxies are shared and it is better in 95 per cent of the resamples. Where
    the losses of the two have nothing to do with each other, the identities name other
    galaxies, and nothing is shown. The first version is the champion.

    Parameters
    ----------
    client
        Client of the current store.
    name, version
        The registered model, and the version.
    by_hand_of
        Who makes it the champion whatever the comparison would say; compared if empty.

    Returns
    -------
    Verdict
        What was done, which the descriptions of the versions then tell.
    """
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if str(champion) == version:
        return Verdict(name, version, CHAMPION, "the champion already")
    if by_hand_of:
        verdict = Verdict(name, version, CHAMPION, f"by hand of {by_hand_of}")
    elif champion is None:
        verdict = Verdict(name, version, CHAMPION, "the first one")
    else:
        is_better, grounds = _compare(client, name, version, str(champion))
        verdict = Verdict(name, version, CHAMPION if is_better else CHALLENGER, grounds)
    _set_alias(client, verdict)
    return verdict


def _compare(client: MlflowClient, name: str, version: str, champion: str) -> tuple[bool, str]:
    """Whether a version is better than the champion for sure, and the figures."""
    run = client.get_run(client.get_model_version(name, version).run_id)
    metric = run.data.tags.get(METRIC_TAG)
    loss = metric if metric in _LOSSES else "log_loss"
    tables = []
    for number in (version, champion):
        found = _read_row_losses(client, client.get_model_version(name, number).run_id)
        if found is None:
            return False, f"version {number} has no losses of single galaxies to compare by"
        tables.append(found)
    shared = tables[0].merge(tables[1], on="id", suffixes=("", "_champion"))
    if len(shared) < _FEWEST_SHARED:
        return False, (
            f"version {champion} shares {len(shared)} out-of-fold galaxies with it, at least "
            f"{_FEWEST_SHARED} are needed"
        )
    related = shared[loss].corr(shared[f"{loss}_champion"], method="spearman")
    if not related >= _SAME_GALAXIES:
        return False, (
            f"{len(shared)} identities are shared with version {champion}, but their losses are "
            f"unrelated (rank correlation {related:.2f}): they seem to name other galaxies"
        )
    result = compare(
        shared[loss],
        shared[f"{loss}_champion"],
        groups=shared["group"].to_numpy() if "group" in shared else None,
    )
    return result.probability_better >= _PROBABILITY, (
        f"{loss} {result.difference:+.4g} (95 %: {result.low:+.4g} to {result.high:+.4g}) "
        f"against version {champion} on {len(shared)} shared out-of-fold galaxies, better with "
        f"probability {result.probability_better:.3f}"
    )


def _set_alias(client: MlflowClient, verdict: Verdict) -> None:
    """Give a version its alias, and write the grounds into its description."""
    name, version = verdict.model, verdict.version
    aliases = client.get_registered_model(name).aliases
    if verdict.alias == CHAMPION:
        if str(aliases.get(CHALLENGER)) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        if CHAMPION in aliases:
            replaced = f"replaced as champion by version {version}"
            _note(client, name, str(aliases[CHAMPION]), replaced)
    client.set_registered_model_alias(name, verdict.alias, version)
    _note(client, name, version, f"{verdict.alias}: {verdict.grounds}")


def _read_row_losses(client: MlflowClient, run_id: str) -> pd.DataFrame | None:
    """Losses of a run by identity, the mean where one occurs twice; None if it has none."""
    try:
        # Where MLflow is not told where to, it leaves a folder behind for good.
        with tempfile.TemporaryDirectory(prefix="photoz-") as folder:
            table = pd.read_parquet(client.download_artifacts(run_id, ROW_LOSSES, folder))
    except (MlflowException, OSError):
        return None
    by_id: pd.DataFrame = table.groupby("id", as_index=False).mean()
    return by_id


def _note(client: MlflowClient, name: str, version: str, text: str) -> None:
    """Put a dated line above the description of a version."""
    line = f"{datetime.now(UTC):%Y-%m-%d} {without_password(text)}."
    before = client.get_model_version(name, version).description or ""
    description = f"{line}\n\n{before}"[:_LONGEST_DESCRIPTION]
    client.update_model_version(name, version, description=description)
