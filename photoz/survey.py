"""Survey: which columns of a catalogue hold what, in which unit, and what is missing."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    field_serializer,
    model_validator,
)

from photoz.columns import suggest
from photoz.errors import InputError
from photoz.survey_checks import check_keys, measurement_keys, no_truth_value
from photoz.toml_file import read_toml

__all__ = ["BandColumns", "Survey", "builtin_surveys", "load_survey", "suggest"]

FluxUnit = Literal["nJy", "uJy", "Jy", "maggy", "nanomaggy"]

ZERO_POINTS: dict[FluxUnit, float] = {
    "nJy": 31.4,
    "uJy": 23.9,
    "Jy": 8.9,
    "maggy": 0.0,
    "nanomaggy": 22.5,
}
"""AB magnitude of a flux of 1 in each unit."""


Number = Annotated[float, BeforeValidator(no_truth_value)]
Error = Annotated[str | float | None, BeforeValidator(no_truth_value)]


class BandColumns(BaseModel):
    """Names of the columns that belong to one band; None where there is no such column.

    In a survey they are the exceptions to its patterns; `Survey.band_columns` fills in the
    rest. The meaning and unit of each is that of the pattern of the same name in `Survey`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    magnitude: str | None = None
    error: Error = None
    flux: str | None = None
    flux_error: str | None = None
    flux_ivar: str | None = None
    extinction: str | None = None

    def names(self) -> list[str]:
        """Names of the columns, without the ones that do not exist."""
        return [name for name in self.model_dump().values() if isinstance(name, str)]

    @property
    def value(self) -> str:
        """Name of the column of the measurement itself."""
        return self.flux or self.magnitude or ""


