import subprocess

import numpy as np

from photoz.environment import git_commit, installed_distributions, machine


def git(directory, *arguments):
    identity = ("-c", "user.name=me", "-c", "user.email=me@host")
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_a_commit_is_told_with_whether_files_have_changed_since(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")

    assert git_commit(tmp_path) == commit
    (tmp_path / "notes.txt").write_text("untracked files are nobody's code\n")
    assert git_commit(tmp_path) == commit
    file.write_text("2\n")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_there_is_no_commit_outside_of_a_repository_or_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit(tmp_path) is None

    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_what_is_installed_is_listed_once_and_in_order():
    lines = installed_distributions().splitlines()

    assert f"numpy=={np.__version__}" in lines
    assert lines == sorted(set(lines), key=lambda line: line.partition("==")[0].lower())


def test_the_machine_has_processors_and_memory():
    found = machine()

    assert found["processors"] >= 1
    assert found["memory_gb"] > 0.1
