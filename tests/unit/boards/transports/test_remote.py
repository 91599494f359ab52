"""The board's side, remote.sh, in a folder of this host: it is the same shell script everywhere."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import crossfarm.boards.transports
from crossfarm.boards.transports.bundle_files import read_bundle, write_archive
from crossfarm.boards.transports.facts import Facts
from crossfarm.errors import BundleError

SCRIPT = (Path(crossfarm.boards.transports.__file__).parent / "remote.sh").read_text()
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


def _ask(
    folder: Path, token: int, *arguments: str, data: bytes = b"", shell: str = "sh", tools: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    words = [shell, "-c", SCRIPT, "crossfarm", str(folder), str(token), *arguments]
    environment = os.environ | ({"PATH": str(tools)} if tools else {})
    return subprocess.run(words, input=data, capture_output=True, check=False, timeout=30, env=environment)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "program").write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    (folder / "weights.bin").write_bytes(bytes(300_000))
    return folder


def _archive(bundle: Path, parts: dict[int, str]) -> bytes:
    archive = io.BytesIO()
    write_archive(read_bundle(bundle), parts, lambda data: archive.write(data) and None)
    return archive.getvalue()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_folder_is_made_and_the_board_described(tmp_path: Path, shell: str) -> None:
    done = _ask(tmp_path / "a b", 3, "preflight", shell=shell)
    assert done.returncode == 0, done.stderr
    facts = Facts.parse(done.stdout.decode())
    assert facts.free_kib > 0 and facts.processors
    assert (tmp_path / "a b" / "token").read_text() == "3\n"


def test_a_lower_token_is_refused_and_the_same_is_not(tmp_path: Path) -> None:
    assert [_ask(tmp_path, token, "preflight").returncode for token in (3, 5, 5, 4, 3)] == [0, 0, 0, 91, 91]
    assert (tmp_path / "token").read_text() == "5\n"
    (tmp_path / "token").write_text("rubbish; rm -rf /\n")
    assert _ask(tmp_path, 1, "preflight").returncode == 0


def test_preflight_cleans_what_was_left(tmp_path: Path) -> None:
    (tmp_path / "work" / "7.1").mkdir(parents=True)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "x").write_text("half")
    assert _ask(tmp_path, 1, "preflight").returncode == 0
    assert [list((tmp_path / name).iterdir()) for name in ("work", "incoming")] == [[], []]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_bundle_is_offered_stored_and_there(bundle: Path, tmp_path: Path, shell: str) -> None:
    board, files = tmp_path / "board", read_bundle(bundle)
    _ask(board, 1, "preflight", shell=shell)
    assert _ask(board, 1, "offer", files.digest, data=files.rows, shell=shell).stdout.startswith(b"whole 0\nwhole 1\n")
    done = _ask(
        board, 1, "store", files.digest, "1", "30", data=_archive(bundle, {0: "whole", 1: "whole"}), shell=shell
    )
    assert (done.returncode, done.stdout) == (0, b"stored\n"), done.stderr
    assert _ask(board, 1, "offer", files.digest, data=files.rows, shell=shell).stdout == b"there\n"
    run = _ask(board, 1, "run", files.digest, "5", "keep", "plain", "--threads", "1", shell=shell)
    assert run.returncode == 0 and b"./code" in run.stdout
    assert b" --result work/" in run.stdout and b"--profile" not in run.stdout
    profiled = _ask(board, 1, "run", files.digest, "5", "keep", "profile", shell=shell)
    assert re.search(rb" --profile work/\S+/profile.json", profiled.stdout)
    (bundle / "weights.bin").write_bytes(b"x" * 64 + bytes(300_000 - 64))
    again = read_bundle(bundle)
    assert b"head 1\n" in _ask(board, 1, "offer", again.digest, data=again.rows, shell=shell).stdout
    assert (
        _ask(board, 1, "store", again.digest, "1", "30", data=_archive(bundle, {1: "head"}), shell=shell).returncode
        == 0
    )
    assert (board / "bundles" / again.digest / "weights.bin").read_bytes() == (bundle / "weights.bin").read_bytes()


def test_a_truncated_upload_leaves_nothing(bundle: Path, tmp_path: Path) -> None:
    board, files = tmp_path / "board", read_bundle(bundle)
    _ask(board, 1, "preflight")
    half = _archive(bundle, {0: "whole", 1: "whole"})[:100_000]
    assert _ask(board, 1, "store", files.digest, "1", "30", data=half).returncode == 96
    assert [list((board / name).iterdir()) for name in ("objects", "bundles", "incoming")] == [[], [], []]


@pytest.fixture(params=["openssl", "sha256sum"])
def tools(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of programs as a board has them, with one or the other that takes a sha256."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    folder = tmp_path / "tools"
    folder.mkdir()
    needed = "cp dd df find flock ln ls mkdir mv od rm sh tar timeout touch uname getconf grep"
    for tool in [*needed.split(), request.param]:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


@pytest.mark.parametrize("damage", [(b"#!/bin/sh", b"#!/bin/sg"), (b" 755 ", b" 754 "), None])
def test_one_wrong_byte_in_a_file_or_in_the_rows_is_refused_and_nothing_is_kept(
    bundle: Path, tmp_path: Path, tools: Path, damage: tuple[bytes, bytes] | None
) -> None:
    board, files = tmp_path / "board", read_bundle(bundle)
    _ask(board, 1, "preflight")
    archive = _archive(bundle, {0: "whole", 1: "whole"})
    if damage is not None:
        assert archive.count(damage[0]) == 1
        archive = archive.replace(*damage)
    done = _ask(board, 1, "store", files.digest, "1", "30", data=archive, tools=tools)
    if damage is None:
        assert (done.returncode, done.stdout) == (0, b"stored\n"), done.stderr
    else:
        assert (done.returncode, done.stdout) == (94, b""), done.stderr
        assert [list((board / name).iterdir()) for name in ("objects", "bodies", "bundles", "incoming")] == [[]] * 4


def test_a_bundle_that_is_not_there_cannot_be_run(tmp_path: Path) -> None:
    _ask(tmp_path, 1, "preflight")
    assert _ask(tmp_path, 1, "run", "0" * 64, "5", "keep", "plain").returncode == 95


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "mkdir", "df", "dd", "find"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    words = ["sh", "-c", SCRIPT, "crossfarm", str(tmp_path / "board"), "1", "preflight"]
    done = subprocess.run(words, capture_output=True, check=False, env={"PATH": str(tools), "HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (92, b"flock is not installed there\n")


def test_an_unknown_request_is_refused(tmp_path: Path) -> None:
    assert _ask(tmp_path, 1, "rm -rf /").returncode == 2


def test_names_that_a_shell_could_misread_are_not_sent(bundle: Path) -> None:
    (bundle / "$(reboot)").write_text("")
    with pytest.raises(BundleError, match="names on a board have letters"):
        read_bundle(bundle)


def test_a_bundle_without_a_program_is_refused(bundle: Path) -> None:
    (bundle / "program").unlink()
    with pytest.raises(BundleError, match="the bundle has no program"):
        read_bundle(bundle)


def test_the_digest_depends_on_names_content_and_nothing_else(bundle: Path) -> None:
    first = read_bundle(bundle).digest
    (bundle / "program").chmod(0o600)
    assert read_bundle(bundle).digest == first
    (bundle / "weights.bin").rename(bundle / "weights2.bin")
    assert read_bundle(bundle).digest != first
