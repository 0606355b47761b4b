"""Summaries: the few numbers of each p(z) that a catalogue gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import RedshiftPDF

__all__ = ["Summaries", "summarise"]


class Summaries(NamedTuple):
    """Numbers of `n_galaxies` densities.

    Parameters
    ----------
    mode, mean, std, odds
        As in `RedshiftPDF`, shape ``(n_galaxies,)``.
    beyond
        Probability above the third to last point of the grid, same shape.
    n_peaks
        As in `RedshiftPDF`, same shape.
    quantiles
        Redshifts at some levels, shape ``(n_galaxies, n_levels)``.
    density
        Densities on the grid, shape ``(n_galaxies, n_z)``, or without any row if they are
        not wanted.
    """

    mode: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    odds: NDArray[np.float64]
    beyond: NDArray[np.float64]
    n_peaks: NDArray[np.int64]
    quantiles: NDArray[np.float64]
    density: NDArray[np.float32]


def summarise(pz: RedshiftPDF, levels: Sequence[float], *, with_density: bool) -> Summaries:
    """Summarise densities; `photoz.kernels` does the same in compiled code.

    Parameters
    ----------
    pz
        The densities.
    levels
        Levels of the quantiles.
    with_density
        Whether the densities themselves are wanted.
    """
    mode, mean, std, odds, beyond = (
        np.asarray(part, dtype=np.float64)
        for part in (pz.mode(), pz.mean(), pz.std(), pz.odds(), 1 - pz.cdf(pz.z_grid[-3]))
    )
    # All levels at once: each call integrates the densities anew.
    quantiles = np.asarray(pz.quantiles(levels), dtype=np.float64)
    density = np.asarray(pz.density[: len(pz) if with_density else 0], dtype=np.float32)
    return Summaries(mode, mean, std, odds, beyond, pz.n_peaks(), quantiles, density)
