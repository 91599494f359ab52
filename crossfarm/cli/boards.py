"""The command `./inv boards`."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context
from invoke.tasks import task

from crossfarm.cli.arguments import HELP, finish, parts


@task(
    name="boards",
    help={
        **{name: HELP[name] for name in ("boards", "board", "tag")},
        "probe": "look at every board now, one after another",
        "add": "HOST, USER@HOST or USER@HOST:PORT: ask it for its host key and write its entry",
        "name": "with --add: the board's name (the host's)",
        "key": "with --add: path of the private key that logs in (~/.ssh/id_ed25519)",
        "targets": "with --add: names of the targets whose bundles it runs, separated by commas",
        "quarantine": "name of a board that nobody shall get any more",
        "reason": "with --quarantine: why",
        "release": "name of a board to be put back into use",
        "json": "show JSON",
    },
)
def inspect_boards(
    context: Context,
    boards: str = "",
    board: str = "",
    tag: str = "",
    probe: bool = False,
    add: str = "",
    name: str = "",
    key: str = "",
    targets: str = "",
    quarantine: str = "",
    reason: str = "",
    release: str = "",
    json: bool = False,
) -> None:
    """Show the boards: health, who holds them and since when, and who waits.

    Examples:
        ./inv boards --probe
        ./inv boards --add farm@192.168.7.21 --name zero2w-1 --targets aarch64
        ./inv boards --quarantine zero2w-1 --reason 'the fan is broken'
        ./inv boards --release zero2w-1
    """

    def action() -> int:
        from crossfarm.backends.project_files import load_targets
        from crossfarm.boards.inventory import load_inventory
        from crossfarm.cli.board_commands import BoardAddition, BoardsRequest, add_board, show_boards
        from crossfarm.util.paths import HOME

        known = load_targets(HOME / "toolchains")
        path = Path(boards) if boards else None
        if add:
            addition = BoardAddition(host=add, name=name, key=key, targets=parts(targets))
            return add_board(path or HOME / "boards.yaml", addition, known)
        inventory = load_inventory(
            path, default=HOME / "boards.yaml", targets=known, boards=parts(board), tags=parts(tag)
        )
        request = BoardsRequest(probe=probe, quarantine=quarantine, reason=reason, release=release, json=json)
        return show_boards(inventory, known, request)

    finish(action)
