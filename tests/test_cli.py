import json
import os
import subprocess
import sys
from copy import copy
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import photoz
from photoz.bundle import load_model, save_model
from photoz.catalogue import read
from photoz.survey import load_survey


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bundle(model, tmp_path):
    return save_model(model, tmp_path / "bundle")


def test_version_is_that_of_the_package(command):
    assert command("--version") == (0, f"{photoz.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["predict", "bundle"], ["experiment", "a.toml", "--trials", "x"]]
)
def test_wrong_usage_ends_with_status_2(command, arguments):
    status, _, error = command(*arguments)

    assert status == 2
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "nothing"], "unknown data set 'nothing'"),
        (["experiment", "nothing.toml"], "expected an experiment file, found none"),
        (["predict", "nothing", "a.parquet", "-o", "b.parquet"], "no bundle at nothing"),
        (["export", "nothing", "-o", "out"], "no bundle at nothing"),
        (["export", "no:smile:", "-o", "out"], "no bundle at no:smile:"),
        (["report", "."], "expected the results of an experiment"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(command, arguments, message):
    status, _, error = command(*arguments)

    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("content", ["[]", "3", '{"a": 1}', '{"data": {}, "estimators": []}'])
def test_a_report_of_something_else_is_told(command, tmp_path, content):
    (tmp_path / "report.json").write_text(content)

    status, _, error = command("report", ".")

    assert status == 2
    assert "expected the results of an experiment, found no readable report.json" in error
    assert len(error.splitlines()) == 1


def test_predict_counts_galaxies_and_flags(command, bundle, catalogue_file):
    status, shown, _ = command("predict", bundle, catalogue_file, "-o", "out.parquet", "--json")

    assert status == 0
    assert json.loads(shown)["galaxies"] == len(pq.read_table(catalogue_file))
    assert "photoz_quantiles" in pq.read_schema("out.parquet").names


def test_name_begins_every_column(command, bundle, catalogue_file):
    command(
        "predict", bundle, catalogue_file, "-o", "out.parquet", "--name", "rf", "--pdf", "none"
    )

    assert pq.read_schema("out.parquet").names[1:3] == ["rf_z_mode", "rf_z_median"]


def test_evaluate_gives_every_metric_with_its_interval(command, bundle, catalogue_file):
    status, shown, _ = command("evaluate", bundle, catalogue_file, "--json")
    result = json.loads(shown)

    assert status == 0
    assert result["metrics"].keys() == result["intervals"].keys()
    assert result["n_galaxies"] + result["n_seen_in_training"] == 700
    assert result["dropped"] == {}


def test_evaluate_takes_a_single_galaxy_without_an_identity(command, bundle, catalogue_file):
    galaxy = pq.read_table(catalogue_file)[-1:].drop_columns(["object_id", "ra", "dec"])
    pq.write_table(galaxy, "one.parquet")
    status, shown, _ = command("evaluate", bundle, "one.parquet", "--json")

    assert status == 0
    assert json.loads(shown)["n_galaxies"] == 1


def test_evaluate_leaves_out_what_training_has_seen(command, bundle, catalogue_file):
    """The file has 500 training galaxies, in single precision."""
    _, shown, error = command("evaluate", bundle, catalogue_file, "--json")
    n_seen = json.loads(shown)["n_seen_in_training"]

    assert 480 <= n_seen <= 500
    assert f"{n_seen} of 700 galaxies were seen in the model's training; left out" in error


def test_evaluate_can_score_what_training_has_seen(command, bundle, catalogue_file):
    _, shown, error = command("evaluate", bundle, catalogue_file, "--json", "--with-seen")

    assert json.loads(shown)["n_galaxies"] == 700
    assert "scored all the same" in error


def test_evaluate_tells_of_a_survey_of_other_bands(command, bundle, catalogue_file, tmp_path):
    (tmp_path / "two.toml").write_text('bands = ["r", "i"]')

    status, _, error = command("evaluate", bundle, catalogue_file, "--survey", "two.toml")

    assert status == 2
    assert "trained on the bands u, g, r, i, z, y, the survey has r, i; give a survey" in error
    assert len(error.splitlines()) == 1


def test_evaluate_needs_new_galaxies(command, bundle, catalogue_file):
    table = pq.read_table(catalogue_file)[:500]
    seen = load_model(bundle).seen_in_training(
        read(catalogue_file, load_survey("lsst")).photometry
    )
    pq.write_table(table.filter(seen[:500]), "seen.parquet")
    status, _, error = command("evaluate", bundle, "seen.parquet")

    assert status == 2
    assert "expected galaxies that are new to the model, found none" in error


@pytest.mark.parametrize("name", ["out.tar.gz", "OUT.TGZ", "out.7z"])
def test_export_makes_no_folder_with_the_name_of_an_archive(command, bundle, tmp_path, name):
    status, _, error = command("export", bundle, "-o", name)

    assert status == 2
    assert f"{name}: a bundle is a directory or a file ending in .zip" in error
    assert not (tmp_path / name).exists()


def test_export_writes_a_bundle_that_loads(command, bundle, tmp_path, test_photometry):
    status, _, _ = command("export", bundle, "-o", "out.zip")
    exported = load_model(tmp_path / "out.zip", verify=True)

    assert status == 0
    expected = load_model(bundle).predict_pdf(test_photometry).density
    assert (exported.predict_pdf(test_photometry).density == expected).all()


def test_altered_bundle_is_refused(command, bundle, catalogue_file):
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"lsst"', '"sdss"').replace("mag_", "mog_"))
    status, _, error = command("predict", bundle, catalogue_file, "-o", "out.parquet")

    assert status == 2
    assert "was altered" in error


EXPERIMENT = 'name = "sdss"\n[catalogue]\npath = "a.parquet"\nsurvey = "sdss"\n'
METRICS = dict.fromkeys(
    ("cde_loss", "crps", "sigma_nmad", "outlier_fraction", "pit_ks", "coverage_68"), 0.5
)


def test_estimators_that_failed_are_named_and_the_status_is_1(command, monkeypatch):
    entry = {"test": METRICS, "test_interval": {key: [0.4, 0.6] for key in METRICS}}
    report = {
        "name": "sdss",
        "data": {"n_test": 100},
        "estimators": {"forest": entry},
        "champion": "forest",
        "failed": {"network": "MemoryError: no room"},
    }
    monkeypatch.setattr("photoz.experiment.run", lambda *_, **__: report)
    Path("sdss.toml").write_text(EXPERIMENT)

    status, shown, error = command("experiment", "sdss.toml", "--output", "results")

    assert status == 1
    assert "forest *" in shown
    assert error == "network failed: MemoryError: no room\n"


def test_results_replace_nothing_but_results(command):
    """Told before anything is read or fitted."""
    Path("sdss.toml").write_text(EXPERIMENT)
    Path("precious").mkdir()
    Path("precious/notes.txt").touch()
    status, _, error = command("experiment", "sdss.toml", "--output", "precious")

    assert status == 2
    assert "expected a new name, or an earlier output with report.json to replace" in error


UNFORESEEN = """
import logging
import photoz.experiment
from photoz.cli import main

URL = "postgresql://me:Pa55w0rd@host/photoz?sslpassword=Pa55w0rd"

def run(*_, **__):
    logging.getLogger("alembic").warning("connecting to %s", URL)
    raise {error}(f"no answer from {{URL}}")

photoz.experiment.run = run
main()
"""


@pytest.mark.parametrize(("error", "traced"), [("LookupError", True), ("RuntimeError", False)])
def test_neither_logs_nor_errors_nor_tracebacks_show_a_password(tmp_path, error, traced):
    (tmp_path / "sdss.toml").write_text(EXPERIMENT)
    done = subprocess.run(
        [sys.executable, "-c", UNFORESEEN.format(error=error), "experiment", "sdss.toml"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 1
    assert done.stderr.count("postgresql://***@host/photoz?sslpassword=***") == 2
    assert "Pa55w0rd" not in done.stderr
    assert ("Traceback" in done.stderr) == traced


@pytest.fixture
def hats(tmp_path):
    """A folder that says of itself that it is a HATS catalogue."""
    folder = tmp_path / "hats"
    folder.mkdir()
    (folder / "hats.properties").touch()
    return folder


def test_hats_catalogue_goes_to_lsdb(command, hats, monkeypatch):
    called = []

    def score_hats(*arguments, **options):
        called.append((arguments, options))
        return {"galaxies": 7}

    module = ModuleType("photoz.adapters.lsdb")
    module.score_hats = score_hats
    monkeypatch.setitem(sys.modules, "photoz.adapters.lsdb", module)
    status, shown, _ = command(
        "predict", "bundle", hats, "-o", "out", "--scheduler", "tcp://a:1", "--keep", "x"
    )
    arguments, options = called[0]

    assert (status, shown) == (0, "out: 7 galaxies\n")
    assert arguments == ("bundle", hats, Path("out"))
    assert options["scheduler"] == "tcp://a:1"
    assert options["keep"] == ["x"]
    assert options["workers"] >= 1


def test_a_catalogue_unlike_the_training_is_told(command, bundle, catalogue_file):
    """Every galaxy eight magnitudes brighter, as with a wrong zero point."""
    table = pq.read_table(catalogue_file)
    brighter = {
        name: table[name].to_numpy() - 8 * (name.startswith("mag_") and "err" not in name)
        for name in table.column_names
    }
    pq.write_table(pa.table(brighter), "brighter.parquet")
    status, _, error = command("predict", bundle, "brighter.parquet", "-o", "out.parquet")

    assert status == 0
    assert "of 700 galaxies lie outside those of the training" in error


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "network"), ("mlflow.tracking", "track")]
)
def test_a_missing_package_is_one_line_that_says_what_to_install(
    command, bundle, monkeypatch, package, extra
):
    def fail(*_):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("photoz.cli.catalogues.load_fitted", fail)
    status, _, error = command("export", bundle, "-o", "out")

    assert status == 2
    assert f"pip install 'photoz[{extra}]'" in error
    assert len(error.splitlines()) == 1


