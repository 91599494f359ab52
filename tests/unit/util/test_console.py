"""What a run shows, on a real pseudo-terminal and in a plain stream."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.util.console import Console
from crossfarm.util.progress import Expected, Progress, duration, roughly
from crossfarm.util.text import width
from tests.terminal_screen import Screen
from tests.waiting import wait_until


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


class Reader:
    """Reads a pseudo-terminal all the time: what writes there waits when nobody does."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.data = b""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self.master, 65536):
                self.data += piece


@pytest.fixture
def terminal(plain_environment: None) -> Iterator[tuple[Reader, io.TextIOWrapper]]:
    master, slave = pty.openpty()
    reader = Reader(master)
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        yield reader, stream
    reader.thread.join(5)
    os.close(master)


def everything(reader: Reader) -> str:
    before = -1
    while before != len(reader.data):
        before = len(reader.data)
        time.sleep(0.05)
    data, reader.data = reader.data, b""
    return data.decode()


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


def resize(reader: Reader, columns: int, rows: int) -> None:
    fcntl.ioctl(reader.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_a_terminal_shows_running_jobs_and_leaves_only_what_ended(terminal: tuple[Reader, io.TextIOWrapper]) -> None:
    master, stream = terminal
    screen = Screen()
    console = Console(stream, clock=lambda: 0.0)
    assert console.interactive
    console.total(3)
    console.started("compile:one")
    console.started("compile:two")
    screen.feed(everything(master))
    assert re.fullmatch(r"\[0/3\] ━{20} 2 running, 0\.0 s", screen.lines[0])
    assert screen.lines[1:] == ["  compile one 0.0 s", "  compile two 0.0 s"]
    console.finished("compile:one", "run", 2.0)
    console.line("something to know")
    console.finished("compile:two", "failed", 2.0, "wrong")
    console.close()
    screen.feed(everything(master))
    assert screen.lines == [
        "[1/3] compile one run 2.0 s",
        "something to know",
        "[2/3] compile two failed 2.0 s: wrong",
        "2 jobs: 1 run, 1 failed, in 0.0 s",
        "",
    ]
    assert screen.is_cursor_visible
    assert screen.column == 0


def test_the_block_says_what_is_done_what_failed_and_how_long_the_rest_takes(
    terminal: tuple[Reader, io.TextIOWrapper],
) -> None:
    master, stream = terminal
    resize(master, 100, 24)
    screen, now = Screen(100), [0.0]
    console = Console(stream, clock=lambda: now[0])
    console.total(20, Expected(measured={f"compile:m{number}": 60.0 for number in range(10)}, slots=2))
    for number in range(10):
        console.finished(f"prepare:m{number}", "hit", 0.0)
    console.started("compile:m0")
    console.started("compile:m1")
    now[0] = 61.0
    console.finished("compile:m0", "failed", 61.0, "wrong")
    screen.feed(everything(master))
    assert "[11/20] ━━━" in screen.lines[-2]
    assert screen.lines[-2].endswith(" 1 running, 10 up to date, 1 failed, 1 min 01 s, about 4 min left")
    assert screen.lines[-1] == "  compile m1 1 min 01 s of about 1 min"
    console.close()


def test_the_block_is_redrawn_while_nothing_ends(terminal: tuple[Reader, io.TextIOWrapper]) -> None:
    master, stream = terminal
    with Console(stream) as console:
        console.started("compile:slow")
        output = ""
        until = time.monotonic() + 10
        while output.count("compile slow") < 4 and time.monotonic() < until:
            output += everything(master)
        screen = Screen()
        screen.feed(output)
        assert re.fullmatch(r"  compile slow [1-9]\d*\.\d s", screen.lines[-1])


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (100, 30), (40, 24), (20, 6)])
def test_a_line_of_the_block_never_wraps_and_many_jobs_are_counted(
    terminal: tuple[Reader, io.TextIOWrapper], columns: int, rows: int
) -> None:
    master, stream = terminal
    resize(master, columns, rows)
    screen = Screen(columns, rows)
    shown = min(8, rows - 3)
    with Console(stream) as console:
        for number in range(20):
            console.started(f"compile:{number}" + "模" * 300)
        screen.feed(everything(master))
        assert not screen.wrapped
        assert max(map(width, screen.lines)) <= columns - 1
        assert screen.lines[-1] == f"  and {20 - shown} more"
        assert len(screen.lines) == shown + 2


def test_a_terminal_that_is_resized_gets_a_block_that_fits(terminal: tuple[Reader, io.TextIOWrapper]) -> None:
    master, stream = terminal
    resize(master, 100, 24)
    screen = Screen(100)
    with Console(stream) as console:
        console.total(4)
        for number in range(3):
            console.started(f"compile:x86_64-{'m' * 70}{number}-float32")
        screen.feed(everything(master))
        for columns in (50, 80, 120):
            resize(master, columns, 24)
            screen.resize(columns, 24)
            console.line(f"{columns} columns")
            screen.feed(everything(master))
            assert not screen.wrapped
            assert max(map(width, screen.lines)) < columns
    screen.feed(everything(master))
    assert screen.lines == ["50 columns", "80 columns", "120 columns", ""]


