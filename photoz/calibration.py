"""Calibration: what is learned from galaxies of known redshift to make p(z) honest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.columns import unmasked
from photoz.conformal import ConformalMap
from photoz.log_score import Truth, assign_folds
from photoz.pdf import FloatArray, RedshiftPDF
from photoz.pit_map import PitMap
from photoz.resolution import blocks
from photoz.temperature import PowerTable, Temperature

__all__ = ["Calibration"]

# The few numbers of a calibration gain nothing from more galaxies.
_MAX_GALAXIES = 50_000
# Wider than any ln β, so that no value is held at the end of a range.
_RANGE = 100.0


@dataclass(frozen=True)
class Calibration:
    """A temperature, then a map of PIT values; each kept only if it improves p(z).

    Parameters
    ----------
    temperature
        Power of p(z); None leaves p(z) as it is.
    pit_map
        Map of the cumulative distribution; None leaves p(z) as it is.
    n_galaxies
        Number of galaxies that it was learned from.
    conformal
        Last map, for coverage that holds for finite samples; None without one.
    """

    temperature: Temperature | None = None
    pit_map: PitMap | None = None
    n_galaxies: int = 0
    conformal: ConformalMap | None = None

    @classmethod
    def fit(
        cls,
        pz: RedshiftPDF,
        z_spec: ArrayLike,
        X: ArrayLike,
        folds: ArrayLike | None = None,
        *,
        magnitude_columns: Sequence[int] = (),
        sample_weight: ArrayLike | None = None,
        reliability: ArrayLike | None = None,
    ) -> Calibration:
        """Learn from densities of galaxies that the estimator has not seen.

        Parameters
        ----------
        pz
            Out-of-fold densities.
        z_spec
            Spectroscopic redshifts of shape ``(n_galaxies,)``.
        X
            Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
        folds
            Label of each galaxy, shape ``(n_galaxies,)``: galaxies of one label stay
            together when a step is judged. Five random folds if left out.
        magnitude_columns
            Columns of X that are magnitudes; their mean is the reference magnitude.
        sample_weight
            Weights of shape ``(n_galaxies,)``; equal if left out.
        reliability
            Probability that each redshift is right, one for all or of shape
            ``(n_galaxies,)``; wrong ones are taken to follow n(z).
        """
        truth = Truth.of(pz, z_spec, sample_weight, reliability)
        masks = assign_folds(len(pz), folds)
        problem = _Problem(pz, truth, _check_features(X, pz), tuple(magnitude_columns))
        if len(pz) > _MAX_GALAXIES:
            rows = np.random.default_rng(0).permutation(len(pz))[:_MAX_GALAXIES]
            problem, masks = problem[rows], [mask[rows] for mask in masks]
        table = PowerTable.of(problem.pz, problem.truth.z_spec)
        temperature, pit_map, _ = problem.judge(masks, table)
        return problem.fit(table, temperature=temperature, pit_map=pit_map)

    @classmethod
    def cross_fit(
        cls,
        pz: RedshiftPDF,
        z_spec: ArrayLike,
        X: ArrayLike,
        folds: ArrayLike | None = None,
        *,
        magnitude_columns: Sequence[int] = (),
        sample_weight: ArrayLike | None = None,
        reliability: ArrayLike | None = None,
    ) -> RedshiftPDF:
        """Calibrate each fold with what was learned from the others.

        Takes the arguments of `fit`. No galaxy has a part in its own calibration, so the
        densities that come back may be scored with `z_spec`: but for the two decisions
        whether to take a step at all, which all galaxies make together.
        """
        truth = Truth.of(pz, z_spec, sample_weight, reliability)
        problem = _Problem(pz, truth, _check_features(X, pz), tuple(magnitude_columns))
        table = PowerTable.of(pz, truth.z_spec)
        return problem.judge(assign_folds(len(pz), folds), table)[-1]

    def apply(self, pz: RedshiftPDF, X: ArrayLike) -> RedshiftPDF:
        """Calibrate densities, each by itself.

        Parameters
        ----------
        pz
            Densities to calibrate.
        X
            Features of the same galaxies, shape ``(n_galaxies, n_features)``.
        """
        features = _check_features(X, pz)
        if self.temperature is None and self.pit_map is None and self.conformal is None:
            return pz
        density = np.empty_like(pz.density)
        for rows in blocks(pz):
            block = pz.density[rows]
            if self.temperature is not None:
                block = self.temperature.apply(block, pz.step, features[rows])
            if self.pit_map is not None:
                block = self.pit_map.apply(block, pz.step)
            if self.conformal is not None:
                block = self.conformal.apply(block, pz.step)
            density[rows] = block
        return RedshiftPDF(pz.z_grid, density)

    def known_log_beta(self, X: ArrayLike) -> NDArray[np.float64]:
        """Part of ln β, the logarithm of the power, that does not depend on the density.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``.

        Returns
        -------
        ndarray of shape (n_galaxies,)
            0 without a temperature.
        """
        features = np.asarray(unmasked(X), dtype=np.float64)
        if self.temperature is None:
            return np.zeros(len(features))
        average = np.full(len(features), self.temperature.centres[1])
        covariates = self.temperature.covariates(features, average)
        return np.asarray(covariates @ self.temperature.coefficients)

    def reduced(self) -> Calibration:
        """The same calibration, of which the only feature is `known_log_beta`."""
        if self.temperature is None:
            return self
        only = replace(
            self.temperature,
            coefficients=(0.0, _RANGE, self.temperature.coefficients[2]),
            columns=(0,),
            column_centres=(0.0,),
            centres=(0.0, self.temperature.centres[1]),
            scales=(_RANGE, self.temperature.scales[1]),
            missing=(),
        )
        return replace(self, temperature=only)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was learned, as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Rebuild what `to_dict` described."""
        steps: dict[str, Any] = {"temperature": Temperature, "pit_map": PitMap}
        built = {
            name: None
            if content[name] is None
            else step(**{key: tuple(values) for key, values in content[name].items()})
            for name, step in steps.items()
        }
        conformal = content.get("conformal")  # calibrations of earlier releases have none
        return cls(
            **built,
            n_galaxies=content["n_galaxies"],
            conformal=ConformalMap.from_dict(conformal) if conformal else None,
        )


