"""Runs over catalogues: every format, nothing lost, and the same bytes after an interruption."""

import json
import os
import signal
import subprocess
import sys
import time
from copy import copy
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.bundle import load_model, save_model
from photoz.catalogue import read_columns, to_array, write
from photoz.errors import InputError
from photoz.prediction import QUANTILE_LEVELS
from photoz.scoring import score_catalogue
from photoz.scoring.pipeline import in_order
from photoz.survey import Survey

FORMATS = ["parquet", "fits", "hdf5", "qp.hdf5"]
STOP_AFTER = 3


class Stopped(Exception):  # noqa: N818 - not an error, but what an interruption is like here
    pass


def interrupt(_, done, __):
    if done >= STOP_AFTER * 50:
        raise Stopped


def interrupted(model, catalogue, out, **options):
    with pytest.raises(Stopped):
        score_catalogue(model, catalogue, out, chunk_size=50, on_progress=interrupt, **options)
    assert not out.exists()


@pytest.fixture
def named_file(catalogue_file, tmp_path):
    """The mock galaxies with names in place of numbers, the longest one last."""
    table = pq.read_table(catalogue_file)
    names = [f"J{n}" for n in range(len(table))]
    place = table.column_names.index("object_id")
    path = tmp_path / "in" / "named.parquet"
    path.parent.mkdir()
    pq.write_table(table.set_column(place, "object_id", pa.array(names)), path, row_group_size=70)
    return path


@pytest.mark.parametrize("suffix", ["fits", "hdf5"])
def test_every_format_holds_the_same_columns(model, named_file, tmp_path, suffix):
    for end in ("parquet", suffix):
        score_catalogue(model, named_file, tmp_path / f"out.{end}", keep=["ra"], chunk_size=300)
    expected = pq.read_table(tmp_path / "out.parquet")
    found = read_columns(tmp_path / f"out.{suffix}")

    assert set(found.column_names) == set(expected.column_names)
    for name in expected.column_names:
        assert_array_equal(to_array(found[name]), to_array(expected[name]))


@pytest.mark.parametrize("pdf", ["quantiles", "grid"])
def test_qp_reads_the_ensemble(model, named_file, tmp_path, pdf):
    qp = pytest.importorskip("qp")
    for name in ("out.qp.hdf5", "out.parquet"):
        score_catalogue(model, named_file, tmp_path / name, pdf=pdf, chunk_size=300)
    table = pq.read_table(tmp_path / "out.parquet")
    ensemble = qp.read(str(tmp_path / "out.qp.hdf5"))

    assert ensemble.npdf == len(table)
    assert_array_equal(ensemble.ancil["zmode"], table["photoz_z_mode"])
    assert_array_equal(ensemble.ancil["photoz_flag"], table["photoz_flag"])
    assert ensemble.ancil["object_id"][699] in ("J699", b"J699")
    if pdf == "quantiles":
        # Between two separate peaks, the median lies anywhere.
        off = np.abs(ensemble.ppf(0.5).ravel() - table["photoz_z_median"])
        assert np.quantile(off, 0.95) < 0.01
        assert_allclose(ensemble.objdata["locs"][:, 1:-1], to_array(table["photoz_quantiles"]))
    else:
        assert_allclose(ensemble.objdata["yvals"], to_array(table["photoz_density"]), rtol=1e-3)


