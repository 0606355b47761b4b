"""p(z) as qp ensembles, the form in which the field's tools exchange it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import qp
from numpy.typing import ArrayLike, NDArray

from photoz.errors import InputError
from photoz.pdf import FloatArray, RedshiftPDF

__all__ = ["from_qp", "quantiles_to_qp", "to_qp"]


def to_qp(
    pz: RedshiftPDF,
    object_id: ArrayLike | None = None,
    *,
    usable: NDArray[np.bool_] | None = None,
    ancil: Mapping[str, ArrayLike] | None = None,
) -> qp.Ensemble:
    """Turn densities into a qp ensemble of interpolated values on their grid.

    Parameters
    ----------
    pz
        Densities of the galaxies, or of those that `usable` marks.
    object_id
        Identities of all galaxies, shape ``(n_galaxies,)``; left out if None.
    usable
        Which of all galaxies have a density, shape ``(n_galaxies,)``. qp knows no missing
        density: the others become flat, and their mode NaN.
    ancil
        Further columns of shape ``(n_galaxies,)`` to carry along.

    Returns
    -------
    Ensemble
        With the ancillary columns ``object_id``, ``zmode`` (the mode of each galaxy) and
        those of `ancil`.

    Raises
    ------
    InputError
        If a column has another length.

    Examples
    --------
    >>> pz = RedshiftPDF.from_mixture(
    ...     np.linspace(0, 2, 201), np.ones((1, 1)), np.array([[0.5]]), np.array([[0.1]])
    ... )
    >>> ensemble = to_qp(pz, [7])
    >>> {name: column.round(3).tolist() for name, column in ensemble.ancil.items()}
    {'object_id': [7], 'zmode': [0.5]}
    """
    usable = np.ones(len(pz), dtype=np.bool_) if usable is None else usable
    density = np.full((len(usable), len(pz.z_grid)), 1 / pz.z_grid[-1], dtype=np.float32)
    density[usable] = pz.density
    mode = np.full(len(usable), np.nan)
    mode[usable] = pz.mode()
    # The densities are normalised; qp would do so again, in twice the memory.
    data = {"xvals": pz.z_grid, "yvals": density, "norm": False}
    return qp.Ensemble(qp.interp, data=data, ancil=_ancil(mode, object_id, ancil))


def quantiles_to_qp(
    quantiles: FloatArray,
    levels: Sequence[float],
    zmode: FloatArray,
    object_id: ArrayLike | None = None,
    *,
    ancil: Mapping[str, ArrayLike] | None = None,
) -> qp.Ensemble:
    """Turn quantiles into a qp ensemble, a tenth of the size of one on a grid.

    Parameters
    ----------
    quantiles
        Redshifts of shape ``(n_galaxies, n_levels)``; a row with NaN is taken as unknown:
        it becomes flat between the smallest and the largest redshift of the others.
    levels
        Probabilities of the quantiles, shape ``(n_levels,)``.
    zmode
        Mode of each galaxy, shape ``(n_galaxies,)``, NaN where unknown.
    object_id, ancil
        As in `to_qp`.

    Returns
    -------
    Ensemble
        As that of `to_qp`.

    Raises
    ------
    InputError
        If a column has another length.
    """
    unknown = np.asarray(np.isnan(quantiles).any(axis=1))
    known = quantiles[~unknown]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    flat = low + (high - low) * np.asarray(levels)
    locs = np.where(unknown[:, np.newaxis], flat, quantiles)
    data = {"quants": np.asarray(levels), "locs": locs}
    return qp.Ensemble(qp.quant, data=data, ancil=_ancil(zmode, object_id, ancil))


def from_qp(ensemble: qp.Ensemble, z_grid: ArrayLike) -> RedshiftPDF:
    """Evaluate a qp ensemble of any kind on a grid.

    Parameters
    ----------
    ensemble
        What `to_qp` gave, `qp.read` read or another code made.
    z_grid
        Redshifts of shape ``(n_z,)``, uniform from 0.

    Returns
    -------
    RedshiftPDF
        Densities cut off at the ends of the grid.
    """
    grid = np.asarray(z_grid, dtype=np.float64)
    density = np.reshape(ensemble.pdf(grid), (ensemble.npdf, len(grid)))
    return RedshiftPDF.from_weights(grid, density)


def _ancil(
    zmode: FloatArray, object_id: ArrayLike | None, ancil: Mapping[str, ArrayLike] | None
) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    if object_id is not None:
        columns["object_id"] = np.asarray(object_id)
    columns |= {"zmode": zmode} | {name: np.asarray(v) for name, v in (ancil or {}).items()}
    for name, column in columns.items():
        if column.shape != zmode.shape:
            msg = f"{name} must have one value per galaxy, {zmode.shape}, got {column.shape}."
            raise InputError(msg)
    return columns
