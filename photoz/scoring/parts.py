"""Parts: what an unfinished output has so far, so that the same command can go on with it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa

from photoz.catalogue import Place
from photoz.errors import InputError

__all__ = ["Part", "Parts"]

PLACE = b"photoz.place"
"""Key of a part's metadata under which stands how far it goes."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some finished rows of an output.

    Parameters
    ----------
    table
        The rows.
    end
        Where in the catalogue reading goes on.
    skipped
        What of the catalogue could not be read so far.
    """

    table: pa.Table
    end: Place
    skipped: tuple[str, ...]


class Parts:
    """A hidden folder beside an output: its finished parts, and the output as far as it goes.

    Used as a context: what is there when it is left by an error stays for the next run. One run
    at a time has the folder, as long as it lives.

    Parameters
    ----------
    out
        The output.
    command
        Everything that the output depends on.
    """

    def __init__(self, out: Path, command: Mapping[str, object]) -> None:
        self.out = out
        self.folder = out.with_name(f".{out.name}.parts")
        self.command = dict(command)
        self._n_parts = 0
        self._locks = ExitStack()
        self._is_own = False

    @property
    def unfinished(self) -> Path:
        """The output, as long as it is not complete."""
        return self.folder / "output"

    def exist(self) -> bool:
        """Whether an earlier run was left unfinished."""
        return self.folder.exists()

    def were_published(self) -> bool:
        """Whether an earlier run was complete but for its tidying up."""
        return (self.folder / "complete").exists() and not self.unfinished.exists()

    def begin(self, *, resume: bool) -> None:
        """Make the folder, or take it over with what is in it.

        Raises
        ------
        InputError
            If it is to be taken over, but is of another command, or cannot be made, or if
            another run has it.
        """
        if self.exist():
            self._lock()
            if resume:
                self._check_command()
            else:
                shutil.rmtree(self.folder)
        try:
            if not self.exist():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._lock()
        except OSError as error:
            msg = (
                f"{self.out}: expected a folder in which files can be made, found that "
                f"{error.strerror} ({error.filename}); name another output."
            )
            raise InputError(msg) from error
        (self.folder / "command.json").write_text(json.dumps(self.command), encoding="utf-8")

    def finished(self) -> Iterator[Part]:
        """The parts of an earlier run, in order; a damaged one ends them."""
        while True:
            path = self._path(self._n_parts)
            try:
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
                metadata = dict(table.schema.metadata)
                place = json.loads(metadata.pop(PLACE))
            except (OSError, pa.ArrowInvalid):
                return
            self._n_parts += 1
            end = Place(place["file"], place["row"])
            yield Part(table.replace_schema_metadata(metadata), end, tuple(place["skipped"]))

    def add(self, table: pa.Table, end: Place, skipped: Sequence[str]) -> None:
        """Keep finished rows; they count once they are there as a whole."""
        place = json.dumps({"file": end.file, "row": end.row, "skipped": list(skipped)})
        marked = table.replace_schema_metadata({**(table.schema.metadata or {}), PLACE: place})
        path = self._path(self._n_parts)
        growing = path.with_suffix(".growing")
        with pa.ipc.new_file(growing, marked.schema) as stream:
            stream.write_table(marked)
        _to_disk(growing)
        growing.replace(path)
        self._n_parts += 1

    def publish(self) -> None:
        """Give the output its name, and tidy up."""
        _to_disk(self.unfinished)
        (self.folder / "complete").touch()
        self.unfinished.replace(self.out)
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._locks:
            if self._is_own and self.exist():
                self.unfinished.unlink(missing_ok=True)
                if not self._path(0).exists():
                    shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.arrow"

    def _lock(self) -> None:
        """Keep other runs out until the context is left, or this process ends."""
        file = self._locks.enter_context((self.folder / "lock").open("ab"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = (
                f"{self.out} is being written by another run, in {self.folder}; wait for it, or "
                "name another output."
            )
            raise InputError(msg) from error
        except OSError:
            pass  # some file systems know no locks
        self._is_own = True

    def _check_command(self) -> None:
        try:
            earlier = json.loads((self.folder / "command.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            earlier = {}
        differing = [key for key, value in self.command.items() if earlier.get(key) != value]
        if differing:
            msg = (
                f"{self.folder} is of a run with another {', '.join(differing)}, and cannot be "
                "continued; repeat its command, or begin anew without --resume."
            )
            raise InputError(msg)


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk: else its name may outlive its content in a crash."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
