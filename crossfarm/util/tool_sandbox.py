"""Runs a vendor's tool on this host in the sandbox of untrusted programs: what it reads is a stranger's model.

The tool sees the system's programs and libraries and what it is offered, read-only, at their places on this host. It
may write in one folder and in a /tmp of its own. It has no network, no home, no variable of this process, no view of
other processes and no capabilities; what root starts runs as nobody. Memory, processor time, processes and the size of
a file are limited. Where nothing makes namespaces (`sandbox.available`), as in a container that is a sandbox itself, it
runs with the limits of time alone.
"""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from crossfarm.errors import ToolError, ToolMissingError
from crossfarm.util import sandbox
from crossfarm.util.processes import WALL_SECONDS, run_tool

_ALTERNATIVES = "/etc/alternatives"
"""Debian's links to the program that stands behind a name such as `awk`."""
_TMP = "/tmp"  # noqa: S108 - of the sandbox
_TMP_BYTES = 256 << 20
_FILE_BYTES = 8 << 30
_GRACE_SECONDS = 5
"""Processor time between the signal that says so and the one that ends a process."""
_IN_FOLDER = 'cd "$1"; shift; exec "$@"'
_SIGNALLED = 128
_NOT_STARTED = (126, 127)
"""Codes of a shell that cannot start what it is to run."""


def run_sandboxed(
    command: Sequence[str],
    *,
    folder: Path,
    reads: Sequence[Path] = (),
    processor_seconds: int,
    wall_seconds: float | None = WALL_SECONDS,
    variables: Mapping[str, str] | None = None,
    missing: str = "install it",
    slow: str = "see what it waits for, then run the same command again",
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end, with all that it writes to the terminal in `stdout`.

    Args:
        command: the tool and its arguments, with the paths of this host.
        folder: where it runs, and the only folder that it may write to; what it leaves there is plain files and
            folders. It must stand below a folder that is closed to other users, as a scratch folder is.
        reads: other files and folders that it may read; others must be allowed to, because root's tools run as nobody.
        processor_seconds: what each of its processes may compute.
        wall_seconds: by the clock; then it and all that it started are killed.
        variables: of its environment, beside PATH, LC_ALL and what says where temporary files go.
        missing: what to do when it cannot be started.
        slow: what to do when it takes too long.

    Returns:
        How it ended, with a code as Python gives it: minus the number of a signal.

    Raises:
        ToolMissingError: it cannot be started.
        ToolTimeoutError: it took longer by the clock.
        ToolError: it took more processor time, cannot be sandboxed, or is to read a folder that holds the home.
    """
    kind = sandbox.available()
    folder = folder.resolve()
    programs = sandbox.ENVIRONMENT["PATH"] if kind != "none" else os.environ.get("PATH", os.defpath)
    own = {**sandbox.ENVIRONMENT, "PATH": programs, "HOME": _TMP, "TMPDIR": _TMP, **(variables or {})}
    inner = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in own.items())]
    inner += ["/bin/sh", "-c", _IN_FOLDER, "sh", str(folder), *command]
    if kind != "none":
        try:
            inner = _shut_in(kind, inner, folder, reads, processor_seconds)
        except FileNotFoundError as error:
            raise ToolError(f"{command[0]} cannot be sandboxed: {error}; {sandbox.ADVICE}") from error
    done = run_tool(
        inner,
        processor_seconds=processor_seconds,
        wall_seconds=wall_seconds,
        merged=True,
        shown=command,
        missing=missing,
        slow=slow,
    )
    _remove_what_is_not_plain(folder)
    code = done.returncode if done.returncode <= _SIGNALLED else _SIGNALLED - done.returncode
    if code in _NOT_STARTED:
        raise ToolMissingError(f"{command[0]} cannot be run: {done.stdout.strip() or 'it is not there'}; {missing}")
    return subprocess.CompletedProcess(list(command), code, done.stdout, "")


def _shut_in(
    kind: Literal["bubblewrap", "unshare"],
    command: Sequence[str],
    folder: Path,
    reads: Sequence[Path],
    processor_seconds: int,
) -> list[str]:
    """Return the command that runs another one in the sandbox.

    Raises:
        FileNotFoundError: a tool of the sandbox is not installed.
    """
    if sandbox.is_root():
        _open_to_others(folder)
    most = {
        "data": (resource.RLIMIT_DATA, sandbox.most_memory()),
        "fsize": (resource.RLIMIT_FSIZE, _FILE_BYTES),
        "cpu": (resource.RLIMIT_CPU, processor_seconds + _GRACE_SECONDS),
    }
    inner = [*sandbox.without_rights(), *sandbox.limits(most), *command]
    # The processes of the sandbox itself have no variable of this process either: a tool might read theirs.
    clean = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in sandbox.ENVIRONMENT.items())]
    return [*clean, *sandbox.entered(kind, _pieces(folder, reads), inner, scratch=folder.parent)]


def _pieces(folder: Path, reads: Sequence[Path]) -> Iterator[sandbox.Piece]:
    known = {_TMP, "/proc"}
    yield from sandbox.system_pieces(known, tmp_bytes=_TMP_BYTES)
    seen = dict.fromkeys([*filter(os.path.exists, [_ALTERNATIVES]), *(str(path.absolute()) for path in reads)])
    for path in seen:
        if Path.home().is_relative_to(os.path.realpath(path)):
            raise ToolError(f"{path} holds your home, which a tool may not read; put what it needs into another folder")
        if path.startswith(tuple(f"{place}/" for place in sandbox.SYSTEM)):
            continue
        yield from sandbox.folders(known, path)
        yield sandbox.Piece(what="read", source=os.path.realpath(path), place=path)
    yield from sandbox.folders(known, str(folder))
    yield sandbox.Piece(what="work", source=str(folder), place=str(folder))


def _open_to_others(folder: Path) -> None:
    """Let nobody, as whom root's tools run, write into a folder whose parent is closed to all but its owner."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o777 if path.is_dir() else 0o666))


def _remove_what_is_not_plain(folder: Path) -> None:
    """Remove links, pipes and devices that a tool left: whoever reads there would follow them with other rights."""
    for above, names, files in os.walk(folder):
        for path in (Path(above, name) for name in (*names, *files)):
            kind = path.lstat().st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                path.unlink()
