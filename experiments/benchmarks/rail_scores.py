"""What a benchmark's task leaves behind: losses of every galaxy, densities, costs."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from photoz.evaluation import Losses, losses
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["Cost", "leave_one_out", "load_losses", "peak_mb", "read_cost", "write_scores"]

DENSITY, LOSSES, COST = "density.npy", "losses.npz", "cost.json"


@dataclass(frozen=True)
class Cost:
    """What a fit and its prediction took, on one thread.

    Parameters
    ----------
    fit_seconds
        CPU seconds of the fit.
    learn_seconds
        CPU seconds of all that leads from parameters to a model that can be used, the fit
        included: for this package also the five folds and the calibration.
    galaxies_per_second
        Galaxies per CPU second of the prediction.
    peak_mb
        Largest resident memory of the process.
    model_mb
        Size of the model's files.
    """

    fit_seconds: float
    learn_seconds: float
    galaxies_per_second: float
    peak_mb: float
    model_mb: float


def write_scores(
    folder: Path, pz: RedshiftPDF, z_spec: FloatArray, cost: Cost, parameters: dict[str, Any]
) -> None:
    """Keep the density, the losses of each galaxy and, last, the cost, which marks the end.

    Parameters
    ----------
    folder
        Folder of the task.
    pz
        Densities of the held-out galaxies.
    z_spec
        Their redshifts, shape ``(n_galaxies,)``.
    cost, parameters
        What the fit took and what it was.
    """
    np.save(folder / DENSITY, pz.density)
    save_losses(folder / LOSSES, losses(z_spec, pz))
    text = json.dumps({"cost": asdict(cost), "parameters": parameters}, indent=1, default=float)
    (folder / COST).write_text(text, encoding="utf-8")


def save_losses(path: Path, table: Losses) -> None:
    """Write losses, to be read by `load_losses`."""
    np.savez(path, **{each.name: getattr(table, each.name) for each in fields(Losses)})


def load_losses(path: Path) -> Losses:
    """Read what `save_losses` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return Losses(**{each.name: stored[each.name] for each in fields(Losses)})


def read_cost(folder: Path) -> tuple[Cost, dict[str, Any]]:
    """Cost and parameters of a finished task."""
    stored = json.loads((folder / COST).read_text(encoding="utf-8"))
    return Cost(**stored["cost"]), stored["parameters"]


def leave_one_out(z_grid: FloatArray, densities: list[FloatArray]) -> Iterator[RedshiftPDF]:
    """Averages of all densities but one, leaving out each in turn.

    Parameters
    ----------
    z_grid
        Their grid, shape ``(n_z,)``.
    densities
        Densities of the same galaxies by fits of several seeds, each of shape
        ``(n_galaxies, n_z)``.
    """
    total = np.sum(densities, axis=0)
    for density in densities:
        # Rounding may leave a tiny negative where only one fit sees a probability.
        yield RedshiftPDF.from_weights(z_grid, np.maximum(total - density, 0))


def peak_mb() -> float:
    """Largest resident memory of this process so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
