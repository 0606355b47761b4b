"""Integrity: whether the files of a bundle are those it was made of, and safe to read."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from photoz.errors import InputError

__all__ = ["check_files", "check_replaceable", "file_fingerprint", "put_in_place", "unzip"]

BUNDLE_LIMIT = 8 * 2**30
"""Bytes that no bundle has, nor any file in it when it is unpacked."""


def file_fingerprint(file: Path) -> dict[str, Any]:
    """Size (bytes) and sha256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": file.stat().st_size, "sha256": digest}


def check_files(directory: Path, files: Mapping[str, Mapping[str, Any]], manifest: str) -> None:
    """Hold the files of a bundle against its manifest.

    Parameters
    ----------
    directory
        The bundle.
    files
        Size and sha256 of each file by its path, as the manifest says.
    manifest
        Name of the manifest's own file.

    Raises
    ------
    InputError
        If a file is missing, altered or not listed, its path leaves the bundle, or an array
        in it could run code or fill the memory when it is read.
    """
    if sum(int(entry["size"]) for entry in files.values()) > BUNDLE_LIMIT:
        msg = f"{directory} declares more than {BUNDLE_LIMIT} bytes; no bundle is so large."
        raise InputError(msg)
    for name, entry in files.items():
        file = _inside(directory, name)
        if not file.is_file():
            msg = f"{directory} lacks {name}, which its manifest lists; export the model again."
            raise InputError(msg)
        if file.stat().st_size != entry["size"] or file_fingerprint(file) != dict(entry):
            msg = (
                f"{directory}/{name} was altered: its size or sha256 differs from the manifest; "
                "export the model again."
            )
            raise InputError(msg)
        if file.suffix == ".npz":
            _check_arrays(file)
    known = {*files, manifest}
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory).as_posix()
        if not file.is_dir() and name not in known and not file.name.startswith("."):
            msg = (
                f"{directory} holds {name}, which its manifest does not list; remove it, or "
                "export the model again."
            )
            raise InputError(msg)


def unzip(archive: Path, directory: Path) -> Path:
    """Unpack a bundle into an empty directory, if its names and sizes are those of a bundle.

    Raises
    ------
    InputError
        If it is no complete zip file, a path leaves the directory or occurs twice, an entry is
        a link, or the sizes that it declares are not those of a bundle.
    """
    if not archive.is_file():
        msg = f"no bundle at {archive}: the file does not exist."
        raise InputError(msg)
    try:
        with zipfile.ZipFile(archive) as bundle:
            _check_entries(archive, directory, bundle.infolist())
            bundle.extractall(directory)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        msg = f"{archive} is not a complete zip file ({error}); export the model again."
        raise InputError(msg) from error
    return directory


def _check_entries(archive: Path, directory: Path, entries: list[zipfile.ZipInfo]) -> None:
    if sum(entry.file_size for entry in entries) > BUNDLE_LIMIT:
        msg = f"{archive} declares more than {BUNDLE_LIMIT} bytes; no bundle is so large."
        raise InputError(msg)
    names = set()
    for entry in entries:
        place = _inside(directory, entry.filename)
        if place in names:
            msg = f"unsafe bundle {archive}: the path {entry.filename!r} occurs twice."
            raise InputError(msg)
        if stat.S_ISLNK(entry.external_attr >> 16):
            msg = f"unsafe bundle {archive}: {entry.filename!r} is a link."
            raise InputError(msg)
        names.add(place)


def _inside(directory: Path, name: str) -> Path:
    """Place of a bundle's file, unless its name leads out of the bundle."""
    pure = PurePosixPath(name.replace("\\", "/"))
    place = (directory / pure).resolve()
    if pure.is_absolute() or ".." in pure.parts or not place.is_relative_to(directory.resolve()):
        msg = f"unsafe bundle {directory}: the path {name!r} leaves it."
        raise InputError(msg)
    return place


def _check_arrays(file: Path) -> None:
    """Look at the headers of arrays before anything makes room for them."""
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    reason = _unsafe(stream, entry.file_size)
                if reason:
                    msg = f"unsafe bundle: array {entry.filename!r} of {file} {reason}."
                    raise InputError(msg)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        msg = f"{file} holds no arrays that can be read ({error}); export the model again."
        raise InputError(msg) from error


def _unsafe(stream: IO[bytes], size: int) -> str:
    """Why an array must not be read, or nothing."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        return f"has the unknown format {version}"
    shape, _, dtype = read[version](stream)
    if dtype.hasobject:
        return "holds Python objects, which only pickle reads"
    if stream.tell() + math.prod(shape) * dtype.itemsize != size or size > BUNDLE_LIMIT:
        return f"declares {math.prod(shape) * dtype.itemsize} bytes, its file has {size}"
    return ""


def check_replaceable(path: Path, mark: str) -> None:
    """Raise `InputError` where something would be lost that is no earlier output.

    Parameters
    ----------
    path
        Folder to make, or file that ends in ``.zip``.
    mark
        Name of a file that stands in every earlier output.
    """
    is_free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not is_free and not _holds(path, mark):
        msg = (
            f"{path}: expected a new name, or an earlier output with {mark} to replace, found "
            "something else that would be lost; name another."
        )
        raise InputError(msg)


def _holds(path: Path, mark: str) -> bool:
    if not zipfile.is_zipfile(path):
        return (path / mark).is_file()
    with zipfile.ZipFile(path) as archive:
        return mark in archive.namelist()


def put_in_place(source: Path, target: Path) -> None:
    """Give a finished folder or file its name, removing what had it only at the last moment."""
    if target.is_dir():
        old = source.with_name("replaced")
        os.replace(target, old)  # noqa: PTH105 - renames a directory in one step
        try:
            os.replace(source, target)  # noqa: PTH105
        except OSError:
            os.replace(old, target)  # noqa: PTH105
            raise
        shutil.rmtree(old)
    else:
        os.replace(source, target)  # noqa: PTH105