@dataclass(frozen=True, eq=False)
class _Problem:
    """Densities and what is known of their galaxies."""

    pz: RedshiftPDF
    truth: Truth
    X: FloatArray
    columns: tuple[int, ...]

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> _Problem:
        return replace(self, pz=self.pz[rows], truth=self.truth[rows], X=self.X[rows])

    def fit(self, table: PowerTable, *, temperature: bool, pit_map: bool) -> Calibration:
        """Fit the steps that are asked for, the second on what the first one leaves."""
        fitted = Calibration(n_galaxies=len(self.truth))
        if temperature:
            step = Temperature.fit(table, self.truth, self.X, self.columns)
            fitted = replace(fitted, temperature=step)
        if pit_map:
            current = fitted.apply(self.pz, self.X)
            fitted = replace(fitted, pit_map=PitMap.fit(current, self.truth))
        return fitted

    def judge(
        self, masks: Sequence[NDArray[np.bool_]], table: PowerTable
    ) -> tuple[bool, bool, RedshiftPDF]:
        """Whether each step improves the log score of folds that it was not learned from.

        Returns
        -------
        bool
            Whether the temperature does.
        bool
            Whether the map does, after the temperature if that does.
        RedshiftPDF
            The densities of each fold, calibrated without that fold.
        """
        kept = {"temperature": False, "pit_map": False}
        best = self.pz
        for step in kept:
            trial = {**kept, step: True}
            density = np.empty_like(self.pz.density)
            for mask in masks:
                fitted = self[~mask].fit(table[~mask], **trial)
                density[mask] = fitted.apply(self.pz[mask], self.X[mask]).density
            candidate = RedshiftPDF(self.pz.z_grid, density)
            if self._score(candidate) > self._score(best):
                best, kept = candidate, trial
        return kept["temperature"], kept["pit_map"], best

    def _score(self, pz: RedshiftPDF) -> float:
        return float(self.truth.log_score(pz.at(self.truth.z_spec)).mean())


def _check_features(X: ArrayLike, pz: RedshiftPDF) -> FloatArray:
    features = np.asarray(unmasked(X), dtype=np.float64)
    if features.ndim != 2 or len(features) != len(pz):
        msg = f"X must have shape ({len(pz)}, n_features), got {features.shape}."
        raise ValueError(msg)
    return features
