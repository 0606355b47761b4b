"""Identity: who a galaxy is, and which other rows are the same measurement of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photoz.pdf import FloatArray
from photoz.photometry import Photometry, State

__all__ = [
    "Identity",
    "Labels",
    "combine_labels",
    "fingerprints",
    "first_twins",
    "identify",
    "label_texts",
    "label_values",
    "repeats",
    "uniform",
]

# Magnitudes of three decimals, as single precision holds them.
_ROUNDING = 2e-5
# By chance, one in twenty-five of others is as round.
_COARSE_SHARE = 0.9

Labels = NDArray[np.uint64]
"""Hashes of 64 bits; they depend neither on the machine nor on other rows."""


@dataclass(frozen=True, eq=False)
class Identity:
    """Identities of ``n_galaxies`` galaxies.

    Parameters
    ----------
    keys
        Label of each identity, shape ``(n_galaxies,)``.
    names
        Identities as text: the declared id, else the key in hexadecimal.
    is_declared
        Whether each is a declared id, shape ``(n_galaxies,)``.
    """

    keys: Labels
    names: list[str]
    is_declared: NDArray[np.bool_]


def identify(
    photometry: Photometry, z_spec: FloatArray, object_id: NDArray[Any] | None
) -> Identity:
    """Take the declared id of each galaxy, else a hash of its photometry and redshift.

    Parameters
    ----------
    photometry
        Photometry of ``n_galaxies`` galaxies.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    object_id
        Declared ids of shape ``(n_galaxies,)``, or None. Missing ones count as undeclared;
        7 and "7" are the same id, because file formats differ in what they keep.
    """
    keys = combine_labels([*_measurements(photometry), _bits(z_spec)])
    texts = [""] * len(keys) if object_id is None else _texts(object_id)
    declared = np.array([text != "" for text in texts], dtype=bool)
    names = [text or f"{key:016x}" for text, key in zip(texts, keys.tolist(), strict=True)]
    return Identity(np.where(declared, label_texts(texts), keys), names, declared)


def repeats(
    photometry: Photometry, z_spec: FloatArray, keys: Labels, is_declared: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether each row is an earlier one again: nothing of it is another, shape ``(n_galaxies,)``.

    Parameters
    ----------
    photometry
        Photometry of ``n_galaxies`` galaxies.
    z_spec
        Spectroscopic redshifts of shape ``(n_galaxies,)``.
    keys, is_declared
        Label of each identity and whether it is a declared id, shape ``(n_galaxies,)``. Without
        one, three bands or more must be measured: galaxies are equal in fewer by chance.
    """
    detected = photometry.state == State.DETECTED
    numbers = np.concatenate(
        [np.where(detected, photometry.flux_error, 0), photometry.extra, z_spec[:, np.newaxis]],
        axis=1,
    )
    # One bit pattern for all that is missing.
    bits = _bits(np.where(np.isnan(numbers), np.nan, numbers))
    labels = combine_labels([keys, *_measurements(photometry), *bits.T])
    first, inverse = np.unique(labels, return_index=True, return_inverse=True)[1:]
    is_later = first[inverse] < np.arange(len(keys))
    return np.asarray(is_later & (is_declared | (detected.sum(axis=1) >= 3)))


def first_twins(photometry: Photometry, keys: Labels) -> NDArray[np.intp]:
    """Find rows that repeat the photometry of an earlier row under another identity.

    Parameters
    ----------
    photometry
        Photometry of ``n_galaxies`` galaxies.
    keys
        Label of each identity, shape ``(n_galaxies,)``.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        Earliest row of another key that equals the row in three measured bands or more,
        -1 where there is none. Magnitudes of three decimals or fewer, in which thousands of
        galaxies share three of them by chance, must be equal in every band.
    """
    if _is_coarse(photometry):
        return _first_equal(photometry, keys)
    marks = _flux_marks(photometry)
    candidates = np.flatnonzero(np.sum([_repeated(band) for band in marks], axis=0) >= 3)
    none = len(keys)
    first = np.full(len(keys), none)
    for bands in combinations(marks[:, candidates], 3):
        # A sum is enough: it is of scattered bits, and each band has been scattered its own way.
        total = np.sum(bands, axis=0)
        found = _repeated(total)
        _, index, inverse = np.unique(total[found], return_index=True, return_inverse=True)
        rows = candidates[found]
        leader = rows[index][inverse]
        leader = np.where(keys[leader] == keys[rows], none, leader)
        first[rows] = np.minimum(first[rows], leader)
    return np.where(first == none, -1, first)


