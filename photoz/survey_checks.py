"""What the keys of a survey must fulfil together, beyond the type of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import inf, isfinite
from typing import Any

__all__ = ["check_keys", "measurement_keys", "no_truth_value"]

MAGNITUDE_KEYS = {"magnitude", "error", "softening"}
FLUX_KEYS = {"flux", "flux_error", "flux_ivar", "flux_unit", "zero_point"}

Keys = Mapping[str, Any]


def no_truth_value(value: object) -> object:
    """Refuse true and false, which Python takes for the numbers 1 and 0.

    Raises
    ------
    ValueError
        If it is one of them.
    """
    if isinstance(value, bool):
        msg = f"expected a number or the name of a column, got {str(value).lower()}."
        raise ValueError(msg)  # noqa: TRY004 - pydantic explains ValueErrors
    return value


def measurement_keys(keys: Keys) -> set[str]:
    """Keys of magnitudes and of fluxes that are given, as patterns or for one band."""
    exceptions = keys.get("columns")
    tables = [keys, *(exceptions.values() if isinstance(exceptions, Mapping) else ())]
    given = {
        key for t in tables if isinstance(t, Mapping) for key in t if t[key] not in (None, {})
    }
    return given & (MAGNITUDE_KEYS | FLUX_KEYS)


def check_keys(keys: Keys, columns: Mapping[str, Keys]) -> None:
    """Hold the keys of a survey against each other.

    Parameters
    ----------
    keys
        All keys of the survey and their values.
    columns
        Of each band the column of every pattern, None where there is none.

    Raises
    ------
    ValueError
        If two keys contradict each other, one lacks another, or a number is impossible.
    """
    if not columns or len(columns) < len(keys["bands"]):
        msg = f"bands must name at least one band and none twice, got {list(keys['bands'])}."
        raise ValueError(msg)
    for key in ("depth", "softening", "a_ebv", "columns"):
        _check_bands(key, keys[key], columns)
    _check_measurements(keys, columns)
    _check_numbers(keys, columns)
    _check_extinction(keys, columns)
    _check_distinct(keys, columns)
    _check_inputs(keys, columns)


def _check_bands(key: str, value: Keys, bands: Collection[str]) -> None:
    for band in value:
        if band not in bands:
            msg = f"{key} names an unknown band {band!r}; the bands are {', '.join(bands)}."
            raise ValueError(msg)
    # An exception may be made for one band; coefficients of only some would mix two kinds.
    lacking = [band for band in bands if band not in value]
    if key in ("softening", "a_ebv") and value and lacking:
        msg = f"{key} must give a number for every band, it lacks {', '.join(lacking)}."
        raise ValueError(msg)


def _check_measurements(keys: Keys, columns: Mapping[str, Keys]) -> None:
    used = measurement_keys(keys)
    if used & MAGNITUDE_KEYS and used & FLUX_KEYS:
        msg = (
            f"{_join(used & MAGNITUDE_KEYS)} and {_join(used & FLUX_KEYS)} contradict each other; "
            "give magnitude and error, or flux with flux_error or flux_ivar and a unit."
        )
        raise ValueError(msg)
    if {"flux_unit", "zero_point"} <= used:
        msg = "flux_unit and zero_point contradict each other; give one of them."
        raise ValueError(msg)
    value, errors = "magnitude", {"error"}
    if used & FLUX_KEYS:
        value, errors = "flux", {"flux_error", "flux_ivar"}
    for band, names in columns.items():
        given = measurement_keys(names)
        if value not in given or len(given & errors) != 1:
            msg = (
                f"band {band!r} needs {value} and {' or '.join(sorted(errors))}, "
                f"got {_join(given) or 'neither'}."
            )
            raise ValueError(msg)


def _check_numbers(keys: Keys, columns: Mapping[str, Keys]) -> None:
    for band, number in keys["a_ebv"].items():
        if not 0 <= number < inf:  # 0 in the far infrared
            msg = f"a_ebv of band {band!r} must be a number from 0, got {number}."
            raise ValueError(msg)
    for key in ("depth", "softening"):
        for band, number in keys[key].items():
            if not 0 < number < inf:
                msg = f"{key} of band {band!r} must be a number above 0, got {number}."
                raise ValueError(msg)
    for band, names in columns.items():
        error = names["error"]
        if isinstance(error, float) and not 0 < error < inf:
            msg = f"error of band {band!r} must be a column or a number above 0, got {error}."
            raise ValueError(msg)
    zero_point = keys["zero_point"]
    if zero_point is not None and not isfinite(zero_point):
        msg = f"zero_point must be an AB magnitude, got {zero_point}."
        raise ValueError(msg)
    # As text, because NaN equals nothing.
    both = {str(v) for v in keys["not_observed"]} & {str(v) for v in keys["not_detected"]}
    if both:
        msg = f"not_observed and not_detected both list {_join(both)}; keep it in one of them."
        raise ValueError(msg)


def _check_extinction(keys: Keys, columns: Mapping[str, Keys]) -> None:
    has_column = any(names["extinction"] is not None for names in columns.values())
    if has_column and keys["ebv"] is not None:
        msg = "extinction and ebv contradict each other; give one of them."
        raise ValueError(msg)
    if (keys["ebv"] is None) != (not keys["a_ebv"]):
        msg = "ebv (a column) and a_ebv (A / E(B-V) of each band) need each other; give both."
        raise ValueError(msg)


def _check_distinct(keys: Keys, columns: Mapping[str, Keys]) -> None:
    """No column may have two roles: a pattern without {band}, or of another key, gives it that."""
    owners: dict[str, tuple[str, str]] = {}
    for key, band, name in _roles(keys, columns):
        owner = owners.setdefault(name, (key, band))
        if owner == (key, band):
            continue
        if owner[0] == key:
            msg = (
                f"{key} of bands {owner[1]!r} and {band!r} is the same column {name!r}; "
                "write {band} where the pattern holds the band's name."
            )
        else:
            msg = (
                f"the column {name!r} cannot be both {_role(*owner)} and {_role(key, band)}; name "
                "the right one for each."
            )
        raise ValueError(msg)


def _roles(keys: Keys, columns: Mapping[str, Keys]) -> Iterator[tuple[str, str, str]]:
    """Key, band (empty where it is of all) and name of every column but further inputs."""
    for band, names in columns.items():
        yield from ((key, band, name) for key, name in names.items() if isinstance(name, str))
    right_ascension, declination = keys["coordinates"] or (None, None)
    others = {
        "ebv": keys["ebv"],
        "redshift": keys["redshift"],
        "id": keys["id"],
        "right ascension": right_ascension,
        "declination": declination,
    }
    yield from ((key, "", name) for key, name in others.items() if name is not None)


def _role(key: str, band: str) -> str:
    return f"{key} of band {band!r}" if band else key


def _check_inputs(keys: Keys, columns: Mapping[str, Keys]) -> None:
    """Extra inputs are columns of their own: with the redshift as input, a model would know it."""
    taken = {name: band for band, names in columns.items() for name in names.values()}
    taken |= {keys["redshift"]: "the redshift", keys["id"]: "the identity"}
    for name in keys["extra"]:
        if keys["extra"].count(name) > 1 or name in taken:
            what = f"belongs to {taken[name]}" if name in taken else "is listed twice"
            msg = f"extra must list further input columns, but {name!r} {what}; leave it out."
            raise ValueError(msg)


def _join(names: Collection[str]) -> str:
    return " and ".join(sorted(names))
