"""`./inv boards`: what it shows and does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.leases import Leases
from crossfarm.cli.board_commands import BoardsRequest, show_boards
from crossfarm.config.boards import Board
from crossfarm.errors import ConfigError, LeaseError
from crossfarm.util.paths import HOME

TARGETS = load_targets(HOME / "toolchains")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    boards = {name: Board(name=name, transport="local", targets=("x86_64",)) for name in ("pi-1", "pi-2")}
    return Inventory(
        path=tmp_path / "boards.yaml", declared=boards, chosen=boards, database=f"sqlite:///{tmp_path}/leases.db"
    )


def test_without_boards_it_says_how_to_declare_one(capsys: Capture) -> None:
    assert show_boards(Inventory(), {}, BoardsRequest()) == 0
    assert "--add HOST declares one" in capsys.readouterr().out


def test_health_holder_and_queue_are_shown_in_columns(inventory: Inventory, capsys: Capture) -> None:
    with Leases(inventory.database) as leases:
        leases.acquire(["pi-1"], user="ada", purpose="measure:x", timeout=5)
        leases.request(["pi-1"], user="bob", purpose="measure:y", callback=lambda lease: None, priority=2)
        show_boards(inventory, TARGETS, BoardsRequest(quarantine="pi-2", reason="the fan is broken"))
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"board +transport +targets +health +since +held by +since", lines[0])
    assert re.fullmatch(r"pi-1 +local +x86_64 +good +- +ada: measure:x +[\d:]{8} \(\d+ s\)", lines[1])
    assert re.fullmatch(r"pi-2 +local +x86_64 +quarantined +[\d:]{8} \(\d+ s\) +- +-", lines[2])
    assert lines[3] == "  the fan is broken; ./inv boards --release puts it back into use"
    assert re.fullmatch(r"bob: measure:y +2 +[\d:]{8} \(\d+ s\) +pi-1", lines[6])
    assert lines[0].index("held by") == lines[1].index("ada")


def test_json_says_the_same(inventory: Inventory, capsys: Capture) -> None:
    with Leases(inventory.database) as leases:
        leases.acquire(["pi-1"], user="ada", purpose="measure:x", timeout=5)
        show_boards(inventory, TARGETS, BoardsRequest(answer=sys.stdout.write))
    found = json.loads(capsys.readouterr().out)
    assert [board["name"] for board in found["boards"]] == ["pi-1", "pi-2"]
    holder = found["boards"][0]["holder"]
    assert (holder["user"], holder["purpose"]) == ("ada", "measure:x")
    assert found["queue"] == []


def test_a_board_comes_back_when_it_is_released(inventory: Inventory, capsys: Capture) -> None:
    show_boards(inventory, TARGETS, BoardsRequest(quarantine="pi-1", reason="x"))
    show_boards(inventory, TARGETS, BoardsRequest(release="pi-1", answer=sys.stdout.write))
    text = capsys.readouterr().out
    assert json.loads(text[text.index("{") :])["boards"][0]["health"] == "good"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (BoardsRequest(quarantine="pi-1"), "say why with --reason"),
        (BoardsRequest(quarantine="pi-9", reason="x"), "--quarantine pi-9: .* perhaps you meant 'pi-"),
        (BoardsRequest(release="zero"), "--release zero"),
        (BoardsRequest(reset="zero"), "--reset zero"),
        (BoardsRequest(power="zero:on"), "--power zero: .* declares none"),
        (BoardsRequest(power="pi-1"), "--power pi-1: say which board and how"),
        (BoardsRequest(power="pi-1:up"), "on, off or cycle"),
        (BoardsRequest(power="pi-1:on"), "pi-1 has no `power`"),
        (BoardsRequest(reset="pi-1"), "neither `reset` nor `power`"),
    ],
)
def test_what_cannot_be_done_is_refused(inventory: Inventory, asked: BoardsRequest, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        show_boards(inventory, TARGETS, asked)


def test_a_board_in_use_is_not_probed(inventory: Inventory, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfarm.cli.board_commands.PROBE_WAIT_SECONDS", 0.2)
    with Leases(inventory.database) as leases:
        lease = leases.acquire(["pi-1"], user="ada", purpose="measure:x", timeout=5)
        assert show_boards(inventory, TARGETS, BoardsRequest(probe=True)) == 0
        leases.confirm(lease)
    assert capsys.readouterr().err == "pi-1 is in use and was not probed\n"


def test_a_board_in_use_keeps_its_power(inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfarm.cli.board_commands.PROBE_WAIT_SECONDS", 0.2)
    with Leases(inventory.database) as leases:
        leases.acquire(["pi-1"], user="ada", purpose="measure:x", timeout=5)
        with pytest.raises(LeaseError, match=r"\./inv boards shows who holds pi-1"):
            show_boards(inventory, TARGETS, BoardsRequest(power="pi-1:off"))


def test_a_board_without_power_is_not_granted_until_it_has_power_again(
    inventory: Inventory, tmp_path: Path, capsys: Capture
) -> None:
    switched = {key: [sys.executable, "-c", f"open({str(tmp_path / key)!r}, 'w')"] for key in ("on", "off")}
    board = Board.model_validate({"name": "pi-1", "transport": "local", "targets": ["x86_64"], "power": switched})
    only = Inventory(path=inventory.path, declared={"pi-1": board}, chosen={"pi-1": board}, database=inventory.database)
    assert show_boards(only, TARGETS, BoardsRequest(power="pi-1:off")) == 0
    assert re.search(r"pi-1 .* quarantined .*\n  its power is off; ./inv boards --power", capsys.readouterr().out)
    assert show_boards(only, TARGETS, BoardsRequest(power="pi-1:on")) == 0
    assert (tmp_path / "off").exists() and (tmp_path / "on").exists()
    assert re.search(r"pi-1 .* good ", capsys.readouterr().out)
    show_boards(only, TARGETS, BoardsRequest(quarantine="pi-1", reason="the fan is broken"))
    show_boards(only, TARGETS, BoardsRequest(power="pi-1:on"))
    assert "the fan is broken" in capsys.readouterr().out, "what a person took out of use stays there"
    show_boards(only, TARGETS, BoardsRequest(power="pi-1:off"))
    show_boards(only, TARGETS, BoardsRequest(power="pi-1:on"))
    assert "the fan is broken" in capsys.readouterr().out.splitlines()[-1], "through a time without power too"


def test_a_probe_that_finds_a_fault_notes_it_and_ends_with_3(inventory: Inventory, capsys: Capture) -> None:
    lonely = {"riscv64": TARGETS["riscv64"].model_copy(update={"emulator": None})}
    board = Board(name="pi-1", transport="local", targets=("riscv64",))
    only = Inventory(path=inventory.path, declared={"pi-1": board}, chosen={"pi-1": board}, database=inventory.database)
    assert show_boards(only, lonely, BoardsRequest(probe=True)) == 3
    assert re.search(r"pi-1 .* bad .*\n  this machine is .* declares no emulator", capsys.readouterr().out)
