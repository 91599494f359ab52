"""Databases for leases, SQLite and a real PostgreSQL of the tests' own, and farms in processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME
from tests.postgres import Postgres, server
from tests.waiting import PATIENCE_SECONDS, wait_until

FARM = Path(__file__).with_name("farm.py")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from server()


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
