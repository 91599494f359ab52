"""The actions of `./inv boards`: probe, quarantine, release, add and show."""

from __future__ import annotations

import dataclasses
import getpass
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.boards.declare import NewBoard, ask_host_key, split_host, write_entry
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.health import quarantined, released
from crossfarm.boards.power import ACTIONS, Action
from crossfarm.boards.transports.login import fingerprint
from crossfarm.config.boards import Board
from crossfarm.config.targets import Target
from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE, BusyError, ConfigError, LeaseError, nearest
from crossfarm.util.text import write

if TYPE_CHECKING:
    from crossfarm.boards.leases.leases import Leases

PROBE_WAIT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardsRequest:
    """What is asked of the boards.

    Attributes:
        probe: look at every chosen board now.
        quarantine: name of a board to take out of use, and `reason` why.
        release: name of a board to put back into use.
        power: `NAME:on`, `NAME:off` or `NAME:cycle`: how to switch a board's power.
        reset: name of a board to restart.
        answer: takes JSON, in place of text on the standard output.
    """

    probe: bool = False
    quarantine: str = ""
    reason: str = ""
    release: str = ""
    power: str = ""
    reset: str = ""
    answer: Callable[[str], object] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoardAddition:
    """A board to be added: `host` is HOST, USER@HOST or USER@HOST:PORT; what is empty gets a default."""

    host: str
    name: str
    key: str
    targets: tuple[str, ...]


def show_boards(inventory: Inventory, targets: Mapping[str, Target], request: BoardsRequest) -> int:
    """Do what is asked for, then show the boards; returns the exit code: 3 when a probe found a board not good.

    Raises:
        ConfigError: a name is not declared, or a reason is missing.
        LeaseError: the database of the leases cannot be used.
    """
    if not inventory.declared:
        if request.answer:
            request.answer('{"boards": [], "queue": []}')
        sys.stdout.write("no board is declared, cells run on this host; ./inv boards --add HOST declares one\n")
        return EXIT_GOOD
    powered, action = _power_of(request.power)
    named = {"--quarantine": request.quarantine, "--release": request.release}
    for option, name in (named | {"--power": powered, "--reset": request.reset}).items():
        if name and name not in inventory.declared:
            raise ConfigError(f"{option} {name}: {inventory.path} declares none{nearest(name, inventory.declared)}")
    if request.quarantine and not request.reason:
        raise ConfigError(f"--quarantine {request.quarantine}: say why with --reason 'the fan is broken'")
    from crossfarm.boards.leases.leases import Leases
    from crossfarm.cli.board_table import as_json, as_text

    with Leases(inventory.database) as leases:
        if action is not None:
            _switch(leases, inventory.declared[powered], action)
        is_good = _did(leases, inventory, targets, request)
        status = leases.status()
    if request.answer:
        request.answer(as_json(inventory, status))
    else:
        write(sys.stdout, as_text(inventory, status))
    return EXIT_GOOD if is_good else EXIT_INFRASTRUCTURE


def _did(leases: Leases, inventory: Inventory, targets: Mapping[str, Target], request: BoardsRequest) -> bool:
    """Do what is asked for; returns whether every board that was looked at is good."""
    from crossfarm.boards.probe import probe_board, restart_board

    if request.quarantine:
        leases.change_health(
            request.quarantine, lambda health, now: quarantined(reason=request.reason, wall=time.time())
        )
    if request.release:
        leases.change_health(request.release, lambda health, now: released(wall=time.time()))
    is_good, user = True, getpass.getuser()
    if request.reset:
        board = inventory.declared[request.reset]
        health = restart_board(leases, board, targets=targets, user=user, timeout=PROBE_WAIT_SECONDS)
        is_good = health.state == "good"
    for board in inventory.chosen.values() if request.probe else ():
        try:
            health = probe_board(leases, board, targets=targets, user=user, timeout=PROBE_WAIT_SECONDS, only_due=False)
            is_good = is_good and health.state == "good"
        except BusyError as error:
            write(sys.stderr, f"{board.name} was not probed: {error}\n")
        except LeaseError:
            sys.stderr.write(f"{board.name} is in use and was not probed\n")
    return is_good


def _switch(leases: Leases, board: Board, action: Action) -> None:
    from crossfarm.boards.probe import switch_power

    switch_power(leases, board, action, user=getpass.getuser(), timeout=PROBE_WAIT_SECONDS)
    write(sys.stdout, f"{board.name}: power {action}\n")


def _typed(path: str) -> str:
    return path if path.startswith("~") else str(Path(path).absolute())


def _power_of(said: str) -> tuple[str, Action | None]:
    """Return the board and what its power is to be; an empty name and None where nothing was said."""
    if not said:
        return "", None
    name, _, wanted = said.rpartition(":")
    for action in ACTIONS:
        if name and wanted == action:
            return name, action
    raise ConfigError(f"--power {said}: say which board and how, such as --power zero2w-1 cycle; on, off or cycle")


def add_board(path: Path, addition: BoardAddition, targets: Mapping[str, Target]) -> int:
    """Ask a board for its host key, show its fingerprint and write its entry; returns the exit code.

    Raises:
        ConfigError: what was typed makes no good entry.
        BoardError: the board does not answer.
    """
    if not addition.targets:
        raise ConfigError(f"--add {addition.host}: say what it runs with --targets; there are {', '.join(targets)}")
    user, address, port = split_host(addition.host)
    board = NewBoard(
        name=addition.name or address.partition(".")[0].replace(":", "-").lower(),
        address=address,
        port=port,
        user=user or getpass.getuser(),
        # In the file a path is relative to the file; what is typed is relative to where that is done.
        key=_typed(addition.key) if addition.key else "~/.ssh/id_ed25519",
        targets=addition.targets,
    )
    host_key = ask_host_key(address, port)
    kind = host_key.split()[0].removeprefix("ssh-").partition("-")[0]
    entry = write_entry(path, board, host_key, targets=targets)
    write(
        sys.stdout,
        f"{address} shows the host key {fingerprint(host_key)} ({host_key.split()[0]})\n"
        f"compare it with what the board itself says: ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub\n"
        f"written to {path}:\n\n{entry}\n"
        f"./inv boards --probe --board {board.name} looks whether it can be used\n",
    )
    return EXIT_GOOD
