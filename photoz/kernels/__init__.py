"""Kernels: prediction in compiled code, where numba is installed.

They do what `photoz.pdf`, `photoz.calibration`, `photoz.pooling` and the estimators define, galaxy
by galaxy, in single precision and only where p(z) is not negligible, and they let other threads
run. Nothing but what this file defines is meant for use from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from photoz.blend import PhotozBlend
from photoz.model import FittedModel, PhotozModel
from photoz.photometry import Photometry
from photoz.summaries import Summaries

__all__ = ["COMPILED_FROM", "Compiled", "compile_model", "compiled_for"]

COMPILED_FROM = 50_000
"""Galaxies from which on compiled code is used: the first time it takes a while to compile."""


class Compiled(Protocol):
    """A fitted model in compiled code."""

    def summaries(
        self, photometry: Photometry, levels: Sequence[float], *, with_density: bool
    ) -> Summaries:
        """Summaries of the calibrated densities of galaxies, at rising levels."""

    def outside_training(self, photometry: Photometry) -> NDArray[np.bool_]:
        """Whether each galaxy lies outside the training range, as `FittedModel` says."""


def compile_model(model: FittedModel) -> Compiled | None:
    """Prepare a fitted model for compiled code.

    The kernels themselves are compiled when they are first used: some ten seconds, once for
    each machine and version of photoz.

    Returns
    -------
    Compiled or None
        None without numba.
    """
    if not isinstance(model, PhotozModel | PhotozBlend) or find_spec("numba") is None:
        return None
    compiled: Compiled = import_module("photoz.kernels.model").CompiledModel(model)
    return compiled


def compiled_for(model: FittedModel, n_galaxies: int) -> Compiled | None:
    """Prepare compiled code if that is worth its time.

    Parameters
    ----------
    model
        A fitted model.
    n_galaxies
        Galaxies of the whole catalogue, not of a part of it: p(z) in compiled code is the
        same to some 1e-5 of its peak only.
    """
    return compile_model(model) if n_galaxies >= COMPILED_FROM else None
