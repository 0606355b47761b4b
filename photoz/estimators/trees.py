"""Decision trees as plain arrays: node by node how to walk them, and what their leaves hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from photoz.pdf import FloatArray

__all__ = ["FittedTree", "Trees", "galaxies_of"]


class FittedTree(Protocol):
    """What is read of scikit-learn's fitted tree."""

    n_features: int
    children_left: NDArray[np.intp]
    children_right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: FloatArray
    missing_go_to_left: NDArray[np.uint8]


@dataclass(frozen=True)
class Trees:
    """Nodes of trees one after the other; a leaf is its own child, so that walks end there.

    Parameters
    ----------
    column
        Column of the doubled features that a node asks about, shape ``(n_nodes,)``.
    threshold
        A galaxy above it goes to the second child, shape ``(n_nodes,)``.
    child
        First of the two adjacent children, counted from the tree's root, same shape.
    root
        Where each tree begins, and the end, shape ``(n_trees + 1,)``.
    start
        Where each node's contents begin, and the end, shape ``(n_nodes + 1,)``.
    grid_index
        Grid point nearest to the redshift of each entry, shape ``(n_entries,)``.
    count
        How often the bootstrap drew what stands there, shape ``(n_entries,)``.
    """

    column: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    child: NDArray[np.uint32]
    root: NDArray[np.int64]
    start: NDArray[np.int64]
    grid_index: NDArray[np.uint16]
    count: NDArray[np.float16]

    @classmethod
    def join(cls, parts: Sequence[Trees]) -> Trees:
        """Trees of several parts behind each other."""
        arrays: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
        }
        for name in ("root", "start"):
            ends = np.cumsum([0, *(getattr(part, name)[-1] for part in parts)])
            pieces = [
                getattr(part, name)[:-1] + end for part, end in zip(parts, ends, strict=False)
            ]
            arrays[name] = np.concatenate([*pieces, ends[-1:]])
        return cls(**arrays)

    @classmethod
    def grow(
        cls,
        tree: FittedTree,
        X: NDArray[np.float32],
        grid_index: NDArray[np.intp],
        count: NDArray[np.intp],
        n_z: int,
    ) -> Trees:
        """One tree, its leaves filled with training rows.

        Parameters
        ----------
        tree
            What scikit-learn fitted.
        X
            Features of the rows, shape ``(n_rows, n_features)``.
        grid_index
            Grid point nearest to the redshift of each row, shape ``(n_rows,)``.
        count
            How often the bootstrap drew each row, shape ``(n_rows,)``.
        n_z
            Number of points of the redshift grid.
        """
        column, threshold, child = _nodes(tree)
        doubled = _double(X)
        first = np.arange(len(X)) * doubled.shape[1]
        leaf = _descend(column, threshold, child, doubled.ravel(), first)
        contents = sparse.coo_array((count, (leaf, grid_index)), shape=(len(child), n_z)).tocsr()
        return cls(
            column=column.astype(np.uint16),
            threshold=threshold,
            child=child.astype(np.uint32),
            root=np.array([0, len(child)]),
            start=contents.indptr.astype(np.int64),
            grid_index=contents.indices.astype(np.uint16),
            # Exact up to 2048 draws of one redshift in one leaf, and to .05 per cent beyond.
            count=np.minimum(contents.data, 60000).astype(np.float16),
        )

    def walk(self, X: NDArray[np.float32]) -> NDArray[np.int32]:
        """Leaf of each galaxy in each tree, shape ``(n_galaxies, n_trees)``."""
        doubled = _double(X)
        first = np.arange(len(X)) * doubled.shape[1]
        leaves = np.empty((len(self.root) - 1, len(X)), dtype=np.int32)
        for tree, (begin, end) in enumerate(zip(self.root[:-1], self.root[1:], strict=True)):
            nodes = slice(begin, end)
            leaves[tree] = begin + _descend(
                self.column[nodes].astype(np.intp),
                self.threshold[nodes],
                self.child[nodes].astype(np.intp),
                doubled.ravel(),
                first,
            )
        return leaves.T

    def contents(self, n_z: int) -> sparse.csr_array:
        """Redshift histogram of each leaf, of unit sum, shape ``(n_nodes, n_z)``."""
        count = self.count.astype(np.float32)
        n_entries = np.diff(self.start)
        filled = n_entries > 0
        total = np.add.reduceat(count, self.start[:-1][filled]) if filled.any() else count
        weight = count / np.repeat(total, n_entries[filled])
        indices = self.grid_index.astype(np.int32)
        shape = (len(n_entries), n_z)
        return sparse.csr_array((weight, indices, self.start.astype(np.int32)), shape=shape)

    def histogram(
        self,
        X: NDArray[np.float32],
        contents: sparse.csr_array,
        use: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Contents of a galaxy's leaves, averaged over the trees, shape ``(n_galaxies, n_z)``.

        Parameters
        ----------
        X
            Features of shape ``(n_galaxies, n_features)``.
        contents
            What `contents` returned.
        use
            Trees that count for each galaxy, shape ``(n_galaxies, n_trees)``; None is all.
        """
        leaves = self.walk(X)
        n_trees = leaves.shape[1]
        weight = np.ones(leaves.shape, dtype=np.float32) if use is None else use
        membership = sparse.csr_array(
            (
                weight.ravel().astype(np.float32) / n_trees,
                leaves.ravel(),
                np.arange(len(X) + 1, dtype=np.int32) * n_trees,
            ),
            shape=(len(X), contents.shape[0]),
        )
        average: NDArray[np.float32] = (membership @ contents).toarray()
        return average


def galaxies_of(z_spec: FloatArray) -> NDArray[np.intp]:
    """Number of the galaxy that each row shows, shape ``(n_rows,)``.

    Noisy copies follow their originals, all in the same order: the redshifts then repeat
    themselves as a whole. Where they do not, each row stands for itself, though some of the
    redshifts may be equal.
    """
    n_rows = len(z_spec)
    like_first = np.flatnonzero(z_spec == z_spec[0])
    for n_galaxies in like_first[like_first > 1]:
        whole = n_rows % n_galaxies == 0
        if whole and np.array_equal(z_spec[n_galaxies:], z_spec[:-n_galaxies]):
            return np.tile(np.arange(n_galaxies), n_rows // int(n_galaxies))
    return np.arange(n_rows)


def _double(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features twice, shape ``(n_galaxies, 2 n_features)``: NaN goes left, then right."""
    missing = np.isnan(X)
    left, right = (np.where(missing, np.float32(end), X) for end in (-np.inf, np.inf))
    return np.concatenate([left, right], axis=1)


def _nodes(tree: FittedTree) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Columns, thresholds and first children of a tree's nodes, level by level.

    Children stand side by side, so that a step is ``child + (feature > threshold)``. A leaf
    asks for more than infinity and is its own child.
    """
    left, right = tree.children_left, tree.children_right
    levels = [np.zeros(1, dtype=np.intp)]
    while len(parents := levels[-1][left[levels[-1]] >= 0]):
        levels.append(np.column_stack([left[parents], right[parents]]).ravel())
    order = np.concatenate(levels)
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    leaf = left[order] < 0
    # Where a node sends NaN to the right, the second half of the doubled features is asked.
    to_right = tree.missing_go_to_left[order] == 0
    column = np.where(leaf, 0, tree.feature[order] + tree.n_features * to_right)
    # A threshold of infinity parts the missing from the rest: the largest number does as well,
    # and leaves infinity to the missing.
    largest = float(np.finfo(np.float32).max)
    inner = np.clip(tree.threshold[order], -largest, largest)
    threshold = np.where(leaf, np.inf, inner).astype(np.float32)
    child = np.where(leaf, np.arange(len(order)), position[left[order]])
    return column, threshold, child


def _descend(
    column: NDArray[np.intp],
    threshold: NDArray[np.float32],
    child: NDArray[np.intp],
    features: NDArray[np.float32],
    first: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Leaf of each galaxy in one tree, shape ``(n_galaxies,)``.

    Parameters
    ----------
    column, threshold, child
        Nodes of the tree, each of shape ``(n_nodes,)``.
    features
        Doubled features of all galaxies in one row.
    first
        Where each galaxy's features begin, shape ``(n_galaxies,)``.
    """
    leaf = np.zeros(len(first), dtype=np.intp)
    walking = np.arange(len(first))
    node = leaf
    while len(walking):
        for _ in range(4):
            above = features.take(column.take(node) + first) > threshold.take(node)
            node = child.take(node) + above
        leaf[walking] = node
        # Galaxies that have arrived are let go of: half of the steps would be idle.
        inside = child.take(node) != node
        walking, node, first = walking[inside], node[inside], first[inside]
    return leaf
