"""Split: which galaxies train, validate and test; adding rows moves none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from photoz.errors import InputError
from photoz.identity import (
    Identity,
    Labels,
    combine_labels,
    first_twins,
    identify,
    label_values,
    repeats,
    uniform,
)
from photoz.pdf import FloatArray
from photoz.photometry import Photometry

__all__ = ["Galaxies", "Split", "add_counts", "check_parts", "distinct_rows", "folds", "split"]

Rows = NDArray[np.intp]

TEST_ID = "id is in the test file"
TEST_TWIN = "photometric twin of a galaxy in the test file"
TWIN = "photometric twin under another id"
ELSEWHERE = "id was seen before in another group"
REPEAT = "repeat of an earlier row"


class Galaxies(Protocol):
    """What `split` has to know of a catalogue."""

    @property
    def photometry(self) -> Photometry:
        """Photometry of ``n_galaxies`` galaxies."""

    @property
    def z_spec(self) -> FloatArray | None:
        """Spectroscopic redshifts, shape ``(n_galaxies,)``."""

    @property
    def object_id(self) -> NDArray[Any]:
        """Declared ids or row numbers, shape ``(n_galaxies,)``."""

    @property
    def ra(self) -> FloatArray | None:
        """Right ascensions (degrees), shape ``(n_galaxies,)``."""

    @property
    def dec(self) -> FloatArray | None:
        """Declinations (degrees), shape ``(n_galaxies,)``."""

    @property
    def extra(self) -> Mapping[str, NDArray[Any]]:
        """Further columns by name, each of shape ``(n_galaxies,)``."""


@dataclass(frozen=True, eq=False)
class Split:
    """The parts of a catalogue, as row numbers in ascending order.

    Parameters
    ----------
    train, validation
        Rows of the catalogue.
    test
        Rows of the catalogue, or of the official test catalogue if there is one.
    dropped
        How many rows belong to no part, by reason.
    groups
        Label of each row of the catalogue, shape ``(n_galaxies,)``; rows of one label stay
        together: what `folds` needs.
    test_groups
        Labels of the test galaxies in the order of `test` where the split is by sky or by
        column, else None: what a bootstrap has to resample.
    identities
        Identity of each row of the catalogue as text, shape ``(n_galaxies,)``: its declared
        id, else a hash of its photometry and redshift.
    sha256
        Of the sorted lines ``id,part``.
    """

    train: Rows
    validation: Rows
    test: Rows
    dropped: dict[str, int]
    groups: Labels
    test_groups: Labels | None
    identities: NDArray[np.str_]
    sha256: str


def split(
    galaxies: Galaxies,
    *,
    declared_ids: bool,
    by: str = "random",
    validation: float = 0.2,
    test: float = 0.2,
    cell_degrees: float = 1.0,
    seed: int = 0,
    official_test: Galaxies | None = None,
) -> Split:
    """Give every galaxy its part, by a hash of its identity that no other row enters.

    The identity is the declared id, else a hash of photometry and redshift. Rows that
    equal an earlier one of another identity in three measured bands or more are dropped, and
    so are rows that repeat one of the same identity altogether: they would count twice.

    Parameters
    ----------
    galaxies
        The catalogue to split.
    declared_ids
        Whether the survey names a column of ids; without one `Galaxies.object_id` is no
        more than the number of the row, which another row can take.
    by
        ``random``: each galaxy for itself; ``sky``: all of a cell together; else the name
        of a column: all of one value together.
    validation, test
        Expected shares of the two parts; `test` is idle if there is an official one.
    cell_degrees
        Side of a cell (degrees) at the equator; all cells have the same area.
    seed
        Another seed, another split.
    official_test
        Test galaxies that are held out already. The catalogue's rows with the id or the
        photometry of one of them are dropped, and so are its own repeats.

    Raises
    ------
    InputError
        If a number is out of its range, `by` needs a column that is not there, or a part
        would be empty.
    """
    if not (min(validation, test) > 0 and validation + test < 1):
        msg = (
            "expected shares validation and test above 0 that leave rows to train, "
            f"found {validation} and {test}; lower or raise them."
        )
        raise InputError(msg)
    if not 0 < cell_degrees < np.inf:
        msg = f"expected cells of the sky with a side above 0 degrees, found {cell_degrees}."
        raise InputError(msg)
    identity = _identity(galaxies, declared_ids)
    tested = identity if official_test is None else _identity(official_test, declared_ids)
    groups = identity.keys if by == "random" else _groups(galaxies, by, cell_degrees)
    kept, dropped = _without_leaks(galaxies, identity, official_test, tested)
    kept, dropped[ELSEWHERE] = _in_one_group(kept, identity.keys, groups)
    kept, dropped[REPEAT] = _without_repeats(kept, galaxies, identity)
    official_rows = np.arange(len(tested.keys))
    if official_test is not None:
        official_rows, n_repeats = _without_repeats(official_rows, official_test, tested)
        dropped[REPEAT] += n_repeats

    position = uniform(groups[kept], f"split {seed}")
    for_test = position < (test if official_test is None else 0)
    for_training = position >= np.where(official_test is None, test, 0) + validation
    parts = {
        "train": kept[for_training],
        "validation": kept[~for_training & ~for_test],
        "test": kept[for_test] if official_test is None else official_rows,
    }
    dropped = add_counts(dropped)
    check_parts(parts, dropped)
    return Split(
        **parts,
        dropped=dropped,
        groups=groups,
        test_groups=_test_groups(official_test or galaxies, by, cell_degrees, parts["test"]),
        identities=np.array(identity.names),
        sha256=_sha256(parts, identity, tested),
    )


def distinct_rows(
    galaxies: Galaxies, *, declared_ids: bool
) -> tuple[Rows, Labels, dict[str, int]]:
    """Rows that `split` would not drop of a catalogue split at random, the others by reason.

    Parameters
    ----------
    galaxies, declared_ids
        As in `split`.

    Returns
    -------
    ndarray of shape (n_rows,), ndarray of shape (n_rows,), dict of int
        Row numbers in ascending order, their `Split.groups`, and how many rows are not among
        them.

    Raises
    ------
    InputError
        If the catalogue has no redshifts.
    """
    identity = _identity(galaxies, declared_ids)
    rows, dropped = _without_leaks(galaxies, identity, None, identity)
    rows, dropped[REPEAT] = _without_repeats(rows, galaxies, identity)
    return rows, identity.keys[rows], add_counts(dropped)


def folds(groups: Labels, *, n_folds: int = 5, seed: int = 0) -> Rows:
    """Cut galaxies into folds; groups stay together, and adding rows moves none.

    Only where so few groups are left that a fold would be empty, they are dealt out in
    turn, into fewer folds if there are fewer groups.

    Parameters
    ----------
    groups
        `Split.groups` of the galaxies, shape ``(n_galaxies,)``.
    n_folds
        Number of folds.
    seed
        Another seed, other folds.

    Returns
    -------
    ndarray of shape (n_galaxies,)
        Fold of each galaxy, from 0 on.

    Raises
    ------
    InputError
        If there are fewer than two groups.
    """
    position = uniform(groups, f"folds {seed}")
    fold = (position * n_folds).astype(np.intp)
    if len(np.unique(fold)) == n_folds:
        return fold
    distinct, rank = np.unique(position, return_inverse=True)
    if len(distinct) < 2:
        msg = (
            f"expected at least two groups to cut into folds, found {len(distinct)}; "
            "split by smaller cells, by another column or at random."
        )
        raise InputError(msg)
    return (rank % n_folds).astype(np.intp)


def _identity(galaxies: Galaxies, declared_ids: bool) -> Identity:
    if galaxies.z_spec is None:
        msg = "expected spectroscopic redshifts in the catalogue to split, found no such column."
        raise InputError(msg)
    declared = galaxies.object_id if declared_ids else None
    return identify(galaxies.photometry, galaxies.z_spec, declared)


def _without_leaks(
    galaxies: Galaxies, identity: Identity, official_test: Galaxies | None, tested: Identity
) -> tuple[Rows, dict[str, int]]:
    """Rows that no earlier row and no official test galaxy repeats; the others by reason."""
    if official_test is None:
        reasons = {TWIN: first_twins(galaxies.photometry, identity.keys) >= 0}
    else:
        n_test = len(tested.keys)
        stacked = Photometry.concatenate([official_test.photometry, galaxies.photometry])
        first = first_twins(stacked, np.concatenate([tested.keys, identity.keys]))[n_test:]
        reasons = {
            TEST_ID: np.isin(identity.keys, tested.keys),
            TEST_TWIN: (first >= 0) & (first < n_test),
            TWIN: first >= n_test,
        }
    rows = np.arange(len(identity.keys))
    dropped = {}
    for reason, concerned in reasons.items():
        dropped[reason] = int(concerned[rows].sum())
        rows = rows[~concerned[rows]]
    return rows, dropped


def _in_one_group(rows: Rows, keys: Labels, groups: Labels) -> tuple[Rows, int]:
    """Rows without those whose identity has an earlier row in another group."""
    _, index, inverse = np.unique(keys[rows], return_index=True, return_inverse=True)
    together = groups[rows] == groups[rows][index][inverse]
    return rows[together], int((~together).sum())


def _without_repeats(rows: Rows, galaxies: Galaxies, identity: Identity) -> tuple[Rows, int]:
    """Rows that are none of the earlier ones again."""
    z_spec = np.asarray(galaxies.z_spec)[rows]
    again = repeats(
        galaxies.photometry[rows], z_spec, identity.keys[rows], identity.is_declared[rows]
    )
    return rows[~again], int(again.sum())


def _groups(galaxies: Galaxies, by: str, cell_degrees: float) -> Labels:
    """Label of the cell or of the column's value of each galaxy."""
    if by == "sky":
        return _sky_cells(galaxies.ra, galaxies.dec, cell_degrees)
    if by not in galaxies.extra:
        known = ", ".join(["random", "sky", *galaxies.extra])
        msg = f"expected a split by a column or by one of {known}, found no column {by!r}."
        raise InputError(msg)
    return label_values(galaxies.extra[by])


