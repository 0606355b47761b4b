"""Bundles: a fitted model as native weights and a manifest, without any pickle."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import photoz
from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, Pool, single_models
from photoz.calibration import Calibration
from photoz.errors import InputError
from photoz.estimators import estimator_name, get_estimator
from photoz.features import PhotometricFeatures
from photoz.golden import check_bands, golden_rows, replay
from photoz.integrity import (
    check_files,
    check_replaceable,
    file_fingerprint,
    put_in_place,
    unzip,
)
from photoz.model import FittedModel, PhotozModel
from photoz.plain_json import plain_value
from photoz.survey import Survey

__all__ = ["FORMAT_VERSION", "load_model", "save_model"]

FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_SEEN = "seen.bin"
_MANIFEST_LIMIT = 64 * 2**20


def save_model(model: FittedModel, path: str | Path) -> Path:
    """Write a fitted model as a bundle.

    Parameters
    ----------
    model
        A fitted `PhotozModel` or `PhotozBlend`.
    path
        Directory to make, or a file that ends in ``.zip``. A bundle that stood there is
        replaced once the new one is complete.

    Returns
    -------
    Path
        Where the bundle is.

    Raises
    ------
    InputError
        If something else than a bundle stands there, if this is no such model, or if it was
        fitted to galaxies of which none was observed in one of its bands.
    sklearn.exceptions.NotFittedError
        If it was not fitted.
    """
    path = Path(path)
    members = single_models(model)
    if not members:
        msg = (
            f"expected a PhotozModel or PhotozBlend to save, found a {type(model).__name__}; "
            "give the model first and the path second."
        )
        raise InputError(msg)
    for member in members:
        member.check_fitted()
    check_replaceable(path, _MANIFEST)
    check_bands(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as work:
        directory = Path(work) / "bundle"
        directory.mkdir()
        manifest = _describe(model, directory)
        seen = [member.seen for member in members if member.seen is not None]
        if seen:
            np.unique(np.concatenate(seen)).astype("<u8").tofile(directory / _SEEN)
        manifest["golden"] = golden_rows(model)
        manifest["files"] = {
            str(file.relative_to(directory).as_posix()): file_fingerprint(file)
            for file in sorted(directory.rglob("*"))
            if file.is_file()
        }
        manifest["manifest_sha256"] = _manifest_hash(manifest)
        text = json.dumps(manifest, indent=1, default=plain_value)
        (directory / _MANIFEST).write_text(text, encoding="utf-8")
        put_in_place(_zipped(directory) if path.suffix == ".zip" else directory, path)
    return path


def load_model(path: str | Path, *, verify: bool = False) -> PhotozModel | PhotozBlend:
    """Read a bundle that `save_model` wrote, on trust of nothing but its own hashes.

    Parameters
    ----------
    path
        Directory or ``.zip`` file of the bundle.
    verify
        Whether to predict the bundle's golden rows and compare them with the densities
        that the fitted model gave.

    Raises
    ------
    InputError
        If the bundle is incomplete, altered, of a newer format or unsafe, or if the golden
        rows come out differently.
    """
    path = Path(path)
    if path.suffix != ".zip":
        return _load_directory(path, verify=verify)
    with tempfile.TemporaryDirectory(prefix="photoz-") as work:
        return _load_directory(unzip(path, Path(work)), verify=verify)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Manifest of a bundle directory, its own hash and the file hashes checked."""
    file = directory / _MANIFEST
    if not file.is_file():
        msg = f"no bundle at {directory}: expected a directory or .zip with a {_MANIFEST}."
        raise InputError(msg)
    if file.stat().st_size > _MANIFEST_LIMIT:
        msg = f"{file} is larger than {_MANIFEST_LIMIT} bytes; no manifest is."
        raise InputError(msg)
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version, declared = manifest["format_version"], manifest["manifest_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"{file} is not a bundle's manifest ({error}); export the model again."
        raise InputError(msg) from error
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        msg = (
            f"{directory} has bundle format {version!r}, but photoz {photoz.__version__} reads "
            f"formats 1 to {FORMAT_VERSION}; install a newer photoz."
        )
        raise InputError(msg)
    if declared != _manifest_hash(manifest):
        msg = f"{file} was altered: its hash differs from manifest_sha256; export it again."
        raise InputError(msg)
    try:
        check_files(directory, manifest["files"], _MANIFEST)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        msg = f"{file} does not list its files ({error!r}); export the model again."
        raise InputError(msg) from error
    return dict(manifest)


def _load_directory(directory: Path, *, verify: bool) -> PhotozModel | PhotozBlend:
    manifest = read_manifest(directory)
    try:
        model = _restore(manifest, directory)
        if _SEEN in manifest["files"]:
            seen = np.fromfile(directory / _SEEN, dtype="<u8").astype(np.uint64)
            for member in single_models(model):
                member.seen = seen
        if verify:
            replay(model, manifest["golden"], directory)
    except (InputError, ImportError, MemoryError):
        raise
    except Exception as error:  # weights that are none can make a library raise anything
        msg = (
            f"the weights in {directory} cannot be read ({type(error).__name__}: {error}); "
            "export the model again."
        )
        raise InputError(msg) from error
    return model


def _describe(model: FittedModel, directory: Path) -> dict[str, Any]:
    """Manifest of a model but for its files, which are written to `directory`."""
    common = {
        "format_version": FORMAT_VERSION,
        "photoz_version": photoz.__version__,
        "survey": model.survey.model_dump(mode="json"),
        "z_grid": {"z_max": float(model.z_grid[-1]), "n_z": len(model.z_grid)},
    }
    if isinstance(model, PhotozBlend):
        members = {
            name: _describe_model(member, directory / "members" / name)
            for name, member in model.members.items()
        }
        return {
            **common,
            "estimator": "blend",
            "parameters": model.pool.to_dict(),
            "features": {name: member["features"] for name, member in members.items()},
            "members": members,
            "calibration": model.calibration.to_dict() if model.calibration else None,
            "provenance": model.provenance,
            "contains_training_rows": any(m["contains_training_rows"] for m in members.values()),
        }
    (single,) = single_models(model)
    return {**common, **_describe_model(single, directory)}


def _describe_model(model: PhotozModel, directory: Path) -> dict[str, Any]:
    name = estimator_name(model.estimator)
    model.estimator.save(directory / "estimator")
    return {
        "estimator": name,
        "parameters": model.estimator.get_params(deep=False),
        "features": model.features.to_dict(),
        "augment": model.augment.to_dict(),
        "calibration": model.calibration.to_dict() if model.calibration else None,
        "provenance": {**model.provenance, **model.learned()},
        "contains_training_rows": name == "knn",
    }


def _restore(manifest: Mapping[str, Any], directory: Path) -> PhotozModel | PhotozBlend:
    survey = Survey.model_validate(manifest["survey"])
    if manifest["estimator"] != "blend":
        return _restore_model(manifest, survey, directory)
    for name in manifest["members"]:
        # A name such as ../x would lead to files that nothing vouches for.
        if f"members/{name}/estimator/estimator.json" not in manifest["files"]:
            msg = f"unsafe bundle {directory}: its member {name!r} is not among its files."
            raise InputError(msg)
    calibration = manifest["calibration"]
    blend = PhotozBlend(
        {
            name: _restore_model(content, survey, directory / "members" / name)
            for name, content in manifest["members"].items()
        },
        Pool.from_dict(manifest["parameters"]),
        Calibration.from_dict(calibration) if calibration else None,
    )
    blend.provenance = dict(manifest["provenance"])
    return blend


def _restore_model(content: Mapping[str, Any], survey: Survey, directory: Path) -> PhotozModel:
    calibration = content["calibration"]
    model = PhotozModel(
        survey,
        PhotometricFeatures.from_dict(content["features"]),
        Augmentation(**content["augment"]),
        get_estimator(content["estimator"]).load(directory / "estimator"),
        Calibration.from_dict(calibration) if calibration else None,
    )
    return model.restore(content["provenance"])


def _manifest_hash(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=plain_value)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _zipped(directory: Path) -> Path:
    archive = directory.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                bundle.write(file, file.relative_to(directory).as_posix())
    return archive
