import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from copy import copy
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from photoz.augment import Augmentation
from photoz.blend import PhotozBlend, Pool
from photoz.bundle import _manifest_hash, load_model, save_model
from photoz.calibration import Calibration
from photoz.errors import InputError
from photoz.features import PhotometricFeatures
from photoz.model import PhotozModel


@pytest.fixture(scope="module")
def blend(model, mock, test_photometry):
    blend = PhotozBlend({"forest": model, "twin": model}, Pool("log", (0.5, 0.4), 1e-4))
    pz = blend.predict_pdf(test_photometry)
    z_spec = mock.z_spec[-len(test_photometry) :]
    blend.calibration = Calibration.fit(pz, z_spec, blend.features.transform(test_photometry))
    blend.provenance = {"seed": 0}
    return blend


@pytest.fixture(params=["model", "blend"])
def saved(request, tmp_path):
    fitted = copy(request.getfixturevalue(request.param))
    fitted.provenance = {"seed": 0, "data_sha256": "ab" * 32, "test": {"crps": 0.01}}
    return fitted, save_model(fitted, tmp_path / "bundle")


@pytest.fixture
def bundle(model, tmp_path):
    return save_model(model, tmp_path / "bundle")


def rewrite(bundle, **changes):
    """Change the manifest and make its own hash fit."""
    manifest = json.loads((bundle / "manifest.json").read_text()) | changes
    manifest["manifest_sha256"] = _manifest_hash(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def refused(path, reason, **options):
    with pytest.raises(InputError, match=reason):
        load_model(path, **options)


def test_loaded_model_predicts_as_the_fitted_one(saved, test_photometry):
    fitted, path = saved
    loaded = load_model(path, verify=True)

    expected = fitted.predict_pdf(test_photometry).density
    assert_array_equal(loaded.predict_pdf(test_photometry).density, expected)
    assert loaded.survey == fitted.survey
    assert loaded.provenance == fitted.provenance


def test_loading_again_gives_the_same_bundle(saved, tmp_path):
    """Nothing is lost on the way through memory."""
    _, path = saved
    again = save_model(load_model(path), tmp_path / "again")
    manifests = [json.loads((p / "manifest.json").read_text()) for p in (path, again)]
    for manifest in manifests:
        manifest.pop("manifest_sha256")
        manifest.pop("golden")

    assert manifests[0] == manifests[1]


def test_zip_holds_the_same_model(model, tmp_path, test_photometry):
    path = save_model(model, tmp_path / "bundle.zip")

    expected = model.predict_pdf(test_photometry).density
    assert_array_equal(
        load_model(path, verify=True).predict_pdf(test_photometry).density, expected
    )


def test_new_process_predicts_the_same(model, bundle, catalogue_file, test_photometry):
    code = (
        "import sys, json, photoz; model = photoz.load_model(sys.argv[1], verify=True);"
        "pz = model.predict_pdf(photoz.read(sys.argv[2], model.survey).photometry[500:]);"
        "print(json.dumps(pz.median().tolist()));"
        "assert not {'torch', 'mlflow', 'optuna'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, bundle, catalogue_file],
        capture_output=True,
        text=True,
        check=True,
    )

    # The file holds single precision.
    expected = model.predict_pdf(test_photometry).median()
    assert_allclose(json.loads(done.stdout), expected, atol=0.05)


def test_one_changed_byte_is_refused(bundle):
    for file in bundle.rglob("*"):
        if file.is_file():
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            shutil.copy(file, file.with_suffix(".kept"))
            file.write_bytes(content)
            refused(bundle, "altered|not a bundle's manifest")
            shutil.move(file.with_suffix(".kept"), file)

    load_model(bundle)


def test_missing_file_is_refused(bundle):
    next((bundle / "estimator").glob("*.npz")).unlink()

    refused(bundle, r"lacks estimator/\w+\.npz")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_unknown_format_is_refused(bundle, version):
    rewrite(bundle, format_version=version)

    refused(bundle, re.escape(f"bundle format {version!r}, but"))


@pytest.mark.parametrize("name", ["../outside.json", "/etc/hostname", "a/../../outside.json"])
def test_path_that_leaves_the_bundle_is_refused(bundle, name):
    (bundle.parent / "outside.json").write_text("{}")
    rewrite(bundle, files={name: {"size": 2, "sha256": ""}})

    refused(bundle, re.escape(f"the path {name!r} leaves it"))


@pytest.mark.parametrize("name", ["../../outside", "/outside", "twin/../twin"])
def test_member_outside_of_the_bundle_is_refused(blend, tmp_path, name):
    bundle = save_model(blend, tmp_path / "bundle")
    shutil.copytree(bundle / "members" / "twin", tmp_path / "outside")
    members = json.loads((bundle / "manifest.json").read_text())["members"]
    name = name.replace("/outside", str(tmp_path / "outside")) if name[0] == "/" else name
    rewrite(bundle, members={"forest": members["forest"], name: members["twin"]})

    refused(bundle, re.escape(f"its member {name!r} is not among its files"))


@pytest.mark.parametrize(
    "entry", [{"size": "much", "sha256": ""}, {"size": None, "sha256": ""}, {"size": float("nan")}]
)
def test_size_that_is_no_number_is_refused(bundle, entry):
    rewrite(bundle, files={"estimator/estimator.json": entry})

    refused(bundle, "does not list its files")


def test_path_of_no_file_system_is_refused(bundle):
    rewrite(bundle, files={"a\0b": {"size": 1, "sha256": ""}})

    refused(bundle, "does not list its files")


@pytest.mark.parametrize("golden", [None, {}, {"flux_njy": [1.0], "density": []}])
def test_golden_rows_that_are_none_are_refused(bundle, golden):
    rewrite(bundle, golden=golden)

    refused(bundle, "cannot be read", verify=True)


def test_arrays_of_another_model_are_refused(bundle):
    stream = io.BytesIO()
    np.savez(stream, children=np.zeros(3))
    replace_arrays(bundle, stream.getvalue())

    refused(bundle, "the weights in .* cannot be read")


def test_link_that_leaves_the_bundle_is_refused(bundle):
    file = bundle / "estimator" / "estimator.json"
    outside = bundle.parent / "outside.json"
    shutil.move(file, outside)
    file.symlink_to(outside)

    refused(bundle, "leaves it")


def evil_zip(bundle, path, entry, content="evil"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(bundle / "manifest.json", "manifest.json")
        archive.writestr(entry, content)
    return path


@pytest.mark.parametrize("name", ["../evil.txt", "/evil/evil.txt", "a/../../evil.txt", "..\\evil"])
def test_zip_with_an_escaping_path_is_refused(bundle, tmp_path, name):
    refused(evil_zip(bundle, tmp_path / "evil.zip", name), "leaves it")

    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_with_two_files_of_one_name_is_refused(bundle, tmp_path):
    """Which of the two would count, may differ from reader to reader."""
    refused(evil_zip(bundle, tmp_path / "evil.zip", "manifest.json"), "occurs twice")
    refused(evil_zip(bundle, tmp_path / "evil.zip", "./manifest.json"), "occurs twice")


def test_zip_with_a_link_is_refused(bundle, tmp_path):
    entry = zipfile.ZipInfo("estimator")
    entry.external_attr = 0o120777 << 16

    refused(evil_zip(bundle, tmp_path / "evil.zip", entry, "/etc"), "'estimator' is a link")


def test_manifest_that_declares_too_much_is_refused(bundle):
    rewrite(bundle, files={"estimator/estimator.json": {"size": 2**50, "sha256": ""}})

    refused(bundle, "declares more than 8589934592 bytes")


@pytest.mark.parametrize("files", [None, ["a"], {"a": 1}, {"a": {}}])
def test_manifest_without_its_files_is_refused(bundle, files):
    rewrite(bundle, files=files)

    refused(bundle, "does not list its files")


def test_file_that_is_not_listed_is_refused(bundle):
    (bundle / "estimator" / "more.npz").write_bytes(b"evil")

    refused(bundle, r"holds estimator/more\.npz, which its manifest does not list")


def test_zip_that_declares_too_much_is_refused(bundle, tmp_path, monkeypatch):
    path = save_model(load_model(bundle), tmp_path / "large.zip")
    monkeypatch.setattr("photoz.integrity.BUNDLE_LIMIT", 1000)

    refused(path, "declares more than 1000 bytes")


def test_cut_off_zip_is_refused(model, tmp_path):
    path = save_model(model, tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes()[:-100])

    refused(path, "not a complete zip file")


def replace_arrays(bundle, content):
    """Other content in the place of a bundle's arrays, with the hashes that belong to it."""
    file = next((bundle / "estimator").glob("*.npz"))
    file.write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(bundle, files=manifest["files"] | {file.relative_to(bundle).as_posix(): entry})


def npz(name, content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def test_object_arrays_are_refused(bundle):
    """An object array is a pickle."""
    stream = io.BytesIO()
    np.savez(stream, children=np.array([{}], dtype=object))
    replace_arrays(bundle, stream.getvalue())

    refused(bundle, r"array 'children\.npy' of .* holds Python objects, which only pickle reads")


def test_array_that_declares_a_huge_size_is_refused(bundle):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(stream, header)
    replace_arrays(bundle, npz("children.npy", stream.getvalue()))

    refused(bundle, r"array 'children\.npy' of .* declares 8000000000000 bytes, its file has 128")


@pytest.mark.parametrize("content", [b"no zip", npz("children.npy", b"no array")])
def test_what_is_no_array_is_refused(bundle, content):
    replace_arrays(bundle, content)

    refused(bundle, "holds no arrays that can be read")


def test_other_golden_densities_are_refused(bundle):
    golden = json.loads((bundle / "manifest.json").read_text())["golden"]
    golden["density"][3] = golden["density"][3][::-1]
    rewrite(bundle, golden=golden)

    load_model(bundle)
    refused(bundle, "golden rows", verify=True)


def test_nothing_is_no_bundle(tmp_path):
    refused(tmp_path / "nothing", "no bundle at")
    refused(tmp_path / "nothing.zip", "does not exist")


def test_bundle_replaces_an_earlier_one(model, blend, tmp_path):
    path = save_model(blend, tmp_path / "bundle")
    save_model(model, path)

    assert not (path / "members").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_earlier_bundle_stays_where_the_new_one_cannot_take_its_name(bundle, blend, monkeypatch):
    rename = os.replace

    def fail(source, target):
        if (Path(source) / "members").is_dir():
            raise OSError("full")
        rename(source, target)

    monkeypatch.setattr("photoz.integrity.os.replace", fail)
    with pytest.raises(OSError, match="full"):
        save_model(blend, bundle)

    assert not isinstance(load_model(bundle), PhotozBlend)


def test_zipped_bundle_replaces_an_earlier_one(model, blend, tmp_path):
    path = save_model(model, save_model(blend, tmp_path / "bundle.zip"))

    assert type(load_model(path)) is type(model)


def test_no_other_archive_is_replaced(model, tmp_path):
    path = tmp_path / "photographs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "mine")
    before = path.read_bytes()

    with pytest.raises(InputError, match="something else that would be lost; name another"):
        save_model(model, path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["precious", "precious/notes.txt", "precious.zip"])
def test_nothing_but_a_bundle_is_replaced(model, tmp_path, name):
    for folder in ("precious", "precious.zip"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"expected a new name, or an earlier output with manif"):
        save_model(model, tmp_path / name)

    assert len(list(tmp_path.rglob("notes.txt"))) == 2


def test_bundle_holds_no_training_redshift(bundle, mock):
    """The golden rows are made up."""
    golden = json.loads((bundle / "manifest.json").read_text())["golden"]

    assert not np.isin(np.ravel(golden["flux_njy"]), mock.photometry.flux).any()


def test_bundles_of_earlier_releases_keep_loading():
    """A blend of all families, as 0.1.0 wrote it; its golden rows come out the same."""
    earlier = Path(__file__).parent / "bundles" / "format-1.zip"
    model = load_model(earlier, verify=True)

    assert set(model.members) == {"forest", "boosting", "network"}
    assert model.calibration is not None


def test_bundle_knows_training_galaxies_again_by_eight_bytes_each(saved, mock, test_photometry):
    _, path = saved
    loaded = load_model(path)

    assert (path / "seen.bin").stat().st_size <= 8 * 500
    assert loaded.seen_in_training(mock.photometry[:500]).all()
    assert not loaded.seen_in_training(test_photometry).any()


def test_bundle_without_fingerprints_knows_no_galaxy_again(mock):
    model = load_model(Path(__file__).parent / "bundles" / "format-1.zip")

    assert not model.seen_in_training(mock.photometry).any()


def test_a_band_in_which_nothing_was_observed_is_not_exported(model, tmp_path):
    fitted = copy(model)
    fitted.training_range = model.training_range | {"u": (np.inf, -np.inf)}

    with pytest.raises(InputError, match="no training galaxy was observed in u; fit the model"):
        save_model(fitted, tmp_path / "bundle")

    assert not list(tmp_path.iterdir())


def test_such_a_band_of_any_member_of_a_blend_is_told(blend, tmp_path):
    other = copy(blend.members["twin"])
    other.training_range = other.training_range | {"z": (np.inf, -np.inf)}

    for members in ({"a": other, "b": blend.members["forest"]}, {**blend.members, "twin": other}):
        with pytest.raises(InputError, match="no training galaxy was observed in z; fit"):
            save_model(PhotozBlend(members, blend.pool), tmp_path / "bundle")


def test_what_is_no_model_is_not_exported(tmp_path):
    with pytest.raises(InputError, match="PhotozModel or PhotozBlend to save, found a str; give"):
        save_model("foo", tmp_path / "bundle")

    assert not list(tmp_path.iterdir())


def test_an_unfitted_model_is_not_exported(model, tmp_path):
    estimator = type(model.estimator)(random_state=0)
    unfitted = PhotozModel(model.survey, PhotometricFeatures(), Augmentation(), estimator)

    with pytest.raises(NotFittedError, match="ForestPhotoz instance is not fitted yet"):
        save_model(unfitted, tmp_path / "bundle")

    assert not list(tmp_path.iterdir())


def test_settings_out_of_numpy_are_exported(model, tmp_path):
    fitted = copy(model)
    fitted.augment = Augmentation(noise_copies=np.int64(2), noise_scale=np.float32(0.5))

    loaded = load_model(save_model(fitted, tmp_path / "bundle"))

    assert loaded.augment == fitted.augment
