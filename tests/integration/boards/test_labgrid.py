"""Places of a real labgrid coordinator as boards."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.labgrid import acquire_place, identity
from crossfarm.boards.pool import Granted, Pool, Refused
from crossfarm.config.boards import Board, Labgrid
from crossfarm.errors import BoardError
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

LABGRID = "labgrid==26.0.1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lab:
    """A running coordinator with the places `board` and `board-2`."""

    client: Path
    port: int

    def say(self, place: str, *verb: str, user: str = "grace") -> str:
        """Do something as a user of labgrid; returns what was said."""
        done = subprocess.run(
            [str(self.client), "-x", f"127.0.0.1:{self.port}", "-p", place, *verb],
            env={**os.environ, "LG_HOSTNAME": "desk", "LG_USERNAME": user},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    def place(self, name: str) -> Labgrid:
        return Labgrid(coordinator=f"127.0.0.1:{self.port}", place=name, client=str(self.client))

    def inventory(self, folder: Path, *, wait: float) -> Inventory:
        boards = {
            name: Board(name=name, transport="local", targets=("x86_64",), labgrid=self.place(name))
            for name in ("board", "board-2")
        }
        return Inventory(declared=boards, chosen=boards, database=f"sqlite:///{folder}/leases.db", wait=wait)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("labgrid")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile", LABGRID]
    got = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if got.returncode != 0:
        pytest.skip(f"pip cannot give {LABGRID}: {got.stderr.strip()[-300:]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    opened = Lab(client=python.parent / "labgrid-client", port=port)
    command = [str(python.parent / "labgrid-coordinator"), "-l", f"127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        coordinator = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(port, folder / "log")
        for name in ("board-2", "board"):
            opened.say(name, "create")
        yield opened
    finally:
        coordinator.kill()
        coordinator.wait()


def _wait(port: int, log: Path) -> None:
    def is_open() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_open, told=log.read_text)


def test_a_place_is_acquired_for_a_job_and_released_after_it(lab: Lab, tmp_path: Path) -> None:
    inventory = lab.inventory(tmp_path, wait=30)
    with Pool(inventory, targets={}, user="ada") as pool:
        answer = pool.obtain("job", ["board"])
        assert isinstance(answer, Granted), answer
        assert f"acquired: {identity(inventory.database)}" in lab.say("board", "show")
        pool.release(answer)
        assert "acquired: None" in lab.say("board", "show")


def test_a_place_that_another_holds_is_left_to_them_and_another_board_taken(lab: Lab, tmp_path: Path) -> None:
    lab.say("board", "acquire")
    try:
        with Pool(lab.inventory(tmp_path, wait=60), targets={}, user="ada") as pool:
            other = pool.obtain("job", ["board", "board-2"])
            assert isinstance(other, Granted), other
            assert other.board.name == "board-2"
        with Pool(lab.inventory(tmp_path, wait=1), targets={}, user="ada") as pool:
            refused = pool.obtain("next job", ["board"])
            assert isinstance(refused, Refused)
            assert "place board at 127.0.0.1:" in refused.reason
            assert "is held by desk/grace" in refused.reason
        assert "acquired: None" in lab.say("board-2", "show"), "the end of the run gives it back"
        assert "acquired: desk/grace" in lab.say("board", "show")
    finally:
        lab.say("board", "release")


def test_a_place_that_a_killed_farm_left_acquired_is_taken_over_and_released(lab: Lab, tmp_path: Path) -> None:
    inventory = lab.inventory(tmp_path, wait=30)
    acquire_place(lab.place("board"), identity(inventory.database))
    with Pool(inventory, targets={}, user="ada") as pool:
        answer = pool.obtain("job", ["board"])
        assert isinstance(answer, Granted), answer
    assert "acquired: None" in lab.say("board", "show")


def test_a_part_of_a_place_s_name_is_not_its_name(lab: Lab) -> None:
    with pytest.raises(BoardError, match=r"has no place oard-2|matches nothing"):
        acquire_place(lab.place("oard-2"), identity("sqlite:////a"))
    assert "acquired: None" in lab.say("board-2", "show")


def test_a_coordinator_that_does_not_answer_is_the_board_s_fault(lab: Lab) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = lab.place("board").model_copy(update={"coordinator": f"127.0.0.1:{closed.getsockname()[1]}"})
        with pytest.raises(BoardError, match="Could not connect to coordinator"):
            acquire_place(nowhere, identity("sqlite:////a"))
