"""Forests: walks to the leaves of all trees, and what hangs there, smoothed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.compiling import kernel, part
from photoz.kernels.elementary import exp2, log2
from photoz.kernels.rows import Block, Row

__all__ = ["Forest", "Smoothing", "evaluate_forest", "walk_forest"]

Leaves = NDArray[np.uint32]


class Forest(NamedTuple):
    """The arrays of `photoz.estimators.trees.Trees`, and the weight of each entry of a leaf."""

    column: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    child: NDArray[np.uint32]
    root: NDArray[np.int64]
    start: NDArray[np.int64]
    grid_index: NDArray[np.uint16]
    weight: NDArray[np.float32]


class Smoothing(NamedTuple):
    """How histograms become densities; see `photoz.estimators.smoothing`.

    Parameters
    ----------
    kernel
        From grid to grid, shape ``(n_z, n_z)``.
    ends
        First point of each row that is not 0, and the one after its last, shape ``(n_z, 2)``.
    power
        Power of the smoothed density.
    lowest
        Smallest density that is raised to it.
    """

    kernel: NDArray[np.float32]
    ends: NDArray[np.int64]
    power: np.float32
    lowest: np.float32


@kernel
def walk_forest(X: NDArray[np.float32], forest: Forest, leaves: Leaves) -> None:
    """Find the leaf of each galaxy in each tree; see `Trees.walk`.

    Parameters
    ----------
    X
        Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
    forest
        The trees.
    leaves
        Where to write, shape ``(n_galaxies, n_trees)``.
    """
    n_features = X.shape[1]
    for tree in range(len(forest.root) - 1):
        begin = forest.root[tree]
        for row in range(len(X)):
            node, child = begin, begin + forest.child[begin]
            while child != node:
                column, threshold = forest.column[node], forest.threshold[node]
                # What was not observed is above no threshold, or above all of them.
                if column < n_features:
                    above = X[row, column] > threshold
                else:
                    above = not X[row, column - n_features] <= threshold
                node = child + 1 if above else child
                child = begin + forest.child[node]
            leaves[row, tree] = node


@kernel
def evaluate_forest(leaves: Leaves, forest: Forest, smoothing: Smoothing, block: Block) -> None:
    """Write the densities of galaxies on the whole grid.

    Parameters
    ----------
    leaves
        What `walk_forest` found, shape ``(n_rows, n_trees)``.
    forest, smoothing
        Contents of the leaves, and what becomes of them.
    block
        Where to write.
    """
    histogram = np.empty(block.n_z, dtype=np.float32)
    share = np.float32(1 / leaves.shape[1])
    for row in range(len(leaves)):
        histogram[:] = 0
        for leaf in leaves[row]:
            for entry in range(forest.start[leaf], forest.start[leaf + 1]):
                histogram[forest.grid_index[entry]] += forest.weight[entry]
        p = block.density[row]
        p[: block.n_z] = 0
        for i in range(block.n_z):
            if histogram[i] > 0:
                _spread(share * histogram[i], smoothing.kernel[i], smoothing.ends[i], p)
        for i in range(block.n_z):
            p[i] = exp2(smoothing.power * log2(max(p[i], smoothing.lowest)))


@part
def _spread(height: np.float32, kernel_row: Row, ends: NDArray[np.int64], p: Row) -> None:
    for i in range(ends[0], ends[1]):
        # An index without sign cannot count from the end, which allows whole vectors at once.
        p[np.uint64(i)] += height * kernel_row[np.uint64(i)]
