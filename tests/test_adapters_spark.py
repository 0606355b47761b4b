"""The logged model as a function of Spark gives what the bundle gives."""

import os
import shutil
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.bundle import save_model
from photoz.photometry import photometry_from_columns
from photoz.prediction import prediction_columns
from photoz.tracking import Store, TrackedData, Tracking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a Java runtime"),
    # PySpark 4.3 does not promise pandas 3, and uses what pandas 4 will drop.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        # The processes that Spark starts shall be this Python with these modules.
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        builder = SparkSession.builder.master("local[2]").appName("photoz")
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2",
        }
        for key, value in settings.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


@pytest.fixture(scope="module")
def uri(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    data = TrackedData("mock", "mock", "a" * 64, "b" * 64, {"test": 200})
    tracking = Tracking("", "spark", data=data, metric="crps", mlruns=folder / "mlruns")
    with tracking.run("forest") as tracked:
        version = tracked.log_model(save_model(model, folder / "bundle"))
    mlflow.set_tracking_uri(Store.find("", folder / "mlruns").uri)
    return f"models:/{tracking.model_name}/{version}"


@pytest.fixture(scope="module")
def frame(mock, model):
    """Galaxies, one of them without any measurement, one without a single one."""
    columns = mock.to_columns()
    frame = pd.DataFrame(columns).astype(dict.fromkeys(model.survey.columns_needed(), float))
    frame.loc[3, model.survey.columns_needed()] = np.nan
    frame.loc[5, ["mag_g", "mag_err_g"]] = np.nan
    return frame


def expected(model, frame, pdf="none"):
    photometry, _ = photometry_from_columns(dict(frame.items()), model.survey)
    return prediction_columns(model, photometry, pdf=pdf)


def apply(spark, udf, frame, path):
    """What the function gives for each galaxy of a Parquet file, in order of the ids."""
    from pyspark.sql.functions import struct

    frame.to_parquet(path)
    galaxies = spark.read.parquet(str(path)).repartition(3)
    names = [name for name in frame.columns if name.startswith("mag_")]
    predicted = galaxies.select("object_id", udf(struct(*names)).alias("photoz"))
    return predicted.select("object_id", "photoz.*").toPandas().sort_values("object_id")


def test_scalars_are_those_of_the_bundle(spark, uri, model, frame, tmp_path):
    udf = mlflow.pyfunc.spark_udf(spark, uri, env_manager="local")

    found = apply(spark, udf, frame, tmp_path / "galaxies.parquet")

    assert_array_equal(found["object_id"], frame["object_id"])
    for name, wanted in expected(model, frame).items():
        assert_allclose(found[name].astype(float), wanted, rtol=1e-5, atol=1e-5, err_msg=name)


def test_densities_come_on_request(spark, uri, model, frame, tmp_path):
    udf = mlflow.pyfunc.spark_udf(
        spark,
        uri,
        env_manager="local",
        params={"pdf": "quantiles"},
        result_type="photoz_flag int, photoz_quantiles array<float>",
    )

    found = apply(spark, udf, frame, tmp_path / "galaxies.parquet")

    wanted = expected(model, frame, "quantiles")["photoz_quantiles"]
    quantiles = np.array(found["photoz_quantiles"].to_list(), dtype=float)
    assert_allclose(quantiles, wanted, rtol=1e-5, atol=1e-5)
