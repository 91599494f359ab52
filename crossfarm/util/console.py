"""What a run shows while it goes on: a block of running jobs on a terminal, plain lines elsewhere.

On a terminal the running jobs stand in a block at the bottom that is redrawn, and what has ended scrolls away above it.
In a log file or in CI each ended job is one line, and every minute one more tells what still runs. Jobs that the store
had are counted, not listed. All methods may be called from any thread, though not from a signal handler: what goes out
together is one write under one lock, so that lines never mix. All that it is given is cleaned; control sequences are
its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from crossfarm.util.progress import ENDED, Expected, Progress, duration, spoken
from crossfarm.util.terminal import has_colour, is_interactive
from crossfarm.util.text import clean, count, one_line, write

if TYPE_CHECKING:
    from crossfarm.results import JobState
    from crossfarm.util.live_block import LiveBlock

_COLOURS: dict[JobState, str] = {
    "run": "32",
    "failed": "31;1",
    "known failure": "33",
    "skipped": "33",
    "cancelled": "33",
    "hit": "2",
}
_LISTED: frozenset[JobState] = frozenset({"run", "failed", "known failure"})
_SECONDS_BETWEEN_DRAWINGS = 0.5
_MOST_JOBS_IN_A_LINE = 3
_LONGEST_CAUSE = 4000
"""Characters; that of a job which several boards failed holds what each of them said."""


class Console:
    """Progress of one run on one stream.

    Args:
        stream: where to write, usually `sys.stderr` or `sys.stdout`.
        interactive: whether the block of running jobs is drawn; None asks the stream and the environment (a terminal
            that is not dumb, and no `CI`). Without rich, which draws it, there are plain lines.
        quiet: show nothing but failures and what `line` is given.
        verbose: list the jobs that were up to date, skipped or cancelled as well, and when each one starts.
        clock: seconds that only grow.
        minute: seconds between two plain lines about what still runs.

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
        minute: float = 60.0,
    ) -> None:
        self._stream = stream
        self.interactive = is_interactive(stream) if interactive is None else interactive
        self.colour = has_colour(stream)
        self._quiet = quiet
        self._verbose = verbose
        self._clock = clock
        self._minute = minute
        self._progress = Progress(clock())
        self._lock = threading.Lock()
        self._block: LiveBlock | None = None
        self._closed = False
        self._broken = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def line(self, text: str) -> None:
        """Show `text`, one or more whole lines, above the running jobs."""
        with self._lock:
            self._write(clean(text).rstrip("\n") + "\n")

    def total(self, n: int, expected: Expected | None = None) -> None:
        """Say how many jobs the run has, and what is known about those that will run."""
        with self._lock:
            self._progress.expect(n, expected or Expected())

    def started(self, job_id: str) -> None:
        """Say that a job began to run."""
        with self._lock:
            self._progress.started(job_id, self._clock())
            if not self._quiet and not self._closed and self._ticker is None:
                self._begin_to_tick()
            self._write(f"{self._progress.counter} {spoken(job_id)} started\n" if self._verbose else "")

    def finished(self, job_id: str, state: JobState, seconds: float, cause: str | None = None) -> None:
        """Say how a job ended: `cause` is one line that says why it failed, or was skipped or cancelled."""
        with self._lock:
            self._progress.finished(job_id, state)
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
            self._progress.stop()
            if self._block is not None:
                self._block.close()
                self._block = None
            self._write("" if self._quiet or not self._progress.counts else self._totals() + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _totals(self) -> str:
        counts = self._progress.counts
        total = counts.total()
        if counts["hit"] == total:
            return f"{count(total, 'job')} up to date"
        parts = ", ".join(f"{counts[state]} {word}" for state, word in ENDED.items() if counts[state])
        return f"{count(total, 'job')}: {parts}, in {duration(self._progress.seconds(self._clock()))}"

    def _ended_line(self, job_id: str, state: JobState, seconds: float, cause: str | None) -> str:
        ended = f"\x1b[{_COLOURS[state]}m{ENDED[state]}\x1b[0m" if self.colour else ENDED[state]
        took = f" {duration(seconds)}" if state in _LISTED else ""
        why = f": {one_line(cause, _LONGEST_CAUSE)}" if cause else ""
        return f"{self._progress.counter} {spoken(job_id)} {ended}{took}{why}\n"

    def _begin_to_tick(self) -> None:
        """Draw the block from now on, or tell every minute what runs; the caller holds the lock."""
        if self.interactive:
            try:
                from crossfarm.util.live_block import LiveBlock
            except ImportError:
                self.interactive = False
            else:
                self._block = LiveBlock(self._stream, colour=self.colour)
        self._ticker = threading.Thread(target=self._tick_until_closed, name="console", daemon=True)
        self._ticker.start()

    def _tick_until_closed(self) -> None:
        while not self._stop.wait(_SECONDS_BETWEEN_DRAWINGS if self.interactive else self._minute):
            with self._lock:
                self._write("" if self.interactive else self._still_running())

    def _still_running(self) -> str:
        frame = self._progress.frame(self._clock())
        if not frame.running:
            return ""
        jobs = [f"{spoken(job.job)} {duration(job.seconds)}" for job in frame.running[:_MOST_JOBS_IN_A_LINE]]
        more = len(frame.running) - len(jobs)
        return f"{frame.counter} still running: {', '.join(jobs)}{f' and {more} more' if more else ''}\n"

    def _write(self, text: str) -> None:
        """Write whole lines above the block, in one piece; the caller holds the lock."""
        if self._block is not None:
            self._block.show(self._progress.frame(self._clock()), text)
            return
        if self._broken or not text:
            return
        try:
            write(self._stream, text, is_clean=True)
            self._stream.flush()
        except (OSError, ValueError):
            self._broken = True
