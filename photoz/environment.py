"""Environment: the code, the libraries and the machine that made a result."""

from __future__ import annotations

import getpass
import os
import platform
import resource
import subprocess
from importlib.metadata import distributions
from pathlib import Path

__all__ = [
    "git_commit",
    "installed_distributions",
    "machine",
    "peak_memory",
    "processors",
    "user_name",
]


def git_commit(directory: Path | None = None) -> str | None:
    """Commit of the repository that holds a directory.

    Parameters
    ----------
    directory
        The working directory if left out.

    Returns
    -------
    str or None
        The hash, followed by ``-dirty`` where files have changed since; None outside of a
        repository, or without git.
    """
    command = ["git", "-C", str(directory or Path.cwd())]
    try:
        commit = _output([*command, "rev-parse", "HEAD"])
        changed = _output([*command, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changed else commit


def installed_distributions() -> str:
    """What is installed, one ``name==version`` per line, as ``pip install -c`` takes it."""
    found: dict[str, str] = {}
    for item in distributions():
        # Of a name that is there twice, as some libraries bring their own, the first is used.
        # Local labels (2.13.0+cpu) name builds that no index offers.
        if item.name:
            found.setdefault(item.name.lower(), f"{item.name}=={item.version.partition('+')[0]}\n")
    return "".join(found[name] for name in sorted(found))


def machine() -> dict[str, str | int | float]:
    """Python, operating system, processors that this process may use, and memory (GB)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": processors(),
        "memory_gb": round(memory / 1e9, 1),
    }


def peak_memory() -> float:
    """Most memory (MB) that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kilobytes.
    return peak / (1e6 if platform.system() == "Darwin" else 1e3)


def user_name() -> str:
    """Name of the user, or the number where a container's user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def processors() -> int:
    """Number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _output(command: list[str]) -> str:
    done = subprocess.run(  # noqa: S603 - git with fixed arguments
        command, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
