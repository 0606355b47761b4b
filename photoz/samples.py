"""Samples: an experiment's galaxies of known redshift, read and split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.catalogue import Catalogue, find_files, read
from photoz.columns import as_numbers
from photoz.conformal import check_enough
from photoz.datasets import DATASETS, fetch
from photoz.errors import InputError
from photoz.identity import uniform
from photoz.pdf import FloatArray
from photoz.photometry import State
from photoz.sample import FittedSamples, Sample
from photoz.settings import Experiment
from photoz.split import add_counts, check_parts, folds, split
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
    kept
        Further galaxies that neither search, fit nor calibration sees, for conformal coverage;
        None without it.
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
    kept: Sample | None = None

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
            **({} if self.kept is None else {"n_conformal": len(self.kept)}),
        }

    def describe(self) -> str:
        """Bands with the states of their measurements, rows left out and sizes, as text."""
        parts = [part for part in (self.fitted, self.kept, self.test) if part is not None]
        state = np.concatenate([part.photometry.state for part in parts])
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
            f"{part}: {summary[f'n_{part}']} rows"
            for part in ("train", "validation", "conformal", "test")
            if f"n_{part}" in summary
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
    known = np.sort(np.concatenate([parts.train, parts.validation]))
    is_kept = _keep(experiment, parts.groups[known])
    rows = known[~is_kept]
    is_validation = np.isin(rows, parts.validation)
    left = {"train": rows[~is_validation], "validation": rows[is_validation], "test": parts.test}
    check_parts(left, {**parts.dropped, "kept for conformal coverage": int(is_kept.sum())})
    tested = (official or catalogue)[parts.test]
    samples = Samples(
        fitted=_fitted(experiment, catalogue[rows]),
        is_validation=is_validation,
        folds=folds(parts.groups[rows], n_folds=_N_FOLDS, seed=experiment.seed),
        fitted_id=parts.identities[rows],
        fitted_groups=None if experiment.split.by == "random" else parts.groups[rows],
        test=_sample(experiment, tested),
        test_id=tested.object_id,
        test_groups=parts.test_groups,
        survey=survey,
        dropped=add_counts(parts.dropped, catalogue.dropped, official.dropped if official else {}),
        implausible=add_counts(catalogue.implausible, official.implausible if official else {}),
        sha256=_hash_files([*train_paths, *test_paths]),
        split_sha256=parts.sha256,
        is_simulated=is_simulated,
        kept=_sample(experiment, catalogue[known[is_kept]]) if is_kept.any() else None,
    )
    return replace(samples, survey=samples.with_depths(survey))


def _find(experiment: Experiment, data: Path) -> tuple[list[Path], list[Path], bool]:
    """Files of the catalogue and of its official test part, and whether they are simulated."""
    table = experiment.catalogue
    named = [experiment.directory / path for path in table.test_path or ()]
    test_paths = find_files(named) if named else []
    if table.dataset is None:
        paths = [experiment.directory / path for path in table.path or ()]
        return find_files(paths), test_paths, False
    files = fetch(table.dataset, data)
    if not test_paths and files.test is not None:
        test_paths = [files.test]
    simulated = "simulated" in DATASETS[table.dataset].description.lower()
    return [files.train], test_paths, simulated


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
        reliability = _numbers(catalogue, table.reliability, highest=1)
    elif table.reliability is not None and table.reliability < 1:
        reliability = np.full(len(catalogue), table.reliability)
    return Sample(
        catalogue.photometry,
        np.asarray(catalogue.z_spec, dtype=np.float64),
        None if table.weight is None else _numbers(catalogue, table.weight),
        reliability,
    )


def _numbers(catalogue: Catalogue, column: str, *, highest: float = np.inf) -> FloatArray:
    """A column of numbers from 0 up."""
    numbers = np.asarray(as_numbers(catalogue.extra[column], column), dtype=np.float64)
    n_wrong = int((~(np.isfinite(numbers) & (numbers >= 0) & (numbers <= highest))).sum())
    if n_wrong:
        upper = "" if highest == np.inf else f" to {highest:g}"
        msg = (
            f"column {column!r} must hold finite numbers from 0{upper}, found {n_wrong} rows "
            "without; mend it or drop such rows."
        )
        raise InputError(msg)
    return numbers


def _fitted(experiment: Experiment, catalogue: Catalogue) -> Sample:
    """Galaxies to fit, some of which must count, and be observed in every band."""
    sample = _sample(experiment, catalogue)
    for name in ("weight", "reliability"):
        values = getattr(sample, name)
        if values is not None and not values.any():
            msg = (
                f"expected galaxies of {name} above 0 to fit, found none in the column "
                f"{getattr(experiment.catalogue, name)!r}; mend it or leave {name} out."
            )
            raise InputError(msg)
    unobserved = sample.photometry[sample.counts].unobserved_bands
    if unobserved:
        msg = (
            "expected galaxies to fit that were observed in every band, found none in "
            f"{', '.join(unobserved)}; bring such galaxies or a survey without such bands."
        )
        raise InputError(msg)
    return sample


def _keep(experiment: Experiment, groups: NDArray[Any]) -> NDArray[np.bool_]:
    """Galaxies kept for conformal coverage; groups of the split stay together."""
    share = experiment.calibration.conformal
    is_kept = np.asarray(uniform(groups, f"folds {experiment.seed + 1}") < share, dtype=np.bool_)
    if share > 0:
        check_enough(int(is_kept.sum()))
    return is_kept


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
