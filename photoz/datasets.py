"""Named training sets: fetched from the package index, checked, flattened and cached."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from photoz.download import DatasetError, Member, Package, read_members, sha256_of
from photoz.errors import InputError

__all__ = ["DATASETS", "Dataset", "DatasetError", "DatasetFiles", "fetch"]

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class DatasetFiles:
    """Where a fetched data set lies.

    Parameters
    ----------
    train
        Parquet file of the training galaxies.
    test
        Parquet file of the official test galaxies, if the set has any.
    survey
        Name of the built-in survey that describes the columns.
    sha256
        Name of each file and the sha256 of its content.
    """

    train: Path
    test: Path | None
    survey: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class Dataset:
    """A data set that ships inside a published package.

    Parameters
    ----------
    description
        What the galaxies are, in one line; says so where they are simulated.
    package
        The package that holds it.
    train, test
        Its files with the training galaxies and with the official test galaxies.
    read
        Turns the content of such a file into plain columns of shape ``(n_galaxies,)``.
    survey
        Name of the built-in survey that describes the columns.
    licence
        Licence of the package that holds it.
    layout
        Goes up when `read` gives other columns, so that cached files are made anew.
    """

    description: str
    package: Package
    train: Member
    test: Member | None
    read: Callable[[bytes], Columns]
    survey: str
    licence: str
    layout: int = 1

    @property
    def members(self) -> list[Member]:
        """The files to take out of the package, training galaxies first."""
        return [self.train] if self.test is None else [self.train, self.test]


def fetch(name: str, directory: Path = Path("data")) -> DatasetFiles:
    """Get a named data set, from `directory` if it lies there already.

    Parameters
    ----------
    name
        One of `DATASETS`.
    directory
        Where ``NAME.parquet``, ``NAME_test.parquet`` and ``NAME.json`` (their sha256 and
        where they come from) go.

    Raises
    ------
    InputError
        If no data set has that name.
    DatasetError
        If it cannot be had, or is not what it should be; `directory` stays as it was.
    """
    if name not in DATASETS:
        msg = f"unknown data set {name!r}; the known ones are {', '.join(DATASETS)}."
        raise InputError(msg)
    cached = _cached(name, directory)
    if cached is not None:
        return cached
    dataset = DATASETS[name]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            contents = read_members(dataset.package, dataset.members, Path(scratch))
        return _store(name, _tables(dataset, contents), directory)
    except DatasetError as error:
        msg = f"data set {name}: {error}"
        raise DatasetError(msg) from error
    except OSError as error:
        msg = (
            f"data set {name}: expected to write to {directory}, found {error}; mend that or "
            "name another directory."
        )
        raise DatasetError(msg) from error


def _cached(name: str, directory: Path) -> DatasetFiles | None:
    """Files of an earlier fetch, or None where any is missing or not as it was written."""
    try:
        receipt = json.loads((directory / f"{name}.json").read_text())
        sha256 = {file: sha256_of((directory / file).read_bytes()) for file in _file_names(name)}
    except (OSError, ValueError):
        return None
    return _files(name, directory, sha256) if receipt == _receipt(name, sha256) else None


def _file_names(name: str) -> list[str]:
    return [f"{name}.parquet", f"{name}_test.parquet"][: len(DATASETS[name].members)]


def _files(name: str, directory: Path, sha256: dict[str, str]) -> DatasetFiles:
    train, *test = (directory / file for file in _file_names(name))
    return DatasetFiles(train, test[0] if test else None, DATASETS[name].survey, sha256)


def _receipt(name: str, sha256: dict[str, str]) -> dict[str, Any]:
    dataset = DATASETS[name]
    members = {member.path: member.sha256 for member in dataset.members}
    source = {"package": str(dataset.package), "members": members, "layout": dataset.layout}
    return {"source": source, "files": sha256}


def _tables(dataset: Dataset, contents: list[bytes]) -> list[pa.Table]:
    """Training and test tables, with row numbers as ids where the source has none."""
    tables: list[pa.Table] = []
    n_rows = 0
    for columns in map(dataset.read, contents):
        row = np.arange(n_rows, n_rows + len(columns["redshift"]))
        tables.append(pa.table({"object_id": row, **columns}))
        n_rows += len(row)
    return tables


def _store(name: str, tables: list[pa.Table], directory: Path) -> DatasetFiles:
    """Write beside, then move into place; the receipt last, because it vouches for the rest."""
    directory.mkdir(parents=True, exist_ok=True)
    sha256 = {}
    # Inside `directory`, because a file can only be moved atomically on its own disk.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as folder:
        scratch = Path(folder)
        for file, table in zip(_file_names(name), tables, strict=True):
            pq.write_table(table, scratch / file)
            sha256[file] = sha256_of((scratch / file).read_bytes())
        receipt = f"{name}.json"
        (scratch / receipt).write_text(json.dumps(_receipt(name, sha256), indent=2) + "\n")
        for file in (*sha256, receipt):
            (scratch / file).replace(directory / file)
    return _files(name, directory, sha256)


def _read_sdss(content: bytes) -> Columns:
    """SDSS model fluxes and 2MASS extended-source magnitudes, both in AB nanomaggies."""
    from astropy.io import fits  # noqa: PLC0415 - other sets do not need it

    with fits.open(io.BytesIO(content)) as hdus:
        table = {field: _native(hdus[1].data[field]) for field in hdus[1].columns.names}
    columns: Columns = {"ra": table["RA"], "dec": table["DEC"]}
    columns["redshift"] = table["Z"].astype(float)
    for k, band in enumerate("ugriz"):
        columns[f"flux_{band}"] = table["MODELFLUX"][:, k]
        columns[f"ivar_{band}"] = table["MODELFLUX_IVAR"][:, k]
        columns[f"extinction_{band}"] = table["EXTINCTION"][:, k]
    # AB minus Vega magnitude of 2MASS (Blanton & Roweis 2007) and the extinction relative
    # to E(B-V) of Schlegel, Finkbeiner & Davis (1998), where A_r = 2.751 E(B-V).
    ebv = table["EXTINCTION"][:, 2] / 2.751
    offsets = {"j": (0.91, 0.902), "h": (1.39, 0.576), "k": (1.85, 0.367)}
    for band, (ab_minus_vega, a_ebv) in offsets.items():
        magnitude = table[f"{band.upper()}_M_EXT"] + ab_minus_vega
        error = table[f"{band.upper()}_MSIG_EXT"]
        # 2MASS writes 0 for an error that it does not have.
        measured = error > 0
        flux = np.where(measured, 10 ** (-0.4 * (magnitude - 22.5)), 0)
        flux_error = 0.4 * np.log(10) * flux * error
        columns[f"flux_{band}"] = flux.astype(np.float32)
        ivar = np.divide(1, flux_error**2, out=np.zeros_like(flux), where=measured)
        columns[f"ivar_{band}"] = ivar.astype(np.float32)
        columns[f"extinction_{band}"] = (a_ebv * ebv).astype(np.float32)
    return columns


def _read_sdss_mgs(content: bytes) -> Columns:
    """Magnitudes and errors; the colours that follow from them are left out."""
    values = np.loadtxt(io.BytesIO(content))
    columns: Columns = {"redshift": values[:, 0]}
    # Columns zs u g r i z, four colours, eu eg er ei ez, four colour errors: the training
    # file has all of them, though its header leaves eu out.
    for k, band in enumerate("ugriz"):
        columns[f"mag_{band}"] = values[:, 1 + k]
        columns[f"mag_err_{band}"] = values[:, 10 + k]
    return columns


def _read_lsst_dc2(content: bytes) -> Columns:
    """Simulated magnitudes under the names that RAIL gives them."""
    import h5py  # noqa: PLC0415 - other sets do not need it

    with h5py.File(io.BytesIO(content)) as file:
        table = {field: values[:] for field, values in file["photometry"].items()}
    columns: Columns = {"object_id": table["id"], "redshift": table["redshift"]}
    for band in "ugrizy":
        for column in (f"mag_{band}_lsst", f"mag_err_{band}_lsst"):
            columns[column] = table[column]
    return columns


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Copy in this machine's byte order: FITS is big-endian."""
    return np.asarray(values).astype(values.dtype.newbyteorder("="))


