"""What a run shows while it goes on: one line per running job on a terminal, plain lines elsewhere.

On a terminal the running jobs stand in a block at the bottom that is redrawn, and what has ended scrolls away above it.
In a log file or in CI each ended job is one line. Jobs that the store had are counted, not listed. All methods may be
called from any thread, though not from a signal handler: what goes out together is one write under one lock, so that
lines never mix. All that it is given is cleaned; control sequences are its own.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from crossfarm.util.text import clean, one_line, write

if TYPE_CHECKING:
    from crossfarm.results import JobState

_COLOURS: dict[JobState, str] = {"run": "32", "failed": "31;1", "skipped": "33", "cancelled": "33", "hit": "2"}
_ENDED: dict[JobState, str] = {
    "run": "run",
    "failed": "failed",
    "skipped": "skipped",
    "cancelled": "cancelled",
    "hit": "up to date",
}
_LISTED: frozenset[JobState] = frozenset({"run", "failed"})
_SECONDS_BETWEEN_DRAWINGS = 0.5
_MOST_JOBS_SHOWN = 8
_LONGEST_CAUSE = 4000
"""Characters; that of a job which several boards failed holds what each of them said."""


def duration(seconds: float) -> str:
    """Return `seconds` as people say it: `0.3 s`, `4.1 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 59.95:  # what would round to 60.0 s is a minute
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Console:
    """Progress of one run on one stream.

    Args:
        stream: where to write, usually `sys.stderr` or `sys.stdout`.
        interactive: whether the block of running jobs is drawn; None asks the stream and the environment (a terminal
            that is not dumb, and no `CI`).
        quiet: show nothing but failures and what `line` is given.
        verbose: list the jobs that were up to date, skipped or cancelled as well, and when each one starts.
        clock: seconds that only grow.

    A stream that breaks (the reader of a pipe has gone) silences the console and never stops the run.
    """

    def __init__(
        self,
        stream: TextIO,
        interactive: bool | None = None,
        *,
        quiet: bool = False,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self.interactive = _is_terminal(stream) if interactive is None else interactive
        self.colour = self.interactive and not os.environ.get("NO_COLOR")
        self._quiet = quiet
        self._verbose = verbose
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._running: dict[str, float] = {}
        self._counts: collections.Counter[JobState] = collections.Counter()
        self._total = 0
        self._drawn = 0
        self._closed = False
        self._broken = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def line(self, text: str) -> None:
        """Show `text`, one or more whole lines, above the running jobs."""
        with self._lock:
            self._write(clean(text).rstrip("\n") + "\n")

    def total(self, n: int) -> None:
        """Say how many jobs the run has."""
        with self._lock:
            self._total = n

    def started(self, job_id: str) -> None:
        """Say that a job began to run."""
        with self._lock:
            self._running[job_id] = self._clock()
            self._write(f"{self._counter()} {_spoken(job_id)} started\n" if self._verbose else "")
            if self.interactive and not self._quiet and not self._closed and self._ticker is None:
                self._ticker = threading.Thread(target=self._redraw_until_closed, name="console", daemon=True)
                self._ticker.start()

    def finished(self, job_id: str, state: JobState, seconds: float, cause: str | None = None) -> None:
        """Say how a job ended: `cause` is one line that says why it failed, or was skipped or cancelled."""
        with self._lock:
            self._running.pop(job_id, None)
            self._counts[state] += 1
            # What is skipped behind a job that was is said once: the others took no time.
            is_listed = state in _LISTED or (state == "skipped" and seconds > 0)
            shown = state == "failed" or (not self._quiet and (is_listed or self._verbose))
            self._write(self._ended_line(job_id, state, seconds, cause) if shown else "")

    def close(self) -> None:
        """Take the running jobs off the screen and say in one line what became of all. A second call does nothing."""
        self._stop.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._running.clear()
            counts = "" if self._quiet or not self._counts else self._totals() + "\n"
            self._write(counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _totals(self) -> str:
        total = self._counts.total()
        if self._counts["hit"] == total:
            return f"{_jobs(total)} up to date"
        parts = ", ".join(f"{self._counts[state]} {word}" for state, word in _ENDED.items() if self._counts[state])
        return f"{_jobs(total)}: {parts}, in {duration(self._clock() - self._began)}"

    def _counter(self) -> str:
        done = self._counts.total()
        width = len(str(self._total))
        return f"[{done:>{width}}/{self._total}]" if self._total else f"[{done}]"

    def _ended_line(self, job_id: str, state: JobState, seconds: float, cause: str | None) -> str:
        ended = f"\x1b[{_COLOURS[state]}m{_ENDED[state]}\x1b[0m" if self.colour else _ENDED[state]
        took = f" {duration(seconds)}" if state in _LISTED else ""
        why = f": {one_line(cause, _LONGEST_CAUSE)}" if cause else ""
        return f"{self._counter()} {_spoken(job_id)} {ended}{took}{why}\n"

    def _redraw_until_closed(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_DRAWINGS):
            with self._lock:
                self._write("")

    def _block(self) -> list[str]:
        """Return the lines that stand below everything else: a headline and the jobs that run, oldest first."""
        if not self.interactive or self._quiet or self._closed or not self._running:
            return []
        now = self._clock()
        columns, rows = _size(self._stream)
        room = max(1, min(_MOST_JOBS_SHOWN, rows - 3))
        failed = f", {self._counts['failed']} failed" if self._counts["failed"] else ""
        lines = [f"{self._counter()} {len(self._running)} running{failed}, {duration(now - self._began)}"]
        running = list(self._running.items())
        lines += [f"  {_spoken(job_id)} {duration(now - since)}" for job_id, since in running[:room]]
        if len(running) > room:
            lines.append(f"  and {len(running) - room} more")
        # A line that wraps would be two on the screen, and the next redrawing would leave one of them behind.
        return [line[: max(1, columns - 1)] for line in lines]

    def _write(self, text: str) -> None:
        """Write whole lines above the block, in one piece; the caller holds the lock."""
        if self._broken:
            return
        erase = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        block = self._block()
        output = erase + text + "".join(line + "\n" for line in block)
        self._drawn = len(block)
        if not output:
            return
        try:
            write(self._stream, output, is_clean=True)
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True


def _is_terminal(stream: TextIO) -> bool:
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return stream.isatty() and not in_ci and os.environ.get("TERM") != "dumb"


def _size(stream: TextIO) -> os.terminal_size:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return os.terminal_size((80, 24))
    return size if size.columns and size.lines else os.terminal_size((80, 24))


def _spoken(job_id: str) -> str:
    return one_line(job_id).replace(":", " ", 1)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
