"""The sandbox of untrusted programs on this host, made by bubblewrap or by unshare of util-linux.

Either way the program sees the system's programs and libraries, its bundle and, under an emulator, that emulator, all
read-only. It may write the files that are offered to it and a small /tmp. It has no network, no home, no view of other
processes and no capabilities; what root starts runs as nobody. No filter of system calls is set, because older kernels
slow down programs that have one (https://docs.kernel.org/userspace-api/spec_ctrl.html), and the clock counts here.

Imports the standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

SandboxKind = Literal["bubblewrap", "unshare", "none"]
"""What sandboxes a program."""

BUNDLE = "/bundle"
"""Where a sandboxed program sees its bundle."""
OUTPUT = "/out"
"""Where it sees the files that it may write."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
NOBODY = 65534
"""User and group of programs that root starts."""
ADVICE = "install bubblewrap (apt-get install bubblewrap), and see that the system allows user namespaces"

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache")
"""What a sandboxed program sees of this host."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_TMP_BYTES = 64 << 20
_PROCESSES = 512
_SHARE_OF_MEMORY = 0.8
_EMULATOR_BYTES = 8 << 30
"""Addresses that an emulator takes for the guest and for translated code, whatever of them it uses."""
_PROBE_SECONDS = 20
_COUNTED_APART = (5, 14)
"""From this kernel on the processes of a user namespace are counted apart from the user's others."""

_OUTER = 'echo 1000 >/proc/self/oom_score_adj; exec "$@"'
"""When memory runs out, the kernel takes the program first."""
_UNSHARED = r"""
set -eu
umask 022
place=$1
shift
mount -n -t tmpfs -o mode=755,size=4m,nosuid,nodev none "$place"
cd "$place"
while [ "$1" != run ]; do
  case $1 in
    folder) mkdir -p ".$3" ;;
    link) ln -s "$2" ".$3" ;;
    scratch) mkdir -p ".$3"; mount -n -t tmpfs -o "mode=1777,size=$2,nosuid,nodev" none ".$3" ;;
    processes) mkdir -p ".$3"; mount -n -t proc -o nosuid,nodev,noexec none ".$3" ;;
    *)
      if [ -d "$2" ]; then mkdir -p ".$3"; else : >".$3"; fi
      mount -n --bind "$2" ".$3"
      case $1 in
        read) mount -n -o remount,bind,ro,nosuid,nodev none ".$3" ;;
        write) mount -n -o remount,bind,nosuid,nodev,noexec none ".$3" ;;
        work) mount -n -o remount,bind,nosuid,nodev none ".$3" ;;
      esac ;;
  esac
  shift 3
done
shift
mkdir old
pivot_root . old
cd /
umount -n -l /old
rmdir /old
mount -n -o remount,ro,nosuid,nodev none /
# What this shell would say of a signal is no word of the program.
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-) || exit $?
"""
"""The first process in the namespaces: lays out what the program sees, and runs it as a child, so that an abort ends it
as it would outside. Arguments: an empty folder; triples of what, source and place; `run` and the command."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SandboxContents:
    """What a program is given.

    Attributes:
        bundle: its folder.
        output: existing folder with the files that it may write.
        files: their names, relative to that folder; no folder of theirs gets another file.
        most_bytes: that any of them may hold.
        prefix: emulator and its arguments; empty where the program runs natively.
        libraries: folder of the emulated target's C library.
    """

    bundle: Path
    output: Path
    files: tuple[str, ...]
    most_bytes: int
    prefix: tuple[str, ...] = ()
    libraries: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Something in the program's file system: what it is, what of this host stands behind it, and where it is seen.

    What is to `write` holds nothing that can be run; a folder to `work` in may.
    """

    what: Literal["folder", "link", "scratch", "processes", "read", "write", "work", "device"]
    source: str
    place: str


@functools.cache
def available() -> SandboxKind:
    """Return what sandboxes programs on this machine, after a trial; `none` where nothing does."""
    for kind in ("bubblewrap", "unshare"):
        if works(kind):
            return kind
    return "none"