def test_units_ucds_and_flags_are_in_every_column_that_has_them(model, catalogue_file, tmp_path):
    score_catalogue(model, catalogue_file, tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        levels = json.loads(file.attrs["photoz.quantile_levels"])
        assert levels == list(QUANTILE_LEVELS)
        assert file["photoz_z_median"].attrs["ucd"] == "src.redshift.phot;stat.median"
        assert "32: no usable photometry" in file["photoz_flag"].attrs["description"]


def test_partition_columns_are_kept(model, catalogue_file, tmp_path):
    for tile in (7, 9):
        (tmp_path / "in" / f"tile={tile}").mkdir(parents=True)
        pq.write_table(
            pq.read_table(catalogue_file)[: 10 * tile], tmp_path / f"in/tile={tile}/a.parquet"
        )
    score_catalogue(model, tmp_path / "in", tmp_path / "out.parquet", keep=["tile"])

    assert pq.read_table(tmp_path / "out.parquet")["tile"].to_pylist() == [7] * 70 + [9] * 90


def test_rows_are_numbered_over_all_files(model, catalogue_file, tmp_path):
    table = pq.read_table(catalogue_file).drop_columns(["object_id"])
    (tmp_path / "in").mkdir()
    for name in "ab":
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet")
    score_catalogue(model, tmp_path / "in", tmp_path / "out.parquet", chunk_size=300)

    found = pq.read_table(tmp_path / "out.parquet")["objectId"].to_numpy()
    assert_array_equal(found, np.arange(2 * len(table)))


@pytest.mark.parametrize("suffix", FORMATS)
def test_resumed_output_has_the_bytes_of_an_undisturbed_one(model, named_file, tmp_path, suffix):
    undisturbed, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    options = {"keep": ["ra"], "workers": 2}
    score_catalogue(model, named_file, undisturbed, chunk_size=50, **options)
    interrupted(model, named_file, out, **options)
    scored = score_catalogue(model, named_file, out, chunk_size=50, resume=True, **options)

    assert out.read_bytes() == undisturbed.read_bytes()
    assert scored.n_galaxies == 700
    assert sorted(p.name for p in tmp_path.iterdir()) == [undisturbed.name, out.name, "in"]


def test_resumed_run_does_not_repeat_what_is_done(model, named_file, tmp_path):
    interrupted(model, named_file, tmp_path / "out.parquet")
    shown = []
    score_catalogue(
        model, named_file, tmp_path / "out.parquet", chunk_size=50, resume=True,
        on_progress=lambda *numbers: shown.append(numbers),
    )  # fmt: skip

    assert shown[0] == ("galaxies", STOP_AFTER * 50, 700)
    assert shown[-1] == ("galaxies", 700, 700)


def test_number_of_workers_changes_nothing(model, named_file, tmp_path):
    for workers in (1, 3):
        out = tmp_path / f"{workers}.parquet"
        score_catalogue(model, named_file, out, chunk_size=50, workers=workers)

    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pdf": "none"}, "options"),
        ({"keep": ["ra"]}, "options"),
        ({"model": "other"}, "model"),
        ({"catalogue": "other"}, "catalogue"),
    ],
)
def test_another_command_is_not_resumed(model, named_file, tmp_path, change, what):
    out = tmp_path / "out.parquet"
    interrupted(model, named_file, out)
    if "model" in change:
        model = copy(model)
        model.optional_bands = ("u",)
    if "catalogue" in change:
        named_file.touch()
    options = {key: value for key, value in change.items() if key in ("pdf", "keep")}

    with pytest.raises(InputError, match=f"another {what}, and cannot be continued; .* --resume"):
        score_catalogue(model, named_file, out, chunk_size=50, resume=True, **options)


def test_leftover_is_replaced_and_told_unless_resumed(model, named_file, tmp_path):
    out = tmp_path / "out.parquet"
    interrupted(model, named_file, out)
    told = []
    score_catalogue(model, named_file, out, on_message=told.append)

    assert len(told) == 1
    assert told[0].endswith(".out.parquet.parts was left by a run that did not finish; replaced "
                            "(see --resume)")  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.parquet"]


@pytest.mark.parametrize("resume", [False, True])
def test_an_output_that_another_run_writes_is_left_alone(model, named_file, tmp_path, resume):
    undisturbed, out = tmp_path / "a.parquet", tmp_path / "out.parquet"
    score_catalogue(model, named_file, undisturbed, chunk_size=50)
    refused = []

    def begin_another(_, done, __):
        if done in (0, 200):
            with pytest.raises(InputError, match=r"out.parquet is being written by another run"):
                score_catalogue(model, named_file, out, resume=resume, on_message=refused.append)
            refused.append(done)

    score_catalogue(model, named_file, out, chunk_size=50, on_progress=begin_another)

    assert refused == [0, 200]
    assert out.read_bytes() == undisturbed.read_bytes()
    assert not (tmp_path / ".out.parquet.parts").exists()


def test_identities_named_as_a_column_of_the_prediction_are_refused(model, named_file, tmp_path):
    survey = model.survey.model_copy(update={"id": "photoz_flag"})

    with pytest.raises(InputError, match="'photoz_flag' of the catalogue cannot be kept beside"):
        score_catalogue(model, named_file, tmp_path / "out.parquet", survey=survey)


