"""The block of running jobs at the bottom of a terminal, redrawn in place by rich.

Only a process at a terminal that has jobs to run imports this: rich takes longer to import than a run takes that finds
everything up to date.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crossfarm.util.progress import ENDED, Frame, Running, duration, roughly, spoken
from crossfarm.util.terminal import size_of
from crossfarm.util.text import write

_MOST_JOBS = 8
_BAR = 20
_LEAST_FOR_BAR = 72
"""Columns below which there is no room for a bar."""


class LiveBlock:
    """A block of lines that stays below all that is written above it.

    What goes out together is one write. The cursor stays visible, so that a terminal is as it was whatever ends the
    program. Not safe for threads: the caller holds a lock.

    Args:
        stream: a terminal; one that breaks is written to no more.
        colour: whether it shows colours.
    """

    def __init__(self, stream: IO[str], *, colour: bool) -> None:
        self._stream = stream
        self._console = _VisibleCursor(
            file=_Careful(stream),  # type: ignore[arg-type]
            force_terminal=True,
            force_interactive=True,
            force_jupyter=False,
            color_system="standard" if colour else None,
            no_color=not colour,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._block = _Block()
        self._live = Live(
            self._block,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def show(self, frame: Frame, above: str = "") -> None:
        """Write whole lines above the block, which may hold colours of ours, and draw it anew."""
        size = size_of(self._stream) or os.terminal_size((80, 24))
        # A line that fills the last column would wrap on some terminals, and the next drawing leave a part behind.
        self._console.size = (max(10, size.columns - 1), size.lines)
        self._block.frame = frame
        if not above:
            self._live.refresh()
        else:
            self._console.print(Text.from_ansi(above.removesuffix("\n")), soft_wrap=True)

    def close(self) -> None:
        """Take the block off the screen."""
        self._live.stop()


class _Block:
    """What rich draws: always the newest frame, whoever asks for it."""

    def __init__(self) -> None:
        self.frame: Frame | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.frame is not None:
            yield from _lines(self.frame, columns=options.max_width, rows=options.size.height)


class _VisibleCursor(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is: a program that is killed could not bring it back."""
        return False


class _Careful:
    """A stream that replaces what its encoding cannot hold, and is silent once it broke."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._is_broken = False
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        if not self._is_broken:
            try:
                write(self._stream, text, is_clean=True)
            except (OSError, ValueError):
                self._is_broken = True
        return len(text)

    def flush(self) -> None:
        if not self._is_broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._is_broken = True

    def isatty(self) -> bool:
        return True


def _lines(frame: Frame, *, columns: int, rows: int) -> Iterator[Text | Table]:
    yield _headline(frame, columns)
    room = max(1, min(_MOST_JOBS, rows - 3))
    for job in frame.running[:room]:
        yield _job(job, columns)
    if len(frame.running) > room:
        yield Text(f"  and {len(frame.running) - room} more", style="dim")


def _headline(frame: Frame, columns: int) -> Text | Table:
    failed = Text(f", {frame.counts['failed']} failed", style="bold red") if frame.counts.get("failed") else Text()
    kept = f", {frame.counts['hit']} {ENDED['hit']}" if frame.counts.get("hit") else ""
    left = "" if frame.left is None else f", about {roughly(frame.left)} left"
    words = Text.assemble(
        f"{len(frame.running)} running", kept, failed, f", {duration(frame.seconds)}", left, no_wrap=True
    )
    words.overflow = "ellipsis"
    counter = Text(frame.counter, no_wrap=True)
    if columns < _LEAST_FOR_BAR or not frame.total:
        return Text.assemble(counter, " ", words, no_wrap=True, overflow="ellipsis")
    words.truncate(columns - len(counter) - _BAR - 2, overflow="ellipsis")
    row = Table.grid(padding=(0, 1))
    for _ in range(3):
        row.add_column(no_wrap=True)
    row.add_row(counter, ProgressBar(total=frame.total, completed=frame.done, width=_BAR), words)
    return row


def _job(job: Running, columns: int) -> Text:
    usual = f" of about {roughly(job.usual)}" if job.usual else ""
    spent = f" {duration(job.seconds)}"
    name = Text(f"  {spoken(job.job)}")
    name.truncate(max(8, columns - len(spent) - len(usual)), overflow="ellipsis")
    return Text.assemble(name, (spent, "bold"), (usual, "dim"), no_wrap=True, overflow="crop")
