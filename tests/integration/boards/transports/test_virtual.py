"""Virtual boards: real userlands of other machines in containers, and what happens when they fail."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.boards.protocol import Purpose, open_board
from crossfarm.boards.transports.connection import Timeouts
from crossfarm.boards.transports.ssh import SshBoard
from crossfarm.boards.virtual.containers import BoardSet, boards_down, boards_up
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.loading import load_boards
from crossfarm.errors import BoardError, BundleError, ConfigError, EngineError, ToolError
from tests.integration.boards.conftest import MANIFEST, PROGRAM

pytestmark = pytest.mark.integration

PURPOSE = Purpose(
    target="armv7",
    machine=("armv7l",),
    emulator=None,
    code=LlvmCode(triple="armv7l-linux-gnueabihf", cpu="cortex-a53", features=("+neon", "+vfp4"), float_abi="hard"),
)
TIMEOUTS = Timeouts(keepalive=0.5, silence=6.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Farm:
    """Virtual boards of these tests."""

    place: BoardSet
    boards: tuple[Board, ...]
    client: Any

    def container(self, board: Board) -> Any:
        return self.client.containers.get(f"crossfarm-{self.place.id}-{board.name}")


def _usable(place: BoardSet, boards: tuple[Board, ...]) -> tuple[Board, ...]:
    """Return boards with the absolute keys that a lease hands out."""
    folder = place.boards.parent
    return tuple(board.model_copy(update={"key": str(folder / str(board.key))}) for board in boards)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    root = tmp_path_factory.mktemp("farm")
    place = BoardSet(root=root, boards=root / "boards.yaml")
    try:
        boards = boards_up(place, target="armv7", count=2, say=io.StringIO())
    except (EngineError, ToolError) as error:
        with contextlib.suppress(EngineError):
            boards_down(place)
        pytest.skip(f"no virtual boards here: {error}")
    import docker

    client = docker.DockerClient()
    try:
        yield Farm(place=place, boards=_usable(place, boards), client=client)
    finally:
        removed = boards_down(place)
        client.close()
    assert {"virtual-armv7-1", "virtual-armv7-2"} <= set(removed)
    assert list(root.iterdir()) == [], "nothing is left of them"


@pytest.fixture(scope="module")
def arm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    source = tmp_path_factory.mktemp("source") / "program.c"
    source.write_text(PROGRAM)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "arm-linux-gnueabihf.2.17", "-mcpu=cortex_a53"]
    subprocess.run([*command, "-O1", "-o", str(folder / "program"), str(source)], check=True, timeout=120)
    for left in folder.iterdir():
        if left.name != "program":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    (folder / "weights.bin").write_bytes(os.urandom(300_000))
    (folder / "manifest.json").write_text(MANIFEST)
    return folder


def test_a_bundle_runs_on_another_machine_and_its_time_counts_for_nothing(
    farm: Farm, arm_bundle: Path, tmp_path: Path
) -> None:
    with open_board(farm.boards[0], PURPOSE, token=1) as opened:
        state = opened.preflight()
        assert (opened.timing, state.machine) == ("emulated", "armv7l")
        assert opened.emulator is None or opened.emulator.startswith("qemu-arm-static ")
        placed = opened.deploy(arm_bundle)
        assert opened.run(placed, [], output=tmp_path, timeout=60).code == 0
    assert (tmp_path / "outputs" / "0.bin").read_text() == "output"


def test_the_boards_file_is_one_that_a_run_takes_and_up_again_changes_nothing(farm: Farm) -> None:
    declared = load_boards(farm.place.boards, targets=["armv7"])
    assert [board.name for board in declared.boards] == ["virtual-armv7-1", "virtual-armv7-2"]
    ids = [farm.container(board).id for board in farm.boards]
    started = time.monotonic()
    said = io.StringIO()
    again = boards_up(farm.place, target="armv7", count=2, say=said)
    assert time.monotonic() - started < 10 and said.getvalue() == ""
    assert _usable(farm.place, again) == farm.boards
    assert [farm.container(board).id for board in farm.boards] == ids


def test_a_board_is_on_an_internal_network_and_no_other(farm: Farm) -> None:
    assert farm.client.networks.get(farm.place.network).attrs["Internal"]
    networks = farm.container(farm.boards[0]).attrs["NetworkSettings"]["Networks"]
    assert list(networks) == [farm.place.network]


def test_code_with_neon_is_kept_from_a_board_without_it(farm: Farm, arm_bundle: Path) -> None:
    (zero,) = _usable(farm.place, boards_up(farm.place, target="armv6", count=1, say=io.StringIO()))
    with open_board(zero, PURPOSE, token=1) as opened:
        opened.preflight()
        with pytest.raises(BundleError, match=r"needs ARMv7, the board is armv6l; needs NEON, .* CPU has none"):
            opened.deploy(arm_bundle)


def test_the_wrong_machine_at_an_address_is_refused(farm: Farm) -> None:
    first, second = farm.boards
    swapped = first.model_copy(update={"address": second.address})
    with pytest.raises(BoardError, match="shows the host key SHA256:"), open_board(swapped, PURPOSE, token=1):
        pass
    other = first.model_copy(update={"platform": "aarch64 *"})
    with open_board(other, PURPOSE, token=1) as opened, pytest.raises(BoardError, match="it is the wrong machine"):
        opened.preflight()


def test_a_frozen_board_is_given_up_during_a_run(farm: Farm, arm_bundle: Path, tmp_path: Path) -> None:
    board = farm.boards[0]
    container = farm.container(board)
    with SshBoard(board, PURPOSE, token=2, timing="emulated", timeouts=TIMEOUTS) as opened:
        opened.preflight()
        placed = opened.deploy(arm_bundle)
        freezing = threading.Timer(3.0, container.pause)
        freezing.start()
        try:
            with pytest.raises(BoardError, match=r"does not answer for \d+ s: it died, or the network is cut"):
                opened.run(placed, ["--hang"], output=tmp_path, timeout=60)
        finally:
            freezing.join()
            container.unpause()
    with SshBoard(board, PURPOSE, token=3, timing="emulated") as opened:
        opened.preflight()
        assert opened.run(opened.deploy(arm_bundle), [], output=tmp_path, timeout=60).code == 0


def test_a_board_that_dies_during_a_run_is_told_and_can_be_started_again(
    farm: Farm, arm_bundle: Path, tmp_path: Path
) -> None:
    board = farm.boards[1]
    container = farm.container(board)
    with SshBoard(board, PURPOSE, token=2, timing="emulated", timeouts=TIMEOUTS) as opened:
        opened.preflight()
        placed = opened.deploy(arm_bundle)
        death = threading.Timer(3.0, container.kill)
        death.start()
        with pytest.raises(BoardError, match=r"the connection broke|does not answer"):
            opened.run(placed, ["--hang"], output=tmp_path, timeout=60)
        death.join()
    with pytest.raises(BoardError, match="cannot be reached"), open_board(board, PURPOSE, token=3):
        pass
    again = _usable(farm.place, boards_up(farm.place, target="armv7", count=2, say=io.StringIO()))
    with open_board(again[1], PURPOSE, token=1) as opened:
        opened.preflight()


def test_a_boards_file_that_somebody_wrote_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "boards.yaml"
    mine.write_text("boards: []\n")
    place = BoardSet(root=tmp_path, boards=mine)
    for action in (lambda: boards_up(place, target="armv7", count=1, say=io.StringIO()), lambda: boards_down(place)):
        with pytest.raises(ConfigError, match="is not a file of board-up"):
            action()
    assert mine.read_text() == "boards: []\n"


def test_there_is_no_virtual_board_of_every_target(tmp_path: Path) -> None:
    place = BoardSet(root=tmp_path, boards=tmp_path / "boards.yaml")
    with pytest.raises(ConfigError, match=r"no virtual board for it; perhaps you meant 'armv7'"):
        boards_up(place, target="armv77", count=1, say=io.StringIO())
    with pytest.raises(ConfigError, match="--count 0: give 1 to 64"):
        boards_up(place, target="armv7", count=0, say=io.StringIO())
