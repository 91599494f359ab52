"""Tests wait for events: one helper asks again and again, and nothing else pauses."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import waiting
from tests.waiting import stretched, wait_for_end, wait_until

TESTS = Path(__file__).resolve().parents[1]
PAUSE = {
    "waiting.py",
    "mutants/running.py",  # no test
    "conformance/pool.py",  # no test
    "unit/util/test_console.py",  # a clock that is looked at in the meantime
    "integration/boards/hostile_board.py",  # a board that is slow on purpose
    "integration/boards/leases/farm.py",  # a farm that uses boards for a while
}


def _pauses(path: Path) -> list[int]:
    """Return the lines of a file that call `time.sleep`; programs that tests start are texts, and not seen."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]


def test_nothing_pauses_but_the_helper_and_programs_that_play_a_part() -> None:
    found = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py") if _pauses(path)}
    assert found == PAUSE


def test_a_condition_that_never_holds_fails_with_what_is_told() -> None:
    with pytest.raises(AssertionError, match="no board came"):
        wait_until(lambda: False, seconds=0.0, told=lambda: "no board came")


def test_a_process_that_ends_before_the_condition_holds_is_not_waited_for() -> None:
    with (
        subprocess.Popen([sys.executable, "-S", "-c", ""]) as process,
        pytest.raises(AssertionError, match="the process ended early"),
    ):
        wait_until(lambda: False, process=process)


def test_the_end_of_a_process_is_waited_for_and_one_that_runs_on_fails() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(AssertionError, match="still runs"):
            wait_for_end(process.pid, seconds=0.0)
        process.communicate(b"\n")
        wait_for_end(process.pid)


def test_seconds_are_stretched_by_how_many_processes_wait_for_each_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting.os, "sched_getaffinity", lambda _: {0, 1})
    for load, expected in ((0.5, 3.0), (2.0, 3.0), (40.0, 60.0)):
        monkeypatch.setattr(waiting.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert stretched(3.0) == expected
