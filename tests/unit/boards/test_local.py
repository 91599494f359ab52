"""This host as a board: what it says of itself, and how programs end on it. The programs are real."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crossfarm.boards import local
from crossfarm.errors import BoardError
from crossfarm.spec.targets import Emulator

HERE = (platform.machine(),)


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_probe_knows_machine_and_kernel() -> None:
    state = local.probe()
    assert state.machine == os.uname().machine
    assert state.kernel == os.uname().release
    assert state.temperature is None or -50 < state.temperature < 150


def test_the_fingerprint_holds_no_name_of_this_very_machine() -> None:
    facts = local.fingerprint(machines=HERE, emulator=None)
    assert set(facts) == {"machine", "cpu", "kernel"}
    assert os.uname().nodename not in facts.values()


def test_the_fingerprint_changes_with_the_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator = Emulator(command=("qemu-z80",))
    before = local.fingerprint(machines=("z80",), emulator=emulator)
    assert before["emulator"] == "missing"
    _script(tmp_path / "qemu-z80", "exit 0")
    after = local.fingerprint(machines=("z80",), emulator=emulator)
    _script(tmp_path / "qemu-z80", "exit 100")
    assert (
        len(
            {before["emulator"], after["emulator"], local.fingerprint(machines=("z80",), emulator=emulator)["emulator"]}
        )
        == 3
    )


def test_code_for_this_machine_runs_natively_even_with_an_emulator() -> None:
    found = local.way(machines=HERE, emulator=Emulator(command=("qemu-z80",)))
    assert (found.timing, found.prefix) == ("silicon", ())


def test_the_first_emulator_on_the_path_stands_in_for_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _script(tmp_path / "qemu-z80-static", "exit 0")
    emulator = Emulator(command=("qemu-z80", "-L", str(tmp_path)), names=("qemu-z80", "qemu-z80-static"))
    found = local.way(machines=("z80",), emulator=emulator)
    assert found.timing == "emulated"
    assert found.prefix == (str(tmp_path / "qemu-z80-static"), "-L", str(tmp_path))


def test_a_missing_emulator_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator = Emulator(command=("qemu-z80",), names=("qemu-z80", "qemu-z80-static"), package="qemu-user-static")
    with pytest.raises(BoardError, match=r"qemu-z80 or qemu-z80-static\) is not on PATH; .*apt-get install qemu-user"):
        local.way(machines=("z80",), emulator=emulator)
    with pytest.raises(BoardError, match="the target runs on z80 and declares no emulator"):
        local.way(machines=("z80",), emulator=None)


def test_a_missing_library_of_the_target_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _script(tmp_path / "qemu-z80", "exit 0")
    emulator = Emulator(command=("qemu-z80", "-L", str(tmp_path / "z80")), library_package="libc6-z80-cross")
    with pytest.raises(BoardError, match=r"C library is not in .*/z80, .*apt-get install libc6-z80-cross"):
        local.way(machines=("z80",), emulator=emulator)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("echo 'qemu-z80 version 7.2.22 (Debian 1:7.2)'", "qemu-z80 7.2.22"), ("exit 3", "qemu-z80")],
)
def test_an_emulator_tells_its_version_or_nothing(tmp_path: Path, text: str, expected: str) -> None:
    assert local.emulator_version(str(_script(tmp_path / "qemu-z80", text))) == expected


def test_exit_code_and_last_words_of_both_streams_come_back(tmp_path: Path) -> None:
    ended = local.run([str(_script(tmp_path / "p", "echo out; echo err >&2; exit 3"))], timeout=10)
    assert (ended.code, ended.tail) == (3, "out\nerr\n")


def test_a_flood_of_words_is_cut_to_its_end(tmp_path: Path) -> None:
    ended = local.run([str(_script(tmp_path / "p", "head -c 3000000 /dev/zero; echo end"))], timeout=30)
    assert len(ended.tail) <= 4096
    assert ended.tail.endswith("end\n")


def test_the_program_sees_little_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert "SECRET" not in local.run([str(_script(tmp_path / "p", "env"))], timeout=10).tail


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGSEGV, "p was killed by SIGSEGV; it crashed"),
        (signal.SIGILL, "SIGILL; this CPU lacks an instruction"),
        (signal.SIGKILL, "SIGKILL; the machine ran out of memory"),
    ],
)
def test_a_program_killed_by_a_signal_names_it(tmp_path: Path, number: signal.Signals, message: str) -> None:
    with pytest.raises(BoardError, match=message):
        local.run([str(_script(tmp_path / "p", f"kill -{number.name[3:]} $$"))], timeout=10)


def test_a_program_for_another_machine_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF" + bytes(60))
    program.chmod(0o755)
    with pytest.raises(BoardError, match=r"cannot be started: Exec format error; it is damaged"):
        local.run([str(program)], timeout=10)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"cannot be started: it, or the loader that it names, is not there"):
        local.run([str(tmp_path / "program")], timeout=10)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 5
    while _is_alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _is_alive(pid)


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    program = _script(tmp_path / "p", f"sleep 60 & echo $! > {tmp_path}/child; echo working; wait")
    started = time.monotonic()
    with pytest.raises(BoardError, match=r"p did not end within 0.3 s and was stopped; .*last words: working"):
        local.run([str(program)], timeout=0.3)
    assert time.monotonic() - started < 5
    _wait_until_gone(int((tmp_path / "child").read_text()))


def test_a_group_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "_GRACE_SECONDS", 0.2)
    program = _script(tmp_path / "p", f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    with pytest.raises(BoardError, match="did not end within"):
        local.run([str(program)], timeout=0.3)
    assert not _is_alive(int((tmp_path / "pid").read_text()))


def test_an_interrupt_ends_the_program_before_it_goes_on(tmp_path: Path) -> None:
    program = _script(
        tmp_path / "p", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60"
    )
    code = "import sys; from crossfarm.boards import local; local.run([sys.argv[1]], timeout=60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(program)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while not (tmp_path / "pid").exists() and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) != 0
    finally:
        process.kill()
        process.wait()
    _wait_until_gone(int((tmp_path / "pid").read_text()))
