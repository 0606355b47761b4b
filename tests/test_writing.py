"""Writers: files that grow table by table hold what one table of all rows would."""

import re
from decimal import Decimal

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_allclose, assert_array_equal

from photoz.catalogue import QpLayout, open_writer, output_format, read_columns, to_array
from photoz.errors import InputError

LEVELS = (0.1, 0.5, 0.9)
Z_GRID = np.linspace(0, 2, 5)


@pytest.fixture
def table():
    n = 7
    text = pa.array(["a", None, "long", "", "e", "f", "g"])
    columns = {
        "id": pa.array(2**63 + np.arange(n, dtype=np.uint64)),
        "tiny": pa.array(np.arange(n, dtype=np.int8) - 3),
        "short": pa.array(np.arange(n, dtype=np.uint16) + 65_000),
        "count": pa.array([1, None, *range(2, n)], pa.int64()),
        "ok": pa.array([True, False] * 3 + [True]),
        "name": text,
        "kind": text.dictionary_encode(),
        "z": pa.array([None, *np.linspace(0, 1, n - 1)]),
        "q": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(21, dtype=np.float32)), 3),
    }
    notes = {"z": {"unit": "mag", "ucd": "src.redshift", "description": "median"}}
    schema = pa.schema(
        [
            pa.field(name, column.type, metadata=notes.get(name))
            for name, column in columns.items()
        ],
        {"photoz.quantile_levels": "[0.1]", "photoz.flags": "x" * 200},
    )
    return pa.table(columns, schema)


def write(path, kind, tables, **options):
    with open_writer(path, kind, tables[0].schema, **options) as writer:
        for table in tables:
            writer.write(table)
    return path


@pytest.fixture
def pieces(table):
    return [table[:2], table[2:2], table[2:]]


@pytest.mark.parametrize(("kind", "suffix"), [("fits", "fits"), ("hdf5", "hdf5")])
def test_rows_come_back_as_they_were(tmp_path, table, pieces, kind, suffix):
    path = write(tmp_path / f"a.{suffix}", kind, pieces, text_widths={"name": 4, "kind": 4})
    found = read_columns(path)

    assert set(found.column_names) == set(table.column_names)
    for name in ("id", "tiny", "short", "ok"):
        assert_array_equal(to_array(found[name]), to_array(table[name]))
    for name in ("name", "kind"):
        assert found[name].to_pylist() == ["a", "", "long", "", "e", "f", "g"]
    assert_array_equal(to_array(found["q"]), np.arange(21).reshape(7, 3))
    assert_allclose(to_array(found["z"]), to_array(table["z"]))


def test_parquet_comes_back_with_its_metadata(tmp_path, table, pieces):
    path = write(tmp_path / "a.parquet", "parquet", pieces)

    found = pq.read_table(path)

    assert found.equals(table)
    assert found.schema.metadata == table.schema.metadata
    assert found.schema.field("z").metadata[b"ucd"] == b"src.redshift"


def test_row_groups_are_of_one_size_whatever_the_tables(tmp_path, monkeypatch, pieces):
    monkeypatch.setattr("photoz.catalogue.parquet.ROW_GROUP_BYTES", 3 * 72)
    metadata = pq.read_metadata(write(tmp_path / "a.parquet", "parquet", pieces))

    sizes = [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]
    assert sizes == [3, 3, 1]


def test_astropy_reads_fits_with_units_ucds_and_nulls(tmp_path, table, pieces):
    path = write(tmp_path / "a.fits", "fits", pieces, text_widths={"name": 4, "kind": 4})
    found, header = Table.read(path), fits.getheader(path, 1)

    assert str(found["z"].unit) == "mag"
    assert header["TUCD8"] == "src.redshift"
    assert header["TCOMM8"] == "median"
    assert header["QUANTILE"] == "[0.1]"
    assert header["FLAGS"] == "x" * 200
    assert found["count"].mask.tolist() == [False, True, *[False] * 5]
    assert_array_equal(found["id"], to_array(table["id"]))
    assert path.stat().st_size % 2880 == 0


def test_hdf5_keeps_what_is_known_as_attributes(tmp_path, pieces):
    path = write(tmp_path / "a.hdf5", "hdf5", pieces)
    with h5py.File(path) as file:
        assert file.attrs["photoz.quantile_levels"] == "[0.1]"
        assert file["z"].attrs["unit"] == "mag"
        assert file["count"][1] == file["count"].attrs["missing_value"] == -(2**63)


@pytest.mark.parametrize("kind", ["parquet", "fits", "hdf5"])
def test_same_tables_give_the_same_bytes(tmp_path, pieces, kind):
    a, b = (write(tmp_path / name, kind, pieces, text_widths={"name": 4}) for name in "ab")

    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("kind", ["parquet", "fits", "hdf5"])
def test_no_rows_are_a_table(tmp_path, table, kind):
    suffix = output_format(tmp_path / f"a.{kind}")
    path = write(tmp_path / f"a.{suffix}", kind, [table[:0]])

    assert len(read_columns(path)) == 0