def _test_groups(tested: Galaxies, by: str, cell_degrees: float, rows: Rows) -> Labels | None:
    known = tested.ra is not None if by == "sky" else by in tested.extra
    return _groups(tested, by, cell_degrees)[rows] if known and by != "random" else None


def _sky_cells(ra: FloatArray | None, dec: FloatArray | None, cell_degrees: float) -> Labels:
    """Label of the cell, equal-area in (ra, sin dec), in which each position lies."""
    if ra is None or dec is None:
        msg = (
            "expected coordinates to split by sky, found none; name their columns in the "
            'survey (coordinates = ["ra", "dec"]) or split at random.'
        )
        raise InputError(msg)
    n_bad = int((~(np.isfinite(ra) & (np.abs(dec) <= 90))).sum())
    if n_bad:
        msg = (
            f"expected ra and dec in degrees to split by sky, found {n_bad} rows that have no "
            "such position; filter them out, or split at random."
        )
        raise InputError(msg)
    n_ra = max(1, round(360 / cell_degrees))
    n_dec = max(1, round(2 / np.radians(cell_degrees)))
    # Rounding may put the upper edge of the last cell beyond it.
    column = np.minimum(np.floor(np.mod(ra, 360) / 360 * n_ra), n_ra - 1)
    row = np.minimum(np.floor((np.sin(np.radians(dec)) + 1) / 2 * n_dec), n_dec - 1)
    return combine_labels([column.astype(np.uint64), row.astype(np.uint64)])