@pytest.mark.parametrize("column", ["Object_ID", "photoz_FLAG"])
def test_names_that_fits_cannot_tell_apart_are_refused_there(model, named_file, tmp_path, column):
    table = pq.read_table(named_file)
    pq.write_table(table.append_column(column, table["ra"]), named_file)

    with pytest.raises(InputError, match=f"'{column.lower()}' and '{column}', which differ only"):
        score_catalogue(model, named_file, tmp_path / "out.fits", keep=[column])
    score_catalogue(model, named_file, tmp_path / "out.parquet", keep=[column, column])
    assert column in pq.read_schema(tmp_path / "out.parquet").names


def test_nothing_to_resume_is_a_beginning(model, named_file, tmp_path):
    scored = score_catalogue(model, named_file, tmp_path / "out.parquet", resume=True)

    assert scored.n_galaxies == 700


def test_run_killed_while_tidying_up_can_be_resumed(model, named_file, tmp_path, monkeypatch):
    out = tmp_path / "out.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("photoz.scoring.parts.shutil.rmtree", lambda _: None)
        score_catalogue(model, named_file, out)
    before = out.read_bytes()
    score_catalogue(model, named_file, out, resume=True)

    assert out.read_bytes() == before
    assert not out.with_name(".out.parquet.parts").exists()


def test_nothing_gets_its_name_before_it_is_on_the_disk(model, named_file, tmp_path, monkeypatch):
    """A crash of the machine may keep a name and lose the content that was not yet written."""
    events, fsync, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file)))

    def replace(path, target):
        events.append(Path(target).name)
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    score_catalogue(model, named_file, tmp_path / "out.parquet", chunk_size=400)

    assert events == ["fsync", "00000000.arrow", "fsync", "00000001.arrow", "fsync", "out.parquet"]


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-100], lambda c: c[:-200] + b"\xff" * 100 + c[-100:]]
)
def test_damaged_part_is_made_again(model, named_file, tmp_path, damage):
    undisturbed, out = tmp_path / "a.parquet", tmp_path / "out.parquet"
    score_catalogue(model, named_file, undisturbed, chunk_size=50)
    interrupted(model, named_file, out)
    part = sorted((tmp_path / ".out.parquet.parts").glob("*.arrow"))[1]
    part.write_bytes(damage(part.read_bytes()))
    score_catalogue(model, named_file, out, chunk_size=50, resume=True)

    assert out.read_bytes() == undisturbed.read_bytes()


def damage(path):
    column = pq.read_metadata(path).row_group(5).column(4)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 30] = bytes(range(200, 230))
    path.write_bytes(content)


def test_unreadable_rows_stop_the_run_which_goes_on_without_them(model, named_file, tmp_path):
    """What is done is not lost: the same command goes on with --resume --skip-bad."""
    damage(named_file)
    out = tmp_path / "out.parquet"
    with pytest.raises(InputError, match=r"named\.parquet: expected Parquet, found"):
        score_catalogue(model, named_file, out, chunk_size=50, workers=1)
    scored = score_catalogue(model, named_file, out, chunk_size=50, resume=True, skip_bad=True)
    undisturbed = tmp_path / "undisturbed.parquet"
    score_catalogue(model, named_file, undisturbed, chunk_size=50, skip_bad=True)

    assert len(scored.skipped) == 1
    assert scored.skipped[0].startswith("rows 350 to 419 (the first is 0)")
    assert scored.n_galaxies == 630
    assert out.read_bytes() == undisturbed.read_bytes()


def test_what_was_skipped_is_not_forgotten_by_an_interruption(model, named_file, tmp_path):
    damage(named_file)
    broken = named_file.with_name("a.parquet")
    broken.write_bytes(b"PAR1")
    out = tmp_path / "out.parquet"
    told = []

    def interrupt_late(_, done, __):
        if done > 500:
            raise Stopped

    options = {"chunk_size": 50, "skip_bad": True, "on_message": told.append}
    with pytest.raises(Stopped):
        score_catalogue(model, named_file.parent, out, on_progress=interrupt_late, **options)
    scored = score_catalogue(model, named_file.parent, out, resume=True, **options)

    assert [text.partition(":")[0] for text in scored.skipped] == [
        str(broken),
        "rows 350 to 419 (the first is 0)",
    ]
    assert [f"skipped {text}" for text in scored.skipped] == told


def test_nothing_readable_is_an_error(model, named_file, tmp_path):
    pq.write_table(pq.read_table(named_file), named_file)
    metadata = pq.read_metadata(named_file).row_group(0)
    content = bytearray(named_file.read_bytes())
    for k in range(metadata.num_columns):
        start = metadata.column(k).data_page_offset
        content[start : start + 30] = bytes(range(200, 230))
    named_file.write_bytes(content)

    with pytest.raises(InputError, match="nothing could be read; the first reason: rows 0 to the"):
        score_catalogue(model, named_file, tmp_path / "out.parquet", skip_bad=True)


