"""Tables of an experiment file: their keys, defaults and what values may be."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PositiveFloat,
    model_validator,
)

from photoz.estimators.base import Choice, Range
from photoz.estimators.limits import Limits

__all__ = [
    "AugmentSettings",
    "CalibrationSettings",
    "CatalogueSettings",
    "FeatureSettings",
    "SearchSettings",
    "Searched",
    "Settings",
    "SplitSettings",
    "TrackingSettings",
    "as_tuple",
    "parse_searched",
    "tried",
]


class Settings(BaseModel):
    """A table whose keys and kinds of values are known, and which does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Names = Annotated[tuple[str, ...], Field(strict=False)]


def as_tuple(value: Any) -> Any:  # noqa: ANN401 - whatever a TOML file holds
    """One name as the only one of several."""
    return (value,) if isinstance(value, str) else value


OneOrMore = Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(strict=False)]


def parse_searched(value: Any) -> Any:  # noqa: ANN401 - whatever a TOML file holds
    """A value stays, ``{low, high, log}`` becomes a range and ``{choices}`` a choice."""
    if isinstance(value, bool | int | float | str | Range | Choice):
        return value
    keys = set(value) if isinstance(value, dict) else set()
    if {"low", "high"} <= keys <= {"low", "high", "log"}:
        return _parse_range(value["low"], value["high"], value.get("log", False))
    if keys == {"choices"} and isinstance(value["choices"], list) and value["choices"]:
        return Choice(tuple(value["choices"]))
    msg = f"expected a value, {{ low, high, log }} or {{ choices = [...] }}, got {value!r}."
    raise ValueError(msg)


def _parse_range(low: Any, high: Any, log: Any) -> Range:  # noqa: ANN401
    numbers = all(
        isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)
    )
    is_range = numbers and -math.inf < low < high < math.inf
    if not is_range or not isinstance(log, bool) or (log and not low > 0):
        msg = (
            f"expected numbers low < high, above 0 where log = true, got low = {low!r}, "
            f"high = {high!r}, log = {log!r}."
        )
        raise ValueError(msg)
    return Range(low, high, log=log)


Searched = Annotated[bool | int | float | str | Range | Choice, PlainValidator(parse_searched)]
"""A value fixes a parameter; a range or choices let the search find it."""


class CatalogueSettings(Settings):
    """Table ``[catalogue]``: where the galaxies are."""

    dataset: str | None = None
    path: OneOrMore | None = None
    test_path: OneOrMore | None = None
    where: str | None = None
    weight: str | None = None
    reliability: str | float | None = None
    survey: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.dataset is None) == (self.path is None):
            msg = "expected either dataset (a named set) or path (a file, a list or a glob)."
            raise ValueError(msg)
        for key in ("path", "test_path"):
            named = getattr(self, key)
            if named is not None and not (named and all(named)):
                msg = f"{key} must name a file, a folder or a glob, got an empty one."
                raise ValueError(msg)
        if isinstance(self.reliability, float) and not 0 < self.reliability <= 1:
            msg = f"reliability is a probability above 0 and up to 1, got {self.reliability}."
            raise ValueError(msg)
        return self


class SplitSettings(Settings):
    """Table ``[split]``."""

    by: str = "random"
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    cell_degrees: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation + self.test >= 1:
            msg = f"validation + test must leave rows to train, got {self.validation + self.test}."
            raise ValueError(msg)
        return self


def tried(value: Any) -> Collection[Any]:  # noqa: ANN401 - whatever `parse_searched` gives
    """What a search may try: a value, the choices, or the ends of a range."""
    if isinstance(value, Range):
        return value.low, value.high
    return value.options if isinstance(value, Choice) else (value,)


class AugmentSettings(Settings):
    """Table ``[augment]``: noisy copies of the training galaxies."""

    noise_copies: Searched = Choice((0, 4, 9))
    noise_scale: Searched = Range(0.0, 0.8)
    depth_scale: float = Field(default=3.0, ge=0)
    band_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for value in tried(self.noise_copies):
            Limits(0, whole=True).check("noise_copies", value)
        for value in tried(self.noise_scale):
            Limits(0).check("noise_scale", value)
        return self


class FeatureSettings(Settings):
    """Table ``[features]``."""

    errors: Searched = Choice((True, False))
    extra: OneOrMore = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(isinstance(value, bool) for value in tried(self.errors)):
            msg = f"errors must be true, false or choices of them, got {self.errors!r}."
            raise ValueError(msg)
        return self


class CalibrationSettings(Settings):
    """Table ``[calibration]``."""

    conformal: float = Field(default=0.0, ge=0, le=0.5)


class SearchSettings(Settings):
    """Table ``[search]``."""

    metric: Literal["log_loss", "cde_loss", "crps", "sigma_nmad"] = "log_loss"
    trials: int = Field(default=30, ge=0)
    timeout: float | None = Field(default=None, gt=0)
    storage: str = ""
    warm_start: str = ""


class TrackingSettings(Settings):
    """Table ``[tracking]``."""

    uri: str = ""
