"""The frames in which a container engine sends standard output and standard error over one connection.

A byte that says which stream, three zeros, four bytes of length, the content; see "attach" in the Docker Engine API.
"""

from __future__ import annotations

from collections.abc import Iterator

_HEAD = 8


class Frames:
    """Takes bytes as they come and gives back whole frames."""

    OUTPUT = 1
    ERRORS = 2

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield stream and content of each frame that is whole with these bytes."""
        self._rest += chunk
        while len(self._rest) >= _HEAD:
            end = _HEAD + int.from_bytes(self._rest[4:_HEAD], "big")
            if len(self._rest) < end:
                return
            frame, self._rest = self._rest[:end], self._rest[end:]
            yield frame[0], frame[_HEAD:]
