"""A PostgreSQL server of our own for the tests, from whatever initdb and postgres are installed."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def programs() -> Path | None:
    """The folder with initdb and postgres: on the path, or where Debian keeps them."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(found) if (folder / "postgres").exists()), None)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of a server that ends with the context; skips the test where none is installed."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL (initdb, postgres) is not installed")
    # PostgreSQL does not run as root; a socket's path is short, so not below pytest's folder.
    who = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    place = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if who:
            shutil.chown(place, who["user"], who["group"])
        made = [str(folder / "initdb"), "-D", str(place / "data"), "-A", "trust", "-U", "unmask", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=place, **who)  # type: ignore[call-overload]
        started = [str(folder / "postgres"), "-D", str(place / "data"), "-k", str(place), "-c", "listen_addresses="]
        started += ["-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=60"]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(started, cwd=place, stdout=log, stderr=log, **who)  # type: ignore[call-overload]
        try:
            until = time.monotonic() + 30
            while not (place / ".s.PGSQL.5432").exists():
                assert server.poll() is None and time.monotonic() < until, (place / "log").read_text()
                time.sleep(0.05)
            yield f"postgresql+psycopg://unmask@/postgres?host={place}"
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(place, ignore_errors=True)