@pytest.fixture
def files(catalogue_file, tmp_path):
    """Write the mock galaxies to a file for each array, which takes the place of a column."""

    def files(name, *arrays):
        table = pq.read_table(catalogue_file)
        rest = table.drop_columns(name) if name in table.column_names else table
        paths = [tmp_path / f"{n}.parquet" for n in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            pq.write_table(rest.append_column(name, array), path)
        return paths

    return files


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize("suffix", FORMATS[:3])
@pytest.mark.parametrize(
    ("types", "value", "expected"),
    [
        ((pa.int16(), pa.int64(), pa.int32()), 7, pa.int64()),
        ((pa.float32(), pa.float32(), pa.float64()), 7.1, pa.float64()),
        ((pa.null(), pa.string(), pa.null()), "long word", pa.string()),
        ((pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()), "a", pa.string()),
    ],
)
def test_a_kept_column_has_a_type_that_holds_the_values_of_every_file(
    model, files, tmp_path, types, value, expected, suffix, order
):
    arrays = [pa.array([None if t == pa.null() else value] * 700).cast(t) for t in types]
    out = tmp_path / f"out.{suffix}"
    score_catalogue(model, files("kept", *(arrays[k] for k in order)), out, keep=["kept"])
    found = read_columns(out)["kept"]

    if suffix == "parquet":
        assert found.type == expected
        assert_array_equal(
            found.to_pylist(), np.concatenate([arrays[k].to_pylist() for k in order])
        )
    assert found.to_pylist()[700 * order.index(1)] == pytest.approx(arrays[1][0].as_py(), abs=0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_text_and_numbers_in_a_kept_column_are_told_in_either_order(model, files, tmp_path, order):
    arrays = pa.array(range(700)), pa.array(["x"] * 700)

    with pytest.raises(InputError, match=r"same type in every file, found 'kept' as (int|str)"):
        score_catalogue(
            model, files("kept", *(arrays[k] for k in order)), tmp_path / "out.parquet",
            keep=["kept"],
        )  # fmt: skip


def test_identities_that_a_common_type_would_round_are_told(model, files, tmp_path):
    paths = files("object_id", pa.array(np.arange(700) + 2**60), pa.array(np.arange(700.0)))

    with pytest.raises(
        InputError, match=r"found that they differ \(Integer value .* not in range"
    ):
        score_catalogue(model, paths, tmp_path / "out.parquet")


def test_a_column_that_the_format_cannot_hold_leaves_nothing_to_resume(
    model, catalogue_file, tmp_path
):
    table = pq.read_table(catalogue_file)
    lists = pa.array([[1]] * len(table))
    pq.write_table(table.append_column("lists", lists), tmp_path / "a.parquet")

    with pytest.raises(InputError, match=r"'lists' of type list<.*> cannot be written to HDF5"):
        score_catalogue(model, tmp_path / "a.parquet", tmp_path / "out.hdf5", keep=["lists"])

    assert not (tmp_path / ".out.hdf5.parts").exists()


def test_text_among_numbers_is_told_with_its_file_and_rows(model, catalogue_file, tmp_path):
    table = pq.read_table(catalogue_file).drop_columns(["mag_r"])
    words = pa.array(["20.5"] * 600 + ["faint"] * 100)
    write(table.append_column("mag_r", words), tmp_path / "in.parquet")

    with pytest.raises(InputError, match=r"in\.parquet, rows 500 .*: .* row 100 .* 'faint'"):
        score_catalogue(model, tmp_path / "in.parquet", tmp_path / "out.parquet", chunk_size=500)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.txt", {}, "ends as its format does"),
        ("out.fits", {"output": "qp"}, "ends as its format does"),
        ("out.qp.hdf5", {"pdf": "none"}, "a qp ensemble holds p\\(z\\), got pdf 'none'"),
        ("out.parquet", {"keep": ["nothing"]}, "expected the column 'nothing'"),
        (
            "out.parquet",
            {"keep": ["photoz_flag"]},
            "'photoz_flag' of the catalogue cannot be kept",
        ),
        ("out.parquet", {"keep": ["rf_odds"], "name": "rf"}, "'rf_odds' .* cannot be kept"),
    ],
)
def test_what_cannot_be_done_is_told_before_it_begins(
    model, named_file, tmp_path, name, options, message
):
    with pytest.raises(InputError, match=message):
        score_catalogue(model, named_file, tmp_path / name, **options)

    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_the_catalogue_itself_is_never_overwritten(model, named_file):
    before = named_file.read_bytes()
    with pytest.raises(InputError, match="is of the catalogue itself, which would be lost"):
        score_catalogue(model, named_file, named_file, overwrite=True)

    assert named_file.read_bytes() == before


