"""Power commands of boards: real programs that fail, hang, or switch another board."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.boards import power
from crossfarm.boards.power import can_restart, comes_back, reset, switch
from crossfarm.config.boards import Board, Power
from crossfarm.errors import BoardError, ConfigError

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOIqT0Qe6WZ1nYd1xJ2pTQ7T0cF0y1rWZ3n4x5C6v7B8"


def command(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def board(folder: Path, port: int, **fields: object) -> Board:
    """A board whose commands write what they did into a file."""
    said = {key: command(f"open({str(folder / 'said')!r}, 'a').write('{key}\\n')") for key in ("on", "off", "reset")}
    given = {
        "name": "pi-1",
        "address": "127.0.0.1",
        "port": port,
        "user": "farm",
        "key": "k",
        "host_key": HOST_KEY,
        "targets": ["aarch64"],
        "power": {"on": said["on"], "off": said["off"]},
        "reset": said["reset"],
    }
    return Board.model_validate(given | fields)


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().split()


@pytest.fixture
def listening() -> Iterator[int]:
    """The port of something that goes on answering whatever is switched."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def silent() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_cycle_switches_off_and_then_on(tmp_path: Path, silent: int) -> None:
    switch(board(tmp_path, silent), "cycle", off_seconds=0)
    assert said(tmp_path) == ["off", "on"]


def test_a_board_that_answers_without_power_is_another_one_and_gets_its_power_back(
    tmp_path: Path, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "SILENT_SECONDS", 0.0)
    with pytest.raises(BoardError, match=r"pi-1 still answers 0 s after `power\.off`: .* another board"):
        switch(board(tmp_path, listening), "cycle", off_seconds=0)
    assert said(tmp_path) == ["off", "on"], "whose power it was, it is back"


def test_a_reset_goes_before_a_cycle(tmp_path: Path, silent: int) -> None:
    reset(board(tmp_path, silent))
    assert said(tmp_path) == ["reset"]
    reset(board(tmp_path, silent, reset=None), off_seconds=0)
    assert said(tmp_path) == ["reset", "off", "on"]


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path: Path, silent: int) -> None:
    broken = Power(on=command("pass"), off=command("print('no such outlet: 4'); raise SystemExit(7)"))
    with pytest.raises(BoardError, match=r"pi-1: `power\.off` failed: .* exit code 7: no such outlet: 4; run"):
        switch(board(tmp_path, silent, power=broken), "off")


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path, silent: int) -> None:
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    hangs = command(child + "time.sleep(600)")
    started = time.monotonic()
    with pytest.raises(BoardError, match=r"`power\.on` did not end within 0\.5 s and was killed"):
        switch(board(tmp_path, silent, power=Power(on=hangs, off=hangs)), "on", seconds=0.5)
    assert time.monotonic() - started < 60


def test_a_program_that_is_not_there_is_told(tmp_path: Path, silent: int) -> None:
    with pytest.raises(BoardError, match=r"pi-1: `reset`: .*no-such-program"):
        reset(board(tmp_path, silent, reset=("no-such-program", "4")))


def test_a_board_without_commands_cannot_be_switched(tmp_path: Path, silent: int) -> None:
    bare = board(tmp_path, silent, power=None, reset=None)
    assert not can_restart(bare)
    with pytest.raises(ConfigError, match="has no `power`"):
        switch(bare, "on")
    with pytest.raises(ConfigError, match="neither `reset` nor `power`"):
        reset(bare)


def test_a_board_is_waited_for_until_it_is_fit_or_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "LOOK_SECONDS", 0.0)
    problems = iter(["does not answer", "starts", None])
    assert comes_back(lambda: next(problems), seconds=60, is_wanted=lambda: True) is None
    assert comes_back(lambda: "does not answer", seconds=0, is_wanted=lambda: True) == "does not answer"
    assert comes_back(lambda: "does not answer", seconds=60, is_wanted=lambda: False) == "does not answer"


def test_a_word_that_is_no_command_line_is_refused() -> None:
    with pytest.raises(ValueError, match="power"):
        Board.model_validate(json.loads('{"name": "a", "transport": "local", "targets": ["x"], "power": "lab-power"}'))
