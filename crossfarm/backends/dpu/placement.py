"""Where tensors lie in the feature banks while the layers that use them run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Neighbouring words of the feature banks."""

    address: int
    words: int


class FeatureBanks:
    """Words that are taken, by the name of what lies there."""

    def __init__(self, words: int, taken: Mapping[str, Place] | None = None) -> None:
        """Begin with what lies there already.

        Args:
            words: of the banks.
            taken: name -> place.
        """
        self.words = words
        self.taken = dict(taken or {})

    def without(self, names: Iterable[str]) -> FeatureBanks:
        """Return a copy in which these names lie no longer."""
        gone = set(names)
        return FeatureBanks(self.words, {name: place for name, place in self.taken.items() if name not in gone})

    def take(self, name: str, words: int) -> Place | None:
        """Find room; None where there is no gap of that size.

        What comes next is put as far from what lies there as it goes, so that tensors take turns at both ends.
        """
        gaps = [gap for gap in self._gaps() if gap[1] - gap[0] >= words]
        if not gaps or name in self.taken:
            return None
        start, end = gaps[0]
        at_the_end = end == self.words and any(place.address == 0 for place in self.taken.values())
        place = Place(address=end - words if at_the_end else start, words=words)
        self.taken[name] = place
        return place

    def _gaps(self) -> list[tuple[int, int]]:
        gaps, end = [], 0
        for place in sorted(self.taken.values(), key=lambda each: each.address):
            if place.address > end:
                gaps.append((end, place.address))
            end = max(end, place.address + place.words)
        if end < self.words:
            gaps.append((end, self.words))
        return gaps