def fingerprints(photometry: Photometry) -> Labels:
    """Labels by which a galaxy can be known again without its photometry.

    They are hashes of the detected magnitudes, rounded to a millimagnitude, so that files of
    different precision give the same for all but a few galaxies.

    Parameters
    ----------
    photometry
        Photometry of ``n_galaxies`` galaxies.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        0 where fewer than three bands are detected, which could be any galaxy.
    """
    detected = photometry.state == State.DETECTED
    flux = np.where(detected & (photometry.flux != 0), photometry.flux, 1.0)
    rounded = np.rint(2500 * np.log10(np.abs(flux))).astype(np.int64)
    # The sign and the state make up the last digits.
    marks = 8 * rounded + 4 * (flux < 0) + photometry.state
    labels = combine_labels(marks.view(np.uint64).T)
    return np.where(detected.sum(axis=1) >= 3, labels, np.uint64(0))


def label_values(values: NDArray[Any]) -> Labels:
    """One label per distinct value of a column; all missing values share one."""
    return label_texts(_texts(values))


def label_texts(texts: list[str]) -> Labels:
    """One label per distinct text."""
    # Text of broken files may hold what UTF-8 cannot.
    encoded = (text.encode(errors="backslashreplace") for text in texts)
    digests = [hashlib.blake2b(code, digest_size=8).digest() for code in encoded]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def combine_labels(columns: Iterable[NDArray[np.integer]]) -> Labels:
    """One label per row that depends on every column and on their order."""
    first, *others = (column.astype(np.uint64) for column in columns)
    labels = _mix(first)
    for column in others:
        labels = _mix(labels ^ column)
    return labels


def uniform(labels: Labels, salt: str) -> FloatArray:
    """Hash each label with `salt` to a number from 0 to below 1."""
    mixed = _mix(_mix(labels) ^ label_texts([salt]))
    # A double holds 53 bits.
    return (mixed >> np.uint64(11)) * 2.0**-53


def _mix(labels: Labels) -> Labels:
    """Scatter the bits of each label, one to one (a step of SplitMix64).

    Steele, Lea & Flood (2014), https://doi.org/10.1145/2714064.2660195
    """
    mixed = labels + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _is_coarse(photometry: Photometry) -> bool:
    """Whether the magnitudes, but for a constant of each band, have three decimals or fewer."""
    if len(photometry) == 0:
        return False
    magnitude = photometry.magnitude
    reference = np.take_along_axis(
        magnitude, np.isfinite(magnitude).argmax(axis=0)[np.newaxis], axis=0
    )
    apart = magnitude - reference
    apart = apart[np.isfinite(apart)]
    is_round = np.abs(apart - np.round(apart, 3)) < _ROUNDING
    return bool(is_round.sum() > _COARSE_SHARE * len(apart))


def _first_equal(photometry: Photometry, keys: Labels) -> NDArray[np.intp]:
    """As `first_twins`, of rows that are equal in every band, three or more of them measured."""
    measured = (photometry.state == State.DETECTED).sum(axis=1) >= 3
    _, first, inverse = np.unique(
        combine_labels(_measurements(photometry)), return_index=True, return_inverse=True
    )
    leader = first[inverse]
    return np.where(measured & (keys[leader] != keys), leader, -1)


def _measurements(photometry: Photometry) -> Labels:
    """Bits of each measured flux, else its state, shape ``(n_bands, n_galaxies)``."""
    measured = photometry.state == State.DETECTED
    return np.where(measured, _bits(photometry.flux), photometry.state).astype(np.uint64).T


def _flux_marks(photometry: Photometry) -> Labels:
    """Label of each measured flux, shape ``(n_bands, n_galaxies)``, distinct where unmeasured."""
    marks = combine_labels([_bits(photometry.flux), np.arange(len(photometry.bands))])
    row, band = np.nonzero(photometry.state != State.DETECTED)
    # Beyond 32 bits, where no bits of a flux are.
    marks[row, band] = combine_labels([row + 2**32, band])
    return marks.T.copy()


def _repeated(labels: Labels) -> NDArray[np.bool_]:
    """Whether each label occurs more than once."""
    in_order = np.sort(labels)
    repeated = np.unique(in_order[1:][in_order[1:] == in_order[:-1]])
    return np.isin(labels, repeated) if len(repeated) else np.zeros(len(labels), dtype=bool)


def _bits(values: FloatArray) -> NDArray[np.uint32]:
    """Bits in single precision: the last ones of a double differ between machines."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)


def _texts(values: NDArray[Any]) -> list[str]:
    """Values as text, empty where missing."""
    return ["" if _is_missing(value) else _text(value) for value in values.tolist()]


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of integers of which one is missing
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _is_missing(value: object) -> bool:
    # Only NaN differs from itself.
    return value is None or value != value  # noqa: PLR0124
