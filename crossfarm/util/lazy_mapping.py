"""A mapping whose values are made when they are first asked for, because making them takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value")


class LazyMapping(Mapping[str, Value]):
    """Makes each value once."""

    def __init__(self, names: Sequence[str], make: Callable[[str], Value]) -> None:
        """Know the keys, in their order, and what makes the value of one; other keys are missing."""
        self._names = tuple(names)
        self._make = make
        self._made: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._made:
            if name not in self._names:
                raise KeyError(name)
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
