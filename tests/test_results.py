"""The folder of results appears when it is complete, and nothing else stays beside it."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from photoz.experiment import _Flow
from photoz.process import process_name
from photoz.results import Results


@pytest.fixture
def dead():
    """Name of a process that has ended, as it stands in the name of a folder."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    name = process_name(child.pid).replace(":", ",")
    child.wait()
    return name


def folders(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_a_killed_process_left_is_removed(tmp_path, dead):
    left = tmp_path / f".sdss.{dead}.partial"
    (left / "models").mkdir(parents=True)

    with Results(tmp_path / "sdss", None, None):
        assert not left.exists()

    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "sdss-mgs.{dead}",
        "sdss.elsewhere,1,1",
        f"sdss.{process_name(os.getppid()).replace(':', ',')}",
        f"sdss.{platform.node()}",
    ],
)
def test_what_others_write_stays(tmp_path, dead, name):
    other = tmp_path / f".{name.format(dead=dead)}.partial"
    other.mkdir()

    with Results(tmp_path / "sdss", None, None):
        pass

    assert folders(tmp_path) == [other.name]


def test_complete_results_of_a_killed_process_get_their_name(tmp_path, dead):
    """It was killed between the renames of the old results and of the new ones."""
    left = tmp_path / f".sdss.{dead}.partial"
    (left / "replaced").mkdir(parents=True)
    (left / "report.json").write_text("new")

    with Results(tmp_path / "sdss", None, None):
        pass

    assert folders(tmp_path) == ["sdss"]
    assert folders(tmp_path / "sdss") == ["report.json"]


def test_results_are_written_though_the_store_is_gone_by_then(caplog):
    def gone(_):
        msg = "no answer from http://me:secret@host"
        raise ConnectionError(msg)

    results = SimpleNamespace(
        outcomes={"forest": None},
        champion="forest",
        registered={},
        finish=lambda failed: {"failed": failed},
    )
    flow = _Flow(None, None, SimpleNamespace(promote=gone), results, None, {"forest": "1"})

    assert flow.finish() == {"failed": {}}
    assert results.registered == {}
    assert "the champion was not promoted: ConnectionError: no answer" in caplog.text
    assert "secret" not in caplog.text
