"""Samples: an experiment's galaxies of known redshift, read and split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.catalogue import Catalogue, find_files, read
from photoz.datasets import DATASETS, fetch
from photoz.errors import InputError
from photoz.pdf import FloatArray
from photoz.photometry import State
from photoz.sample import FittedSamples, Sample
from photoz.settings import Experiment
from photoz.split import Split, folds, split
from photoz.survey import Survey

__all__ = ["Samples", "load_samples"]

_N_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Samples(FittedSamples):
    """The parts of an experiment's galaxies.

    Parameters
    ----------
    fitted, is_validation, folds
        As in `FittedSamples`.
    fitted_id
        Identity of each of them as text, shape ``(n_fitted,)``: its declared id, else a hash
        of its photometry and redshift.
    fitted_groups
        What a bootstrap of them resamples, shape ``(n_fitted,)``; None for single galaxies.
    test
        Held-out galaxies, for the final number only.
    test_id
        Their ids, shape ``(n_test,)``.
    test_groups
        What a bootstrap of the test galaxies resamples, shape ``(n_test,)``; None for
        single galaxies.
    survey
        Survey of the photometry.
    dropped
        Rows left out, by reason.
    implausible
        Measurements taken as not observed, by reason.
    sha256
        Of the catalogue files.
    split_sha256
        Of the sorted lines ``id,part``.
    is_simulated
        Whether the galaxies are simulated, where that is known.
    is_kept
        Which of the fitted galaxies the final fit does not see, for conformal coverage; shape
        ``(n_fitted,)``.
    """

    fitted_id: NDArray[np.str_]
    fitted_groups: NDArray[Any] | None
    test: Sample
    test_id: NDArray[Any]
    test_groups: NDArray[Any] | None
    survey: Survey
    dropped: dict[str, int]
    implausible: dict[str, int]
    sha256: str
    split_sha256: str
    is_simulated: bool
    is_kept: NDArray[np.bool_]

    @property
    def final(self) -> Sample:
        """Galaxies of the final fit."""
        return self.fitted[~self.is_kept]

    @property
    def kept(self) -> Sample:
        """Galaxies that no fit of the final model sees, for conformal coverage."""
        return self.fitted[self.is_kept]

    def summary(self) -> dict[str, Any]:
        """Sizes, rows left out and hash, as the report holds them."""
        return {
            "n_train": int((~self.is_validation).sum()),
            "n_validation": int(self.is_validation.sum()),
            "n_test": len(self.test),
            "n_test_off_grid": int((self.test.z_spec > self.z_max).sum()),
            "dropped": self.dropped,
            "implausible": self.implausible,
            "sha256": self.sha256,
            "simulated": self.is_simulated,
            **({"n_conformal": int(self.is_kept.sum())} if self.is_kept.any() else {}),
        }

    def describe(self) -> str:
        """Bands with the states of their measurements, rows left out and sizes, as text."""
        state = np.concatenate([self.fitted.photometry.state, self.test.photometry.state])
        lines = ["band      detected  not detected  not observed"]
        for band, column in zip(self.survey.bands, state.T, strict=True):
            counts = [
                int((column == value).sum())
                for value in (State.DETECTED, State.NOT_DETECTED, State.NOT_OBSERVED)
            ]
            lines.append("{:<8}{:>10}{:>14}{:>14}".format(band, *counts))
        summary = self.summary()
        lines += [f"{reason}: {count} rows left out" for reason, count in self.dropped.items()]
        lines += [f"{reason}: {count} measurements" for reason, count in self.implausible.items()]
        lines += [
            f"{part}: {summary[f'n_{part}']} rows" for part in ("train", "validation", "test")
        ]
        return "\n".join(lines)


def load_samples(experiment: Experiment, data: Path = Path("data")) -> Samples:
    """Read and split the galaxies of an experiment.

    Parameters
    ----------
    experiment
        Which catalogue, survey and split.
    data
        Where named data sets are kept.

    Raises
    ------
    InputError
        If the catalogue cannot be used.
    """
    survey = experiment.load_survey()
    train_paths, test_paths, is_simulated = _find(experiment, data)
    catalogue = _read(experiment, survey, train_paths)
    official = _read(experiment, survey, test_paths) if test_paths else None
    parts = split(
        catalogue,
        declared_ids=survey.id is not None,
        by=experiment.split.by,
        validation=experiment.split.validation,
        test=experiment.split.test,
        cell_degrees=experiment.split.cell_degrees,
        seed=experiment.seed,
        official_test=official,
    )
    rows = np.sort(np.concatenate([parts.train, parts.validation]))
    tested = (official or catalogue)[parts.test]
    return Samples(
        fitted=_sample(experiment, catalogue[rows]),
        is_validation=np.isin(rows, parts.validation),
        folds=folds(parts.groups[rows], n_folds=_N_FOLDS, seed=experiment.seed),
        fitted_id=parts.identities[rows],
        fitted_groups=None if experiment.split.by == "random" else parts.groups[rows],
        test=_sample(experiment, tested),
        test_id=_ids(tested, parts),
        test_groups=parts.test_groups,
        survey=survey,
        dropped=_add(parts.dropped, catalogue.dropped, official.dropped if official else {}),
        implausible=_add(catalogue.implausible, official.implausible if official else {}),
        sha256=_hash_files([*train_paths, *test_paths]),
        split_sha256=parts.sha256,
        is_simulated=is_simulated,
        is_kept=_keep(experiment, parts.groups[rows]),
    )


def _find(experiment: Experiment, data: Path) -> tuple[list[Path], list[Path], bool]:
    """Files of the catalogue and of its official test part, and whether they are simulated."""
    table = experiment.catalogue
    if table.dataset is not None:
        files = fetch(table.dataset, data)
        simulated = "simulated" in DATASETS[table.dataset].description.lower()
        return [files.train], [files.test] if files.test else [], simulated
    paths = [experiment.directory / path for path in table.path or ()]
    test_paths = [experiment.directory / path for path in table.test_path or ()]
    return find_files(paths), find_files(test_paths) if test_paths else [], False


def _read(experiment: Experiment, survey: Survey, paths: list[Path]) -> Catalogue:
    table = experiment.catalogue
    by = experiment.split.by
    wanted = [table.weight, table.reliability, None if by in {"random", "sky"} else by]
    columns = [name for name in wanted if isinstance(name, str)]
    return read(paths, survey, columns=columns, where=table.where, training=True)


def _sample(experiment: Experiment, catalogue: Catalogue) -> Sample:
    table = experiment.catalogue
    reliability: FloatArray | None = None
    if isinstance(table.reliability, str):
        reliability = _numbers(catalogue, table.reliability)
    elif table.reliability is not None and table.reliability < 1:
        reliability = np.full(len(catalogue), table.reliability)
    return Sample(
        catalogue.photometry,
        np.asarray(catalogue.z_spec, dtype=np.float64),
        None if table.weight is None else _numbers(catalogue, table.weight),
        reliability,
    )


def _numbers(catalogue: Catalogue, column: str) -> FloatArray:
    values = catalogue.extra[column]
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except ValueError as error:
        msg = f"column {column!r} must hold numbers ({error}); mend it or leave it out."
        raise InputError(msg) from error
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        msg = f"column {column!r} must hold finite numbers from 0; mend it or drop such rows."
        raise InputError(msg)
    return numbers


def _keep(experiment: Experiment, groups: NDArray[Any]) -> NDArray[np.bool_]:
    """Galaxies kept out of the final fit; groups of the split stay together."""
    share = experiment.calibration.conformal
    if share == 0:
        return np.zeros(len(groups), dtype=np.bool_)
    first = folds(groups, n_folds=round(1 / share), seed=experiment.seed + 1) == 0
    return np.asarray(first, dtype=np.bool_)


def _ids(catalogue: Catalogue, parts: Split) -> NDArray[Any]:
    return parts.test if catalogue.object_id is None else catalogue.object_id


def _add(*counts: dict[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in counts:
        for reason, count in part.items():
            total[reason] = total.get(reason, 0) + count
    return {reason: count for reason, count in total.items() if count}


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
