"""The commands that shut a program in. That they do is tried with real ones in tests/integration/boards."""

from __future__ import annotations

import itertools
import resource
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from crossfarm.boards.transports.bundle_run import run_bundle
from crossfarm.errors import BoardError
from crossfarm.util import sandbox

KINDS: tuple[Literal["bubblewrap", "unshare"], ...] = ("bubblewrap", "unshare")
AWKWARD = "a b'$(touch x)\n;\"c"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with all tools, which is all that is searched."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bwrap", "unshare", "setpriv", "prlimit"):
        (folder / name).write_text("#!/bin/sh\nexit 7\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sandbox, "ENVIRONMENT", {"PATH": str(folder)})
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _room(folder: Path, **fields: object) -> sandbox.SandboxContents:
    (folder / "bundle").mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    values = {"files": ("result.json", "outputs/0.bin"), "most_bytes": 1000, **fields}
    return sandbox.SandboxContents(bundle=folder / "bundle", output=folder / "out", **values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", KINDS)
def test_no_name_becomes_part_of_a_script(tmp_path: Path, kind: Literal["bubblewrap", "unshare"]) -> None:
    folder = tmp_path / AWKWARD
    plain = sandbox.sandbox_command(kind, _room(tmp_path / "x"), ["/bundle/program"], scratch=tmp_path / "x")
    awkward = sandbox.sandbox_command(kind, _room(folder), ["/bundle/program", AWKWARD], scratch=folder)
    scripts = [{command[at + 1] for at, word in enumerate(command) if word == "-c"} for command in (plain, awkward)]
    assert scripts[0] == scripts[1] != set()
    assert str(folder / "bundle") in awkward and awkward[-1] == AWKWARD


@pytest.mark.usefixtures("tools")
def test_bubblewrap_gets_the_bundle_read_only_and_the_files_to_write(tmp_path: Path) -> None:
    command = sandbox.sandbox_command("bubblewrap", _room(tmp_path), ["/bundle/program"], scratch=tmp_path)
    triples = set(zip(command, command[1:], command[2:], strict=False))
    assert ("--ro-bind", str(tmp_path / "bundle"), "/bundle") in triples
    writable = {source for option, source, _ in triples if option == "--bind"}
    assert writable == {str(tmp_path / "out/result.json"), str(tmp_path / "out/outputs/0.bin")}
    assert {"--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session"} <= set(command)
    assert ("--cap-drop", "ALL") in set(itertools.pairwise(command))
    assert command.index("--remount-ro") > max(at for at, word in enumerate(command) if word in ("--bind", "--dir"))


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_root", [True, False])
def test_root_runs_programs_as_nobody_and_others_in_a_user_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Literal["bubblewrap", "unshare"], is_root: bool
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0 if is_root else 1000)
    command = sandbox.sandbox_command(kind, _room(tmp_path), ["/bundle/program"], scratch=tmp_path)
    assert ("--reuid" in command) is is_root
    assert ("--unshare-user" in command or "--user" in command) is not is_root
    assert "--bounding-set=-all" in command and "--no-new-privs" in command


@pytest.mark.usefixtures("tools")
def test_an_emulator_gets_more_addresses_and_its_folders(tmp_path: Path) -> None:
    emulator, libraries = tmp_path / "qemu-z80", tmp_path / "sysroot"
    rooms = [_room(tmp_path), _room(tmp_path, prefix=(str(emulator), "-L", str(libraries)), libraries=libraries)]
    native, emulated = (
        sandbox.sandbox_command("bubblewrap", room, ["/bundle/program"], scratch=tmp_path) for room in rooms
    )
    limits = [int(next(word for word in each if word.startswith("--as="))[5:]) for each in (native, emulated)]
    assert limits[1] - limits[0] == 8 << 30
    assert emulated[-4:] == [str(emulator), "-L", str(libraries), "/bundle/program"]
    assert {str(emulator), str(libraries)} <= {emulated[at + 2] for at, w in enumerate(emulated) if w == "--ro-bind"}


@pytest.mark.usefixtures("tools")
def test_a_lower_limit_of_the_caller_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 10))
    command = sandbox.sandbox_command("bubblewrap", _room(tmp_path), ["/bundle/program"], scratch=tmp_path)
    assert {"--as=10", "--fsize=10", "--nproc=10"} <= set(command)


def test_processes_are_limited_only_where_they_are_counted_apart(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    found = {}
    for release in ("5.4.0-200-generic", "5.14", "6.1.0-rc1"):
        monkeypatch.setattr("platform.release", lambda release=release: release)
        command = sandbox.sandbox_command("unshare", _room(tmp_path), ["/bundle/program"], scratch=tmp_path)
        found[release] = any(word.startswith("--nproc") for word in command)
    assert list(found.values()) == [False, True, True]


def test_a_tool_that_fails_is_no_way_and_one_line_says_so(tools: Path) -> None:
    sandbox.available.cache_clear()
    try:
        assert sandbox.available() == "none"
        line = sandbox.warning()
        assert line is not None and "\n" not in line
        assert "with your rights, your home and your network" in line and "apt-get install bubblewrap" in line
    finally:
        sandbox.available.cache_clear()


def test_where_a_program_is_shut_in_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "available", lambda: "unshare")
    assert sandbox.warning() is None


def test_a_tool_that_is_gone_is_told(tools: Path, tmp_path: Path) -> None:
    (tools / "bwrap").unlink()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text('{"cases": 1, "outputs": []}')
    (bundle / "program").write_text("#!/bin/sh\n")
    (bundle / "program").chmod(0o755)
    with pytest.raises(BoardError, match="cannot be sandboxed: bwrap is not installed; install bubblewrap"):
        run_bundle(bundle, [], output=tmp_path, timeout=5, kind="bubblewrap")


def test_without_a_way_a_program_runs_as_it_is(tmp_path: Path) -> None:
    bundle, output = tmp_path / "bundle", tmp_path / "output"
    for folder in (bundle, output):
        folder.mkdir()
    (bundle / "manifest.json").write_text('{"cases": 1, "outputs": []}')
    (bundle / "program").write_text('#!/bin/sh\nwhile [ "$1" != --result ]; do shift; done\necho $0 >$2\n')
    (bundle / "program").chmod(0o755)
    assert run_bundle(bundle, [], output=output, timeout=5, kind="none").sandbox == "none"
    assert (output / "result.json").read_text() == f"{bundle}/program\n"
    assert subprocess.run(["ls", output], capture_output=True, text=True, check=True).stdout == "result.json\n"
