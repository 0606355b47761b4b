"""Contents: data sets and files in the form that MLflow keeps."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlflow.entities import Dataset, DatasetInput, InputTag

from photoz.errors import without_password

__all__ = ["Content", "TrackedData", "write_content"]


@dataclass(frozen=True)
class TrackedData:
    """The galaxies of an experiment, as MLflow shows them.

    Parameters
    ----------
    name
        Name of the data set.
    source
        Where it comes from: files or the name of a set.
    sha256, split_sha256
        Of the catalogue, and of its split.
    n_rows
        Number of galaxies of each part: ``training``, ``validation``, ``test``.
    columns
        Columns that the models read.
    """

    name: str
    source: str
    sha256: str
    split_sha256: str
    n_rows: Mapping[str, int]
    columns: Sequence[str] = ()

    def part(self, part: str) -> Dataset:
        """One part as a data set of MLflow."""
        digest = hashlib.sha256(f"{self.sha256}{self.split_sha256}{part}".encode())
        schema = [{"name": name, "type": "double", "required": True} for name in self.columns]
        return Dataset(
            name=f"{self.name} {part}",
            digest=digest.hexdigest()[:8],
            source_type="local",
            source=json.dumps({"uri": without_password(self.source)}),
            schema=json.dumps({"mlflow_colspec": schema}),
            profile=json.dumps({"num_rows": self.n_rows[part], "sha256": self.sha256}),
        )

    def inputs(self) -> list[DatasetInput]:
        """All parts as inputs of a run."""
        return [
            DatasetInput(self.part(part), [InputTag("mlflow.data.context", part)])
            for part in self.n_rows
        ]


class Figure(Protocol):
    """A figure of matplotlib."""

    def savefig(self, fname: str, *, dpi: int, bbox_inches: str) -> None:
        """Write it to a file."""


Content = str | bytes | Path | Figure | Mapping[str, Any] | Sequence[Any]
"""What an artifact may be: text, bytes, a file or folder, a figure, or what JSON can hold."""


def write_content(file: Path, content: Content) -> None:
    """Write what an artifact holds; passwords in text are left out."""
    if isinstance(content, Path):
        (shutil.copytree if content.is_dir() else shutil.copyfile)(content, file)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(without_password(content), encoding="utf-8")
    elif isinstance(content, Mapping | Sequence):
        text = json.dumps(content, indent=1, default=str)
        file.write_text(without_password(text), encoding="utf-8")
    else:
        content.savefig(str(file), dpi=120, bbox_inches="tight")
