"""`./inv board-up` and `./inv board-down`: boards for people without hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import finish, number
from crossfarm.util.paths import HOME

if TYPE_CHECKING:
    from crossfarm.boards.virtual.containers import BoardSet

BOARDS = "boards file that names them; it is made, and removed with them (.crossfarm/boards.yaml)"


def _board_set(boards: str) -> BoardSet:
    from crossfarm.boards.virtual.containers import BoardSet

    return BoardSet(root=HOME, boards=Path(boards) if boards else HOME / ".crossfarm" / "boards.yaml")


@task(
    help={
        "target": "armv7, armv6, aarch64 or x86_64",
        "count": "how many boards of this target there shall be (1)",
        "boards": BOARDS,
    }
)
def board_up(context: Context, target: str, count: str = "1", boards: str = "") -> None:
    """Start virtual boards: containers with another machine's userland and sshd. Times taken there are emulated.

    Examples:
        ./inv board-up --target armv7
        ./inv board-up --target aarch64 --count 4
    """

    def action() -> int:
        from crossfarm.boards.virtual.containers import boards_up
        from crossfarm.pipeline.options import shown
        from crossfarm.util.text import write

        board_set = _board_set(boards)
        up = boards_up(board_set, target=target, count=int(number("count", count)), say=sys.stdout)
        for board in up:
            write(sys.stdout, f"{board.name}  {board.user}@{board.address}\n")
        write(sys.stdout, f"use {'them' if len(up) > 1 else 'it'}: ./inv pipeline --boards {shown(board_set.boards)}\n")
        return 0

    finish(action)


@task(help={"boards": BOARDS, "images": "also remove the userlands, which other clones may share"})
def board_down(context: Context, boards: str = "", images: bool = False) -> None:
    """Remove all virtual boards of this clone.

    Examples:
        ./inv board-down
        ./inv board-down --images
    """

    def action() -> int:
        from crossfarm.boards.virtual.containers import boards_down
        from crossfarm.util.text import write

        removed = boards_down(_board_set(boards), images=images)
        write(sys.stdout, f"removed {', '.join(removed)}\n" if removed else "there were no virtual boards\n")
        return 0

    finish(action)
