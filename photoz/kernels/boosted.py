"""Boosted trees with linear leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part

__all__ = ["AT_ONCE", "PART", "Rounds", "boost"]

AT_ONCE = 8
"""Rounds that are added together; there must be a multiple of it."""

PART = 128
"""Coefficients at a time: those of `AT_ONCE` rounds stay in a processor's nearest cache."""

_ROUNDS_IN_SINGLES = 64
_ROWS = 512
"""Galaxies at a time."""

Floats = NDArray[np.float32]


class Rounds(NamedTuple):
    """Rounds of boosting: of each a tree, and what its leaves add.

    Parameters
    ----------
    depth
        Longest way to a leaf of each tree, shape ``(n_rounds,)``.
    feature, threshold
        A galaxy whose feature is above the threshold goes to the second child, shape
        ``(n_rounds, n_nodes)``. Numbers of features from `n_features` on mean the same ones,
        infinite where they are not observed; the others are then -infinity.
    child
        The first child, which the second one follows; a leaf is its own, with an infinite
        threshold. Same shape.
    coefficients
        Linear functions of each node, cut into parts and filled up with zeros, shape
        ``(n_parts, n_rounds, n_nodes, PART)``; together ``n_scores * n_terms`` or more.
    """

    depth: NDArray[np.int64]
    feature: NDArray[np.uint32]
    threshold: Floats
    child: NDArray[np.uint32]
    coefficients: Floats


@kernel
def boost(
    X: Floats, terms: NDArray[np.float64], rounds: Rounds, scores: NDArray[np.float64]
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
    n_scores, n_terms, n_features = scores.shape[1], terms.shape[1], X.shape[1]
    n_parts, n_rounds = rounds.coefficients.shape[:2]
    values = np.empty(2 * n_features * _ROWS, dtype=np.float32)
    place = np.zeros((n_rounds, _ROWS), dtype=np.uint32)
    total = np.empty((_ROWS, n_parts * PART))
    for start in range(0, len(X), _ROWS):
        n_rows = min(_ROWS, len(X) - start)
        _transpose(X[start : start + n_rows], values)
        for k in range(n_rounds):
            _walk(values, rounds, k, place)
        # The functions are linear: they are added up first, and evaluated once.
        for part_of in range(n_parts):
            _add_up(rounds.coefficients[part_of], place, total, part_of * PART)
        for row in range(n_rows):
            for score in range(n_scores):
                found = 0.0
                for term in range(n_terms):
                    found += total[row, score * n_terms + term] * terms[start + row, term]
                scores[start + row, score] += found


@part
def _transpose(X: Floats, values: Floats) -> None:
    """Write features one after the other, first those that are low where not observed."""
    n_features = X.shape[1]
    values[:] = 0
    for feature in range(n_features):
        for row in range(len(X)):
            value = X[row, feature]
            missing = np.isnan(value)
            values[feature * _ROWS + row] = -np.inf if missing else value
            values[(n_features + feature) * _ROWS + row] = np.inf if missing else value


@part
def _walk(values: Floats, rounds: Rounds, k: int, place: NDArray[np.uint32]) -> None:
    """Find the leaf of each galaxy in a tree."""
    feature, threshold, child = rounds.feature, rounds.threshold, rounds.child
    for i in range(_ROWS):
        place[k, i] = 0
    for _ in range(rounds.depth[k]):
        for i in range(_ROWS):
            node = place[k, i]
            value = values[np.uint64(feature[k, node] * np.uint32(_ROWS) + np.uint32(i))]
            place[k, i] = child[k, node] + np.uint32(value > threshold[k, node])


@part
def _add_up(
    coefficients: Floats, place: NDArray[np.uint32], total: NDArray[np.float64], first: int
) -> None:
    """Write the sums of a part over all rounds, of which singles add up some."""
    n_rounds, n_nodes = coefficients.shape[:2]
    table, some = coefficients.reshape(-1), np.empty((_ROWS, PART), dtype=np.float32)
    total[:, first : first + PART] = 0
    for start in range(0, n_rounds, _ROUNDS_IN_SINGLES):
        some[:] = 0
        for k in range(start, min(start + _ROUNDS_IN_SINGLES, n_rounds), AT_ONCE):
            for row in range(_ROWS):
                _add(table, place, k, row, n_nodes, some)
        for row in range(_ROWS):
            for i in range(PART):
                total[row, first + i] += some[row, i]


@part
def _add(
    table: Floats, place: NDArray[np.uint32], k: int, row: int, n_nodes: int, some: Floats
) -> None:
    """Add a part of `AT_ONCE` rounds to the sums of a galaxy."""
    a = np.uint64((k * n_nodes + place[k, row]) * PART)
    b = np.uint64(((k + 1) * n_nodes + place[k + 1, row]) * PART)
    c = np.uint64(((k + 2) * n_nodes + place[k + 2, row]) * PART)
    d = np.uint64(((k + 3) * n_nodes + place[k + 3, row]) * PART)
    e = np.uint64(((k + 4) * n_nodes + place[k + 4, row]) * PART)
    f = np.uint64(((k + 5) * n_nodes + place[k + 5, row]) * PART)
    g = np.uint64(((k + 6) * n_nodes + place[k + 6, row]) * PART)
    h = np.uint64(((k + 7) * n_nodes + place[k + 7, row]) * PART)
    for i in range(PART):
        j = np.uint64(i)
        early = (table[a + j] + table[b + j]) + (table[c + j] + table[d + j])
        late = (table[e + j] + table[f + j]) + (table[g + j] + table[h + j])
        some[row, i] += early + late
