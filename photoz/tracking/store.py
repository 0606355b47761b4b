"""Store: where MLflow keeps runs, models and artifacts."""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlparse

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from photoz.errors import InputError, without_password
from photoz.tracking.doctor import find_moves, mend

__all__ = ["Store", "is_local", "serve"]

logger = logging.getLogger(__name__)

MLRUNS = Path("mlruns")
"""Folder of the working directory that holds the runs where nothing else is said."""

LOCAL = "127.0.0.1"
"""The address that only this machine reaches."""

_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Store:
    """An MLflow store.

    Parameters
    ----------
    uri
        Its tracking URI; a path in it is absolute.
    folder
        Folder of this machine that goes with it, absolute.
    """

    uri: str
    folder: Path

    @classmethod
    def find(cls, uri: str = "", mlruns: Path = MLRUNS) -> Store:
        """Store that a setting means.

        Parameters
        ----------
        uri
            A tracking URI, or a folder; if empty ``MLFLOW_TRACKING_URI``, else `mlruns`.
        mlruns
            Folder of the store where nothing else is said.

        Raises
        ------
        InputError
            If MLflow has no store of that kind.
        """
        uri = uri or os.environ.get(_VARIABLE, "") or str(mlruns)
        if uri.startswith("file:"):
            msg = (
                f"the tracking URI {uri} is a file store, which MLflow no longer writes; give a "
                "folder without file:, or a URI such as sqlite:///mlruns/mlflow.db."
            )
            raise InputError(msg)
        if uri.startswith(_SQLITE):
            # A relative path would mean another file once the working directory changes.
            database = Path(sqlalchemy.make_url(uri).database or "").absolute()
            _, sign, options = uri.partition("?")
            return cls(f"{_sqlite_uri(database)}{sign}{options}", database.parent)
        if "://" in uri or uri.startswith("databricks"):
            return cls(uri, mlruns.absolute())
        folder = Path(uri).expanduser().absolute()
        return cls(_sqlite_uri(folder / "mlflow.db"), folder)

    @property
    def database(self) -> Path | None:
        """The SQLite file, if it is one."""
        local = self.uri.startswith(_SQLITE)
        return Path(sqlalchemy.make_url(self.uri).database or "") if local else None

    @property
    def has_server(self) -> bool:
        """Whether a server stands before it, which then decides where artifacts go."""
        return self.uri.startswith(("http://", "https://", "databricks"))

    def client(self) -> MlflowClient:
        """Client of the store, which is also made MLflow's own current one."""
        # MLflow's functions that save and load models know no client. It also tells the
        # environment, where the next store would take it for the user's own wish.
        told = os.environ.get(_VARIABLE)
        mlflow.set_tracking_uri(self.uri)
        if told is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = told
        return MlflowClient(self.uri)

    @contextmanager
    def opened(self) -> Iterator[MlflowClient]:
        """Client of a store that is there already, for a block that reads or mends it.

        Raises
        ------
        InputError
            If there is no such store, or MLflow fails in the block.
        """
        if self.database is not None and not self.database.exists():
            msg = (
                f"expected an MLflow store, found no {self.database}; run it where mlruns/ is, "
                "or set MLFLOW_TRACKING_URI."
            )
            raise InputError(msg)
        with self.explained(), _few_retries():
            self.follow()
            yield self.client()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say in one line where MLflow fails in the block.

        Raises
        ------
        InputError
            If it does.
        """
        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            raise self._unusable(error) from error

    def experiment(self, name: str) -> Experiment:
        """Experiment of that name, made or restored where there is none.

        Raises
        ------
        InputError
            If the store cannot be reached or used.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_database()
            self.follow()
            with _few_retries(), self._alone():
                return self._experiment(name)
        except InputError:
            raise
        except Exception as error:
            raise self._unusable(error) from error

    def follow(self) -> None:
        """Mend the places of artifacts where the folder was moved since they were written."""
        if self.database is None or not self.database.exists():
            return
        with self._alone():
            moves = find_moves(self.database)
            for move in moves:
                logger.warning("the store was moved: %s", move)
            if moves:
                mend(self.database, moves)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for others of this machine: tables must not be made twice, nor read half made."""
        with ExitStack() as kept:
            if self.database is not None:
                with suppress(OSError):  # some file systems know no locks
                    folder = os.open(self.folder, os.O_RDONLY)
                    kept.callback(os.close, folder)
                    fcntl.flock(folder, fcntl.LOCK_EX)
            yield

    def _unusable(self, error: Exception) -> InputError:
        reason = without_password(f"{type(error).__name__}: {error}".partition("\n")[0])
        return InputError(
            f"the MLflow store {without_password(self.uri)} cannot be used ({reason}); "
            "start its server, or set [tracking] uri or MLFLOW_TRACKING_URI to another."
        )

    def _check_database(self) -> None:
        """Connect once: MLflow itself would try for minutes."""
        if not self.has_server:
            engine = sqlalchemy.create_engine(self.uri)
            engine.connect().close()
            engine.dispose()

    def _experiment(self, name: str) -> Experiment:
        client = self.client()
        folder = self.folder / "artifacts" / name
        place = folder.as_uri()
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(found.experiment_id)
        if self.has_server:
            number = found.experiment_id if found else client.create_experiment(name)
            return client.get_experiment(number)
        if self.database is None:
            if found is not None:
                _check_reachable(found)
                return client.get_experiment(found.experiment_id)
            folder.mkdir(parents=True, exist_ok=True)  # a sign to others that they reach it
        elif found is not None and found.artifact_location != place:
            # The folder was moved. What is there stays under a name that tells where its
            # artifacts lay; MLflow cannot write new ones elsewhere in the same experiment.
            client.rename_experiment(found.experiment_id, f"{name} @ {found.artifact_location}")
            found = client.get_experiment_by_name(f"{name} @ {place}")
            if found is not None:
                client.rename_experiment(found.experiment_id, name)
        if found is None:
            number = client.create_experiment(name, artifact_location=place)
        else:
            number = found.experiment_id
        return client.get_experiment(number)


def _sqlite_uri(database: Path) -> str:
    # In a URL these two signs begin something else. MLflow makes a folder of the name as it is
    # written there, which stays empty, so all other signs are left alone.
    return _SQLITE + str(database).replace("%", "%25").replace("?", "%3F")


def _check_reachable(experiment: Experiment) -> None:
    """Refuse artifacts in a folder of another machine: MLflow would make one of that name here."""
    place = urlparse(experiment.artifact_location)
    if place.scheme in ("", "file") and not Path(unquote(place.path)).exists():
        msg = (
            f"the artifacts of the experiment {experiment.name} lie in {unquote(place.path)}, "
            "which this machine does not have; mount that folder here, or give [tracking] uri "
            "the address of an MLflow server, which keeps artifacts for all machines."
        )
        raise InputError(msg)


def serve(port: int, *, host: str = LOCAL, store: Store | None = None) -> NoReturn:
    """Become the server of MLflow's pages until it is interrupted.

    Parameters
    ----------
    port
        Port to listen on.
    host
        Address to listen on: this machine only if left out. MLflow asks nobody who they are.
    store
        What to show; that of the working directory if left out.

    Raises
    ------
    InputError
        If the port is taken, or the store has a server of its own.
    """
    store = store or Store.find()
    if store.has_server:
        msg = f"the runs are on a server already: open {without_password(store.uri)}."
        raise InputError(msg)
    _check_port(host, port)
    store.folder.mkdir(parents=True, exist_ok=True)
    store.follow()
    places = {
        # Not as options: other users of the machine would see a password among them.
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": (store.folder / "artifacts").as_uri(),
        # Eight more processes, for language models.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    options = ["--host", host, "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "server", *options]
    # A child would outlive this process where that is killed.
    os.execve(sys.executable, command, {**os.environ, **places})  # noqa: S606


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            msg = f"port {port} of {host} cannot be used ({error}); give another one."
            raise InputError(msg) from error


@contextmanager
def _few_retries() -> Iterator[None]:
    """Let MLflow give up on a server that does not answer after seconds, not minutes."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ.setdefault(name, "2")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
