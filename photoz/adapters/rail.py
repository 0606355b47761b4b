"""RAIL: stages that train a photoz model and estimate p(z) with it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from ceci.config import StageParameter
from numpy.typing import NDArray
from rail.core.common_params import SharedParams
from rail.core.data import ModelHandle, QPHandle, TableHandle
from rail.core.enums import DistributionType
from rail.estimation.estimator import CatEstimator
from rail.estimation.informer import CatInformer

from photoz.adapters.qp import to_qp
from photoz.bundle import load_model, save_model
from photoz.catalogue import from_columns
from photoz.errors import InputError
from photoz.kernels import compiled_for
from photoz.model import FittedModel
from photoz.pdf import RedshiftPDF
from photoz.photometry import photometry_from_columns
from photoz.prediction import prediction_columns
from photoz.survey import Survey, load_survey
from photoz.training import train_model

__all__ = ["BundleHandle", "PhotozCatEstimator", "PhotozCatInformer"]

_UNUSABLE = 32
_ZIP = b"PK"


class BundleHandle(ModelHandle):
    """A model as the bytes of a zipped bundle, in a file that is that bundle and no pickle."""

    suffix = "zip"
    interactive_type = "bytes"

    @classmethod
    def _open(cls, path: str, **options: object) -> IO[bytes]:
        return Path(path).open("wb" if options.get("mode") == "w" else "rb")

    @classmethod
    def _read(cls, path: str, **_options: object) -> bytes:
        content = Path(path).read_bytes()
        if not content.startswith(_ZIP):
            msg = f"{path}: expected a zipped bundle of photoz; a pickle is not opened."
            raise InputError(msg)
        return content

    @classmethod
    def _write(cls, data: bytes, path: str, **_options: object) -> None:
        Path(path).write_bytes(data)


class PhotozCatInformer(CatInformer):
    """Train a calibrated photoz model: random forest, gradient boosting, network or a blend.

    The model is the zipped bundle that ``photoz predict`` reads as well. The redshift grid
    follows from the training redshifts.
    """

    name = "PhotozCatInformer"
    entrypoint_function = "inform"
    interactive_function = "photoz_informer"
    outputs: ClassVar = [("model", BundleHandle)]
    config_options = CatInformer.config_options.copy()
    config_options.update(
        bands=SharedParams.copy_param("bands"),
        err_bands=SharedParams.copy_param("err_bands"),
        redshift_col=SharedParams.copy_param("redshift_col"),
        nondetect_val=SharedParams.copy_param("nondetect_val"),
        nonobserved_val=SharedParams.copy_param("nonobserved_val"),
        survey=StageParameter(
            str, "", msg="photoz survey, a name or a file, instead of the columns above"
        ),
        estimators=StageParameter(
            list, ["boosting"], msg="forest, boosting, network; more than one are blended"
        ),
        parameters=StageParameter(
            dict, {}, msg="parameters by estimator, as in an experiment file of photoz"
        ),
        seed=StageParameter(int, 0, msg="seed of everything that is drawn"),
    )

    def run(self) -> None:
        """Train, and hand on the bytes of the bundle."""
        table = self.get_data("input")
        if self.config.hdf5_groupname:
            table = table[self.config.hdf5_groupname]
        survey = self._survey()
        galaxies = from_columns(_columns(self, table), survey, training=True)
        model = train_model(
            galaxies,
            survey,
            self.config.estimators,
            self.config.parameters,
            seed=self.config.seed,
        )
        with tempfile.TemporaryDirectory(prefix="photoz-") as folder:
            self.model = save_model(model, Path(folder) / "model.zip").read_bytes()
        self.add_data("model", self.model)

    def _survey(self) -> Survey:
        config = self.config
        if config.survey:
            return load_survey(config.survey)
        if len(config.bands) != len(config.err_bands):
            msg = (
                f"expected as many err_bands as bands, got {len(config.err_bands)} and "
                f"{len(config.bands)}; name the error column of each band."
            )
            raise InputError(msg)
        pairs = zip(config.bands, config.err_bands, strict=True)
        return Survey(
            bands=config.bands,
            columns={band: {"magnitude": band, "error": error} for band, error in pairs},
            not_detected=(config.nondetect_val,),
            not_observed=(config.nonobserved_val,),
            redshift=config.redshift_col,
        )


class PhotozCatEstimator(CatEstimator):
    """Estimate p(z) with a photoz model, which knows the columns that it needs.

    The output is on the redshift grid of the model, with ``zmode``, ``zmedian``, ``zmean``
    and ``photoz_flag``, the flag of ``photoz predict``. Where that has bit 32, a galaxy has
    no usable photometry: its p(z) is flat and its redshifts are NaN.
    """

    name = "PhotozCatEstimator"
    entrypoint_function = "estimate"
    interactive_function = "photoz_estimator"
    inputs: ClassVar = [("model", BundleHandle), ("input", TableHandle)]
    outputs: ClassVar = [("output", QPHandle)]
    config_options = CatEstimator.config_options.copy()

    @classmethod
    def default_distribution_type(cls) -> DistributionType:
        """Posterior: the training sample is the prior."""
        return DistributionType.posterior

    def open_model(self, **options: object) -> bytes:
        """Read the bundle and load it."""
        CatEstimator.open_model(self, **options)
        with tempfile.TemporaryDirectory(prefix="photoz-") as folder:
            place = Path(folder) / "model.zip"
            place.write_bytes(self.model)
            self._fitted: FittedModel = load_model(place)
        return bytes(self.model)

    def _process_chunk(self, start: int, end: int, data: Any, first: bool) -> None:  # noqa: ANN401
        columns, model = _columns(self, data), self._fitted
        photometry, _ = photometry_from_columns(
            columns, model.survey, optional_bands=model.optional_bands
        )
        if first:
            self._compiled = compiled_for(model, self._input_length)
        found = prediction_columns(model, photometry, pdf="grid", compiled=self._compiled)
        flag = found["photoz_flag"].astype(np.int32)
        usable = flag & _UNUSABLE == 0
        pz = RedshiftPDF(model.z_grid, found["photoz_density"][usable])
        ancil = {
            "zmedian": found["photoz_z_median"],
            "zmean": found["photoz_z_mean"],
            "photoz_flag": flag,
        }
        ensemble = to_qp(pz, usable=usable, ancil=ancil)
        self._do_chunk_output(ensemble, start, end, first, data=columns)


def _columns(
    stage: CatInformer | CatEstimator,
    table: Any,  # noqa: ANN401 - any of RAIL's tables
) -> Mapping[str, NDArray[Any]]:
    columns: Mapping[str, NDArray[Any]] = stage._convert_table_format(table, "numpyDict")  # noqa: SLF001
    return columns


# RAIL starts stages in processes of their own, and sorts its interactive functions, by the
# module that a stage says it is from; there it has to be a part of RAIL's own namespace.
for _stage in (PhotozCatInformer, PhotozCatEstimator):
    _stage.__module__ = "rail.estimation.algos.photoz"
