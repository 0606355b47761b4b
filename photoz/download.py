"""Single files out of published packages, through pip, checked and never run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DatasetError", "Member", "Package", "read_members", "sha256_of"]


class DatasetError(RuntimeError):
    """A data set could not be had: no network, another file than expected, a full disk."""


@dataclass(frozen=True)
class Package:
    """A package of one version on the package index.

    Parameters
    ----------
    name, version
        As pip knows them.
    is_sdist
        Whether the files are taken from its source archive instead of its wheel.
    """

    name: str
    version: str
    is_sdist: bool = False

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Member:
    """A file inside a package: its path there and the sha256 of its content."""

    path: str
    sha256: str


def read_members(package: Package, members: list[Member], scratch: Path) -> list[bytes]:
    """Download a package and return the content of some of its files.

    It comes through ``pip download``, so that the user's own index settings hold. Nothing
    of it is installed or run.

    Parameters
    ----------
    package
        The package that holds the files.
    members
        The files; each must have the sha256 that it names.
    scratch
        An empty directory, which the caller removes.

    Raises
    ------
    DatasetError
        If pip cannot download the package, or a file is missing or altered.
    """
    archive = _download(package, scratch.resolve())
    return [_verified(archive, member) for member in members]


def sha256_of(content: bytes) -> str:
    """Hexadecimal sha256 of `content`."""
    return hashlib.sha256(content).hexdigest()


def _download(package: Package, scratch: Path) -> Path:
    """Let pip put the package's archive into `scratch`, an absolute path."""
    target = scratch / "download"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(target)]
    environment = dict(os.environ)
    if package.is_sdist:
        command += ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
        environment["PYTHONPATH"] = str(_idle_build_backend(package, scratch / "backend"))
    else:
        command += ["--only-binary", ":all:"]
    done = subprocess.run(  # noqa: S603 - a fixed command, without a shell
        [*command, str(package)], env=environment, capture_output=True, text=True, check=False
    )
    archives = sorted(target.glob("*")) if target.is_dir() else []
    if done.returncode or len(archives) != 1:
        msg = (
            f"pip could not download {package} ({_complaint(done.stderr)}); check the network "
            "and the index that pip is set to use, then try again."
        )
        raise DatasetError(msg)
    return archives[0]


def _complaint(stderr: str) -> str:
    """Tell in one line what pip had to say."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    # pip's first error says what went wrong, later ones what follows from it.
    return (errors or lines[-1:] or ["it gave no reason"])[0]


def _idle_build_backend(package: Package, folder: Path) -> Path:
    """Make a folder for PYTHONPATH whose setuptools answers pip without running setup.py.

    Even to download a source archive, pip asks its build backend for the metadata. That
    would run a setup.py which nobody has checked, and an old one asks for modules that
    Python no longer has.
    """
    dist_info = f"{package.name}-{package.version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {package.version}\n"
    backend = folder / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(f"""
from pathlib import Path

class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        dist_info = Path(metadata_directory) / {dist_info!r}
        dist_info.mkdir()
        (dist_info / "METADATA").write_text({metadata!r})
        return dist_info.name
""")
    return folder


def _verified(archive: Path, member: Member) -> bytes:
    """Content of one file of the archive, if it is the expected one."""
    try:
        content = _extracted(archive, member.path)
    except (LookupError, EOFError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        msg = (
            f"expected a file {member.path} inside {archive.name}, found none that can be read "
            f"({error}); another index may hold the package as it was published."
        )
        raise DatasetError(msg) from error
    found = sha256_of(content)
    if found != member.sha256:
        msg = (
            f"expected {member.path} inside {archive.name} to have sha256 {member.sha256}, found "
            f"{found}; another index may hold the package as it was published."
        )
        raise DatasetError(msg)
    return content


def _extracted(archive: Path, path: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(path)
    with tarfile.open(archive) as sdist:
        # Everything in a source archive lies in a folder NAME-VERSION.
        names = {name.partition("/")[2]: name for name in sdist.getnames()}
        stream = sdist.extractfile(names[path])
        return stream.read() if stream else b""
