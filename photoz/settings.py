"""Settings: what one experiment file says, checked key by key."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from photoz.errors import InputError
from photoz.estimators import get_estimator, registered_estimators
from photoz.estimators.base import Choice, Range
from photoz.settings_tables import (
    AugmentSettings,
    CalibrationSettings,
    CatalogueSettings,
    FeatureSettings,
    Searched,
    SearchSettings,
    Settings,
    SplitSettings,
    TrackingSettings,
    as_tuple,
    parse_searched,
    tried,
)
from photoz.survey import Survey, load_survey, suggest
from photoz.toml_file import read_toml

__all__ = ["FLOORS", "CatalogueSettings", "Experiment", "Searched"]

FLOORS = ("trainz", "knn")
"""Estimators that every table shows and no experiment crowns."""

_BLEND = "blend"
# A floor is what anybody gets without an effort: nothing is searched, nothing augmented.
_PLAIN = {"augment.noise_copies": 0, "augment.depth_scale": 0.0, "features.errors": False}
_FAMILIES = ("forest", "boosting", "network")
# Set by the experiment as a whole, so that all families share one grid.
_SHARED = ("random_state",)


def _default_estimators() -> dict[str, dict[str, Any]]:
    return {name: {} for name in (*_FAMILIES, _BLEND)}


class Experiment(Settings):
    """One experiment: a catalogue, a survey, a split, and the estimators to search.

    Read it with `Experiment.from_toml`. README.md and the files in ``experiments/`` show
    the keys; only ``[catalogue]`` and a survey are required. It keeps the text of its file in
    `source`, which is no key.

    Raises
    ------
    InputError
        If a key is unknown or has a value of the wrong kind.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: int = Field(default=0, ge=0, lt=2**32)
    catalogue: CatalogueSettings
    survey: dict[str, Any] | None = None
    split: SplitSettings = SplitSettings()
    augment: AugmentSettings = AugmentSettings()
    features: FeatureSettings = FeatureSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    search: SearchSettings = SearchSettings()
    tracking: TrackingSettings = TrackingSettings()
    estimators: dict[str, dict[str, Any]] = Field(default_factory=_default_estimators)
    directory: Path = Field(default=Path(), exclude=True)
    source: str = Field(default="", exclude=True)

    def __init__(self, **keys: Any) -> None:  # noqa: ANN401 - whatever a TOML file holds
        try:
            super().__init__(**keys)
        except ValidationError as error:
            raise InputError(_explain(error, type(self))) from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Experiment:
        """Read an experiment file; its name is that of the file where it gives none.

        Raises
        ------
        InputError
            If there is no such file, it is no TOML, or a key or value is wrong.
        """
        path = Path(path)
        keys, source = read_toml(path, "an experiment")
        given = {"name": path.stem, **keys}
        try:
            _check_keys(given)
            return cls(**given, directory=path.parent, source=source)
        except InputError as error:
            msg = f"{path}: {error}"
            raise InputError(msg) from None

    def replaced(
        self,
        *,
        catalogue: Path | None = None,
        test: Path | None = None,
        trials: int | None = None,
    ) -> Experiment:
        """The same experiment on another catalogue, another held-out file or another budget.

        Parameters
        ----------
        catalogue, test
            Files relative to the working directory; as in the file if left out.
        trials
            Trials per estimator; as in the file if left out.
        """
        table = dict(self.catalogue)
        if catalogue is not None:
            survey = self.catalogue.survey or self.catalogue.dataset
            table |= {"dataset": None, "path": (str(catalogue.absolute()),), "test_path": None}
            table |= {"survey": None if self.survey else survey}
        if test is not None:
            table |= {"test_path": (str(test.absolute()),)}
        search = dict(self.search) | ({} if trials is None else {"trials": trials})
        return self.model_copy(
            update={"catalogue": CatalogueSettings(**table), "search": SearchSettings(**search)}
        )

    @model_validator(mode="after")
    def _check_survey(self) -> Self:
        if (self.survey is None) == (self.catalogue.survey is None):
            if self.catalogue.dataset is not None and self.survey is None:
                return self
            msg = "expected one survey: catalogue.survey (a name or a path) or a table [survey]."
            raise ValueError(msg)
        return self

    @field_validator("estimators")
    @classmethod
    def _check_estimators(cls, tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if not set(tables) - {_BLEND, *FLOORS}:
            msg = f"expected at least one estimator besides {_BLEND} and the floors."
            raise ValueError(msg)
        return {
            name: _check_blend(table, tables) if name == _BLEND else _check_table(name, table)
            for name, table in tables.items()
        }

    @property
    def families(self) -> tuple[str, ...]:
        """Estimators that are searched, in the order of the file; no floors, no blend."""
        return tuple(name for name in self.estimators if name not in (_BLEND, *FLOORS))

    @property
    def blend_members(self) -> tuple[str, ...]:
        """Estimators that the blend pools; none if there is no blend."""
        if _BLEND not in self.estimators or len(self.families) < 2:
            return ()
        return tuple(self.estimators[_BLEND].get("members", self.families))

    def load_survey(self) -> Survey:
        """Survey of the catalogue, with the further input columns of ``[features]``."""
        source = self.survey or self.catalogue.survey or self.catalogue.dataset
        survey = load_survey(source or "", directory=self.directory)
        aside = {self.catalogue.weight, self.catalogue.reliability} & set(self.features.extra)
        if aside:
            msg = (
                f"extra in [features] must list further input columns, but {aside.pop()!r} is the "
                "weight or the reliability of [catalogue]; leave it out."
            )
            raise InputError(msg)
        return Survey(**{**dict(survey), "extra": (*survey.extra, *self.features.extra)})

    def space(self, family: str) -> tuple[dict[str, Range | Choice], dict[str, Any]]:
        """What the search of a family may try, and what is fixed.

        Parameters
        ----------
        family
            Name of an estimator.

        Returns
        -------
        dict
            Ranges and choices by parameter; those of the noisy copies are called
            ``augment.NAME``, those of the features ``features.NAME``.
        dict
            Values of the fixed parameters, under the same kind of names.
        """
        ours = self.estimators.get(family, {})
        if family in FLOORS:
            return {}, {**_PLAIN, **ours}
        theirs = get_estimator(family).search_space()
        wanted: dict[str, Any] = {
            **{key: value for key, value in theirs.items() if key not in ours},
            **ours,
            **{f"augment.{key}": value for key, value in self.augment},
            "features.errors": self.features.errors,
        }
        space = {key: value for key, value in wanted.items() if isinstance(value, Range | Choice)}
        return space, {key: value for key, value in wanted.items() if key not in space}


def _check_keys(keys: Mapping[str, Any]) -> None:
    """Refuse what is an attribute of an experiment but no key of its file."""
    fields = Experiment.model_fields
    for key in keys:
        if key in fields and fields[key].exclude:
            known = [name for name, field in fields.items() if not field.exclude]
            msg = f"unknown key {key!r}; the keys are {', '.join(known)}."
            raise InputError(msg)


def _check_table(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    if name not in registered_estimators():
        known = [*registered_estimators(), _BLEND]
        msg = f"unknown estimator {name!r}{suggest(name, known)}; there are {', '.join(known)}."
        raise ValueError(msg)
    # Else the columns of its predictions would be refused, once all has been fitted.
    if not re.fullmatch("[a-z][a-z0-9]*", name):
        msg = (
            f"an experiment names columns by estimators: {name!r} must be letters a-z and digits."
        )
        raise ValueError(msg)
    parameters = [
        key for key in inspect.signature(get_estimator(name)).parameters if key not in _SHARED
    ]
    for key in table:
        if key not in parameters:
            msg = (
                f"unknown key {key!r} in [estimators.{name}]{suggest(key, parameters)}; "
                f"the keys are {', '.join(parameters)}."
            )
            raise ValueError(msg)
    values = {key: parse_searched(value) for key, value in table.items()}
    try:
        for key, value in values.items():
            for one in tried(value):
                get_estimator(name).check_parameter(key, one)
    except InputError as error:
        msg = f"in [estimators.{name}], {error}"
        raise ValueError(msg) from None
    return values


def _check_blend(table: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    for key in table:
        if key != "members":
            msg = f"unknown key {key!r} in [estimators.{_BLEND}]; the only key is members."
            raise ValueError(msg)
    if "members" not in table:
        return {}
    members = as_tuple(table["members"])
    is_list = isinstance(members, list | tuple) and all(isinstance(it, str) for it in members)
    if not is_list or not members or len(set(members)) < len(members):
        msg = f"members of the blend must be a list of different estimators, got {members!r}."
        raise ValueError(msg)
    for member in members:
        if member in FLOORS:
            msg = f"blend member {member!r} is a floor to compare with; blends pool the others."
            raise ValueError(msg)
        if member not in tables or member == _BLEND:
            msg = f"blend member {member!r} is not among the estimators of this file."
            raise ValueError(msg)
    return {"members": tuple(members)}


def _explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Put what pydantic found into one line, with the keys that exist."""
    lines = []
    for mistake in error.errors():
        table, keys = _table_of(root, mistake["loc"])
        key = str(mistake["loc"][-1]) if mistake["loc"] else ""
        where = f" in [{table}]" if table else ""
        if mistake["type"] == "extra_forbidden":
            hint = suggest(key, keys)
            lines.append(f"unknown key {key!r}{where}{hint}; the keys are {', '.join(keys)}.")
        elif mistake["type"] == "missing":
            is_table = f"[{key}]" == where.removeprefix(" in ")
            lines.append(
                f"the table [{key}] is missing." if is_table else f"{key!r} is missing{where}."
            )
        elif mistake["type"] == "string_pattern_mismatch":
            lines.append(
                f"{key} must be letters, digits, '_', '.' and '-', the first a letter or a digit, "
                f'got {mistake["input"]!r}; give another, such as {key} = "deep-field".'
            )
        elif mistake["type"] == "value_error":
            place = f"{key}{where}: " if key in keys else f"[{table}]: " if table else ""
            lines.append(f"{place}{mistake['ctx']['error']}")
        else:
            expected = mistake["msg"].replace("Input should be", "expected")
            place = ".".join(str(part) for part in mistake["loc"] if str(part) in keys) or key
            lines.append(f"{place}{where}: {expected}, got {mistake['input']!r}.")
    return " ".join(dict.fromkeys(lines))


def _table_of(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Name of the table in which a mistake lies, and the keys of that table."""
    table, path = root, []
    for part in loc[:-1]:
        field = table.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (inspect.isclass(inner) and issubclass(inner, BaseModel)):
            break
        table = inner
        path.append(str(part))
    if loc and str(loc[-1]) in root.model_fields and not path:
        inner = root.model_fields[str(loc[-1])].annotation
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            return str(loc[-1]), list(inner.model_fields)
    return ".".join(path), [key for key, field in table.model_fields.items() if not field.exclude]