DATASETS: dict[str, Dataset] = {
    "sdss": Dataset(
        description="10,000 real SDSS galaxies with 2MASS photometry",
        package=Package("kcorrect", "5.1.9"),
        train=Member(
            "kcorrect/data/test/gst_tests_small.fits",
            "d7e87e8abc45167e48889a0e824870760a2e6dde20650a6e41a72164859bf578",
        ),
        test=None,
        read=_read_sdss,
        survey="sdss",
        licence="BSD-3-Clause",
    ),
    "sdss-mgs": Dataset(
        description="10,000 real galaxies of the SDSS main sample, official test half",
        package=Package("mlz", "1.2", is_sdist=True),
        train=Member(
            "mlz/test/SDSS_MGS.train",
            "f16579e52e5bdafcb7afda2e98353d671cc446216b73068a16d7558ab0e09c04",
        ),
        test=Member(
            "mlz/test/SDSS_MGS.test",
            "037f4fa18d298c4d3077bea5665161e2006240413e52e51a7aa7a18509274103",
        ),
        read=_read_sdss_mgs,
        survey="sdss-mgs",
        licence="University of Illinois/NCSA",
    ),
    "lsst-dc2": Dataset(
        description="30,674 SIMULATED LSST galaxies (cosmoDC2, 10-year depth), official test part",
        package=Package("pz-rail-base", "2.0.11"),
        train=Member(
            "rail/examples_data/testdata/test_dc2_training_9816.hdf5",
            "52da55aedb3d5ba2cd907a0ebb67ea1f2093e3c588fd35f97b59019be9d8672b",
        ),
        test=Member(
            "rail/examples_data/testdata/test_dc2_validation_9816.hdf5",
            "de4bebecea54ccc0c5aebd8f664e57d710f5b9b3c72c3fa670c99de229aa916b",
        ),
        read=_read_lsst_dc2,
        survey="lsst-dc2",
        licence="MIT",
    ),
}
"""The data sets that `fetch` knows."""
