"""Rounds of boosting, as arrays, read out of LightGBM's description of its trees."""

from __future__ import annotations

from typing import Any

import numpy as np

from photoz.kernels.boosted import Rounds

__all__ = ["rounds_of"]


def rounds_of(estimator: Any) -> Rounds:  # noqa: ANN401 - importing the family imports LightGBM
    """Arrays of a fitted `BoostingPhotoz`."""
    booster, numbers = estimator.booster_, estimator.trees_
    trees = booster.dump_model()["tree_info"] if booster is not None else []
    n_rounds, n_leaves, n_scores, n_terms = estimator.coefficients_.shape
    n_nodes = max(n_leaves - 1, 1)
    rounds = Rounds(
        feature=np.zeros((n_rounds, n_nodes), dtype=np.int16),
        threshold=np.zeros((n_rounds, n_nodes)),
        missing=np.zeros((n_rounds, n_nodes), dtype=np.int8),
        # A round without a tree has one leaf.
        child=np.full((n_rounds, n_nodes, 2), -1, dtype=np.int16),
        coefficients=estimator.coefficients_.reshape(n_rounds, n_leaves, n_scores * n_terms),
    )
    for k, number in enumerate(numbers):
        if number >= 0:
            _read(trees[number]["tree_structure"], rounds, k)
    return rounds


def _read(node: dict[str, Any], rounds: Rounds, k: int) -> int:
    """Number of a node, after it and all below it are written into round `k`."""
    if "split_index" not in node:
        return -1 - int(node.get("leaf_index", 0))
    index = node["split_index"]
    rounds.feature[k, index] = node["split_feature"]
    rounds.threshold[k, index] = node["threshold"]
    # Trees that saw no missing feature take it for 0.
    to_first = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0
    rounds.missing[k, index] = 0 if to_first else 1
    rounds.child[k, index] = [
        _read(node[side], rounds, k) for side in ("left_child", "right_child")
    ]
    return int(index)
