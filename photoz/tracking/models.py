"""Models: a bundle as an MLflow model, and back."""

from __future__ import annotations

import tempfile
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

import photoz
from photoz.blend import single_models
from photoz.bundle import load_model
from photoz.errors import InputError, without_password
from photoz.model import FittedModel
from photoz.photometry import photometry_from_columns
from photoz.prediction import prediction_columns
from photoz.survey import Survey
from photoz.tracking.store import Store
from photoz.tracking.versions import registered_models

__all__ = ["fetch_bundle", "log_bundle"]

# Named by its place: adapters come after tracking, and MLflow keeps a copy of the file.
_PYFUNC = Path(photoz.__file__).parent / "adapters" / "pyfunc.py"
_BASE = ("photoz", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")
_OF_ESTIMATOR = {"boosting": "lightgbm"}
_EXAMPLE_MAGNITUDES = (19.0, 21.0, 23.0)


def log_bundle(
    bundle: Path, *, client: MlflowClient, experiment_id: str, run_id: str, family: str
) -> str:
    """Log a bundle as an MLflow model that is loaded from code, without any pickle.

    Parameters
    ----------
    bundle
        Directory of the bundle.
    client
        Client of the current store.
    experiment_id, run_id
        Experiment and run that the model belongs to.
    family
        Name of the estimator.

    Returns
    -------
    str
        Id of the logged model.
    """
    model = load_model(bundle)
    example = _made_up_rows(model.survey)
    parameters = client.get_run(run_id).data.params
    logged = client.create_logged_model(
        experiment_id, family, run_id, params=parameters, model_type=family
    )
    status = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory(prefix="photoz-") as work:
            place = Path(work) / "model"
            mlflow.pyfunc.save_model(
                str(place),
                mlflow_model=Model(logged.artifact_location, run_id, model_id=logged.model_id),
                python_model=str(_PYFUNC),
                artifacts={"bundle": str(bundle)},
                signature=_signature(model, example),
                input_example=example,
                pip_requirements=_requirements(model),
            )
            client.log_model_artifacts(logged.model_id, str(place))
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def fetch_bundle(model: str, *, store: Store | None = None) -> Path:
    """Bundle inside a model that MLflow keeps.

    Parameters
    ----------
    model
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/ID``.
    store
        Where it is kept; the store of the working directory if left out.

    Returns
    -------
    Path
        Directory of the bundle, a copy where the store is on another machine.

    Raises
    ------
    InputError
        If there is no such model, or it holds no bundle.
    """
    store = store or Store.find()
    with store.opened() as client:
        try:
            artifacts = Model.load(model).flavors["python_function"]["artifacts"]
            place = model
            # MLflow takes an id with a path behind it for a registered name.
            if not {"@", "/"} & set(model_id := model.removeprefix("models:/")):
                place = client.get_logged_model(model_id).artifact_location
            bundle = f"{place}/{artifacts['bundle']['path']}"
            return Path(mlflow.artifacts.download_artifacts(bundle))
        except KeyError as error:
            msg = f"{model} is no model of photoz: it holds no bundle."
            raise InputError(msg) from error
        except (MlflowException, OSError) as error:
            there = ", ".join(registered_models(client)) or "none"
            msg = (
                f"{model} cannot be had from {store.uri} ({error}); give a version or an alias, "
                f"such as models:/NAME@champion; the registered models there: {there}."
            )
            raise InputError(without_password(msg)) from error


def _signature(model: FittedModel, example: pd.DataFrame) -> ModelSignature:
    """All inputs are doubles, since integers admit no missing value."""
    survey = model.survey
    required = [band for band in survey.bands if band not in model.optional_bands]
    needed = survey.columns_needed(required)
    inputs = [ColSpec("double", name, required=name in needed) for name in survey.columns_needed()]
    photometry, _ = photometry_from_columns(
        {str(name): column for name, column in example.items()}, survey
    )
    outputs = [
        ColSpec("integer" if values.dtype.kind == "i" else "double", name)
        for name, values in prediction_columns(model, photometry).items()
    ]
    params = ParamSchema([ParamSpec("pdf", "string", "none")])
    return ModelSignature(Schema(inputs), Schema(outputs), params)


def _made_up_rows(survey: Survey) -> pd.DataFrame:
    """Galaxies of flat spectrum in the columns of a survey: no example is a real galaxy."""
    columns: dict[str, list[float]] = dict.fromkeys(survey.extra, [1.0] * len(_EXAMPLE_MAGNITUDES))
    if survey.ebv is not None:
        columns[survey.ebv] = [0.02] * len(_EXAMPLE_MAGNITUDES)
    fluxes = [10 ** (-0.4 * (mag - survey.flux_zero_point)) for mag in _EXAMPLE_MAGNITUDES]
    values = {
        "magnitude": list(_EXAMPLE_MAGNITUDES),
        "error": [0.05] * len(_EXAMPLE_MAGNITUDES),
        "flux": fluxes,
        "flux_error": [flux / 20 for flux in fluxes],
        "flux_ivar": [(20 / flux) ** 2 for flux in fluxes],
        "extinction": [0.05] * len(_EXAMPLE_MAGNITUDES),
    }
    for band in survey.bands:
        names = survey.band_columns(band).model_dump()
        columns |= {name: values[kind] for kind, name in names.items() if isinstance(name, str)}
    return pd.DataFrame({name: columns[name] for name in survey.columns_needed()})


def _requirements(model: FittedModel) -> list[str]:
    """What loading the model needs, in the versions that are installed."""
    names = dict.fromkeys(_BASE)
    for member in single_models(model):
        names |= dict.fromkeys(_distributions(type(member.estimator)))
    return [f"{name}=={_version(name)}" for name in names]


def _distributions(estimator: type[Any]) -> list[str]:
    """Distributions of an estimator's libraries, or of the package that brought it."""
    package, *rest = estimator.__module__.split(".")
    if package != photoz.__name__:
        return packages_distributions().get(package, [])
    return [_OF_ESTIMATOR[rest[-1]]] if rest[-1] in _OF_ESTIMATOR else []


def _version(distribution: str) -> str:
    try:
        # Local labels (2.13.0+cpu) name builds that no index offers.
        return version(distribution).partition("+")[0]
    except PackageNotFoundError:
        return photoz.__version__