def test_a_folder_in_the_place_of_the_output_is_told_before_it_begins(model, named_file):
    with pytest.raises(InputError, match="is a folder; name a file"):
        score_catalogue(model, named_file, _folder(named_file), overwrite=True)


def _folder(named_file):
    folder = named_file.parent / "out.parquet"
    folder.mkdir()
    return folder


def test_a_folder_that_cannot_be_made_is_told(model, named_file):
    with pytest.raises(InputError, match=r"expected a folder in which .* Not a directory"):
        score_catalogue(model, named_file, named_file / "out.parquet")


def rescaled(path, bands, factor=1000):
    table = pq.read_table(path)
    for band in bands:
        name = f"mag_{band}"
        place = table.column_names.index(name)
        values = pa.array(factor * table[name].to_numpy())
        table = table.set_column(place, name, values)
    pq.write_table(table, path)


def test_a_column_in_another_unit_is_told(model, named_file, tmp_path):
    """Millimagnitudes are no magnitudes; without this band there is still a redshift."""
    rescaled(named_file, "r")
    told = []
    score_catalogue(model, named_file, tmp_path / "out.parquet", on_message=told.append)

    assert len(told) == 1
    assert told[0].startswith(
        "mag_r: implausible value in 700 of the first 700 rows, not observed"
    )


def test_a_catalogue_in_another_unit_is_refused_though_it_begins_with_an_empty_file(
    model, named_file, tmp_path
):
    rescaled(named_file, "ugrizy")
    empty = tmp_path / "empty.parquet"
    pq.write_table(pq.read_table(named_file)[:0], empty)

    with pytest.raises(
        InputError, match=r"expected magnitudes between 0 and 50, .* mag_u: implaus"
    ):
        score_catalogue(model, [empty, named_file], tmp_path / "out.parquet")


def test_results_come_in_order_whatever_takes_long():
    def work(n):
        time.sleep(0.01 * (n % 3))
        return -n

    assert list(in_order(iter(range(1, 30)), work, 4)) == [-n for n in range(1, 30)]


def test_no_more_than_a_few_items_are_under_way():
    taken = []

    def items():
        for n in range(1, 100):
            taken.append(n)
            yield n

    results = in_order(items(), lambda n: n, 2)
    for n in range(1, 20):
        assert next(results) == n
        assert len(taken) <= n + 2 * 2 + 2
    results.close()


@pytest.mark.parametrize("place", ["reading", "work"])
def test_an_error_in_a_thread_is_that_of_the_caller(place):
    def items():
        yield from range(1, 5)
        if place == "reading":
            raise InputError(place)
        yield 0

    def work(n):
        return 1 // n

    with pytest.raises(InputError if place == "reading" else ZeroDivisionError):
        list(in_order(items(), work, 2))


SCRIPT = """
import sys
from pathlib import Path
import resource
from photoz import load_model
from photoz.scoring import score_catalogue
bundle, catalogue, out, limit, *resume = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
score_catalogue(
    load_model(bundle), catalogue, Path(out), chunk_size=50, workers=2, resume=bool(resume)
)
"""


@pytest.fixture
def start(model, named_file, tmp_path):
    """Start a run in a process of its own."""
    bundle = save_model(model, tmp_path / "in" / "bundle")

    def start(out, *resume, limit=0):
        arguments = [bundle, named_file, out, limit, *resume]
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *map(str, arguments)], stderr=subprocess.PIPE
        )

    return start


def n_finished(out):
    return len(list(out.parent.glob(f".{out.name}.parts/*.arrow")))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "hdf5"])
