"""Which commands of the other engine must have ended before a command may begin, of the words that both touch."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence


class Space(enum.Enum):
    """Where words lie."""

    MEMORY = "memory"
    FEATURES = "features"
    WEIGHTS = "weights"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
    """Neighbouring words."""

    space: Space
    start: int
    words: int

    def touches(self, other: Span) -> bool:
        """Return whether a word is of both."""
        return (
            self.space is other.space
            and self.start < other.start + other.words
            and other.start < self.start + self.words
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """What a command reads and writes; a barrier waits for everything, and everything for it."""

    reads: Sequence[Span] = ()
    writes: Sequence[Span] = ()
    is_barrier: bool = False

    def conflicts(self, other: Access) -> bool:
        """Return whether the two may not change places."""
        if self.is_barrier or other.is_barrier:
            return True
        written = any(span.touches(mine) for mine in self.writes for span in (*other.reads, *other.writes))
        return written or any(span.touches(mine) for mine in self.reads for span in other.writes)


class Hazards:
    """The commands of both engines so far."""

    def __init__(self) -> None:
        """Begin with none."""
        self._issued: dict[bool, list[Access]] = {True: [], False: []}
        self._waited = {True: 0, False: 0}

    def issue(self, access: Access, *, is_memory: bool) -> int:
        """Add a command, and return how many of the other engine's it waits for.

        Commands of one engine run in their order, so that one waits for no less than the one before it did.
        """
        others = self._issued[not is_memory]
        known = self._waited[is_memory]
        for index in range(len(others) - 1, known - 1, -1):
            if access.conflicts(others[index]):
                known = index + 1
                break
        self._waited[is_memory] = known
        self._issued[is_memory].append(access)
        return known
