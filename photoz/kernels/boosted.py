"""Boosted trees with linear leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part

__all__ = ["Rounds", "boost"]


class Rounds(NamedTuple):
    """Rounds of boosting: of each the inner nodes of a tree, and what its leaves add.

    Parameters
    ----------
    feature, threshold
        A galaxy whose feature is above the threshold goes to the second child, shape
        ``(n_rounds, n_nodes)``.
    missing
        The child, 0 or 1, of galaxies that have no such feature, same shape.
    child
        Inner node, or -1 - leaf, shape ``(n_rounds, n_nodes, 2)``.
    coefficients
        Linear function of each score in each leaf, shape
        ``(n_rounds, n_leaves, n_scores * n_terms)``.
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float64]
    missing: NDArray[np.int8]
    child: NDArray[np.int16]
    coefficients: NDArray[np.float32]


@kernel
def boost(
    X: NDArray[np.float32],
    terms: NDArray[np.float64],
    rounds: Rounds,
    scores: NDArray[np.float64],
) -> None:
    """Add all rounds to the scores of galaxies, in place.

    Parameters
    ----------
    X
        Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
    terms
        Terms of the linear functions, shape ``(n_galaxies, n_terms)``.
    rounds
        The trees.
    scores
        Shape ``(n_galaxies, n_scores)``.
    """
    n_scores, n_terms = scores.shape[1], terms.shape[1]
    total = np.empty(n_scores * n_terms)
    for row in range(len(X)):
        # The functions are linear: they are added up first, and evaluated once.
        total[:] = 0
        for k in range(len(rounds.feature)):
            leaf = _leaf(X[row], rounds, k)
            for i in range(len(total)):
                total[i] += rounds.coefficients[k, leaf, i]
        for score in range(n_scores):
            for term in range(n_terms):
                scores[row, score] += total[score * n_terms + term] * terms[row, term]


@part
def _leaf(x: NDArray[np.float32], rounds: Rounds, k: int) -> int:
    node = 0
    while node >= 0:
        value = x[rounds.feature[k, node]]
        if np.isnan(value):
            side = np.int64(rounds.missing[k, node])
        else:
            side = np.int64(value > rounds.threshold[k, node])
        node = rounds.child[k, node, side]
    return -1 - node
