"""Cosines of the redshift's rank: what the forest's splits look at, and their regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray

__all__ = ["CosineRegression", "cosines_of_rank"]

_PENALTY = 3.0
_CLIP = 5.0
_FOLDS = 5
_BLOCK = 8192
# Beyond this number of features the products would be thousands of terms.
_MOST_PRODUCTS = 40


def cosines_of_rank(z_spec: FloatArray, n_cosines: int) -> FloatArray:
    """First cosines of each redshift's rank, shape ``(n_galaxies, n_cosines)``.

    Their expectation at given photometry is the cosine series of p(z) in the rank.
    """
    _, rank = np.unique(z_spec, return_inverse=True)
    share = (rank + 0.5) / (rank.max() + 1)
    cosines: FloatArray = np.cos(np.pi * np.outer(share, np.arange(1, n_cosines + 1)))
    return cosines


@dataclass(frozen=True)
class CosineRegression:
    """Ridge regression of the cosines on the features, their squares and their products.

    Parameters
    ----------
    centre, scale
        Mean and standard deviation of each feature, both of shape ``(n_features,)``.
    flagged
        Features whose absence is a term of its own, shape ``(n_features,)``.
    coefficients
        Of the terms and the constant, shape ``(n_terms, n_cosines)``.
    """

    centre: FloatArray
    scale: FloatArray
    flagged: NDArray[np.bool_]
    coefficients: FloatArray

    @classmethod
    def fit(
        cls,
        X: NDArray[np.float32],
        target: FloatArray,
        weight: FloatArray,
        group: NDArray[np.intp],
    ) -> tuple[CosineRegression, NDArray[np.float32]]:
        """Learn the regression, and predict each row from a fit that has not seen its group.

        Parameters
        ----------
        X
            Features of shape ``(n_rows, n_features)``, NaN where not observed.
        target
            Cosines of shape ``(n_rows, n_cosines)``.
        weight
            Positive weights of shape ``(n_rows,)``.
        group
            Number of the galaxy that each row shows, shape ``(n_rows,)``.

        Returns
        -------
        CosineRegression
        ndarray of shape (n_rows, n_cosines)
            Predictions for the rows themselves. In small sets a fit knows its own rows too
            well, and trees would believe it.
        """
        seen = ~np.isnan(X).all(axis=0)
        centre, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        centre[seen] = np.nanmean(X[:, seen], axis=0, dtype=np.float64)
        scale[seen] = np.nanstd(X[:, seen], axis=0, dtype=np.float64)
        scale[scale <= 0] = 1
        flagged: NDArray[np.bool_] = np.asarray(np.isnan(X).any(axis=0))
        empty = cls(centre, scale, flagged, np.empty((0, target.shape[1])))
        fold = np.random.default_rng(0).permutation(int(group.max()) + 1)[group] % _FOLDS
        sums = [empty._sums(X, target, weight, np.flatnonzero(fold == k)) for k in range(_FOLDS)]
        gram, moment = (sum(part) for part in zip(*sums, strict=True))
        predicted = np.empty(target.shape, dtype=np.float32)
        for k, (fold_gram, fold_moment) in enumerate(sums):
            coefficients = _solve(gram - fold_gram, moment - fold_moment)
            other = cls(centre, scale, flagged, coefficients)
            predicted[fold == k] = other.predict(X[fold == k])
        return cls(centre, scale, flagged, _solve(gram, moment)), predicted

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Expected cosines of galaxies, shape ``(n_galaxies, n_cosines)``."""
        predicted = np.empty((len(X), self.coefficients.shape[1]), dtype=np.float32)
        for begin in range(0, len(X), _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            predicted[rows] = self._terms(X[rows]) @ self.coefficients
        return predicted

    def _terms(self, X: NDArray[np.float32]) -> FloatArray:
        scaled = np.clip((X - self.centre) / self.scale, -_CLIP, _CLIP)
        missing = np.isnan(scaled)
        scaled[missing] = 0
        blocks = [np.ones((len(X), 1)), scaled, missing[:, self.flagged].astype(np.float64)]
        if X.shape[1] <= _MOST_PRODUCTS:
            first, second = np.triu_indices(X.shape[1])
            blocks.append(scaled[:, first] * scaled[:, second])
        return np.concatenate(blocks, axis=1)

    def _sums(
        self,
        X: NDArray[np.float32],
        target: FloatArray,
        weight: FloatArray,
        rows: NDArray[np.intp],
    ) -> tuple[FloatArray, FloatArray]:
        """Normal equations of some rows, block by block to bound the memory."""
        n_terms = self._terms(X[:1]).shape[1]
        gram, moment = np.zeros((n_terms, n_terms)), np.zeros((n_terms, target.shape[1]))
        for begin in range(0, len(rows), _BLOCK):
            part = rows[begin : begin + _BLOCK]
            terms = self._terms(X[part])
            weighted = terms * weight[part, np.newaxis]
            gram += weighted.T @ terms
            moment += weighted.T @ target[part]
        return gram, moment


def _solve(gram: FloatArray, moment: FloatArray) -> FloatArray:
    penalty = np.full(len(gram), _PENALTY)
    # The constant is free, but for what keeps the equations solvable without any row.
    penalty[0] = 1e-6
    solution: FloatArray = np.linalg.solve(gram + np.diag(penalty), moment)
    return solution
