"""A PostgreSQL server of its own for a test."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "Pa55w0rd"  # noqa: S105 - of a server that lives for a test


@contextmanager
def postgres():
    """Start a server with a database; its URL without the driver: ``user:password@host/name``.

    The server refuses to run as root, so then it runs as the user that Debian's package makes.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = str(programs[-1]) if programs else shutil.which("initdb")
    if found is None:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    bin_folder = Path(found).resolve().parent
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    # Not in pytest's folder, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="photoz-postgres-", dir="/tmp"))
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, **user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    data = folder / "data"
    subprocess.run(
        [bin_folder / "initdb", "-D", data, "-U", "me", "--auth=scram-sha-256", "--no-sync",
         f"--pwfile={folder / 'password'}", "--encoding=UTF8", "--locale=C"],
        check=True, capture_output=True, cwd=folder, **user,
    )  # fmt: skip
    server = subprocess.Popen(
        [bin_folder / "postgres", "-D", data, "-p", port, "-k", folder, "-h", "127.0.0.1", "-F"],
        stderr=subprocess.DEVNULL, cwd=folder, **user,
    )  # fmt: skip
    try:
        ready = [bin_folder / "pg_isready", "-h", "127.0.0.1", "-p", port, "-q"]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.1)
        yield f"me:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # it would wait for open connections otherwise
        server.wait(timeout=60)
        shutil.rmtree(folder)
