"""A socket with a limit on the bytes that it reads, so that a board cannot fill the memory of this host.

An ssh library takes what a server sends: a packet of 4 GiB, a banner without an end, more than the window of a channel.
Every request states how many bytes it can take, and the connection ends with the first one above.
"""

from __future__ import annotations

import socket
from typing import Any

_OVERHEAD = 1 << 20
"""Bytes for what ssh itself says during a request: key exchange, acknowledgements, answers to keepalives."""


class Allowance:
    """How many bytes may still come over one connection.

    Attributes:
        is_overdrawn: whether more came; nothing is read from then on.
    """

    def __init__(self) -> None:
        self.is_overdrawn = False
        self._left = _OVERHEAD

    def renew(self, expected: int) -> None:
        """Allow `expected` bytes of content, and what ssh adds to them, from now on."""
        self._left = expected + (expected >> 3) + _OVERHEAD

    def take(self, count: int) -> None:
        """Count bytes that came.

        Raises:
            EOFError: they were more than was allowed.
        """
        self._left -= count
        if self._left < 0 or self.is_overdrawn:
            self.is_overdrawn = True
            raise EOFError("more was sent than was asked for")


class BoundedSocket:
    """A socket as paramiko uses one, which takes what it reads out of an allowance."""

    def __init__(self, plain: socket.socket, allowance: Allowance) -> None:
        self._plain, self._allowance = plain, allowance

    def recv(self, count: int) -> bytes:
        """Read up to `count` bytes, but never more at once than 64 KiB.

        Raises:
            EOFError: more came than was allowed.
            OSError: the connection broke, or nothing came in time.
        """
        data = self._plain.recv(min(count, 1 << 16))
        self._allowance.take(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)
