"""Looks at what a running job has written, as often as that is cheap."""

from __future__ import annotations

import time
from collections.abc import Callable

from crossfarm.errors import OutputError

LOOK_SECONDS = 0.3
"""How long is waited between two looks at least."""
_SHARE = 20
"""After a look at a large output comes a pause as many times as long: looking takes a twentieth of a processor."""


class OutputWatch:
    """Looks at the output of one job."""

    def __init__(self, look: Callable[[], str | None]) -> None:
        """Begin.

        Args:
            look: says in what the output is more than it may be, None when it is not.
        """
        self._look = look
        self._next = time.monotonic() + LOOK_SECONDS

    def look(self) -> None:
        """Look if it is time to.

        Raises:
            OutputError: the output is more than it may be; the job is to be ended.
        """
        started = time.monotonic()
        if started < self._next:
            return
        told = self._look()
        ended = time.monotonic()
        self._next = ended + max(LOOK_SECONDS, _SHARE * (ended - started))
        if told:
            raise OutputError(f"{told}; the job was ended")