def add_counts(*counts: Mapping[str, int]) -> dict[str, int]:
    """Numbers of rows by reason, added up; reasons without rows are left out."""
    total: dict[str, int] = {}
    for part in counts:
        for reason, count in part.items():
            total[reason] = total.get(reason, 0) + count
    return {reason: count for reason, count in total.items() if count}


def check_parts(parts: Mapping[str, Rows], dropped: Mapping[str, int]) -> None:
    """Raise `InputError` if a part holds no galaxies.

    Parameters
    ----------
    parts
        Rows of each part by name.
    dropped
        How many rows were left out, by reason.
    """
    empty = [name for name, rows in parts.items() if not len(rows)]
    if empty:
        sizes = ", ".join(f"{len(rows)} to {name}" for name, rows in parts.items())
        lost = "".join(f", {count} dropped ({why})" for why, count in dropped.items() if count)
        msg = (
            f"expected galaxies in every part of the split, found none in {' and '.join(empty)}: "
            f"{sizes}{lost}; bring more galaxies or groups, or choose other shares or a new seed."
        )
        raise InputError(msg)


def _sha256(parts: Mapping[str, Rows], identity: Identity, tested: Identity) -> str:
    lines = []
    for part, rows in parts.items():
        names = (tested if part == "test" else identity).names
        lines += [f"{names[row]},{part}" for row in rows.tolist()]
    text = "".join(f"{line}\n" for line in sorted(lines))
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
