"""`./inv board-up` and `./inv board-down`: boards for people without hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.util.paths import HOME

if TYPE_CHECKING:
    from crossfarm.boards.virtual.containers import BoardSet

_BOARDS = Option(
    name="boards", help="boards file that names them; it is made, and removed with them (.crossfarm/boards.yaml)"
)


def _board_set(boards: str) -> BoardSet:
    from crossfarm.boards.virtual.containers import BoardSet

    return BoardSet(root=HOME, boards=Path(boards) if boards else HOME / ".crossfarm" / "boards.yaml")


@verb(
    Option(name="target", help="armv7, armv6, aarch64 or x86_64", required=True),
    Option(name="count", help="how many boards of this target there shall be (1)", kind="count", default="1"),
    _BOARDS,
)
def board_up(given: Given) -> int:
    """Start virtual boards: containers with another machine's userland and sshd. Times taken there are emulated.

    Examples:
        ./inv board-up --target armv7
        ./inv board-up --target aarch64 --count 4
    """
    from crossfarm.boards.virtual.containers import boards_up
    from crossfarm.pipeline.options import shown
    from crossfarm.util.text import write

    board_set = _board_set(given["boards"])
    up = boards_up(board_set, target=given["target"], count=given["count"], say=sys.stdout)
    for board in up:
        write(sys.stdout, f"{board.name}  {board.user}@{board.address}\n")
    write(sys.stdout, f"use {'them' if len(up) > 1 else 'it'}: ./inv pipeline --boards {shown(board_set.boards)}\n")
    return 0


@verb(
    _BOARDS,
    Option(name="images", help="also remove the userlands, which other clones may share", kind="flag"),
)
def board_down(given: Given) -> int:
    """Remove all virtual boards of this clone.

    Examples:
        ./inv board-down
        ./inv board-down --images
    """
    from crossfarm.boards.virtual.containers import boards_down
    from crossfarm.util.text import write

    removed = boards_down(_board_set(given["boards"]), images=given["images"])
    write(sys.stdout, f"removed {', '.join(removed)}\n" if removed else "there were no virtual boards\n")
    return 0
