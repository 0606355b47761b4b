"""Streams: any number of files as one sequence of rows, from any place, around damage."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from photoz.catalogue import Chunk, Place, Skipped, Source, iterate, read_columns, write
from photoz.errors import InputError

N = 250
FORMATS = ["parquet", "fits", "fits.gz", "hdf5", "csv"]


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    return pa.table({"id": np.arange(N), "mag": generator.normal(22, 1, N).astype(np.float32)})


def damage(path, group):
    """Overwrite the pages of a row group's last column."""
    column = pq.read_metadata(path).row_group(group).column(1)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + 40] = bytes(range(200, 240))
    path.write_bytes(content)


def ids(items):
    return [n for item in items if isinstance(item, Chunk) for n in item.table["id"].to_pylist()]


@pytest.mark.parametrize("suffix", FORMATS)
def test_reading_goes_on_from_the_end_of_any_chunk(tmp_path, table, suffix):
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        write(table, path)
    source = Source.open(paths)
    chunks = list(source.chunks(["mag", "id"], 60))

    assert [len(chunk.table) for chunk in chunks] == 2 * [60, 60, 60, 60, 10]
    assert [chunk.path.name[0] for chunk in chunks] == [*"aaaaabbbbb"]
    for number, chunk in enumerate(chunks):
        rest = list(source.chunks(["mag", "id"], 60, chunk.end))
        assert [item.end for item in rest] == [item.end for item in chunks[number + 1 :]]
        assert all(
            a.table.equals(b.table) for a, b in zip(rest, chunks[number + 1 :], strict=True)
        )


@pytest.mark.parametrize("group_size", [7, 60, 1000])
def test_chunks_do_not_depend_on_row_groups(tmp_path, table, group_size):
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=group_size)
    chunks = list(Source.open(tmp_path).chunks(None, 60))

    assert [len(chunk.table) for chunk in chunks] == [60, 60, 60, 60, 10]
    assert pa.concat_tables([chunk.table for chunk in chunks]).equals(table)


@pytest.mark.parametrize(
    ("suffix", "expected"), [("parquet", N), ("fits", N), ("hdf5", N), ("csv", None)]
)
def test_number_of_rows_is_known_before_reading(tmp_path, table, suffix, expected):
    write(table, tmp_path / f"a.{suffix}")

    assert Source.open(tmp_path).n_rows == expected


def test_partition_columns_are_columns(tmp_path, table):
    for folder in ("field=deep/tile=7", "field=wide%20area/tile=12", "field=deep/tile=9"):
        (tmp_path / folder).mkdir(parents=True)
        write(table, tmp_path / folder / "part.parquet")
    source = Source.open(tmp_path)
    rows = pa.concat_tables([c.table for c in source.chunks(["tile", "id", "field"], 1000)])

    assert source.names() == ["id", "mag", "field", "tile"]
    assert source.find(["tile", "nothing"]) == ["tile"]
    assert rows["tile"].to_pylist() == [7] * N + [9] * N + [12] * N
    assert rows["field"].unique().to_pylist() == ["deep", "wide area"]
    assert rows["id"].to_pylist() == [*range(N)] * 3


def test_partitions_numbered_in_other_digits_are_text(tmp_path, table):
    (tmp_path / "tile=\u0663").mkdir()
    write(table, tmp_path / "tile=\u0663" / "part.parquet")

    assert read_columns(tmp_path, ["tile"])["tile"].unique().to_pylist() == ["\u0663"]


def test_partition_column_may_be_all_that_is_read(tmp_path, table):
    (tmp_path / "tile=7").mkdir()
    write(table, tmp_path / "tile=7" / "part.parquet")

    assert read_columns(tmp_path, ["tile"])["tile"].to_pylist() == [7] * N


def test_partition_without_a_value_is_missing(tmp_path, table):
    for folder in ("tile=__HIVE_DEFAULT_PARTITION__", "tile=x7"):
        (tmp_path / folder).mkdir()
        write(table[:1], tmp_path / folder / "part.parquet")

    assert read_columns(tmp_path, ["tile"])["tile"].to_pylist() == [None, "x7"]


