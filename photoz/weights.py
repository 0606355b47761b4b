"""Sample weights and reliabilities: how far each galaxy of known redshift counts, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InputError

__all__ = ["check_reliability", "check_weight", "which_count"]


def check_weight(sample_weight: ArrayLike | None, n_galaxies: int) -> NDArray[np.float64]:
    """Weights of mean one, shape ``(n_galaxies,)``; equal ones for None.

    Raises
    ------
    InputError
        If the shape is another, a weight is negative, masked or not finite, or all are 0.
    """
    if sample_weight is None:
        return np.ones(n_galaxies)
    weight = np.ma.masked_array(sample_weight, dtype=np.float64).filled(np.nan)
    valid = np.isfinite(weight) & (weight >= 0)
    if weight.shape != (n_galaxies,) or not valid.all() or not weight.any():
        msg = (
            f"sample_weight must have shape ({n_galaxies},), no negative, missing or infinite "
            f"value and not all zero, got shape {weight.shape}, {np.count_nonzero(~valid)} of "
            f"such values and the largest {weight.max(initial=0):.6g}."
        )
        raise InputError(msg)
    # By a power of two, which rounds nothing: the sum of the largest weights would overflow.
    scaled = np.ldexp(weight, -np.frexp(weight.max())[1])
    normalised: NDArray[np.float64] = scaled / scaled.mean()
    return normalised


def check_reliability(reliability: ArrayLike, n_galaxies: int) -> NDArray[np.float64]:
    """Probabilities that redshifts are right, shape ``(n_galaxies,)``.

    Parameters
    ----------
    reliability
        One probability for all, or one for each galaxy.
    n_galaxies
        Number of galaxies.

    Raises
    ------
    InputError
        If the shape is another, or one is masked or lies outside of 0 to 1.
    """
    right = np.ma.masked_array(reliability, dtype=np.float64).filled(np.nan)
    valid = (right >= 0) & (right <= 1)
    if right.shape not in {(), (n_galaxies,)} or not valid.all():
        msg = (
            f"reliability must hold {n_galaxies} probabilities between 0 and 1, or one for all, "
            f"got shape {right.shape}, {np.count_nonzero(~valid)} of them out of that range."
        )
        raise InputError(msg)
    return np.broadcast_to(right, n_galaxies)


def which_count(
    n_galaxies: int,
    sample_weight: NDArray[np.floating] | None,
    reliability: NDArray[np.floating] | None,
) -> NDArray[np.bool_]:
    """Whether weight and reliability of each galaxy are above 0, shape ``(n_galaxies,)``."""
    counts = np.ones(n_galaxies, dtype=np.bool_)
    for share in (sample_weight, reliability):
        if share is not None:
            counts &= share > 0
    return counts
