"""One call of a tool: what it may compute, and what becomes of what it started."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from crossfarm.errors import ToolError, ToolMissingError, ToolTimeoutError
from crossfarm.util.processes import ending, failure, output_of, run_tool


def test_a_tool_that_loops_is_ended_by_the_processor_time_it_took(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="took more than 1 s of processor time"):
        run_tool(["sh", "-c", "while :; do :; done"], folder=tmp_path, processor_seconds=1, wall_seconds=60)


def test_a_tool_that_waits_longer_than_it_may_compute_is_no_failure(tmp_path: Path) -> None:
    done = run_tool(["/bin/sh", "-c", "sleep 1.5; echo done"], folder=tmp_path, processor_seconds=1)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_what_a_tool_started_ends_with_it_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > child; wait"
    with pytest.raises(ToolError, match="did not end within 1 s and was killed"):
        run_tool(["/bin/sh", "-c", script], folder=tmp_path, processor_seconds=10, wall_seconds=1)
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(ProcessLookupError):
        # A killed process takes a moment to end; one that nobody killed would sleep for ten minutes.
        assert select.select([os.pidfd_open(child)], [], [], 60)[0]


def test_words_of_a_command_stay_words(tmp_path: Path) -> None:
    done = run_tool(["printf", "%s\n", "$(id)", "a b;c"], folder=tmp_path, processor_seconds=10)
    assert done.stdout == "$(id)\na b;c\n"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot be run: No such file"):
        run_tool(["true"], folder=tmp_path / os.urandom(4).hex(), processor_seconds=1)


def test_a_failure_is_told_with_what_ran_how_it_ended_and_its_last_lines(tmp_path: Path) -> None:
    script = "for n in 1 2 3 4; do echo out $n; done; echo wrong >&2; exit 3"
    done = run_tool(["sh", "-c", script], folder=tmp_path)
    assert failure(done, lines=3) == (f"sh -c '{script}' ended with exit code 3\n    out 3\n    out 4\n    wrong")


def test_a_tool_that_said_nothing_is_told_with_the_signal_that_ended_it() -> None:
    done = run_tool(["sh", "-c", "kill -9 $$"])
    assert failure(done) == "sh -c 'kill -9 $$' was ended by SIGKILL"
    assert (ending(0), ending(-200)) == ("ended with exit code 0", "was ended by signal 200")


def test_both_streams_are_merged_in_their_order() -> None:
    assert run_tool(["sh", "-c", "echo a; echo b >&2; echo c"], merged=True).stdout == "a\nb\nc\n"


def test_what_to_do_about_a_missing_or_a_slow_tool_is_the_caller_s() -> None:
    with pytest.raises(ToolMissingError, match=r"^no-such-tool cannot be run: No such file or directory; apt-get it$"):
        run_tool(["no-such-tool"], missing="apt-get it")
    with pytest.raises(ToolTimeoutError, match=r"^sleep 60 did not end within 0\.1 s and was killed; see the mirror$"):
        run_tool(["sleep", "60"], wall_seconds=0.1, slow="see the mirror")


@pytest.mark.parametrize("takes_keyboard", [False, True])
def test_a_tool_has_a_group_of_its_own_unless_it_takes_the_keyboard(takes_keyboard: bool) -> None:
    done = run_tool(["sh", "-c", "ps -o pgid= -p $$ || cut -d' ' -f5 /proc/$$/stat"], takes_keyboard=takes_keyboard)
    assert (int(done.stdout) == os.getpgrp()) == takes_keyboard


def test_a_tool_inherits_the_descriptors_and_the_variables_that_it_is_given(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        script = f"echo $COLOUR; readlink /proc/$$/fd/{lock.fileno()}"
        done = run_tool(["sh", "-c", script], descriptors=[lock.fileno()], environment={"COLOUR": "red"})
    assert done.stdout == f"red\n{tmp_path}/lock\n"


@pytest.mark.parametrize("script", ["echo half; exit 1", "sleep 60"])
def test_the_output_of_a_tool_that_fails_is_none(script: str) -> None:
    assert output_of(["sh", "-c", script], wall_seconds=0.2) is None
    assert output_of(["no-such-tool"], wall_seconds=60) is None
    assert output_of(["echo", "whole"], wall_seconds=60) == "whole\n"


def test_a_tool_reads_what_it_is_given_and_nothing_else() -> None:
    assert run_tool(["cat"], given="one\ntwo").stdout == "one\ntwo"
    assert run_tool(["cat"]).stdout == ""
    assert run_tool(["true"], given="x" * 1_000_000).returncode == 0