@pytest.mark.parametrize("form", ["quantiles", "densities"])
def test_qp_reads_what_was_written(tmp_path, form):
    qp = pytest.importorskip("qp")
    mode = np.array([0.4, np.nan, 1.2])
    if form == "quantiles":
        values = np.float32([[0.2, 0.4, 0.6], [np.nan] * 3, [1.0, 1.2, 1.5]])
    else:
        values = np.float32([[0, 1, 1, 0, 0], [np.nan] * 5, [0, 0, 1, 1, 0]])
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    table = pa.table({"name": ["a", "b", "c"], "m": mode, "flag": [0, 32, 0], "p": column})
    layout = QpLayout(
        "p", LEVELS if form == "quantiles" else None, Z_GRID, {"name": "object_id", "m": "zmode"}
    )
    pieces = [table[:1], table[1:]]
    ensemble = qp.read(str(write(tmp_path / "a.hdf5", "qp", pieces, layout=layout)))

    assert ensemble.npdf == 3
    assert list(ensemble.ancil) == ["flag", "object_id", "zmode"]
    assert_allclose(ensemble.ancil["zmode"], mode)
    assert [x.decode() if isinstance(x, bytes) else x for x in ensemble.ancil["object_id"]] == [
        *"abc"
    ]
    assert_allclose(
        ensemble.ppf(0.5).ravel(), [0.4, 1.0, 1.2] if form[0] == "q" else [0.75, 1, 1.25]
    )


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        (pa.array([[1], [2, 3]]), "fits", "'x' of type list<.*> cannot be written to FITS"),
        (pa.array([{"a": 1}] * 2), "hdf5", "'x' of type struct<.*> cannot be written to HDF5"),
        (pa.array([True, None]), "hdf5", "'x' must have a value in every row, 1 are missing"),
        (
            pa.array(["a", "é"]),
            "fits",
            "'x' must hold ASCII text to be written to FITS, found 'é'",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_told(tmp_path, column, kind, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a", kind, [pa.table({"x": column})], text_widths={"x": 2})


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("größe", "fits", "'größe' must have an ASCII name of 1 to 68 letters"),
        ("", "fits", "'' must have an ASCII name of 1 to 68 letters"),
        ("x" * 69, "fits", "must have an ASCII name of 1 to 68 letters"),
        ("g/r", "hdf5", "'g/r' cannot be written to HDF5, where / stands for a group"),
        (".", "hdf5", "'.' cannot be written to HDF5"),
    ],
)
def test_a_name_that_a_format_cannot_hold_is_told(tmp_path, name, kind, message):
    with pytest.raises(InputError, match=re.escape(message)):
        write(tmp_path / "a", kind, [pa.table({name: [1.0]})])


def test_a_column_named_as_one_of_qp_is_told(tmp_path):
    pdf = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(3, np.float32)), 3)
    table = pa.table({"m": [0.4], "zmode": [0.5], "p": pdf})
    layout = QpLayout("p", LEVELS, Z_GRID, {"m": "zmode"})

    with pytest.raises(InputError, match="'zmode' cannot be written to qp beside its own"):
        write(tmp_path / "a.hdf5", "qp", [table], layout=layout)


@pytest.mark.parametrize("kind", ["fits", "hdf5"])
@pytest.mark.parametrize(("digits", "expected"), [(18, 10**17 + 1), (24, str(10**17 + 1))])
def test_decimal_identities_keep_every_digit(tmp_path, kind, digits, expected):
    ids = pa.array([Decimal(10**17 + 1)], pa.decimal128(digits, 0))
    path = tmp_path / f"a.{kind}"
    write(path, kind, [pa.table({"id": ids})], text_widths={"id": 18})

    assert read_columns(path)["id"].to_pylist() == [expected]


def test_notes_that_a_card_cannot_hold_are_spelt_out(tmp_path):
    field = pa.field("flux", pa.float64(), metadata={"unit": "µJy", "description": "Größe"})
    table = pa.table({"flux": [1.0]}, schema=pa.schema([field]))

    header = fits.getheader(write(tmp_path / "a.fits", "fits", [table]), 1)

    assert (header["TUNIT1"], header["TCOMM1"]) == (r"\xb5Jy", r"Gr\xf6\xdfe")


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("a.PARQUET", None, "parquet"),
        ("a.fit", None, "fits"),
        ("a.h5", None, "hdf5"),
        ("a.qp.hdf5", None, "qp"),
        ("a.hdf5", "qp", "qp"),
        ("a.qp.hdf5", "hdf5", "hdf5"),
    ],
)
def test_format_is_that_of_the_name(tmp_path, name, wanted, expected):
    assert output_format(tmp_path / name, wanted) == expected


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("a.txt", None, r"ends as its format does \(parquet: \.parquet, .*; fits: .*qp: "),
        ("a.parquet", "fits", r"ends as its format does \(fits: \.fits, \.fit\); rename it"),
    ],
)
def test_name_and_format_must_agree(tmp_path, name, wanted, message):
    with pytest.raises(InputError, match=message):
        output_format(tmp_path / name, wanted)


def test_a_name_that_is_not_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"out.udcff.parquet': expected a path that is text"):
        output_format(tmp_path / "out\udcff.parquet")
