"""The boards of a run, chosen from boards.yaml, and the database of their leases."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from crossfarm.config.boards import Board, BoardsFile
from crossfarm.config.loading import load_boards
from crossfarm.errors import ConfigError, nearest

DATABASE_VARIABLE = "CROSSFARM_DATABASE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inventory:
    """The boards of a run.

    Attributes:
        path: boards.yaml; None when there is none.
        declared: all boards of the file by name; keys are absolute paths.
        chosen: those of them that `--board` and `--tag` leave.
        is_choice: whether `--board` or `--tag` was said.
        database: URL of the database of the leases.
        wait: seconds that a job waits for a board.
    """

    path: Path | None = None
    declared: Mapping[str, Board] = dataclasses.field(default_factory=dict)
    chosen: Mapping[str, Board] = dataclasses.field(default_factory=dict)
    is_choice: bool = False
    database: str = ""
    wait: float = 3600.0

    def candidates(self, target: str) -> tuple[Board, ...]:
        """Return the chosen boards that serve a target."""
        return tuple(board for board in self.chosen.values() if target in board.targets)

    def missing(self, target: str) -> str | None:
        """Return why a target is not run anywhere; None when it has a board, or none is declared for it at all."""
        if self.candidates(target):
            return None
        serving = [board.name for board in self.declared.values() if target in board.targets]
        if serving:
            return f"--board and --tag leave out all boards that serve {target}: {', '.join(serving)}"
        return f"none of the boards that --board and --tag choose serves {target}" if self.is_choice else None


def load_inventory(
    path: Path | None,
    *,
    default: Path,
    targets: Collection[str],
    boards: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Inventory:
    """Read boards.yaml and choose from it.

    Args:
        path: the file that the user named; None for `default`, which need not exist.
        default: the project's own boards.yaml.
        targets: names of the toolchain files.
        boards: names of boards; empty for all.
        tags: a board must have all of them.

    Raises:
        ConfigError: the file is wrong, or a name or tag is not in it.
    """
    found = path or (default if default.exists() else None)
    if found is None:
        file, declared = BoardsFile(), {}
    else:
        file = load_boards(found, targets=targets)
        declared = {board.name: _with_key_paths(board, found.absolute().parent) for board in file.boards}
    place = str(found or default)
    _refuse_unknown("--board", boards, declared, place)
    _refuse_unknown("--tag", tags, {tag for board in declared.values() for tag in board.tags}, place)
    return Inventory(
        path=found,
        declared=declared,
        chosen={
            name: board
            for name, board in declared.items()
            if (not boards or name in boards) and set(tags) <= set(board.tags)
        },
        is_choice=bool(boards or tags),
        database=os.environ.get(DATABASE_VARIABLE) or file.database or default_database(),
        wait=float(file.wait),
    )


def default_database() -> str:
    """Return the URL of the database that all farms of this user on this host share."""
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return f"sqlite:///{Path(state).absolute() / 'crossfarm' / 'leases.db'}"


def _with_key_paths(board: Board, folder: Path) -> Board:
    def absolute(path: str | None) -> str | None:
        return None if path is None else str(folder / Path(path).expanduser())

    found = {"key": absolute(board.key), "passphrase_file": absolute(board.passphrase_file)}
    via = board.via and board.via.model_copy(update={"key": absolute(board.via.key)})
    return board.model_copy(update={**found, "via": via})


def _refuse_unknown(option: str, names: Sequence[str], known: Collection[str], place: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{option} {name}: {place} declares none{nearest(name, known)}; "
                f"there are {', '.join(sorted(known)) or 'none at all'}"
            )
