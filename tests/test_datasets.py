"""Named data sets: fetched once, checked always, never half there."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from photoz import datasets
from photoz.datasets import DATASETS, DatasetError, fetch
from photoz.download import Member, Package, read_members, sha256_of
from photoz.errors import InputError
from photoz.survey import load_survey

REPOSITORY = Path(__file__).parents[1]


def mgs_text(n, seed=0):
    """Lines like those of the MLZ files; the header lacks ``eu``, as theirs does."""
    rng = np.random.default_rng(seed)
    z_spec, magnitude = rng.uniform(0.01, 0.3, n), 18 + rng.normal(size=(n, 5))
    error = rng.uniform(0.01, 0.1, (n, 5))
    colour, colour_error = -np.diff(magnitude), np.hypot(error[:, :-1], error[:, 1:])
    text = io.StringIO()
    np.savetxt(
        text,
        np.column_stack([z_spec, magnitude, colour, error, colour_error]),
        header="zs u g r i z u-g g-r r-i i-z eg er ei ez eu-g eg-r er-i ei-z",
        comments="#",
    )
    return text.getvalue().encode()


def write_wheel(directory, members, name="toy_photoz_set", version="1.0"):
    dist_info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in members.items():
            wheel.writestr(path, content)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{dist_info}/METADATA", metadata)
        wheel.writestr(f"{dist_info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{dist_info}/RECORD", "")


def write_sdist(directory, members, name="toy_photoz_set", version="1.0"):
    with tarfile.open(directory / f"{name}-{version}.tar.gz", "w:gz") as sdist:
        for path, content in members.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(content)
            sdist.addfile(entry, io.BytesIO(content))


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of packages in the place of every package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


CONTENTS = {"toy/a.train": mgs_text(60), "toy/a.test": mgs_text(40, seed=1)}


@pytest.fixture
def toy(monkeypatch):
    """A data set with a test part, read like sdss-mgs."""
    train, test = (Member(path, sha256_of(content)) for path, content in CONTENTS.items())
    package = Package("toy-photoz-set", "1.0")
    entry = replace(DATASETS["sdss-mgs"], package=package, train=train, test=test)
    monkeypatch.setitem(DATASETS, "toy", entry)
    return CONTENTS


@pytest.fixture
def downloads(toy, monkeypatch):
    """Downloads of the toy set so far, which need no pip."""
    made = []

    def read(package, members, scratch):
        assert not list(scratch.iterdir())
        made.append(package)
        return [toy[member.path] for member in members]

    monkeypatch.setattr(datasets, "read_members", read)
    return made


def files_in(directory):
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


@pytest.mark.usefixtures("toy")
def test_fetch_flattens_both_parts(index, tmp_path):
    write_wheel(index, CONTENTS)
    files = fetch("toy", tmp_path / "data")
    train, test = pq.read_table(files.train), pq.read_table(files.test)
    values = np.loadtxt(io.BytesIO(CONTENTS["toy/a.train"]))

    assert (len(train), len(test)) == (60, 40)
    assert train["redshift"].to_pylist() == values[:, 0].tolist()
    assert train["mag_z"].to_pylist() == values[:, 5].tolist()
    assert train["mag_err_u"].to_pylist() == values[:, 10].tolist()
    assert files_in(tmp_path / "data") == ["toy.json", "toy.parquet", "toy_test.parquet"]


@pytest.mark.usefixtures("downloads")
def test_ids_differ_between_the_parts(tmp_path):
    files = fetch("toy", tmp_path)
    ids = [pq.read_table(path)["object_id"].to_pylist() for path in (files.train, files.test)]

    assert ids == [list(range(60)), list(range(60, 100))]


@pytest.mark.usefixtures("downloads")
def test_sha256_is_that_of_the_files(tmp_path):
    files = fetch("toy", tmp_path)

    assert files.sha256 == {
        path.name: sha256_of(path.read_bytes()) for path in (files.train, files.test)
    }


def test_a_fetched_set_is_not_fetched_again(downloads, tmp_path):
    files = fetch("toy", tmp_path)

    assert fetch("toy", tmp_path) == files
    assert len(downloads) == 1


@pytest.mark.parametrize("victim", ["toy.parquet", "toy_test.parquet", "toy.json"])
def test_a_damaged_cache_is_fetched_again(downloads, tmp_path, victim):
    files = fetch("toy", tmp_path)
    before = (tmp_path / victim).read_bytes()
    (tmp_path / victim).write_bytes(before[:-20])

    assert fetch("toy", tmp_path) == files
    assert (tmp_path / victim).read_bytes() == before
    assert len(downloads) == 2


def test_another_layout_is_fetched_again(downloads, tmp_path, monkeypatch):
    fetch("toy", tmp_path)
    monkeypatch.setitem(DATASETS, "toy", replace(DATASETS["toy"], layout=2))
    fetch("toy", tmp_path)

    assert len(downloads) == 2


@pytest.mark.usefixtures("toy", "index")
def test_no_network_is_one_clear_line(tmp_path):
    with pytest.raises(DatasetError) as error:
        fetch("toy", tmp_path / "data")

    message = str(error.value)
    assert message.startswith("data set toy: pip could not download toy-photoz-set==1.0 (")
    assert "check the network" in message
    assert "\n" not in message
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("toy")
def test_an_altered_file_is_refused(index, tmp_path):
    write_wheel(index, {**CONTENTS, "toy/a.test": mgs_text(40, seed=2)})

    with pytest.raises(DatasetError, match=r"toy/a\.test inside .* have sha256 .*, found"):
        fetch("toy", tmp_path / "data")

    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("toy")
def test_a_package_without_the_file_is_refused(index, tmp_path):
    write_wheel(index, {"toy/a.train": CONTENTS["toy/a.train"]})

    with pytest.raises(DatasetError, match=r"expected a file toy/a\.test inside .* found none"):
        fetch("toy", tmp_path / "data")

    assert not (tmp_path / "data").exists()


def test_a_truncated_package_is_refused(index, tmp_path):
    write_sdist(index, {"toy/a.train": os.urandom(20_000)})
    archive = next(index.iterdir())
    archive.write_bytes(archive.read_bytes()[:10_000])
    package = Package("toy_photoz_set", "1.0", is_sdist=True)

    with pytest.raises(DatasetError, match=r"could not download toy|none that can be read"):
        read_members(package, [Member("toy/a.train", "0")], tmp_path)


@pytest.mark.usefixtures("downloads")
def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    before = fetch("toy", tmp_path)
    (tmp_path / "toy.json").write_text("{}")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.pq, "write_table", fail)
    with pytest.raises(DatasetError, match=r"expected to write to .* No space left on device"):
        fetch("toy", tmp_path)

    assert {path.name: sha256_of(path.read_bytes()) for path in (before.train, before.test)} == (
        before.sha256
    )
    assert files_in(tmp_path) == ["toy.json", "toy.parquet", "toy_test.parquet"]


def test_a_source_archive_is_read_without_running_it(index, tmp_path):
    mark = tmp_path / "ran"
    setup = f"from pathlib import Path; Path({str(mark)!r}).touch()\nimport numpy.no_such_module\n"
    members = {"setup.py": setup.encode(), "toy/a.train": b"content"}
    write_sdist(index, members)
    package = Package("toy_photoz_set", "1.0", is_sdist=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = read_members(package, [Member("toy/a.train", sha256_of(b"content"))], scratch)

    assert found == [b"content"]
    assert not mark.exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"unknown data set 'sdds'.* sdss, sdss-mgs, lsst-dc2"):
        fetch("sdds", tmp_path)


def test_importing_datasets_loads_no_reader():
    code = (
        "import sys, photoz.datasets;"
        "print(sorted({'astropy', 'h5py', 'torch', 'lightgbm'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", DATASETS)
def test_simulated_sets_say_so(name):
    assert ("SIMULATED" in DATASETS[name].description) == (name == "lsst-dc2")


@pytest.mark.parametrize("name", DATASETS)
def test_the_readme_has_every_checksum(name):
    readme = (REPOSITORY / "data" / "README.md").read_text()

    assert str(DATASETS[name].package) in readme
    assert all(member.sha256 in readme for member in DATASETS[name].members)


def fits_bytes(n=50, seed=0):
    from astropy.io import fits

    rng = np.random.default_rng(seed)
    five = {
        name: rng.uniform(0.1, 10, (n, 5))
        for name in ("MODELFLUX", "MODELFLUX_IVAR", "EXTINCTION")
    }
    one = {
        f"{band}_{kind}": rng.uniform(0.1, 0.2, n)
        for band in "JHK"
        for kind in ("M_EXT", "MSIG_EXT")
    }
    one |= {
        "RA": rng.uniform(0, 360, n),
        "DEC": rng.uniform(-90, 90, n),
        "Z": rng.uniform(0, 1, n),
    }
    one["J_M_EXT"][:], one["J_MSIG_EXT"][:], one["H_MSIG_EXT"][0] = 15.0, 0.1, 0.0
    columns = [fits.Column(name, "5E", array=values) for name, values in five.items()]
    columns += [fits.Column(name, "E", array=values) for name, values in one.items()]
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(stream)
    return stream.getvalue(), five | one


def test_sdss_columns_are_those_of_its_survey():
    content, table = fits_bytes()
    columns = DATASETS["sdss"].read(content)

    assert set(load_survey("sdss").columns_needed()) <= set(columns)
    assert columns["flux_g"].tolist() == table["MODELFLUX"][:, 1].astype(np.float32).tolist()
    assert columns["ivar_z"].tolist() == table["MODELFLUX_IVAR"][:, 4].astype(np.float32).tolist()
    assert all(values.dtype.isnative for values in columns.values())


def test_2mass_becomes_ab_nanomaggies():
    columns = DATASETS["sdss"].read(fits_bytes()[0])

    # J = 15.0 Vega = 15.91 AB; an error of 0.1 mag is 0.1 x 0.4 ln 10 of the flux.
    assert columns["flux_j"] == pytest.approx(10 ** (-0.4 * (15.91 - 22.5)), rel=1e-6)
    snr = columns["flux_j"] * columns["ivar_j"] ** 0.5
    assert snr == pytest.approx(1 / (0.1 * 0.4 * np.log(10)), rel=1e-5)


def test_2mass_without_an_error_is_not_observed():
    columns = DATASETS["sdss"].read(fits_bytes()[0])

    assert columns["ivar_h"][0] == 0
    assert (columns["ivar_h"][1:] > 0).all()


def test_lsst_dc2_columns_are_those_of_its_survey():
    import h5py

    bands = "ugrizy"
    names = [f"{kind}_{band}_lsst" for kind in ("mag", "mag_err") for band in bands]
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for k, name in enumerate([*names, "id", "redshift"]):
            file[f"photometry/{name}"] = np.arange(5) + k
    columns = DATASETS["lsst-dc2"].read(stream.getvalue())

    assert set(load_survey("lsst-dc2").columns_needed()) <= set(columns)
    assert columns["mag_g_lsst"].tolist() == [1, 2, 3, 4, 5]
    assert columns["object_id"].tolist() == [12, 13, 14, 15, 16]


def test_sdss_mgs_columns_are_those_of_its_survey():
    columns = DATASETS["sdss-mgs"].read(mgs_text(5))

    assert set(load_survey("sdss-mgs").columns_needed()) <= set(columns)
