"""The command `./inv boards`."""

from __future__ import annotations

from pathlib import Path

from crossfarm.cli.run_options import run_options
from crossfarm.cli.verbs import JSON, Given, Option, verb


@verb(
    *run_options("boards", "board", "tag"),
    Option(name="probe", help="look at every board now, one after another", kind="flag"),
    Option(name="add", help="HOST, USER@HOST or USER@HOST:PORT: ask it for its host key and write its entry"),
    Option(name="name", help="with --add: the board's name (the host's)"),
    Option(name="key", help="with --add: path of the private key that logs in (~/.ssh/id_ed25519)"),
    Option(
        name="targets",
        help="with --add: names of the targets whose bundles it runs, separated by commas",
        kind="list",
    ),
    Option(name="quarantine", help="name of a board that is not to be granted any more"),
    Option(name="reason", help="with --quarantine: why"),
    Option(name="release", help="name of a board to be put back into use"),
    Option(name="power", help="NAME on, NAME off or NAME cycle: switch a board's power; nobody may hold it"),
    Option(name="reset", help="name of a board to be restarted, waited for and probed; nobody may hold it"),
    JSON,
    name="boards",
)
def inspect_boards(given: Given) -> int:
    """Show the boards: health, who holds them and since when, and who waits.

    Examples:
        ./inv boards --probe
        ./inv boards --add farm@192.168.7.21 --name zero2w-1 --targets aarch64
        ./inv boards --quarantine zero2w-1 --reason 'the fan is broken'
        ./inv boards --release zero2w-1
        ./inv boards --power zero2w-1 cycle
        ./inv boards --reset zero2w-1
    """
    from crossfarm.backends.project_files import load_targets
    from crossfarm.boards.inventory import load_inventory
    from crossfarm.cli.board_commands import BoardAddition, BoardsRequest, add_board, show_boards
    from crossfarm.util.paths import HOME

    known = load_targets(HOME / "toolchains")
    path = Path(given["boards"]) if given["boards"] else None
    if given["add"]:
        addition = BoardAddition(host=given["add"], name=given["name"], key=given["key"], targets=given["targets"])
        return add_board(path or HOME / "boards.yaml", addition, known)
    inventory = load_inventory(
        path, default=HOME / "boards.yaml", targets=known, boards=given["board"], tags=given["tag"]
    )
    asked = {name: given[name] for name in ("probe", "quarantine", "reason", "release", "power", "reset")}
    request = BoardsRequest(**asked, answer=given["json"].write if given["json"] else None)
    return show_boards(inventory, known, request)
