"""A bundle as an MLflow model; MLflow keeps this file beside the bundle and runs it to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from photoz.bundle import load_model
from photoz.photometry import photometry_from_columns
from photoz.scoring import prediction_columns

__all__ = ["PhotozPyfunc"]


class PhotozPyfunc(PythonModel):
    """Redshifts of the galaxies in a data frame."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle."""
        self.model = load_model(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow calls with it
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Predict the columns that ``photoz predict`` writes, but for the id.

        Parameters
        ----------
        context
            Not used: `load_context` has read it.
        model_input
            Photometry in the columns of the model's survey.
        params
            ``pdf``: the form of p(z) to add; see `photoz.scoring.prediction_columns`.

        Returns
        -------
        DataFrame
            One row per galaxy, on the index of `model_input`.
        """
        model = self.model
        photometry, _ = photometry_from_columns(
            {str(name): column for name, column in model_input.items()},
            model.survey,
            optional_bands=model.optional_bands,
        )
        columns = prediction_columns(model, photometry, pdf=(params or {}).get("pdf", "none"))
        return pd.DataFrame(
            {
                name: values if values.ndim == 1 else list(values)
                for name, values in columns.items()
            },
            index=model_input.index,
        )


mlflow.models.set_model(PhotozPyfunc())
