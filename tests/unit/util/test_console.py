"""What a run shows, on a real pseudo-terminal and in a plain stream."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import pty
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.util.console import Console, duration


class Screen:
    """A terminal of 40 columns that knows just what the console uses: newline, cursor up, erase below."""

    def __init__(self, text: str) -> None:
        self.lines = [""]
        row = 0
        for up, erase, colour, character in re.findall(r"\x1b\[(\d+)A|(\x1b\[J)|(\x1b\[[\d;]*m)|([^\x1b])", text):
            if up:
                row -= int(up)
                assert row >= 0, "the cursor went above what was written"
            elif erase:
                del self.lines[row:]
                self.lines.append("")
            elif character == "\n":
                row += 1
                if row == len(self.lines):
                    self.lines.append("")
            elif character == "\r" or colour:
                continue
            else:
                self.lines[row] += character


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def terminal(plain_environment: None) -> Iterator[tuple[int, io.TextIOWrapper]]:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield master, stream
    os.close(master)


def everything(master: int) -> str:
    data = b""
    while select.select([master], [], [], 0.05)[0]:
        data += os.read(master, 65536)
    return data.decode().replace("\r\n", "\n")


def test_a_plain_stream_gets_one_line_for_each_job_that_ran() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False, clock=lambda: 0.0) as console:
        console.total(12)
        for number in range(12):
            console.started(f"compile:armv7-model{number}-float32")
            console.finished(f"compile:armv7-model{number}-float32", "run", 4.07)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[ 1/12] compile armv7-model0-float32 run 4.1 s"
    assert lines[11] == "[12/12] compile armv7-model11-float32 run 4.1 s"
    assert lines[12] == "12 jobs: 12 run, in 0.0 s"
    assert len(lines) == 13


def test_a_run_with_nothing_to_do_says_so_in_one_line() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False) as console:
        console.total(700)
        for number in range(700):
            console.finished(f"compile:c{number}", "hit", 0.0)
    assert stream.getvalue() == "700 jobs up to date\n"


def test_a_failure_stands_there_with_its_cause_on_one_line() -> None:
    stream = io.StringIO()
    console = Console(stream, interactive=False)
    console.total(2)
    console.finished("compile:a", "failed", 75.0, "operator Foo\nis \x1b[2Jnot known")
    assert stream.getvalue() == "[1/2] compile a failed 1 min 15 s: operator Foo is not known\n"


def test_quiet_shows_failures_and_given_lines_only() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False, quiet=True) as console:
        console.finished("compile:a", "run", 1.0)
        console.finished("compile:b", "failed", 1.0, "no memory")
        console.line("the table")
    assert stream.getvalue() == "[2] compile b failed 1.0 s: no memory\nthe table\n"


def test_verbose_lists_what_was_up_to_date_or_skipped_too() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False, verbose=True) as console:
        console.total(3)
        console.finished("fetch:a", "hit", 0.0)
        console.finished("measure:b", "skipped", 0.0, "no qemu")
        console.started("compile:c")
        console.finished("compile:c", "cancelled", 0.0, "interrupted")
    assert stream.getvalue().splitlines()[:4] == [
        "[1/3] fetch a up to date",
        "[2/3] measure b skipped: no qemu",
        "[2/3] compile c started",
        "[3/3] compile c cancelled: interrupted",
    ]


def test_closing_twice_says_the_totals_once_in_a_fixed_order() -> None:
    stream = io.StringIO()
    console = Console(stream, interactive=False, clock=itertools.count(0.0, 30.0).__next__)
    console.finished("a", "hit", 0.0)
    console.finished("b", "cancelled", 0.0)
    console.finished("c", "run", 1.0)
    console.close()
    console.close()
    assert stream.getvalue().splitlines()[1:] == ["3 jobs: 1 run, 1 cancelled, 1 up to date, in 30.0 s"]


def test_a_terminal_shows_running_jobs_and_leaves_only_what_ended(terminal: tuple[int, io.TextIOWrapper]) -> None:
    master, stream = terminal
    console = Console(stream, clock=lambda: 0.0)
    assert console.interactive
    console.total(3)
    console.started("compile:one")
    console.started("compile:two")
    screen = Screen(everything(master))
    assert screen.lines[0] == "[0/3] 2 running, 0.0 s"
    assert screen.lines[1:] == ["  compile one 0.0 s", "  compile two 0.0 s", ""]
    console.finished("compile:one", "run", 2.0)
    console.line("something to know")
    console.finished("compile:two", "failed", 2.0, "wrong")
    console.close()
    # What came before is replayed by a fresh terminal, so the block that is erased was drawn there, too.
    assert Screen("x\nx\nx\n" + everything(master)).lines == [
        "[1/3] compile one run 2.0 s",
        "something to know",
        "[2/3] compile two failed 2.0 s: wrong",
        "2 jobs: 1 run, 1 failed, in 0.0 s",
        "",
    ]


def test_the_block_is_redrawn_while_nothing_ends(terminal: tuple[int, io.TextIOWrapper]) -> None:
    master, stream = terminal
    with Console(stream) as console:
        console.started("compile:slow")
        output = ""
        until = time.monotonic() + 10
        while output.count("compile slow") < 3 and time.monotonic() < until:
            output += everything(master)
        assert re.fullmatch(r"  compile slow [1-9]\d*\.\d s", Screen(output).lines[-2])


def test_a_line_of_the_block_never_wraps_and_many_jobs_are_counted(terminal: tuple[int, io.TextIOWrapper]) -> None:
    master, stream = terminal
    with Console(stream) as console:
        for number in range(20):
            console.started(f"compile:{number}" + "x" * 300)
        screen = Screen(everything(master))
        assert max(map(len, screen.lines)) == 79
        assert screen.lines[-2] == "  and 12 more"
        assert len(screen.lines) == 11


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CI", "1"), ("TERM", "dumb")])
def test_a_terminal_in_ci_or_a_dumb_one_gets_plain_lines(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    master, stream = terminal
    with Console(stream) as console:
        console.started("compile:a")
        console.finished("compile:a", "run", 1.0)
    assert "\x1b" not in everything(master)


def test_no_color_takes_the_colours_away_and_leaves_the_block(
    terminal: tuple[int, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, stream = terminal
    with Console(stream) as console:
        console.finished("compile:a", "failed", 1.0)
    assert "\x1b[31;1mfailed\x1b[0m" in everything(master)
    monkeypatch.setenv("NO_COLOR", "1")
    with Console(stream) as console:
        console.started("compile:a")
        console.finished("compile:a", "failed", 1.0)
    output = everything(master)
    assert "[0] 1 running" in output
    assert not re.search(r"\x1b\[[\d;]*m", output)


@pytest.mark.parametrize("interactive", [False, True])
def test_lines_of_many_threads_never_mix(interactive: bool, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    # Threads that change places all the time find a missing lock; with the usual 5 ms they hardly ever do.
    request.addfinalizer(functools.partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    path = tmp_path / "log"
    with path.open("w", encoding="utf-8") as stream, Console(stream, interactive) as console:
        console.total(400)

        def work(thread: int) -> None:
            for number in range(50):
                job = f"compile:thread{thread}-{number}-" + "y" * thread
                console.started(job)
                console.finished(job, "run", 1.0)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = Screen(path.read_bytes().decode()).lines
    assert len(lines) == 402
    matches = [re.fullmatch(r"\[ *(\d+)/400\] compile thread(\d)-\d+-(y*) run 1\.0 s", line) for line in lines[:400]]
    assert [int(match[1]) for match in matches if match] == list(range(1, 401))
    assert all(match and len(match[3]) == int(match[2]) for match in matches)


def test_a_reader_that_goes_away_does_not_stop_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", encoding="utf-8", buffering=1)
    with Console(stream, interactive=False) as console:
        console.line("nobody reads this")
        console.finished("compile:a", "run", 1.0)
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_characters_that_the_stream_cannot_show_are_replaced() -> None:
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding="ascii")
    Console(stream, interactive=False).line("café")
    assert data.getvalue() == b"caf?\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
