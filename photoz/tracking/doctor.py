"""Doctor: artifacts found again after the folder of a store was moved or copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import sqlalchemy
from sqlalchemy import Connection, String, func, literal, select, update

__all__ = ["Move", "find_moves", "mend"]


@dataclass(frozen=True)
class Move:
    """Places in one column of a store's database that lie in a folder of old.

    Parameters
    ----------
    table, column
        Where the places are written.
    n_rows
        Number of rows.
    old, new
        What they begin with, and what they should begin with.
    """

    table: str
    column: str
    n_rows: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column}: {self.n_rows} places from {self.old} to {self.new}"


def find_moves(database: Path) -> list[Move]:
    """Places in a SQLite store that should lie beside its database, and do not.

    MLflow keeps the place of every artifact as an absolute path. A folder of old is one that
    an experiment's artifacts are said to lie in while they lie in the database's own folder.

    Parameters
    ----------
    database
        The SQLite file.
    """
    folder = database.parent.absolute()
    with _connected(database) as connection:
        tables = _text_columns(connection)
        if "experiments" not in {table for table, _ in tables}:
            return []
        return [
            Move(table, column, n_rows, old, new)
            for root in _old_folders(connection, folder)
            for old, new in ((root.as_uri(), folder.as_uri()), (str(root), str(folder)))
            for table, column in tables
            if (n_rows := _count(connection, table, column, f"{old}/"))
        ]


def mend(database: Path, moves: list[Move]) -> None:
    """Write the new places.

    Parameters
    ----------
    database
        The SQLite file.
    moves
        What `find_moves` found.
    """
    with _connected(database) as connection:
        for move in moves:
            place = sqlalchemy.column(move.column, String)
            rest = func.substr(place, len(move.old) + 1)
            begins = func.substr(place, 1, len(move.old) + 1) == f"{move.old}/"
            table = sqlalchemy.table(move.table, place)
            new = literal(move.new).concat(rest)
            connection.execute(update(table).where(begins).values({move.column: new}))


@contextmanager
def _connected(database: Path) -> Iterator[Connection]:
    url = sqlalchemy.URL.create("sqlite", database=str(database))
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _text_columns(connection: Connection) -> list[tuple[str, str]]:
    inspector = sqlalchemy.inspect(connection)
    return [
        (table, column["name"])
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
        if isinstance(column["type"], String)
    ]


def _old_folders(connection: Connection, folder: Path) -> list[Path]:
    """Folders whose artifacts now lie in `folder`."""
    location = sqlalchemy.column("artifact_location", String)
    found = connection.execute(select(location).select_from(sqlalchemy.table("experiments")))
    roots = set()
    for (text,) in found:
        parsed = urlparse(text or "")
        if parsed.scheme not in ("", "file"):
            continue
        place = Path(unquote(parsed.path))
        here = folder / "artifacts" / place.name
        is_same = place.exists() and here.exists() and place.samefile(here)
        if place.parent.name == "artifacts" and here.exists() and not is_same:
            roots.add(place.parent.parent)
    return sorted(roots)


def _count(connection: Connection, table: str, column: str, prefix: str) -> int:
    place = sqlalchemy.column(column, String)
    begins = func.substr(place, 1, len(prefix)) == prefix
    query = select(func.count()).select_from(sqlalchemy.table(table, place)).where(begins)
    return int(connection.execute(query).scalar_one())
