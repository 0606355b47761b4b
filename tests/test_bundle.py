import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from photoz.blend import PhotozBlend, Pool
from photoz.bundle import _manifest_hash, load_model, save_model
from photoz.calibration import Calibration
from photoz.errors import InputError


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
    fitted = request.getfixturevalue(request.param)
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
    assert loaded.provenance["seed"] == 0 if fitted.provenance else True


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


def test_link_that_leaves_the_bundle_is_refused(bundle):
    file = bundle / "estimator" / "estimator.json"
    outside = bundle.parent / "outside.json"
    shutil.move(file, outside)
    file.symlink_to(outside)

    refused(bundle, "leaves it")


def test_zip_with_an_escaping_path_is_refused(bundle, tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(bundle / "manifest.json", "manifest.json")
        archive.writestr("../evil.txt", "evil")

    refused(path, "leaves it")
    assert not (tmp_path / "evil.txt").exists()


def test_zip_that_declares_too_much_is_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("photoz.bundle._BUNDLE_LIMIT", 1000)
    path = save_model(load_model(bundle), tmp_path / "large.zip")

    refused(path, "declares more than 1000 bytes")


def test_cut_off_zip_is_refused(model, tmp_path):
    path = save_model(model, tmp_path / "cut.zip")
    path.write_bytes(path.read_bytes()[:-100])

    refused(path, "not a complete zip file")


def test_object_arrays_are_refused(bundle):
    """An object array is a pickle."""
    file = next((bundle / "estimator").glob("*.npz"))
    with np.load(file) as saved:
        arrays = {name: saved[name].astype(object) for name in saved}
    np.savez(file, **arrays)
    content = file.read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    name = file.relative_to(bundle).as_posix()
    rewrite(bundle, files=manifest["files"] | {name: entry})

    refused(bundle, "weights .* cannot be read .*allow_pickle")


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
