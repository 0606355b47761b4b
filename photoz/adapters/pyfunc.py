"""A bundle as an MLflow model; MLflow keeps this file beside the bundle and runs it to load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from photoz.bundle import load_model
from photoz.kernels import Compiled, compiled_for
from photoz.photometry import photometry_from_columns
from photoz.prediction import PdfColumn, prediction_columns

__all__ = ["PhotozPyfunc"]

# Densities take kilobytes per galaxy, however few columns are made of them.
_CHUNK = 20_000


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
            ``pdf``: the form of p(z) to add; see `photoz.prediction.prediction_columns`.

        Returns
        -------
        DataFrame
            One row per galaxy, on the index of `model_input`.
        """
        pdf = (params or {}).get("pdf", "none")
        starts = range(0, max(len(model_input), 1), _CHUNK)
        compiled = compiled_for(self.model, len(model_input))
        parts = [
            self._predict(model_input.iloc[row : row + _CHUNK], pdf, compiled) for row in starts
        ]
        return pd.concat(parts)

    def _predict(
        self, chunk: pd.DataFrame, pdf: PdfColumn, compiled: Compiled | None
    ) -> pd.DataFrame:
        columns = {str(name): column for name, column in chunk.items()}
        photometry, _ = photometry_from_columns(
            columns, self.model.survey, optional_bands=self.model.optional_bands
        )
        predicted = prediction_columns(self.model, photometry, pdf=pdf, compiled=compiled)
        shaped = {
            name: values if values.ndim == 1 else list(values)
            for name, values in predicted.items()
        }
        return pd.DataFrame(shaped, index=chunk.index)


mlflow.models.set_model(PhotozPyfunc())
