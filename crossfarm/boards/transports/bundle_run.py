"""Runs a bundle's program on this host in a sandbox and copies the files that it wrote."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from crossfarm.boards.protocol import killed
from crossfarm.boards.transports import programs, written
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import sandbox

_PROGRAM = "program"
_MACHINE = slice(18, 20)
"""Where an ELF file says for which machine it is made."""
_ALSO_RUN = {b"\x3e\0": b"\x03\0", b"\xb7\0": b"\x28\0"}
"""x86-64 runs programs of i386 too, aarch64 those of arm."""
_CANNOT_BE_STARTED = (126, 127)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramResult:
    """A program that ended by itself.

    Attributes:
        code: its exit code.
        tail: the last 4 KiB of what it said.
        sandbox: what sandboxed it.
    """

    code: int
    tail: str
    sandbox: sandbox.SandboxKind


def run_bundle(
    bundle: Path,
    options: Sequence[str],
    *,
    output: Path,
    timeout: float,
    prefix: Sequence[str] = (),
    profile: bool = False,
    kind: sandbox.SandboxKind | None = None,
) -> ProgramResult:
    """Run a bundle's program.

    Args:
        bundle: its folder.
        options: of the program, without those that name files.
        output: existing folder that gets result.json, outputs/K.bin and, with `profile`, profile.json.
        timeout: seconds; then the program and all that it started are killed.
        prefix: emulator and its arguments.
        profile: whether every call is timed too.
        kind: what sandboxes it; None takes what this machine has.

    Raises:
        BoardError: it cannot be started, is killed by a signal, or takes too long.
        BundleError: there is no program, the manifest cannot be used, or it wrote what it may not.
    """
    kind = kind or sandbox.available()
    files = written.declared(bundle, profile=profile)
    with tempfile.TemporaryDirectory(prefix="crossfarm-run-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        bundle = _readable(bundle, scratch, as_other=kind != "none" and os.geteuid() == 0)
        folder = scratch / "out"
        folder.mkdir()
        sandbox.offer(folder, tuple(files))
        (folder / written.OUTPUTS).mkdir(exist_ok=True)
        ran = _run(bundle, options, folder, kind=kind, files=files, prefix=prefix, timeout=timeout)
        written.take(folder, files, output)
        return ran


def _run(
    bundle: Path,
    options: Sequence[str],
    folder: Path,
    *,
    kind: sandbox.SandboxKind,
    files: Mapping[str, int],
    prefix: Sequence[str],
    timeout: float,
) -> ProgramResult:
    if kind == "none":
        words = _words(str(bundle), str(folder), options, files)
        ended = programs.run([*prefix, *words], timeout=timeout)
        return ProgramResult(code=ended.code, tail=ended.tail, sandbox=kind)
    contents = sandbox.SandboxContents(
        bundle=bundle,
        output=folder,
        files=tuple(files),
        most_bytes=max(files.values()),
        prefix=tuple(prefix),
        libraries=next((Path(prefix[at + 1]) for at, word in enumerate(prefix[:-1]) if word == "-L"), None),
    )
    words = _words(sandbox.BUNDLE, sandbox.OUTPUT, options, files)
    try:
        command = sandbox.sandbox_command(kind, contents, words, scratch=folder.parent)
    except FileNotFoundError as error:
        raise BoardError(f"the program cannot be sandboxed: {error}; {sandbox.ADVICE}") from error
    code, tail = programs.wait_for(
        command, name=_PROGRAM, environment=sandbox.ENVIRONMENT, timeout=timeout, politely=False
    )
    if code != 0 and not prefix and not _is_for_this_machine(bundle / _PROGRAM):
        raise programs.unusable(_PROGRAM, "Exec format error")
    if code in _CANNOT_BE_STARTED:
        raise programs.missing(_PROGRAM)
    if code < 0 or code > 128:
        raise killed(_PROGRAM, number=-code if code < 0 else code - 128, tail=tail)
    return ProgramResult(code=code, tail=tail, sandbox=kind)


def _words(bundle: str, folder: str, options: Sequence[str], files: Mapping[str, int]) -> list[str]:
    """Return the program's command line, with the paths that it sees."""
    words = [f"{bundle}/{_PROGRAM}", bundle, *options, "--outputs", f"{folder}/{written.OUTPUTS}"]
    words += ["--result", f"{folder}/{written.RESULT}"]
    return [*words, "--profile", f"{folder}/{written.PROFILE}"] if written.PROFILE in files else words


def _readable(bundle: Path, scratch: Path, *, as_other: bool) -> Path:
    """Return a bundle whose program may be executed, or a copy of it; the store may have lost that right.

    Args:
        bundle: its folder.
        scratch: gets the copy.
        as_other: it will be read by a user who owns nothing of it.
    """
    if not (bundle / _PROGRAM).is_file():
        raise BundleError("the bundle has no program; make the bundle again")
    bits = 0o005 if as_other else 0o500
    paths = [bundle, *bundle.rglob("*")]
    needed = {path: bits if path.is_dir() or path == bundle / _PROGRAM else bits & 0o444 for path in paths}
    if all(path.stat().st_mode & wanted == wanted for path, wanted in needed.items()):
        return bundle
    copy = scratch / "bundle"
    shutil.copytree(bundle, copy)
    for path in needed:
        is_run = path.is_dir() or path == bundle / _PROGRAM
        (copy / path.relative_to(bundle)).chmod(0o755 if is_run else 0o644)
    return copy


def _is_for_this_machine(program: Path) -> bool:
    """Say whether the kernel can start a program; what runs it here would hand anything else to a shell."""
    with program.open("rb") as stream, Path("/proc/self/exe").open("rb") as own:
        head, machine = stream.read(20), own.read(20)[_MACHINE]
    if head[:2] == b"#!":
        return True
    return head[:4] == b"\x7fELF" and head[_MACHINE] in (machine, _ALSO_RUN.get(machine))
