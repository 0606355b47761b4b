"""Linear leaves: the terms of features, the Newton steps of leaves, and their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray

__all__ = ["Scaling", "add_steps", "newton_steps"]

_ROWS_TO_SCALE = 100_000
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Scaling:
    """Range, centre and scale of every feature.

    Parameters
    ----------
    table
        Rows low, high, centre and scale, shape ``(4, n_features)``.
    """

    table: NDArray[np.float64]

    @classmethod
    def learn(cls, X: NDArray[np.float32]) -> Self:
        """Learn from features of shape ``(n_galaxies, n_features)``, NaN where not observed."""
        some = X[:: -(-len(X) // _ROWS_TO_SCALE)].astype(np.float64)
        some[:, np.isnan(some).all(axis=0)] = 0
        low, centre, high = np.nanquantile(some, [0.005, 0.5, 0.995], axis=0)
        scale = np.nanstd(np.clip(some, low, high), axis=0)
        return cls(np.stack([low, high, centre, np.where(scale > 0, scale, 1)]))

    def terms(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scaled features after a column of ones, shape ``(n_galaxies, 1 + n_features)``.

        Beyond the range of nearly all training galaxies a feature is cut off, since a
        linear function would go anywhere; where not observed it is 0, its centre.
        """
        low, high, centre, scale = self.table
        scaled = (np.clip(X, low, high) - centre) / scale
        return np.concatenate([np.ones((len(X), 1)), np.nan_to_num(scaled, nan=0)], axis=1)


def newton_steps(
    terms: FloatArray,
    gradient: FloatArray,
    curvature: FloatArray,
    leaf: NDArray[np.int16],
    *,
    n_leaves: int,
    ridge: float,
) -> NDArray[np.float64]:
    """Regularised Newton step of each leaf, linear in the terms, for every score at once.

    Parameters
    ----------
    terms
        Shape ``(n_galaxies, n_terms)``, the first of them 1.
    gradient, curvature
        Of the loss in every score, shape ``(n_scores, n_galaxies)``.
    leaf
        Leaf of each galaxy, shape ``(n_galaxies,)``.
    n_leaves
        Number of leaves; those without galaxies get no step.
    ridge
        Penalty on slopes, in galaxies of mean curvature; that on the constant is 1.

    Returns
    -------
    ndarray of shape (n_leaves, n_scores, n_terms)
    """
    n_terms = terms.shape[1]
    penalty = np.diag(np.append(1.0, np.full(n_terms - 1, ridge)))
    steps = np.zeros((n_leaves, len(gradient), n_terms))
    for index in range(n_leaves):
        rows = np.flatnonzero(leaf == index)
        if len(rows) == 0:
            continue
        # Values of a leaf lie side by side: most time goes into the products of terms.
        x, g, h = np.ascontiguousarray(terms[rows].T), gradient[:, rows], curvature[:, rows]
        gram = _weighted_products(x, h)
        gram += np.maximum(h.mean(axis=1), 1e-9)[:, np.newaxis, np.newaxis] * penalty
        steps[index] = np.linalg.solve(gram, -(g @ x.T)[..., np.newaxis])[..., 0]
    return steps


def add_steps(
    scores: FloatArray, terms: FloatArray, leaf: NDArray[np.int16], steps: FloatArray
) -> None:
    """Add the linear function of each galaxy's leaf to its scores, in place.

    Parameters
    ----------
    scores
        Shape ``(n_galaxies, n_scores)``.
    terms, leaf, steps
        As in `newton_steps`.
    """
    order = np.argsort(leaf, kind="stable")
    ends = np.cumsum(np.bincount(leaf, minlength=len(steps)))
    for index, end in enumerate(ends):
        rows = order[ends[index - 1] if index else 0 : end]
        if len(rows):
            scores[rows] += terms[rows] @ steps[index].T


def _weighted_products(x: FloatArray, weight: FloatArray) -> NDArray[np.float64]:
    """Sums of weight times the product of two terms, ``(n_weights, n_terms, n_terms)``."""
    n_terms = len(x)
    first, second = np.triu_indices(n_terms)
    sums = np.zeros((len(first), len(weight)))
    # Blocks that stay in the processor's cache take half the time.
    for start in range(0, x.shape[1], _BLOCK):
        block = x[:, start : start + _BLOCK]
        products = np.concatenate([block[i] * block[i:] for i in range(n_terms)])
        sums += products @ weight[:, start : start + _BLOCK].T
    full = np.empty((len(weight), n_terms, n_terms))
    full[:, first, second] = full[:, second, first] = sums.T
    return full