def warning() -> str | None:
    """Return one line for a run whose programs are not sandboxed; None where they are."""
    if available() != "none":
        return None
    return (
        "not sandboxed: this machine lets neither bubblewrap nor unshare make namespaces, so programs of models run "
        f"with your rights, your home and your network; {ADVICE}"
    )


def works(kind: Literal["bubblewrap", "unshare"]) -> bool:
    """Return whether a program in this sandbox starts, can write the offered files, and cannot write its bundle."""
    script = f"(: >{BUNDLE}/probe) 2>/dev/null && exit 9; echo sandboxed >{OUTPUT}/probe"
    with tempfile.TemporaryDirectory(prefix="crossfarm-probe-") as name:
        bundle, output = Path(name, "bundle"), Path(name, "out")
        for folder in (bundle, output):
            folder.mkdir(mode=0o755)
        offer(output, ("probe",))
        contents = SandboxContents(bundle=bundle, output=output, files=("probe",), most_bytes=1 << 20)
        try:
            command = sandbox_command(kind, contents, ["/bin/sh", "-c", script], scratch=Path(name))
            done = subprocess.run(
                command,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                check=False,
                start_new_session=True,
            )
            return done.returncode == 0 and (output / "probe").read_text() == "sandboxed\n"
        except (OSError, subprocess.TimeoutExpired):
            return False


def has_bubblewrap() -> bool:
    """Say whether bubblewrap is installed, whether or not it works."""
    return _found("bwrap") is not None


def offer(folder: Path, names: Sequence[str]) -> None:
    """Make the empty files that a program may write; the folder itself must be closed to other users."""
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        path.chmod(0o666)


def sandbox_command(
    kind: Literal["bubblewrap", "unshare"], contents: SandboxContents, command: Sequence[str], *, scratch: Path
) -> list[str]:
    """Return the command that runs another one in the sandbox.

    It ends with 128 + N when signal N ended the program, and with 126 or 127 when the program cannot be started.

    Args:
        kind: how.
        contents: what the program is given.
        command: the program with its arguments, as it sees them; without the emulator.
        scratch: folder of the caller, in which one is made.

    Raises:
        FileNotFoundError: a tool is not installed.
    """
    inner = [*without_rights(), *_limited(contents), *contents.prefix, *command]
    return entered(kind, _pieces(contents), inner, scratch=scratch)


def entered(
    kind: Literal["bubblewrap", "unshare"], pieces: Iterable[Piece], inner: Sequence[str], *, scratch: Path
) -> list[str]:
    """Return the command that runs another one in namespaces of its own, with some pieces for a file system.

    Args:
        kind: how.
        pieces: in the order in which they are laid out.
        inner: gives up its rights first (`without_rights`) and takes on limits (`limits`).
        scratch: folder of the caller, in which one is made.

    Raises:
        FileNotFoundError: a tool is not installed.
    """
    outer = [found_tool("setpriv"), "--pdeathsig", "KILL", "/bin/sh", "-c", _OUTER, "sh"]
    if kind == "bubblewrap":
        return [*outer, *_bubblewrap(pieces), "--", *inner]
    place = scratch / "root"
    place.mkdir(exist_ok=True)
    triples = [word for piece in pieces for word in (piece.what, piece.source, piece.place)]
    return [*outer, *_unshare(), "/bin/sh", "-c", _UNSHARED, "sh", str(place), *triples, "run", *inner]


