"""How programs end on this host. The programs are real."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crossfarm.boards.transports import programs
from crossfarm.errors import BoardError
from tests.waiting import PATIENCE_SECONDS, stretched, wait_for_end, wait_until


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_exit_code_and_last_words_of_both_streams_come_back(tmp_path: Path) -> None:
    ended = programs.run([str(_script(tmp_path / "p", "echo out; echo err >&2; exit 3"))], timeout=10)
    assert (ended.code, ended.tail) == (3, "out\nerr\n")


def test_a_flood_of_words_is_cut_to_its_end(tmp_path: Path) -> None:
    ended = programs.run([str(_script(tmp_path / "p", "head -c 3000000 /dev/zero; echo end"))], timeout=30)
    assert len(ended.tail) <= 4096
    assert ended.tail.endswith("end\n")


def test_the_program_sees_little_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert "SECRET" not in programs.run([str(_script(tmp_path / "p", "env"))], timeout=10).tail


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
        programs.run([str(_script(tmp_path / "p", f"kill -{number.name[3:]} $$"))], timeout=10)


def test_a_program_for_another_machine_is_told(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF" + bytes(60))
    program.chmod(0o755)
    with pytest.raises(BoardError, match=r"cannot be started: Exec format error; it is damaged"):
        programs.run([str(program)], timeout=10)


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match=r"cannot be started: it, or the loader that it names, is not there"):
        programs.run([str(tmp_path / "program")], timeout=10)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    program = _script(tmp_path / "p", f"sleep 60 & echo $! > {tmp_path}/child; echo working; wait")
    started, timeout = time.monotonic(), stretched(0.3)
    told = rf"p did not end within {timeout:g} s and was stopped; .*last line: working"
    with pytest.raises(BoardError, match=told):
        programs.run([str(program)], timeout=timeout)
    assert time.monotonic() - started < stretched(5)
    wait_for_end(int((tmp_path / "child").read_text()))


def test_a_group_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "_GRACE_SECONDS", 0.2)
    program = _script(tmp_path / "p", f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done")
    with pytest.raises(BoardError, match="did not end within"):
        programs.run([str(program)], timeout=stretched(0.3))
    assert not _is_alive(int((tmp_path / "pid").read_text()))


def test_an_interrupt_ends_the_program_before_it_goes_on(tmp_path: Path) -> None:
    program = _script(
        tmp_path / "p", f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60"
    )
    code = "import sys; from crossfarm.boards.transports import programs; programs.run([sys.argv[1]], timeout=60)"
    process = subprocess.Popen([sys.executable, "-c", code, str(program)], stderr=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "pid").exists, process=process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) != 0
    finally:
        process.kill()
        process.wait()
    wait_for_end(int((tmp_path / "pid").read_text()))