def test_control_sequences_in_names_and_causes_do_nothing(terminal: tuple[Reader, io.TextIOWrapper]) -> None:
    master, stream = terminal
    screen = Screen()
    nasty = "compile:a\x1b[2J\x1b]0;title\x07\x9b5A\r\x08b [red]c[/red] :smile:"
    with Console(stream, clock=lambda: 0.0) as console:
        console.started(nasty)
        screen.feed(everything(master))
        assert screen.lines[-1] == "  compile a b [red]c[/red] :smile: 0.0 s"
        console.finished(nasty, "failed", 1.0, "no\x1b[1A such\nthing")
    screen.feed(everything(master))
    assert screen.lines[0] == "[1] compile a b [red]c[/red] :smile: failed 1.0 s: no such thing"


def test_without_rich_a_terminal_gets_plain_lines(
    terminal: tuple[Reader, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "crossfarm.util.live_block", None)
    master, stream = terminal
    with Console(stream, clock=lambda: 0.0) as console:
        console.started("compile:a")
        console.finished("compile:a", "run", 1.0)
    assert everything(master).replace("\x1b[32m", "").replace("\x1b[0m", "") == (
        "[1] compile a run 1.0 s\r\n1 job: 1 run, in 0.0 s\r\n"
    )


def test_rich_is_imported_when_a_job_starts_on_a_terminal_and_not_before() -> None:
    code = """
import io, sys
from crossfarm.util.console import Console
class Terminal(io.StringIO):
    def isatty(self): return True
for stream, jobs in ((io.StringIO(), True), (Terminal(), False), (Terminal(), True)):
    with Console(stream) as console:
        console.finished("prepare:a", "hit", 0.0)
        if jobs:
            console.started("compile:a")
    print("rich" in sys.modules, file=sys.__stdout__)
"""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TERM")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["False", "False", "True"]


def test_every_minute_a_plain_stream_is_told_what_still_runs() -> None:
    stream, now = io.StringIO(), [0.0]
    with Console(stream, interactive=False, clock=lambda: now[0], minute=0.01) as console:
        console.total(9)
        for number in range(5):
            console.started(f"bundle:x86_64-m{number}-float32")
        now[0] = 60.0
        wait_until(lambda: "1 min" in stream.getvalue())
    line = next(line for line in stream.getvalue().splitlines() if "1 min" in line)
    jobs = ", ".join(f"bundle x86_64-m{number}-float32 1 min 00 s" for number in range(3))
    assert line == f"[0/9] still running: {jobs} and 2 more"


def test_quiet_is_not_told_what_still_runs() -> None:
    stream = io.StringIO()
    with Console(stream, interactive=False, quiet=True, minute=0.001) as console:
        console.started("bundle:a")
        assert not [thread for thread in threading.enumerate() if thread.name == "console"]
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("name", "value"), [("CI", "true"), ("CI", "1"), ("TERM", "dumb")])
def test_a_terminal_in_ci_or_a_dumb_one_gets_plain_lines(
    terminal: tuple[Reader, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    master, stream = terminal
    with Console(stream) as console:
        console.started("compile:a")
        console.finished("compile:a", "run", 1.0)
    assert "\x1b" not in everything(master)


def test_no_color_takes_the_colours_away_and_leaves_the_block(
    terminal: tuple[Reader, io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, stream = terminal
    with Console(stream) as console:
        console.finished("compile:a", "failed", 1.0)
    assert re.search(r"\x1b\[(31;1|1;31)mfailed\x1b\[0m", everything(master))
    monkeypatch.setenv("NO_COLOR", "1")
    with Console(stream) as console:
        console.started("compile:a")
        console.finished("compile:a", "failed", 1.0)
    output = everything(master)
    assert "[0] 1 running" in output
    assert not re.search(r"\x1b\[[\d;]*m", output)


@pytest.mark.parametrize(
    ("variables", "is_coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "CI": "1"}, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "", "NO_COLOR": ""}, False),
    ],
)
def test_force_color_brings_colours_where_nobody_sits(
    plain_environment: None, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_coloured: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    Console(stream).finished("compile:a", "failed", 1.0)
    assert ("\x1b[31;1mfailed\x1b[0m" in stream.getvalue()) == is_coloured


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
    screen = Screen()
    screen.feed(path.read_bytes().decode())
    lines = screen.lines
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (3.6, "4 s"), (14, "10 s"), (47, "50 s"), (56, "1 min"), (3500, "58 min"), (4000, "1 h 10 min")],
)
def test_an_estimate_is_said_roughly(seconds: float, text: str) -> None:
    assert roughly(seconds) == text


def test_what_is_left_is_shared_between_the_slots_and_no_less_than_the_longest_job() -> None:
    progress = Progress(0.0)
    assert progress.frame(0.0).left is None
    progress.expect(4, Expected(measured={"b": 20.0}, guessed={"a": 10.0, "b": 99.0, "c": 90.0}, slots=2))
    assert progress.frame(0.0).left == 90.0
    progress.started("c", 0.0)
    progress.started("a", 0.0)
    assert progress.frame(70.0).left == (20.0 + 20.0 + 17.5) / 2
    assert progress.frame(200.0).left == (50.0 + 50.0 + 20.0) / 2
    assert [job.usual for job in progress.frame(70.0).running] == [None, None]
    for job in "abc":
        progress.finished(job, "run")
    assert progress.frame(300.0).left is None
