"""Catalogues: every format gives the same galaxies, and every mistake one line."""

import gzip
import stat
from decimal import Decimal

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from numpy.testing import assert_allclose, assert_array_equal

from photoz import catalogue as catalogues
from photoz.catalogue import (
    column_names,
    find_columns,
    iterate,
    read,
    read_columns,
    read_known,
    to_array,
    write,
)
from photoz.catalogue.parquet import ParquetTable
from photoz.catalogue.reading import from_columns
from photoz.errors import InputError
from photoz.mock import make_mock_catalogue
from photoz.photometry import State
from photoz.survey import Survey, load_survey

N = 120
LSST = load_survey("lsst")
WRITTEN = ["parquet", "fits", "fits.gz", "hdf5", "csv", "csv.gz", "tsv"]
FORMATS = [*WRITTEN, "ecsv", "vot"]


@pytest.fixture(scope="module")
def columns():
    mock = make_mock_catalogue(N, depth={"u": 24.5}, random_state=1).to_columns()
    return {**mock, "field": np.array(["deep", "wide"])[mock["object_id"] % 2]}


@pytest.fixture
def store(tmp_path, columns):
    """Write the mock, with some columns replaced (or left out: None), to a file."""

    def store(name="mock.parquet", **other):
        kept = {key: value for key, value in {**columns, **other}.items() if value is not None}
        path = tmp_path / name
        if name.endswith((".ecsv", ".vot")):
            Table(kept).write(path, format="ascii.ecsv" if name.endswith("ecsv") else "votable")
        else:
            write(pa.table(kept), path)
        return path

    return store


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_galaxies(store, suffix):
    expected = read(store(), LSST)
    found = read(store(f"mock.{suffix}"), LSST, columns=["field"])

    # CSV spells single precision in decimals.
    assert_allclose(found.photometry.flux, expected.photometry.flux, rtol=1e-5)
    assert_allclose(found.photometry.flux_error, expected.photometry.flux_error, rtol=1e-5)
    assert_array_equal(found.photometry.state, expected.photometry.state)
    assert_allclose(found.z_spec, expected.z_spec)
    assert_array_equal(found.object_id, expected.object_id)
    assert found.extra["field"].tolist() == ["deep", "wide"] * (N // 2)
    assert (found.photometry.state == State.NOT_DETECTED).any()


@pytest.mark.parametrize("suffix", FORMATS)
def test_pieces_make_up_the_whole(store, suffix):
    path = store(f"mock.{suffix}")
    pieces = list(iterate(path, ["redshift", "field"], chunk_size=50))

    assert [len(piece) for piece in pieces] == [50, 50, 20]
    assert all(piece.column_names == ["redshift", "field"] for piece in pieces)
    assert pa.concat_tables(pieces).equals(read_columns(path, ["redshift", "field"]))


@pytest.mark.parametrize("suffix", ["parquet", "fits", "hdf5", "csv", "ecsv", "vot"])
def test_no_rows_are_a_catalogue_of_no_galaxies(tmp_path, columns, suffix):
    path = tmp_path / f"none.{suffix}"
    none = {key: value[:0] for key, value in columns.items()}
    if suffix in ("ecsv", "vot"):
        Table(none).write(path, format="ascii.ecsv" if suffix == "ecsv" else "votable")
    else:
        write(pa.table(none), path)

    assert len(read(path, LSST)) == 0
    assert [len(piece) for piece in iterate(path)] == [0]


@pytest.mark.parametrize("suffix", ["parquet", "fits", "fits.gz", "hdf5", "ecsv", "vot", "csv.gz"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_file_cut_off_is_told(store, suffix, share):
    path = store(f"mock.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(InputError, match=r"mock\.\S+: expected .* (again|cut off)") as caught:
        read(path, LSST)
    assert "\n" not in str(caught.value)


def test_a_csv_line_cut_off_is_told(store):
    path = store("mock.csv")
    path.write_text(path.read_text().rpartition(",")[0])

    with pytest.raises(InputError, match="Expected 17 columns, got 16"):
        read(path, LSST)


@pytest.mark.parametrize("suffix", ["parquet", "fits", "hdf5", "csv", "ecsv", "vot"])
def test_another_format_under_its_name_is_told(tmp_path, suffix):
    path = tmp_path / f"odd.{suffix}"
    path.write_bytes(b"\x00\x9d,\xff\nnothing, of the, kind\n")

    with pytest.raises(InputError, match=r"odd\.\S+: expected"):
        read(path, LSST)


def test_damaged_bytes_never_give_another_error(store):
    generator = np.random.default_rng(0)
    for suffix in ("parquet", "fits", "hdf5"):
        path = store(f"mock.{suffix}")
        content = bytearray(path.read_bytes())
        for _ in range(10):
            damaged = bytearray(content)
            for k in generator.integers(0, min(len(content), 6000), 10):
                damaged[k] = generator.integers(256)
            path.write_bytes(damaged)
            try:
                read(path, LSST)
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017 - some damage does no harm


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("none.parquet", "expected a catalogue file, found none"),
        ("*.parquet", "expected files that match, found none"),
        ("**.parquet", "expected a pattern of files, such as folder/.*parquet .Invalid pattern"),
        ([], "at least one catalogue file, got an empty list"),
        (".", "expected a folder with catalogue files of one format, found none"),
    ],
)
def test_a_missing_file_is_told(tmp_path, monkeypatch, paths, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=message):
        read(paths, LSST)


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    path = tmp_path / "mock.npy"
    path.write_bytes(b"1")

    with pytest.raises(InputError, match=r"ends in one of \.parquet, .*\.fits.*\.csv"):
        read(path, LSST)


def test_files_are_read_in_order(store, tmp_path, columns):
    first = store("b.parquet")
    second = store("a.parquet", object_id=columns["object_id"] + 1000)
    listed = read([first, second], LSST).object_id
    by_pattern = read(str(tmp_path / "*.parquet"), LSST).object_id

    assert_array_equal(listed, np.r_[columns["object_id"], columns["object_id"] + 1000])
    assert_array_equal(by_pattern, np.r_[columns["object_id"] + 1000, columns["object_id"]])
    assert_array_equal(read(tmp_path, LSST).object_id, by_pattern)


def test_a_folder_of_two_formats_is_told(store, tmp_path):
    store("a.parquet")
    store("b.csv")

    with pytest.raises(InputError, match="one format, found CSV and Parquet"):
        read(tmp_path, LSST)


def test_a_folder_holds_what_its_links_lead_to(store, tmp_path):
    inner = tmp_path / "all"
    inner.mkdir()
    (tmp_path / "elsewhere").mkdir()
    store("mock.csv").rename(tmp_path / "elsewhere" / "mock.csv")
    (inner / "link").symlink_to("../elsewhere")
    (inner / "circle").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to("../all")

    assert [str(path.relative_to(inner)) for path in catalogues.find_files(inner)] == [
        "link/mock.csv"
    ]


@pytest.mark.parametrize("pattern", ["", "*.csv"])
def test_a_link_to_a_file_that_is_lost_is_told(store, tmp_path, pattern):
    store("mock.csv")
    (tmp_path / "other.csv").symlink_to("lost.csv")

    with pytest.raises(InputError, match=r"other.csv: expected CSV, .*No such file or directory"):
        column_names(tmp_path / pattern)


def test_files_that_disagree_are_told(store):
    paths = [store("a.parquet"), store("b.parquet", redshift=np.full(N, "high"))]

    with pytest.raises(InputError, match=r"a\.parquet and 1 more: expected columns of the same"):
        read(paths, LSST)


def test_only_the_columns_in_need_are_read(store):
    """A column that nobody asks for may hold anything."""
    path = store(junk=pa.array([{"a": [1]}] * N))

    assert len(read(path, LSST)) == N


def test_a_missing_column_is_told_with_the_closest_name(store):
    path = store(mag_g=None, mag_G=np.full(N, 20.0))

    with pytest.raises(
        InputError, match=r"expected the column 'mag_g' \(did you mean 'mag_G'\?\)"
    ):
        read(path, LSST)


def test_a_column_that_occurs_twice_is_told(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("mag_g,mag_g,mag_err_g\n20,21,0.1\n")

    with pytest.raises(InputError, match="expected one column 'mag_g', found several"):
        read(path, Survey(bands=["g"]))


@pytest.mark.parametrize(
    ("name", "sign", "message"),
    [
        ("a.csv", ";", "separated by commas, found semicolons"),
        ("a.csv", "\t", "separated by commas, found tabs"),
        ("a.tsv", ",", "separated by tabs, found commas"),
    ],
)
def test_another_separator_is_told(tmp_path, name, sign, message):
    (tmp_path / name).write_text(f"mag_g{sign}mag_err_g\n20{sign}0.1\n")

    with pytest.raises(InputError, match=message):
        read(tmp_path / name, Survey(bands=["g"]))


def test_a_single_column_needs_no_separator(tmp_path):
    (tmp_path / "a.csv").write_text("mag g\n20\n")

    assert column_names(tmp_path / "a.csv") == ["mag g"]


def test_fits_does_not_mind_the_case_of_names(tmp_path, columns):
    path = tmp_path / "upper.fits"
    Table({key.upper(): value for key, value in columns.items()}).write(path)
    found = read(path, LSST, training=True, where="redshift > 0", columns=["field"])

    assert_allclose(found.z_spec, columns["redshift"])
    assert find_columns(path, ["redshift", "nothing"]) == ["redshift"]


def test_training_needs_what_prediction_does_not(store):
    path = store(redshift=None, ra=None)
    found = read(path, LSST)

    assert found.z_spec is None
    assert found.ra is None
    assert found.dec is None
    with pytest.raises(InputError, match="expected the columns 'redshift', 'ra'"):
        read(path, LSST, training=True)


def test_coordinates_are_read_where_the_survey_names_them(store, columns):
    found = read(store(), LSST)

    assert_allclose(found.ra, columns["ra"])
    assert_allclose(found.dec, columns["dec"])


def test_an_optional_band_may_be_missing(store):
    path = store(mag_u=None)
    found = read(path, LSST, optional_bands=["u"])

    assert (found.photometry.state[:, 0] == State.NOT_OBSERVED).all()
    with pytest.raises(InputError, match="'mag_u'"):
        read(path, LSST)


def test_a_band_that_a_model_can_do_without_need_not_be_there_to_score_it(store):
    found = read(store(mag_u=None), LSST, training=True, optional_bands=["u"])

    assert (found.photometry.state[:, 0] == State.NOT_OBSERVED).all()


def test_rows_that_cannot_train_are_dropped_and_counted(store, columns):
    redshift = columns["redshift"].copy()
    redshift[:5] = [np.nan, -9, 0, np.inf, 99]
    magnitudes = {f"mag_{band}": columns[f"mag_{band}"].copy() for band in "ugrizy"}
    for magnitude in magnitudes.values():
        magnitude[4:7] = -99
    path = store(redshift=redshift, **magnitudes)
    training = read(path, LSST, training=True)

    assert training.dropped == {
        "redshift missing or not above 0": 3,
        "redshift above 20": 2,
        "no band observed": 2,
    }
    assert_array_equal(training.object_id, columns["object_id"][7:])
    assert len(read(path, LSST)) == N
    assert read(path, LSST).dropped == {}


@pytest.mark.parametrize(("n_bad", "usable"), [(N - 49, 49), (N, 0)])
def test_too_few_usable_rows_are_told_with_the_counts(store, columns, n_bad, usable):
    redshift = np.where(np.arange(N) < n_bad, np.nan, columns["redshift"])
    message = (
        f"at least 50 usable rows and half of all, found {usable} of {N}; "
        f"dropped: {n_bad} redshift missing or not above 0"
    )

    with pytest.raises(InputError, match=message):
        read(store(redshift=redshift), LSST, training=True)


def test_more_than_half_dropped_is_told(store, columns):
    paths = [store("a.parquet"), store("b.parquet", redshift=np.full(N, -1.0))]
    more = store("c.parquet", redshift=np.r_[-1.0, columns["redshift"][1:]])

    assert len(read(paths, LSST, training=True)) == N
    with pytest.raises(InputError, match=f"found {2 * N - 1} of {4 * N}"):
        read([*paths, paths[1], more], LSST, training=True)


@pytest.mark.parametrize("n_known", [1, 3])
def test_a_few_known_redshifts_among_many_unknown_are_enough_to_evaluate(store, columns, n_known):
    redshift = np.where(np.arange(N) < n_known, columns["redshift"], np.nan)
    found = read_known(store(redshift=redshift), LSST)

    assert_allclose(found.z_spec, columns["redshift"][:n_known])
    assert found.dropped == {"redshift missing or not above 0": N - n_known}


def test_evaluation_needs_neither_identities_nor_coordinates(store):
    found = read_known(store(object_id=None, ra=None, dec=None), LSST)

    assert len(found) == N


def test_evaluation_needs_a_known_redshift(store):
    none = store(redshift=np.full(N, 99.0))

    with pytest.raises(InputError, match=rf"found none in {N} rows; dropped: {N} redshift above"):
        read_known(none, LSST)
    with pytest.raises(InputError, match="expected the column 'redshift'"):
        read_known(store(redshift=None), LSST)


def test_a_filter_may_drop_more_than_half(store):
    found = read(store(), LSST, training=True, where="object_id < 55")

    assert len(found) == 55
    assert found.dropped == {"where: object_id < 55": N - 55}


def test_fifty_rows_are_enough_to_train(store):
    path = store()

    assert len(read(path, LSST, training=True, where="object_id < 50")) == 50
    with pytest.raises(InputError, match=f"found 49 of {N}; dropped: {N - 49} where"):
        read(path, LSST, training=True, where="object_id < 49")


def test_a_filter_also_acts_in_prediction(store):
    found = read(store(), LSST, where="field == 'deep' and redshift > 0")

    assert_array_equal(found.object_id, np.arange(0, N, 2))
    assert found.dropped == {"where: field == 'deep' and redshift > 0": N // 2}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("dtype", [pa.int64(), pa.decimal128(19)])
def test_a_filter_knows_every_digit_of_integers_of_which_some_are_missing(store, dtype, suffix):
    """Of 19 digits a float keeps 16: both numbers would be one."""
    hosts = [None, *(2**60 + k % 2 for k in range(1, N))]
    path = store(f"mock.{suffix}", host=pa.array(hosts).cast(dtype))
    found = read(path, LSST, where=f"host == {2**60 + 1}")

    assert_array_equal(found.object_id, np.arange(1, N, 2))


@pytest.mark.parametrize(("where", "rest"), [("good", 1), ("not good", 2)])
def test_a_filter_takes_truth_values_of_which_some_are_missing(store, where, rest):
    good = pa.array([None if k % 3 == 0 else k % 3 == 1 for k in range(N)])
    found = read(store(good=good), LSST, where=where)

    assert_array_equal(found.object_id, np.arange(rest, N, 3))


def test_a_filter_on_a_missing_column_is_told(store):
    with pytest.raises(InputError, match=r"expected the column 'zflag'"):
        read(store(), LSST, where="zflag >= 3")


@pytest.mark.parametrize("value", [np.nan, -99.0, 0.0, 60.0])
def test_a_band_observed_nowhere_cannot_train(store, value):
    path = store(mag_r=np.full(N, value))

    with pytest.raises(InputError, match="band r is observed in no row"):
        read(path, LSST, training=True)
    assert (read(path, LSST).photometry.state[:, 2] == State.NOT_OBSERVED).all()


def test_implausible_values_are_counted(store, columns):
    found = read(store(mag_r=np.r_[0.0, -5.0, columns["mag_r"][2:]]), LSST)

    assert found.implausible == {"mag_r: implausible value": 2}


def test_text_in_place_of_a_number_is_told_with_its_row(store):
    path = store(mag_r=np.array(["20.5"] * 7 + ["faint"] * (N - 7)))

    with pytest.raises(InputError, match=r"mock\.parquet: column 'mag_r' .* row 7 .* 'faint'"):
        read(path, LSST)


def test_text_that_spells_numbers_is_numbers(store, columns):
    found = read(store(redshift=columns["redshift"].astype(str)), LSST)

    assert_allclose(found.z_spec, columns["redshift"])


def test_a_csv_column_may_change_its_type_late(tmp_path):
    """pyarrow would settle the types on the first megabyte."""
    path = tmp_path / "late.csv"
    rows = ["22,0.1,,a"] * 120_000 + ["22.5,1,7,b"]
    path.write_text("\n".join(["mag_g,mag_err_g,flag,redshift", *rows]) + "\n")
    pieces = list(iterate(path, ["mag_g", "flag"], chunk_size=100_000))

    assert pieces[0].schema == pieces[1].schema
    assert pieces[1].slice(len(pieces[1]) - 1).to_pylist() == [{"mag_g": 22.5, "flag": 7}]


@pytest.mark.parametrize(
    "identities", [2**60 + np.arange(N), 2**63 + np.arange(N, dtype=np.uint64)]
)
@pytest.mark.parametrize("suffix", ["parquet", "fits", "hdf5", "csv"])
def test_large_identities_lose_no_digit(store, suffix, identities):
    found = read(store(f"mock.{suffix}", object_id=identities), LSST)

    assert_array_equal(found.object_id, identities)
    assert found.object_id.dtype.kind in "iu"


@pytest.mark.parametrize(("first", "kind"), [(10**18, "i"), (10**24, "O")])
def test_decimal_identities_lose_no_digit(store, first, kind):
    """Databases export whole numbers as decimals."""
    identities = [Decimal(first + k) for k in range(N)]
    found = read(store(object_id=pa.array(identities, pa.decimal128(38, 0))), LSST)

    assert [int(identity) for identity in found.object_id] == identities
    assert found.object_id.dtype.kind == kind


def test_identities_in_a_csv_file_may_have_more_digits_than_any_number(tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("id,mag\n12345678901234567890123,22.5\n7,22\n")

    assert read_columns(path).to_pydict() == {
        "id": ["12345678901234567890123", "7"],
        "mag": [22.5, 22.0],
    }


def test_identities_may_be_text(store):
    found = read(store(object_id=np.array([f"J{k:03}" for k in range(N)])), LSST)

    assert found.object_id[:2].tolist() == ["J000", "J001"]


def test_an_identity_may_not_be_missing(store):
    path = store(object_id=pa.array([None, *range(1, N)]))

    with pytest.raises(InputError, match=f"'object_id' must identify every row, 1 of {N} rows"):
        read(path, LSST)


def test_without_identities_rows_are_numbered_in_the_file(store):
    survey = LSST.model_copy(update={"id": None})
    found = read(store(object_id=None), survey, where="redshift > 0.5")
    everything = read(store(object_id=None), survey)

    assert_array_equal(found.object_id, np.flatnonzero(everything.z_spec > 0.5))


def test_a_selection_of_rows_keeps_them_together(store):
    whole = read(store(), LSST, columns=["field"])
    part = whole[np.array([5, 3])]

    assert part.object_id.tolist() == [5, 3]
    assert_array_equal(part.photometry.flux, whole.photometry.flux[[5, 3]])
    assert_array_equal(part.z_spec, whole.z_spec[[5, 3]])
    assert part.extra["field"].tolist() == ["wide", "wide"]


def test_missing_integers_become_nan(store):
    table = read_columns(store(flag=pa.array([None, *range(1, N)])), ["flag"])

    assert np.isnan(to_array(table["flag"])[0])
    assert to_array(table["flag"])[1] == 1


def test_fits_integers_know_their_null(tmp_path):
    path = tmp_path / "null.fits"
    column = fits.Column("flag", format="J", array=np.array([1, -1, 3]), null=-1)
    fits.BinTableHDU.from_columns([column]).writeto(path)

    assert read_columns(path)["flag"].to_pylist() == [1, None, 3]


@pytest.mark.parametrize(("scale", "zero"), [(0.5, 20), (1, 2**15)])
def test_fits_integers_that_are_scaled_know_their_null(tmp_path, scale, zero):
    path = tmp_path / "null.fits"
    stored = np.array([(4,), (-32768,), (8,)], dtype=[("flux", ">i2")])
    hdu = fits.BinTableHDU(stored)
    hdu.header["TNULL1"], hdu.header["TSCAL1"], hdu.header["TZERO1"] = -32768, scale, zero
    hdu.writeto(path)

    values = [4 * scale + zero, None, 8 * scale + zero]
    assert read_columns(path)["flux"].to_pylist() == values


@pytest.mark.parametrize("suffix", ["fits", "hdf5", "ecsv"])
def test_a_column_without_a_type_in_arrow_is_told_by_its_name(tmp_path, suffix):
    path = tmp_path / f"complex.{suffix}"
    if suffix == "hdf5":
        with h5py.File(path, "w") as file:
            file["c"] = np.ones(2, dtype=complex)
    else:
        Table({"c": np.ones(2, dtype=complex)}).write(path)

    with pytest.raises(InputError, match=rf"{suffix}: column 'c' must hold .*, found complex128"):
        read_columns(path)


@pytest.mark.parametrize("dtype", ["S6", h5py.string_dtype("utf-8")])
def test_hdf5_text_in_utf_8_is_read_whatever_the_file_says_of_it(tmp_path, dtype):
    """Numpy stores bytes, which HDF5 takes for ASCII."""
    path = tmp_path / "text.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("name", data=["größe".encode()[:6], b"ab"], dtype=dtype)

    assert read_columns(path)["name"].to_pylist() == ["größ", "ab"]


@pytest.mark.parametrize("code", ["PE(2)", "1PE(2)", "1QE(2)"])
def test_a_fits_column_whose_rows_differ_in_length_is_told(tmp_path, code):
    path = tmp_path / "lengths.fits"
    values = np.array([np.ones(1, np.float32), np.ones(2, np.float32)], dtype=object)
    kind = code.lstrip("1")[0]
    fits.BinTableHDU.from_columns([fits.Column("v", f"{kind}E(2)", array=values)]).writeto(path)
    header = path.read_bytes()
    written = f"'{kind}E(2)   '".encode()
    assert written in header
    path.write_bytes(header.replace(written, f"'{code:<8}'".encode(), 1))

    with pytest.raises(InputError, match="'v' must hold the same number of values in every row"):
        read_columns(path)


def test_an_image_is_no_table(tmp_path):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(path)

    with pytest.raises(InputError, match="FITS file with a table, found only PrimaryHDU"):
        read(path, LSST)


def test_the_first_table_of_a_fits_file_is_read(tmp_path, columns):
    path = tmp_path / "several.fits"
    image, table = fits.ImageHDU(np.zeros((2, 2))), fits.BinTableHDU(Table(columns))
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path)

    assert len(read(path, LSST)) == N


def test_hdf5_columns_may_lie_in_a_group(tmp_path, columns):
    path = tmp_path / "groups.hdf5"
    with h5py.File(path, "w") as file:
        for group in ("photometry", "other"):
            for name in columns.keys() - {"field"}:
                file[f"{group}/{name}"] = columns[name]
    survey = LSST.model_copy(update={"hdf5_group": "photometry"})
    wrong = LSST.model_copy(update={"hdf5_group": "photometri"})

    assert len(read(path, survey)) == N
    with pytest.raises(InputError, match="expected one group of columns, found other, photometry"):
        read(path, LSST)
    with pytest.raises(InputError, match="expected the group 'photometri', found other"):
        read(path, wrong)


def test_the_only_hdf5_group_is_found(tmp_path, columns):
    path = tmp_path / "group.hdf5"
    write(pa.table(columns), path, hdf5_group="catalogue/deep")

    assert len(read(path, LSST)) == N


def test_hdf5_records_are_columns(tmp_path, columns):
    path = tmp_path / "records.hdf5"
    Table(columns)[["redshift", "mag_g"]].write(path, path="data")
    pieces = list(iterate(path, ["mag_g"], chunk_size=100))

    assert_array_equal(np.concatenate([to_array(p["mag_g"]) for p in pieces]), columns["mag_g"])


def test_hdf5_columns_of_different_length_are_told(tmp_path, columns):
    path = tmp_path / "ragged.hdf5"
    with h5py.File(path, "w") as file:
        for name in columns.keys() - {"field"}:
            file[name] = columns[name][: 7 if name == "mag_g" else N]

    with pytest.raises(InputError, match=r"columns of one length, found .*mag_g: 7"):
        read(path, LSST)


@pytest.mark.parametrize("suffix", ["parquet", "fits", "hdf5"])
def test_columns_with_several_values_survive(tmp_path, suffix):
    path = tmp_path / f"quantiles.{suffix}"
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    write(pa.table({"q": pa.FixedSizeListArray.from_arrays(values.ravel(), 3)}), path)

    assert_array_equal(to_array(read_columns(path)["q"]), values)


def test_big_endian_columns_become_native(tmp_path, columns):
    path = tmp_path / "big.hdf5"
    with h5py.File(path, "w") as file:
        file["mag_g"] = columns["mag_g"].astype(">f4")
    found = to_array(read_columns(path)["mag_g"])

    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert_array_equal(found, columns["mag_g"])


def test_csv_cannot_hold_several_values(tmp_path):
    table = pa.table({"q": pa.array([[1.0, 2.0]])})

    with pytest.raises(InputError, match="CSV holds one value per field, q has several"):
        write(table, tmp_path / "q.csv")


@pytest.mark.parametrize("name", ["mock.ecsv", "mock.vot", "no/mock.csv"])
def test_what_cannot_be_written_is_told(tmp_path, name):
    with pytest.raises(InputError, match="expected a file in a folder that exists"):
        write(pa.table({"a": [1]}), tmp_path / name)


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "mock.parquet"
    write(pa.table({"a": [1]}), path)

    def fail(self, _):
        self.path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ParquetTable, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        write(pa.table({"a": [2]}), path)

    assert pq.read_table(path)["a"].to_pylist() == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["mock.parquet"]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    path = tmp_path / "mock.parquet"
    write(pa.table({"a": [1]}), path)
    (tmp_path / "usual").touch()

    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_column_names_are_those_of_every_file(store):
    paths = [store("a.parquet"), store("b.parquet", field=None)]

    assert "field" in column_names(paths[:1])
    assert "field" not in column_names(paths)


def test_compressed_csv_is_compressed(store):
    path = store("mock.csv.gz")

    assert gzip.decompress(path.read_bytes()).startswith(b'"object_id"')


def test_public_names_exist():
    assert all(hasattr(catalogues, name) for name in catalogues.__all__)


def test_magnitudes_without_errors_are_told_that_a_number_will_do(tmp_path):
    path = tmp_path / "galaxies.csv"
    path.write_text("g,r,z\n" + "20.5,20.1,0.3\n21.0,20.2,0.4\n" * 30)
    survey = Survey(bands=["g", "r"], magnitude="{band}", redshift="z")

    with pytest.raises(InputError, match=r"errors .* in mag_err_g, mag_err_r, .* error = 0.05"):
        read(path, survey, training=True)

    assumed = Survey(bands=["g", "r"], magnitude="{band}", error=0.1, redshift="z")
    assert_allclose(read(path, assumed, training=True).photometry.magnitude_error, 0.1)


def test_masked_columns_are_missing(columns):
    """Those of an astropy table, whatever number stands under the mask."""
    masked = {
        name: np.ma.masked_array(values, mask=np.arange(N) < 20)
        for name, values in columns.items()
        if name in ("mag_g", "redshift")
    }
    found = from_columns({**columns, **masked}, LSST)

    assert (found.photometry.state[:20, 1] == State.NOT_OBSERVED).all()
    assert np.isnan(found.z_spec).tolist() == (np.arange(N) < 20).tolist()


@pytest.mark.parametrize("kind", ["astropy", "structured", "pyarrow", "pandas"])
def test_columns_in_memory_may_come_in_any_table(columns, kind):
    tables = {
        "astropy": lambda: QTable(columns),
        "structured": lambda: np.asarray(Table(columns)),
        "pyarrow": lambda: pa.table(columns),
        "pandas": lambda: pd.DataFrame(columns),
    }
    found = from_columns(tables[kind](), LSST)
    expected = from_columns(columns, LSST)

    assert_array_equal(found.photometry.flux, expected.photometry.flux)
    assert_array_equal(found.object_id, expected.object_id)


def test_what_holds_no_columns_by_name_is_told():
    with pytest.raises(InputError, match=r"expected columns by name \(.*\), got list; convert it"):
        from_columns([1.0, 2.0], LSST)