def test_an_interruption_says_how_to_go_on(command, bundle, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("photoz.cli.catalogues.load_fitted", interrupt)
    status, _, error = command("export", bundle, "-o", "out")

    assert status == 130
    assert "the same command goes on where it stopped (predict: with --resume)" in error


def test_hats_without_lsdb_says_what_to_install(command, hats, monkeypatch):
    monkeypatch.setitem(sys.modules, "photoz.adapters.lsdb", None)
    status, _, error = command("predict", "bundle", hats, "-o", "out")

    assert status == 2
    assert "pip install 'photoz[lsdb]'" in error


@pytest.mark.parametrize("option", [["--format", "fits"], ["--skip-bad"]])
def test_hats_catalogue_is_written_as_one(command, hats, option):
    status, _, error = command("predict", "bundle", hats, "-o", "out", *option)

    assert status == 2
    assert "without --format and --skip-bad" in error


def test_skipped_input_is_listed_and_ends_with_status_3(command, bundle, catalogue_file):
    Path("in").mkdir()
    Path("in/a.parquet").write_bytes(b"PAR1")
    Path("in/b.parquet").write_bytes(catalogue_file.read_bytes())
    status, _, error = command("predict", bundle, "in", "-o", "out.fits")
    assert status == 2
    assert "in/a.parquet: expected Parquet" in error

    status, shown, error = command(
        "predict", bundle, "in", "-o", "out.fits", "--skip-bad", "--json"
    )
    assert status == 3
    assert json.loads(shown)["galaxies"] == 700
    assert json.loads(shown)["skipped"][0].startswith("in/a.parquet: expected Parquet")
    assert "photoz: skipped in/a.parquet" in error


def test_evaluate_tells_of_a_band_that_is_not_there(command, model, catalogue_file, tmp_path):
    flexible = copy(model)
    flexible.optional_bands = ("g",)
    save_model(flexible, tmp_path / "flexible")
    table = pq.read_table(catalogue_file)
    pq.write_table(table.drop_columns("mag_g"), "other.parquet")

    _, _, error = command("evaluate", tmp_path / "flexible", "other.parquet", "--json")

    assert "band g is observed in no row (mag_g and mag_err_g)" in error


def test_evaluate_counts_measurements_that_are_none(command, bundle, catalogue_file):
    table = pq.read_table(catalogue_file)
    place = table.column_names.index("mag_err_g")
    errors = table["mag_err_g"].to_numpy().copy()
    errors[:30] = 0
    pq.write_table(table.set_column(place, "mag_err_g", pa.array(errors)), "other.parquet")

    _, shown, _ = command("evaluate", bundle, "other.parquet", "--json")
    _, text, _ = command("evaluate", bundle, "other.parquet")

    assert json.loads(shown)["implausible"] == {"mag_g: implausible value": 30}
    assert "not observed: 30 measurements (mag_g: implausible value)" in text
