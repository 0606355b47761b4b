"""Rows: galaxies of known redshift as a fit gets them, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.pdf import FloatArray

__all__ = ["FEWEST", "Rows", "check_on_grid"]

FEWEST = 2
"""Galaxies that a fit takes at least."""


@dataclass(frozen=True)
class Rows:
    """Checked rows of a training or validation set.

    Parameters
    ----------
    X
        Features of shape ``(n_galaxies, n_features)``, NaN where not observed.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``, on the grid.
    weight
        Sample weights of shape ``(n_galaxies,)``, of mean one.
    reliability
        Probability that each redshift is right, shape ``(n_galaxies,)``; None if all are.
    """

    X: NDArray[np.float32]
    z_spec: NDArray[np.float64]
    weight: NDArray[np.float64]
    reliability: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Rows:
        reliability = None if self.reliability is None else self.reliability[rows]
        return Rows(self.X[rows], self.z_spec[rows], self.weight[rows], reliability)

    def with_weight(self) -> Rows:
        """Rows that count: others must not shape the grid or the scale of the inputs either.

        Raises
        ------
        InputError
            If fewer than two are left.
        """
        used = self.weight > 0
        if used.all():
            return self
        if np.count_nonzero(used) < FEWEST:
            msg = f"expected {FEWEST} galaxies or more with a weight above 0, got {used.sum()}."
            raise InputError(msg)
        kept = self[used]
        return replace(kept, weight=kept.weight / kept.weight.mean())


def check_on_grid(z_spec: FloatArray, z_max: float) -> None:
    """Raise `InputError` if a redshift of shape ``(n_galaxies,)`` has no place on the grid."""
    if (z_spec < 0).any():
        msg = f"Negative values in data: y must hold redshifts from 0, found {z_spec.min():.6g}."
        raise InputError(msg)
    if (z_spec > z_max).any():
        msg = (
            f"y must hold redshifts up to z_max = {z_max:.6g}, found {z_spec.max():.6g}; "
            "raise z_max or leave those galaxies out."
        )
        raise InputError(msg)