def _bubblewrap(pieces: Iterable[Piece]) -> Iterator[str]:
    yield from (found_tool("bwrap"), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts")
    yield from ("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    rights = ["CAP_SETPCAP"]
    if is_root():
        rights += ["CAP_SETUID", "CAP_SETGID"]
    else:
        yield "--unshare-user"
    for right in rights:
        yield from ("--cap-add", right)
    for piece in pieces:
        match piece.what:
            case "folder":
                yield from ("--perms", "0755", "--dir", piece.place)
            case "link":
                yield from ("--symlink", piece.source, piece.place)
            case "scratch":
                yield from ("--perms", "1777", "--size", piece.source, "--tmpfs", piece.place)
            case "processes":
                yield from ("--proc", piece.place)
            case "read":
                yield from ("--ro-bind", piece.source, piece.place)
            case "write" | "work":
                yield from ("--bind", piece.source, piece.place)
            case "device":
                yield from ("--dev-bind", piece.source, piece.place)
    yield from ("--remount-ro", "/", "--chdir", "/")


def _unshare() -> Iterator[str]:
    yield from (found_tool("unshare"), "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child=KILL")
    if not is_root():
        yield from ("--user", "--map-root-user")


def without_rights() -> Iterator[str]:
    """Yield what takes the last rights away; a set-user-id program gives none back."""
    yield found_tool("setpriv")
    if is_root():
        yield from ("--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
    yield from ("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")


def _limited(contents: SandboxContents) -> Iterator[str]:
    memory = most_memory() + (_EMULATOR_BYTES if contents.prefix else 0)
    return limits({"as": (resource.RLIMIT_AS, memory), "fsize": (resource.RLIMIT_FSIZE, contents.most_bytes)})


def most_memory() -> int:
    """Return the bytes that a sandboxed process may take of this machine's memory."""
    return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _SHARE_OF_MEMORY)


def limits(wanted: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """Yield what sets the limits; a limit of the caller's that is lower stays.

    Args:
        wanted: prlimit's name of it -> number of the resource, and the most; processes are limited anyway.

    Raises:
        FileNotFoundError: a tool is not installed.
    """
    all_wanted = dict(wanted)
    if is_root() or _kernel() >= _COUNTED_APART:
        all_wanted["nproc"] = (resource.RLIMIT_NPROC, _PROCESSES)
    yield found_tool("prlimit")
    for name, (number, value) in all_wanted.items():
        hard = resource.getrlimit(number)[1]
        # Processor time has a softer limit already, which says so; that one stays.
        soft = ":" if number == resource.RLIMIT_CPU else ""
        yield f"--{name}={soft}{value if hard == resource.RLIM_INFINITY else min(value, hard)}"
    yield from ("--core=0", "--")


def _pieces(contents: SandboxContents) -> Iterator[Piece]:
    """Yield what the program sees, in the order in which it is laid out."""
    known = set[str]()
    yield from folders(known, f"{OUTPUT}/x", *(f"{OUTPUT}/{name}" for name in contents.files))
    yield from system_pieces(known, tmp_bytes=_TMP_BYTES)
    for path in (*contents.prefix[:1], *([str(contents.libraries)] if contents.libraries else [])):
        if not path.startswith(tuple(f"{place}/" for place in SYSTEM)):
            yield from folders(known, path)
            yield Piece(what="read", source=os.path.realpath(path), place=path)
    yield Piece(what="read", source=str(contents.bundle.resolve()), place=BUNDLE)
    for name in contents.files:
        yield Piece(what="write", source=str(contents.output.resolve() / name), place=f"{OUTPUT}/{name}")


def system_pieces(known: set[str], *, tmp_bytes: int) -> Iterator[Piece]:
    """Yield what every program sees of this host's system, and a /tmp of its own.

    Args:
        known: folders that are there already; gets those that are made here.
        tmp_bytes: that /tmp holds.
    """
    yield from folders(known, "/etc/x", "/dev/x")
    for place in SYSTEM:
        if Path(place).is_symlink():
            yield Piece(what="link", source=str(Path(place).readlink()), place=place)
        elif Path(place).exists():
            yield Piece(what="read", source=place, place=place)
    for place in _DEVICES:
        yield Piece(what="device", source=place, place=place)
    yield Piece(what="processes", source="", place="/proc")
    yield Piece(what="scratch", source=str(tmp_bytes), place="/tmp")  # noqa: S108 - its own


def folders(known: set[str], *paths: str) -> Iterator[Piece]:
    """Yield the folders above some paths that are not yet there, from the root on."""
    for path in paths:
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) not in known and parent != PurePosixPath("/"):
                known.add(str(parent))
                yield Piece(what="folder", source="", place=str(parent))


def found_tool(name: str) -> str:
    """Return the path of a tool.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = _found(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{ENVIRONMENT['PATH']}:{os.environ.get('PATH', '')}")


def is_root() -> bool:
    """Return whether this process is root, whose programs run as nobody."""
    return os.geteuid() == 0


def _kernel() -> tuple[int, ...]:
    """Return the first two numbers of the kernel's release."""
    parts = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdecimal())