def test_stored_column_counts_before_the_name_of_a_folder(tmp_path, table):
    (tmp_path / "id=7").mkdir()
    write(table, tmp_path / "id=7" / "part.parquet")

    assert read_columns(tmp_path, ["id"])["id"].to_pylist() == [*range(N)]


def test_pattern_may_name_folders(tmp_path, table):
    for folder in ("tile=7", "tile=8", "other"):
        (tmp_path / folder).mkdir()
        write(table, tmp_path / folder / "part.parquet")

    assert len(list(iterate(str(tmp_path / "tile=*")))) == 2


def test_damaged_row_group_stops_with_the_name_of_the_file(tmp_path, table):
    path = tmp_path / "bad.parquet"
    pq.write_table(table, path, row_group_size=50)
    damage(path, 2)

    with pytest.raises(InputError, match=r"bad\.parquet: expected Parquet, found a file that"):
        list(iterate(path))


@pytest.mark.parametrize("chunk_size", [30, 100, 1000])
def test_damaged_row_group_can_be_skipped(tmp_path, table, chunk_size):
    path = tmp_path / "bad.parquet"
    pq.write_table(table, path, row_group_size=50)
    damage(path, 2)
    items = list(Source.open(path, skip_bad=True).chunks(None, chunk_size))
    (skipped,) = [item.what for item in items if isinstance(item, Skipped)]

    assert ids(items) == [*range(100), *range(150, N)]
    assert skipped.startswith("rows 100 to 149 (the first is 0): ")
    assert "bad.parquet" in skipped


def test_reading_goes_on_behind_damage_as_if_it_had_not_stopped(tmp_path, table):
    path = tmp_path / "bad.parquet"
    pq.write_table(table, path, row_group_size=50)
    damage(path, 2)
    source = Source.open(path, skip_bad=True)
    items = list(source.chunks(None, 60))

    for number, item in enumerate(items):
        if isinstance(item, Chunk):
            rest = list(source.chunks(None, 60, item.end))
            assert ids(rest) == ids(items[number + 1 :])
            assert sum(isinstance(i, Skipped) for i in rest + items[: number + 1]) == 1


def test_files_that_cannot_be_opened_can_be_skipped(tmp_path, table):
    for name in "abc":
        write(table, tmp_path / f"{name}.fits")
    (tmp_path / "b.fits").write_bytes((tmp_path / "b.fits").read_bytes()[:-2880])
    source = Source.open(tmp_path, skip_bad=True)
    kinds = [type(item) for item in source.chunks(["id"], 1000)]

    assert kinds == [Chunk, Skipped, Chunk]
    assert source.n_rows == 2 * N
    with pytest.raises(InputError, match=r"b\.fits: expected a table that ends at byte"):
        Source.open(tmp_path)


def test_pieces_without_rows_are_refused(tmp_path, table):
    write(table, tmp_path / "a.parquet")

    with pytest.raises(InputError, match="pieces of at least 1 row, got chunk_size = 0"):
        list(iterate(tmp_path, chunk_size=0))


def test_nothing_readable_is_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")

    with pytest.raises(InputError, match=r"none of the files can be read; the first: .*a\.parq"):
        Source.open(tmp_path, skip_bad=True)


def test_csv_with_a_bad_line_is_lost_whole(tmp_path):
    path = tmp_path / "bad.csv"
    lines = [f"{n},{n / 7}" for n in range(100_000)]
    path.write_text("\n".join(["id,mag", *lines[:90_000], "1,2,3", *lines[90_000:]]) + "\n")
    items = list(Source.open(path, skip_bad=True).chunks(["id"], 50_000))

    assert all(isinstance(item, Skipped) for item in items)
    assert "rows 0 to the end" in items[0].what


def test_start_is_the_first_row(tmp_path, table):
    write(table, tmp_path / "a.parquet")
    source = Source.open(tmp_path)

    assert ids(source.chunks(None, 100, Place())) == ids(source.chunks(None, 100))