class Survey(BaseModel):
    """The contract between a catalogue and a model: columns, units, missing values.

    In a pattern, ``{band}`` stands for the name of the band. A survey gives magnitudes or
    fluxes, not both; if it says nothing, its magnitudes are in ``mag_{band}`` and their
    errors in ``mag_err_{band}``.

    Parameters
    ----------
    bands
        Names of the bands, in the order in which models use them.
    magnitude, error
        Patterns of the AB magnitudes and of their 1-sigma errors (mag). Where there are no
        columns of errors, `error` is a number: the error that every magnitude is taken to have.
    flux, flux_error, flux_ivar
        Patterns of the fluxes and of either their 1-sigma errors or inverse variances.
    flux_unit, zero_point
        Unit of the fluxes, or instead the AB magnitude of a flux of 1; nJy if neither is
        given.
    not_observed, not_detected
        Values that stand for a missing measurement, and for an object that was observed
        but is too faint. Magnitudes take -99 and 99 if left out, fluxes none.
    depth
        1-sigma limiting AB magnitude of each band, for what was not detected.
    softening
        If given, the magnitudes are asinh magnitudes; the softening b of each band, in
        units of the flux of magnitude 0.
    extinction
        Pattern of the Galactic extinction A (mag) to subtract.
    ebv, a_ebv
        Instead of it a column of E(B-V) (mag), and of each band A / E(B-V).
    columns
        Exceptions to the patterns, per band.
    redshift
        Column of the spectroscopic redshift.
    id
        Column of the object's identity.
    coordinates
        Columns of right ascension and declination (degrees).
    hdf5_group
        Group of an HDF5 file that holds the columns.
    extra
        Further input columns that are no fluxes.

    Raises
    ------
    InputError
        If a key is unknown, two keys contradict each other or one lacks another.

    References
    ----------
    Lupton, Gunn & Szalay (1999), https://arxiv.org/abs/astro-ph/9903081 (asinh magnitudes)

    Examples
    --------
    >>> survey = Survey(bands=["g", "r"], flux="f_{band}", flux_ivar="iv_{band}", zero_point=22.5)
    >>> survey.band_columns("r").names()
    ['f_r', 'iv_r']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bands: tuple[str, ...]
    magnitude: str | None = None
    error: Error = None
    flux: str | None = None
    flux_error: str | None = None
    flux_ivar: str | None = None
    flux_unit: FluxUnit | None = None
    zero_point: Number | None = None
    not_observed: tuple[Number, ...] = ()
    not_detected: tuple[Number, ...] = ()
    depth: dict[str, Number] = {}
    softening: dict[str, Number] = {}
    extinction: str | None = None
    ebv: str | None = None
    a_ebv: dict[str, Number] = {}
    columns: dict[str, BandColumns] = {}
    redshift: str = "redshift"
    id: str | None = None
    coordinates: tuple[str, str] | None = None
    hdf5_group: str | None = None
    extra: tuple[str, ...] = ()

    def __init__(self, **keys: object) -> None:
        try:
            super().__init__(**keys)
        except ValidationError as error:
            msg = f"survey: {_explain(error)}"
            raise InputError(msg) from None

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, keys: object) -> object:
        """Give magnitudes or fluxes the defaults that only make sense for them."""
        if not isinstance(keys, Mapping):
            return keys
        keys = dict(keys)
        if isinstance(keys.get("columns"), Mapping):
            keys["columns"] = {
                band: dict(table) if isinstance(table, BandColumns) else table
                for band, table in keys["columns"].items()
            }
        used = measurement_keys(keys)
        if used & {"flux", "flux_error", "flux_ivar"}:
            if not used & {"flux_unit", "zero_point"}:
                keys["flux_unit"] = "nJy"
            return keys
        defaults = {"magnitude": "mag_{band}", "error": "mag_err_{band}"}
        keys.update({key: name for key, name in defaults.items() if keys.get(key) is None})
        # A value that the survey itself declares keeps the meaning given there.
        for key, other, value in (
            ("not_observed", "not_detected", -99.0),
            ("not_detected", "not_observed", 99.0),
        ):
            if key not in keys:
                declared = keys.get(other)
                taken = isinstance(declared, (list, tuple)) and value in declared
                keys[key] = () if taken else (value,)
        return keys

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = {band: self.band_columns(band).model_dump() for band in self.bands}
        check_keys(self.model_dump(), columns)
        return self

    @field_serializer("not_observed", "not_detected", when_used="json")
    def _write_sentinels(self, values: tuple[float, ...]) -> list[float | str]:
        """JSON knows neither NaN nor infinity."""
        return [value if np.isfinite(value) else str(value) for value in values]

    @classmethod
    def from_toml(cls, path: str | Path) -> Survey:
        """Read a survey file: the keys of a survey, or a table ``[survey]`` with them.

        Raises
        ------
        InputError
            If there is no such file, or it is no valid survey.
        """
        path = Path(path)
        keys, _ = read_toml(path, "a survey")
        if set(keys) == {"survey"} and isinstance(keys["survey"], dict):
            keys = keys["survey"]
        try:
            return cls(**keys)
        except InputError as error:
            msg = f"{path}: {error}"
            raise InputError(msg) from None

    @property
    def uses_flux(self) -> bool:
        """Whether the measurements are fluxes, not magnitudes."""
        return "flux" in measurement_keys(self.model_dump())

    @property
    def flux_zero_point(self) -> float:
        """AB magnitude of a flux of 1."""
        if self.zero_point is not None:
            return self.zero_point
        return ZERO_POINTS[self.flux_unit or "nJy"]

    def band_columns(self, band: str) -> BandColumns:
        """Names of the columns of one band."""
        names: dict[str, Any] = {}
        for key in BandColumns.model_fields:
            pattern: str | float | None = getattr(self, key)
            exception = getattr(self.columns.get(band), key, None)
            default = pattern.replace("{band}", band) if isinstance(pattern, str) else pattern
            names[key] = default if exception is None else exception
        own = self.columns.get(band, BandColumns())
        for key, other in (("flux_error", "flux_ivar"), ("flux_ivar", "flux_error")):
            if getattr(own, key) is not None and getattr(own, other) is None:
                names[other] = None
        return BandColumns(**names)

    def columns_needed(self, bands: Iterable[str] | None = None) -> list[str]:
        """Names of the columns that photometry is made of, each once.

        Parameters
        ----------
        bands
            The bands that are wanted; all if left out.
        """
        chosen = self.bands if bands is None else bands
        names = [name for band in chosen for name in self.band_columns(band).names()]
        names += [] if self.ebv is None else [self.ebv]
        return list(dict.fromkeys([*names, *self.extra]))


def builtin_surveys() -> list[str]:
    """Names of the surveys that come with photoz."""
    folder = files("photoz") / "surveys"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def load_survey(
    source: str | Path | Mapping[str, Any] | Survey, *, directory: Path | None = None
) -> Survey:
    """Find a survey.

    Parameters
    ----------
    source
        Name of a built-in survey, path of a survey file, the keys of a survey, or a survey.
    directory
        Folder to which a path is relative; the working directory if left out.

    Raises
    ------
    InputError
        If there is no such survey, or it is not valid.
    """
    if isinstance(source, Survey):
        return source
    if isinstance(source, Mapping):
        return Survey(**{str(key): value for key, value in source.items()})
    name = str(source)
    if name in builtin_surveys():
        text = (files("photoz") / "surveys" / f"{name}.toml").read_text(encoding="utf-8")
        return Survey(**tomllib.loads(text))
    path = (directory or Path()) / name
    if path.suffix == ".toml" or path.is_file():
        return Survey.from_toml(path)
    msg = (
        f"unknown survey {name!r}{suggest(name, builtin_surveys())}; the built-in ones are "
        f"{', '.join(builtin_surveys())}; or give the path of a survey TOML."
    )
    raise InputError(msg)


def _explain(error: ValidationError) -> str:
    """Put what pydantic found into one line, with the keys that exist."""
    lines = []
    for mistake in error.errors():
        *table, key = [str(part) for part in mistake["loc"]] or [""]
        place = ".".join([*table, key])
        known = list((BandColumns if table[:1] == ["columns"] else Survey).model_fields)
        if mistake["type"] == "extra_forbidden":
            hint = suggest(key, known)
            lines.append(f"unknown key {key!r}{hint}; the keys that exist are {', '.join(known)}.")
        elif mistake["type"] == "value_error":
            told = str(mistake["ctx"]["error"])
            lines.append(f"{place}: {told}" if place else told)
        elif mistake["loc"] == ("bands",) and mistake["type"] == "missing":
            lines.append('bands is missing; list the names of the bands, such as ["g", "r"].')
        else:
            expected = (
                mistake["msg"].replace("Input should be", "expected").replace("tuple", "list")
            )
            lines.append(f"{place}: {expected}, got {mistake['input']!r}.")
    return " ".join(dict.fromkeys(lines))
