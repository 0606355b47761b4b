"""Pools: the densities of several members as one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.kernels.calibrated import flatten, integral, may_be_sharp, sharpness
from photoz.kernels.compiling import kernel, part
from photoz.kernels.elementary import exp2, log2
from photoz.kernels.rows import LANES, Block, Row, clear, find_supports, take_support

__all__ = ["Weights", "pool"]


class Weights(NamedTuple):
    """What `photoz.pooling.Pool` knows, as a kernel takes it."""

    is_log: bool
    weights: NDArray[np.float32]
    epsilon: np.float32
    tilt: NDArray[np.float32]  # c z / ln 2 at each point of the grid


@kernel
def pool(members: tuple[Block, ...], n_rows: int, weights: Weights, block: Block) -> None:
    """Pool the densities of members on the whole grid; see `Pool.apply`.

    Parameters
    ----------
    members
        Densities of the members.
    n_rows
        Number of galaxies.
    weights
        What to do.
    block
        Where to write.
    """
    p = np.empty(block.n_z + LANES, dtype=np.float32)
    nowhere = log2(weights.epsilon) if weights.is_log else np.float32(0)
    for row in range(n_rows):
        pooled = block.density[row]
        pooled[: block.n_z] = weights.weights.sum() * nowhere + weights.tilt
        clear(pooled, block.n_z)
        for k in range(len(members)):
            n, low = take_support(members[k], row, p), members[k].support[row, 0]
            _add(pooled, low, p, n, block.step, weights, k)
        if weights.is_log:
            top = pooled[0]
            for i in range(block.n_z):
                top = max(top, pooled[i])
            for i in range(block.n_z):
                pooled[i] = exp2(pooled[i] - top)
            _keep_resolved(pooled, members, row, p, block.n_z)
    find_supports(block, n_rows)


@part
def _add(pooled: Row, low: int, p: Row, n: int, step: float, weights: Weights, k: int) -> None:
    factor = np.float32(1 / (step * integral(p, n)))
    weight, epsilon = weights.weights[k], weights.epsilon
    if weights.is_log:
        nowhere = log2(epsilon)
        for i in range(n):
            pooled[np.uint64(low + i)] += weight * (log2(factor * p[i] + epsilon) - nowhere)
    else:
        for i in range(n):
            pooled[np.uint64(low + i)] += weight * factor * p[i]


@part
def _keep_resolved(pooled: Row, members: tuple[Block, ...], row: int, p: Row, n_z: int) -> None:
    """Flatten what became narrower than the grid can show, and than every member."""
    if may_be_sharp(pooled, n_z):
        now, allowed = sharpness(pooled, n_z), np.float32(1)
        if now > allowed:
            for k in range(len(members)):
                allowed = max(allowed, sharpness(p, take_support(members[k], row, p)))
        if now > allowed:
            flatten(pooled, n_z, allowed / now)
