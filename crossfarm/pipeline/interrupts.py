"""Interrupts: what Ctrl-C, TERM and a closed terminal do while a run goes on.

Before anything has begun they stop the program at once. Later they are held: whoever subscribed is told once, stops in
good order and writes the reports, and a second Ctrl-C meanwhile cannot tear what is being written.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Takes over INT, TERM and HUP for a block of the main thread; signals that were ignored stay ignored."""

    def __init__(self) -> None:
        self.asked = False
        """Whether the user asked to stop."""
        self._is_held = False
        self._subscriber: Callable[[], object] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def hold(self) -> None:
        """From now on raise nothing: remember that the user asked, and tell the subscriber."""
        self._is_held = True

    @contextlib.contextmanager
    def told_to(self, subscriber: Callable[[], object]) -> Iterator[None]:
        """Call `subscriber` once when the user asks to stop, or has asked already.

        It is called between any two instructions of the main thread, so it may do little: put something into a
        SimpleQueue, set an Event.
        """
        self._subscriber = subscriber
        if self.asked:
            subscriber()
        try:
            yield
        finally:
            self._subscriber = None

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked = True
        if not self._is_held:
            raise KeyboardInterrupt
        if self._subscriber is not None:
            self._subscriber()
