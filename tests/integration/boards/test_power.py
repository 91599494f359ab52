"""A board that went silent is restarted by real commands: they stop and start a real sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.health import Health
from crossfarm.boards.leases.leases import Leases
from crossfarm.boards.power import answers
from crossfarm.boards.probe import FAILURES_TO_RESTART, probe_board
from crossfarm.cli.board_commands import BoardsRequest, show_boards
from crossfarm.config.boards import Board
from crossfarm.util.paths import HOME
from tests.integration.boards.conftest import CONFIG, Server, free_port, make_key
from tests.waiting import wait_until

pytestmark = pytest.mark.integration
TARGETS = load_targets(HOME / "toolchains")
OFF = "import os, pathlib, signal, sys; os.kill(int(pathlib.Path(sys.argv[1]).read_text()), signal.SIGTERM)"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board that is off; its power is a sshd."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no sshd on this machine; ./inv setup installs openssh-server")
    server = Server(folder=tmp_path, port=free_port())
    make_key(tmp_path / "host")
    make_key(tmp_path / "user")
    pid = tmp_path / "pid"
    settings = CONFIG.format(port=server.port, folder=tmp_path).replace("PidFile none", f"PidFile {pid}")
    (tmp_path / "config").write_text(settings)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    power = {
        "on": [program, "-f", str(tmp_path / "config"), "-E", str(tmp_path / "log")],
        "off": [sys.executable, "-c", OFF, str(pid)],
    }
    made = server.board(power=power, folder=str(tmp_path / "board"), start_time=60)
    yield made
    if answers(made):
        subprocess.run(power["off"], check=False)
        wait_until(lambda: not answers(made))


def probed(leases: Leases, board: Board) -> Health:
    return probe_board(leases, board, targets=TARGETS, user="ada", timeout=5, only_due=False)


def test_a_board_that_is_bad_three_times_is_restarted_waited_for_and_probed(board: Board, tmp_path: Path) -> None:
    # Without power, `off` fails: a reset is what restarts it here.
    dead = board.model_copy(update={"reset": board.power.on if board.power else None})
    with Leases(f"sqlite:///{tmp_path}/leases.db") as leases:
        for failures in range(1, FAILURES_TO_RESTART):
            health = probed(leases, dead)
            assert (health.state, health.failures) == ("bad", failures)
            assert not answers(dead), "it is left alone until it failed three times"
        assert probed(leases, dead).state == "good"
    assert answers(dead)


def test_a_restart_that_mends_nothing_says_so(board: Board, tmp_path: Path) -> None:
    useless = board.model_copy(update={"reset": (sys.executable, "-c", "pass"), "start_time": 1})
    with Leases(f"sqlite:///{tmp_path}/leases.db") as leases:
        for _ in range(FAILURES_TO_RESTART):
            health = probed(leases, useless)
    assert (health.state, health.failures) == ("bad", FAILURES_TO_RESTART)
    assert health.reason.endswith("(after a restart, 1 s waited)")


def test_power_and_reset_by_hand(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory = Inventory(
        path=tmp_path / "boards.yaml",
        declared={board.name: board},
        chosen={board.name: board},
        database=f"sqlite:///{tmp_path}/leases.db",
    )
    for action, is_there in (("on", True), ("cycle", True), ("off", False), ("on", True)):
        assert show_boards(inventory, TARGETS, BoardsRequest(power=f"{board.name}:{action}")) == 0
        wait_until(lambda wanted=is_there: answers(board) == wanted)
    assert show_boards(inventory, TARGETS, BoardsRequest(reset=board.name)) == 0
    assert " good " in capsys.readouterr().out.splitlines()[-1]
