"""Rounds of boosting, as arrays, read out of LightGBM's description of its trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from photoz.kernels.boosted import AT_ONCE, PART, Rounds
from photoz.pdf import FloatArray

__all__ = ["rounds_of"]


def rounds_of(estimator: Any) -> Rounds:  # noqa: ANN401 - importing the family imports LightGBM
    """Arrays of a fitted `BoostingPhotoz`."""
    booster, numbers = estimator.booster_, estimator.trees_
    trees = booster.dump_model()["tree_info"] if booster is not None else []
    n_rounds, n_leaves, n_scores, n_terms = estimator.coefficients_.shape
    shape = (-(-n_rounds // AT_ONCE) * AT_ONCE, 2 * n_leaves - 1)
    width = n_scores * n_terms
    rounds = Rounds(
        depth=np.zeros(shape[0], dtype=np.int64),
        feature=np.zeros(shape, dtype=np.uint32),
        threshold=np.full(shape, np.inf, dtype=np.float32),
        child=np.tile(np.arange(shape[1], dtype=np.uint32), (shape[0], 1)),
        coefficients=np.zeros((-(-width // PART), *shape, PART), dtype=np.float32),
    )
    functions = np.zeros((n_rounds, n_leaves, len(rounds.coefficients) * PART))
    functions[..., :width] = estimator.coefficients_.reshape(n_rounds, n_leaves, width)
    for k, number in enumerate(numbers):
        # A round without a tree has one leaf.
        tree = trees[number]["tree_structure"] if number >= 0 else {}
        _read(tree, rounds, k, functions[k].reshape(n_leaves, -1, PART), n_terms - 1)
    return rounds


def _read(
    tree: dict[str, Any], rounds: Rounds, k: int, functions: FloatArray, n_features: int
) -> None:
    """Write the tree of round `k` level by level, so that sisters follow each other."""
    found = [(tree, 0)]
    for number, (node, depth) in enumerate(found):
        rounds.depth[k] = depth
        if "split_index" not in node:
            rounds.coefficients[:, k, number] = functions[node.get("leaf_index", 0)]
            continue
        rounds.child[k, number] = len(found)
        found += [(node[side], depth + 1) for side in ("left_child", "right_child")]
        threshold = np.float32(node["threshold"])
        # Trees that saw no missing feature take it for 0.
        is_first = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
        rounds.feature[k, number] = node["split_feature"] + (0 if is_first else n_features)
        # Singles above a double are above the next single that is not larger.
        if threshold > node["threshold"]:
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        rounds.threshold[k, number] = threshold
