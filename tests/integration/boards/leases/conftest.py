"""Databases for leases, SQLite and a real PostgreSQL of the tests' own, and farms in processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.util.paths import HOME
from tests.waiting import PATIENCE_SECONDS, wait_until

FARM = Path(__file__).with_name("farm.py")


class Postgres:
    """A PostgreSQL server with its own data folder, reached through a socket in that folder alone."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="crossfarm-pg-", dir="/tmp"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": "postgres", "group": owner.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "farm", "--no-sync")
        self.start()

    def start(self) -> None:
        settings = f"-c listen_addresses='' -k {self.folder} -c fsync=off -c max_connections=200"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "60", "-l", log, "-o", settings, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is what a crash is like."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def fresh(self) -> str:
        """Return the URL of a new, empty database."""
        import psycopg

        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def url(self, name: str) -> str:
        return f"postgresql://farm@/{name}?host={self.folder}"

    def remove(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=90,
            **self._as,
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian package postgresql; ./inv setup installs it)")
    server = Postgres(found[-1].parent)
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/leases.db"
    url: str = request.getfixturevalue("postgres").fresh()
    return url


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """A line of the journal."""

    event: str
    board: str
    token: int
    before: float
    after: float
    process: int


class Farms:
    """Starts farms, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.journal.touch()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, verb: str, database: str, *boards: str, ttl: float, user: str = "ada") -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, str(FARM), verb, database, str(ttl), user, str(self.journal), *boards],
            env={**os.environ, "PYTHONPATH": str(HOME)},
        )
        self.processes.append(process)
        return process

    def events(self) -> list[Event]:
        return [Event(**json.loads(line)) for line in self.journal.read_text().splitlines()]

    def wait_for(self, condition: Callable[[list[Event]], bool], *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until the journal fulfils a condition; `seconds` are those of a quiet machine."""
        wait_until(lambda: condition(self.events()), seconds=seconds, told=lambda: self.journal.read_text()[-3000:])

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def farms(tmp_path: Path) -> Iterator[Farms]:
    started = Farms(tmp_path)
    yield started
    started.end()
