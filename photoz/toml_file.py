"""TOML files that people write: read, or refused in one sentence."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from photoz.errors import InputError

__all__ = ["read_toml"]


def read_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """Keys of a TOML file, and its text.

    Parameters
    ----------
    path
        The file.
    what
        What it should be, with its article.

    Raises
    ------
    InputError
        If there is no such file, or it is no TOML.
    """
    try:
        source = path.read_text(encoding="utf-8-sig")  # some editors mark UTF-8
        return tomllib.loads(source), source
    except OSError as error:
        msg = f"{path}: expected {what} file, found none ({error.strerror or error})."
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"{path}: expected {what} in TOML, found a mistake: {error}."
        raise InputError(msg) from error