def test_run_killed_at_random_ends_with_the_same_bytes(start, tmp_path, rng, suffix):
    undisturbed, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    with start(undisturbed) as process:
        assert process.wait(300) == 0
    n_killed = 0
    while not out.exists() and n_killed < 3:
        with start(out, "resume") as process:
            n_parts = n_finished(out)
            while process.poll() is None and n_finished(out) <= n_parts:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            n_killed += process.wait(300) == -signal.SIGKILL
    if not out.exists():
        with start(out, "resume") as process:
            assert process.wait(300) == 0

    assert n_killed > 0
    assert out.read_bytes() == undisturbed.read_bytes()
    assert not out.with_name(f".{out.name}.parts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["fits", "hdf5"])
def test_run_on_a_full_disk_can_be_resumed(start, tmp_path, suffix):
    """A limit on the size of files fails as a full disk does: part of a write, then an error."""
    undisturbed, out = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    with start(undisturbed) as process:
        assert process.wait(300) == 0
    with start(out, limit=undisturbed.stat().st_size // 2) as process:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 1
        assert b"File too large" in error
        assert error.count(b"Traceback") == 1
    assert not out.exists()
    with start(out, "resume") as process:
        assert process.wait(300) == 0

    assert out.read_bytes() == undisturbed.read_bytes()


def test_a_catalogue_without_any_column_of_the_survey_is_refused(tmp_path):
    """All bands of this bundle may be missing, but not all at once from the whole catalogue."""
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    model = load_model(Path(__file__).parent / "bundles" / "format-1.zip")

    with pytest.raises(InputError, match="expected columns of the survey, such as mag_u"):
        score_catalogue(model, tmp_path / "wrong.csv", tmp_path / "out.parquet")


def test_a_catalogue_without_the_ids_of_its_survey_is_told(model, named_file, tmp_path):
    pq.write_table(pq.read_table(named_file).drop_columns("object_id"), named_file)
    told, out = [], tmp_path / "out.parquet"
    score_catalogue(model, named_file, out, on_message=told.append)

    assert told == [
        "the catalogue has no column 'object_id'; objectId holds the numbers of its rows"
    ]
    assert pq.read_table(out)["objectId"].to_pylist() == [*range(700)]


def test_a_catalogue_that_cannot_be_used_is_told_nothing_of_its_ids(model, named_file, tmp_path):
    table = pq.read_table(named_file).drop_columns("object_id")
    words = pa.array(["bright"] * len(table))
    pq.write_table(table.drop_columns("mag_g").append_column("mag_g", words), named_file)
    told = []

    with pytest.raises(InputError, match="column 'mag_g' must hold numbers, row 0"):
        score_catalogue(model, named_file, tmp_path / "out.parquet", on_message=told.append)
    assert told == []


def test_a_band_that_the_catalogue_lacks_is_told(model, named_file, tmp_path):
    """Its error alone may have another name."""
    table = pq.read_table(named_file)
    names = ["MAGERR_G" if name == "mag_err_g" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), named_file)
    flexible, told = copy(model), []
    flexible.optional_bands = ("g",)
    score_catalogue(flexible, named_file, tmp_path / "out.parquet", on_message=told.append)

    assert told == ["band g counts as not observed: there is no column mag_err_g"]


def test_a_band_that_some_files_lack_is_told_once_though_the_first_is_empty(
    model, named_file, tmp_path
):
    table = pq.read_table(named_file)
    paths = [tmp_path / f"{name}.parquet" for name in "abc"]
    for path, part in zip(paths, [table[:0], table, table.drop_columns("mag_g")], strict=True):
        pq.write_table(part, path)
    flexible, told = copy(model), []
    flexible.optional_bands = ("g",)
    score_catalogue(flexible, paths, tmp_path / "out.parquet", on_message=told.append)

    assert told == ["band g counts as not observed: not every file has the column mag_g"]


def test_no_more_rows_are_told_than_there_are_though_bands_share_a_column(
    model, named_file, tmp_path
):
    table = pq.read_table(named_file)
    pq.write_table(table.append_column("ebv", pa.array([np.inf] * 700)), named_file)
    keys = {**model.survey.model_dump(), "ebv": "ebv", "a_ebv": dict.fromkeys("ugrizy", 2.0)}

    with pytest.raises(InputError, match="found ebv: implausible value in 700 of the first 700"):
        score_catalogue(model, named_file, tmp_path / "out.parquet", survey=Survey(**keys))


def test_an_object_id_that_is_kept_is_not_said_to_hold_numbers_of_rows(
    model, named_file, tmp_path
):
    table = pq.read_table(named_file)
    names = ["objectId" if name == "object_id" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), named_file)
    told, out = [], tmp_path / "out.parquet"
    score_catalogue(model, named_file, out, keep=["objectId"], on_message=told.append)

    assert told == ["the catalogue has no column 'object_id'; objectId is its own that is kept"]
    assert pq.read_table(out)["objectId"].to_pylist() == table["object_id"].to_pylist()
