"""Compiling: how kernels are compiled, and where the outcome is kept for the next process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from llvmlite import binding
from numba import config, njit

__all__ = ["exact_part", "kernel", "part"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FOLDER = Path(__file__).parent
_USER = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
# Sums may be reordered; NaN and infinity stay what they are.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}
# Within its kernel a part need not count references to what it is given.
_PART = {**_OPTIONS, "forceinline": True}

if config.CPU_FEATURES is None:
    # LLVM spares vectors of 512 bits, which some processors run at a lower clock: here they
    # gain more than they lose.
    config.CPU_FEATURES = f"{binding.get_host_cpu_features().flatten()},-prefer-256-bit"


def part(function: _Function) -> _Function:
    """Decorate a function that only kernels call."""
    compiled: _Function = njit(**_PART)(function)
    return compiled


def exact_part(function: _Function) -> _Function:
    """Decorate a part whose sums are left in their order, since they round on purpose."""
    compiled: _Function = njit(**{**_PART, "fastmath": {"contract"}})(function)
    return compiled


def kernel(function: _Function) -> _Function:
    """Decorate a function that Python calls; it is compiled once for each machine."""
    before = config.CACHE_DIR
    folder = _cache_folder()
    config.CACHE_DIR = str(folder or "")
    try:
        compiled: _Function = njit(cache=folder is not None, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before
    return compiled


@cache
def _cache_folder() -> Path | None:
    """Where compiled kernels are kept: beside the package, else in the user's cache, if at all.

    Numba looks only at the file of a function to see whether it changed, but a kernel is made
    of parts in several files: so each state of the sources has a folder of its own. What it
    keeps there are pickles, code like Python's own byte code: a folder that others may write to
    is not used.
    """
    sources = [path.read_bytes() for path in sorted(_FOLDER.glob("*.py"))]
    compiled = b"".join(source for source in sources if b"photoz.kernels.compiling" in source)
    name = f"photoz-{hashlib.sha256(compiled).hexdigest()[:12]}"
    for parent in [config.CACHE_DIR] if config.CACHE_DIR else [_FOLDER / "__pycache__", _USER]:
        folder = Path(parent) / name
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK) and _is_own(folder):
                return folder
    return None


def _is_own(folder: Path) -> bool:
    """Whether nobody else may write to a folder."""
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
