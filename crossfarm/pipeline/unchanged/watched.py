"""What the outcome of a run depends on, told by states of files that are cheap to read: nothing is opened or imported.

A state is what `stat` says. Whoever changes a file changes its time of change, which no program can set back, so equal
states mean equal content; a file that changed within SETTLED_SECONDS of a look may change again within one tick of the
file system's clock, and is not trusted yet. git's index works the same way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SETTLED_SECONDS = 2.0
"""Files carry times in ticks, of a few milliseconds on most file systems and up to two seconds on some."""
OWN_FOLDERS = ("crossfarm", "runner", "dockerfiles", "toolchains", "pipelines", "tuning", "requirements")
"""Folders of this clone that a plan or a report may read."""
OWN_FILES = (
    *("inv", "tasks.py", "requirements.lock", "images.lock", "models.yaml", "boards.yaml"),
    ".crossfarm/images.lock",
    *("invoke.yaml", "invoke.yml", "invoke.json", "invoke.py"),
)
OWN_ENVIRONMENTS = ".crossfarm/environments"
"""Environments of tools; that one is there and whole is told by its own folder."""
_BYTECODE = "__pycache__"
_LISTED = "/."
"""Ends the path of a folder whose names are listed."""
_NOT_SETTINGS = frozenset(
    [
        "_",
        "COLUMNS",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LINES",
        "OLDPWD",
        "PWD",
        "SHLVL",
        "SSH_AUTH_SOCK",
        "SSH_CLIENT",
        "SSH_CONNECTION",
        "SSH_TTY",
    ]
)
"""Variables that differ from shell to shell and settle nothing here."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """What to look at.

    Attributes:
        trees: folders with all that is below them.
        folders: folders with the names that are in them.
        files: files, which need not be there.
    """

    trees: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        """Return it as plain JSON."""
        return {"trees": list(self.trees), "folders": list(self.folders), "files": list(self.files)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Watched:
        """Return what `to_json` gave.

        Raises:
            KeyError, TypeError: it is something else.
        """
        return cls(**{name: tuple(map(str, document[name])) for name in ("trees", "folders", "files")})


def of_this_clone(home: Path, environment: Mapping[str, str]) -> Watched:
    """Return what every run depends on: the clone's own files, its packages, and the programs on PATH.

    A program that is installed, replaced or removed changes its folder, because installers write a new file and rename
    it. Programs of the host are found on PATH, and their versions are part of keys.
    """
    environments = home / OWN_ENVIRONMENTS
    return Watched(
        trees=tuple(str(home / name) for name in OWN_FOLDERS),
        folders=(
            *(folder for folder in environment.get("PATH", os.defpath).split(os.pathsep) if folder),
            *(folder for folder in sys.path if folder.endswith("site-packages")),
            str(environments),
            *(str(folder) for folder in _folders_in(environments)),
        ),
        files=tuple(str(home / name) for name in OWN_FILES),
    )


def settings(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return a digest of what was typed, where, by whom and with which variables, on this boot of this machine.

    The machine's processor and its kernel are the same as long as it was not started anew.
    """
    found = hashlib.sha256()
    variables = sorted(f"{name}={value}" for name, value in environment.items() if name not in _NOT_SETTINGS)
    terminal = [_terminal(number) for number in (1, 2)]
    texts = [*arguments, *variables, os.getcwd(), str(os.getuid()), sys.version, str(_boot()), *terminal]  # noqa: PTH109
    for text in texts:
        found.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()


def describe_command(folder: Path) -> list[str]:
    """Return the command that prints the commit of the work tree around a folder, with `-dirty` when files differ."""
    return ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]


def initial_environment() -> Mapping[str, str]:
    """Return the variables that this process was started with; it may have set others since."""
    try:
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(line).partition("=") for line in lines if line)
    return {name: value for name, _, value in pairs}


def state(watched: Watched) -> tuple[str, float]:
    """Return a digest of the states of all that is watched, and the newest time of change among them.

    Returns:
        The digest, and seconds since the epoch; infinity where a link leads to a folder, whose content is not seen.
    """
    found = hashlib.sha256()
    newest = 0.0
    for path, seen in _states(watched):
        line = "-" if seen is None else _line(seen, is_listed=path.endswith(_LISTED))
        found.update(f"{path}\0{line}\n".encode("utf-8", "surrogateescape"))
        if seen is not None:
            is_linked_folder = path.endswith("/") and stat.S_ISDIR(seen.st_mode)
            newest = math.inf if is_linked_folder else max(newest, seen.st_ctime_ns / 1e9)
    return found.hexdigest(), newest


def _states(watched: Watched) -> Iterator[tuple[str, os.stat_result | None]]:
    for path in watched.files:
        yield from _file(path)
    for path in watched.folders:
        yield path, _stat(path)
    for path in watched.trees:
        yield from _tree(path)


def _file(path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield the state of a file, and of the link that leads to it."""
    seen = _stat(path, follow=False)
    yield path, seen
    if seen is not None and stat.S_ISLNK(seen.st_mode):
        yield f"{path}/", _stat(path)


def _tree(path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    yield f"{path}{_LISTED}", _stat(path)
    waiting = [path]
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name == _BYTECODE:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield f"{entry.path}{_LISTED}", _stat(entry.path)
                waiting.append(entry.path)
            else:
                yield from _file(entry.path)


def _line(seen: os.stat_result, *, is_listed: bool) -> str:
    """Return a state as text, without the times of a folder whose names are listed anyway: bytecode changes them."""
    if is_listed:
        return f"{seen.st_mode} {seen.st_ino}"
    if stat.S_ISDIR(seen.st_mode):
        return f"{seen.st_mode} {seen.st_ino} {seen.st_mtime_ns}"
    return f"{seen.st_mode} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"


def _stat(path: str, *, follow: bool = True) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=follow)  # noqa: PTH116 - asked for a thousand files
    except (OSError, ValueError):
        return None


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []


def _terminal(number: int) -> str:
    """Return what a stream is: a terminal with its size, or none."""
    try:
        return str(os.get_terminal_size(number)) if os.isatty(number) else "no terminal"
    except OSError:
        return "no terminal"


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
