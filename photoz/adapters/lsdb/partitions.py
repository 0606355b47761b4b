"""Partitions: one part of an LSDB catalogue through a model, in whichever process has it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import nested_pandas as npd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from photoz.blend import PhotozBlend, single_models
from photoz.bundle import load_model
from photoz.errors import InputError
from photoz.kernels import Compiled, compiled_for
from photoz.model import PhotozModel
from photoz.photometry import photometry_from_columns
from photoz.prediction import PdfColumn, prediction_columns
from photoz.survey import Survey

__all__ = ["fingerprint", "load_once", "predict_partition"]

# Densities take kilobytes per galaxy, however few columns are made of them.
_CHUNK = 20_000


def predict_partition(
    part: pd.DataFrame,
    model: str,
    sha256: str,
    survey: Survey,
    name: str,
    pdf: PdfColumn,
    carried: Sequence[str],
    n_galaxies: int,
) -> npd.NestedFrame:
    """Redshifts of the galaxies of one partition.

    Parameters
    ----------
    part
        Galaxies; none are galaxies too.
    model, sha256
        Path of the bundle and its `fingerprint`.
    survey, name, pdf
        As in `photoz.adapters.lsdb.predict`.
    carried
        Columns to carry over.
    n_galaxies
        Galaxies of the whole catalogue.

    Returns
    -------
    NestedFrame
        One row per galaxy, on the index of `part`.
    """
    known = load_once(model, sha256)
    compiled = _compile_once(model, sha256, n_galaxies)
    starts = range(0, max(len(part), 1), _CHUNK)
    chunks = [
        _predict_chunk(part.iloc[row : row + _CHUNK], known, compiled, survey, name, pdf)
        for row in starts
    ]
    columns = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in chunks[0]}
    frame = npd.NestedFrame(part[list(carried)])
    frame = frame.assign(**{key: value for key, value in columns.items() if value.ndim == 1})
    if pdf == "quantiles":
        return _nest(frame, f"{name}_ens_20", {"locs": columns[f"{name}_quantiles"]})
    if pdf == "grid":
        density = columns[f"{name}_density"]
        xvals = np.broadcast_to(known.z_grid, density.shape)
        return _nest(frame, f"{name}_ens_interp", {"xvals": xvals, "yvals": density})
    return frame


@lru_cache(maxsize=2)
def load_once(model: str, sha256: str) -> PhotozModel | PhotozBlend:
    """Model that computes in one thread: the others belong to other partitions.

    Parameters
    ----------
    model, sha256
        Path of the bundle and the `fingerprint` that it had when the work was planned.

    Raises
    ------
    InputError
        If the bundle cannot be used, or is another one by now.
    """
    if fingerprint(model) != sha256:
        msg = f"{model} is another bundle than the one this work began with; begin again."
        raise InputError(msg)
    known = load_model(model)
    for member in single_models(known):
        if "n_threads" in member.estimator.get_params(deep=False):
            member.estimator.set_params(n_threads=1)
    return known


@lru_cache(maxsize=2)
def _compile_once(model: str, sha256: str, n_galaxies: int) -> Compiled | None:
    return compiled_for(load_once(model, sha256), n_galaxies)


def fingerprint(model: str) -> str:
    """Hash of a bundle: of its manifest, which holds the hashes of its files, or of its zip.

    Raises
    ------
    InputError
        If there is no bundle.
    """
    path = Path(model)
    file = path / "manifest.json" if path.is_dir() else path
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        msg = f"no bundle at {model}: expected a directory or .zip ({error.strerror})."
        raise InputError(msg) from error


def _predict_chunk(
    chunk: pd.DataFrame,
    model: PhotozModel | PhotozBlend,
    compiled: Compiled | None,
    survey: Survey,
    name: str,
    pdf: PdfColumn,
) -> dict[str, NDArray[Any]]:
    columns = {str(column): values for column, values in chunk.items()}
    photometry, _ = photometry_from_columns(columns, survey, optional_bands=model.optional_bands)
    return dict(prediction_columns(model, photometry, name=name, pdf=pdf, compiled=compiled))


def _nest(
    frame: npd.NestedFrame, name: str, columns: dict[str, NDArray[np.floating]]
) -> npd.NestedFrame:
    """Frame with one more column, of which each row holds a small table."""
    lists = {
        key: pd.Series(pd.arrays.ArrowExtensionArray(_as_lists(values)), index=frame.index)
        for key, values in columns.items()
    }
    return frame.assign(**lists).nest_lists(list(columns), name)


def _as_lists(values: NDArray[np.floating]) -> pa.Array:
    flat = pa.array(values.ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1]).cast(pa.list_(flat.type))
