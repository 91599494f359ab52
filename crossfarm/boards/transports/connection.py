"""One ssh connection to one board: pinned host key, commands with timeouts, and keepalives that detect a dead board.

Nothing that a board sends is waited for, or kept, without end: every command has a deadline and a number of bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import select
import shlex
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from crossfarm.boards.transports.allowance import Allowance, BoundedSocket
from crossfarm.boards.transports.login import Login, explain_failure, logins, passphrase, pinned
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util.text import clean

if TYPE_CHECKING:
    import fabric
    import paramiko

Feed = Callable[[Callable[[bytes], None]], None]
"""Is given a function that sends bytes to a command's standard input, and calls it as often as it likes."""

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
"""In order of their speed here; GCM needs no second pass for authentication."""
_PACKET_BYTES = 32_000
_SLICE = 0.5
MOST_TEXT_BYTES = 1 << 20
"""Of an answer that is text."""
_MOST_SAID_BYTES = 1 << 20
"""Of a command's standard error; the end of it is kept."""
_KEPT_SAID_BYTES = 1 << 14


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a board is waited for, in seconds.

    Attributes:
        connect: for the connection, and again for the login.
        keepalive: between two questions whether it still lives.
        silence: without any sign of life, after which it is given up.
        answer: for what a board does in no time.
    """

    connect: float = 10.0
    keepalive: float = 4.0
    silence: float = 15.0
    answer: float = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommandResult:
    """How a command ended.

    Attributes:
        code: its exit code.
        output: all that it wrote to its standard output, at its start.
        said: the end of what it wrote to its standard error, cleaned.
    """

    code: int
    output: IO[bytes]
    said: str

    def text(self) -> str:
        """Return the standard output as clean text, and close it."""
        with self.output as stream:
            return clean(stream.read().decode("utf-8", errors="replace"))


class Connection:
    """A connection to a board, open inside of `with`."""

    def __init__(self, board: Board, *, timeouts: Timeouts | None = None) -> None:
        self._board = board
        self._timeouts = timeouts or Timeouts()
        self._fabric: fabric.Connection | None = None
        self._jump: fabric.Connection | None = None
        self._closing = threading.Event()
        self._last_sign = 0.0
        self._allowance = Allowance()
        self._transport_made: paramiko.Transport | None = None
        self._is_overdue = False
        self.commands = 0
        """How many commands were sent."""

    def __enter__(self) -> Connection:
        """Connect and log in.

        Raises:
            BoardError: the board or its jump host does not answer, has another host key than the pinned one, or refuses
                the user's key.
        """
        import paramiko

        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # its threads log tracebacks of what is raised here
        login, jump = logins(self._board)
        try:
            with self._given_up_after((6 if jump else 3) * self._timeouts.connect):
                way = None
                if jump is not None:
                    with explain_failure(jump):
                        self._jump = self._opened(jump, None)
                    with explain_failure(login, jump):
                        way = self._jump.transport.open_channel(
                            "direct-tcpip", (login.address, login.port), ("", 0), timeout=self._timeouts.connect
                        )
                with explain_failure(login):
                    self._fabric = self._opened(login, way)
        except (BoardError, paramiko.SSHException):
            self._close()
            raise
        self._last_sign = time.monotonic()
        threading.Thread(target=self._send_keepalives, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._closing.set()
        self._close()

    def _opened(self, login: Login, way: paramiko.Channel | None) -> fabric.Connection:
        """Return a connection that is logged in.

        Args:
            login: where and how.
            way: through a jump host; None for a connection of its own.
        """
        import fabric

        made = fabric.Connection(
            login.address,
            user=login.user,
            port=login.port,
            config=fabric.Config(overrides={"load_ssh_configs": False}),
            connect_timeout=self._timeouts.connect,
            connect_kwargs={
                "key_filename": [login.key] if login.key else [],
                "passphrase": passphrase(login),
                "allow_agent": login.agent,
                "look_for_keys": False,
                "banner_timeout": self._timeouts.connect,
                "auth_timeout": self._timeouts.connect,
                "transport_factory": functools.partial(self._transport, login),
                "sock": way,
            },
        )
        made.client.set_missing_host_key_policy(pinned(login))
        try:
            made.open()
        except BaseException:
            made.client.close()  # fabric closes what is connected alone, and an agent may be
            raise
        return made

    def _close(self) -> None:
        for each in (self._fabric, self._jump):
            if each is not None:
                with contextlib.suppress(Exception):  # a broken connection is as closed as it gets
                    each.close()

    def execute(
        self, arguments: Sequence[str], *, timeout: float, most: int = MOST_TEXT_BYTES, feed: Feed | None = None
    ) -> CommandResult:
        """Run a command on the board.

        Args:
            arguments: the program and its arguments; each is quoted for the shell.
            timeout: seconds, after which it is given up. It is not ended by that: `arguments` shall see to that.
            most: bytes of its standard output; a board that sends more is given up.
            feed: what goes to its standard input.

        Raises:
            BoardError: the board died, the network is cut, the time is over, or it sends too much.
        """
        deadline = time.monotonic() + timeout
        self.commands += 1
        self._allowance.renew(most + _MOST_SAID_BYTES)
        # The ssh library waits for some answers without a deadline, such as the one to the request itself.
        with self._explain_broken_connection(), self._given_up_after(timeout + 2 * _SLICE):
            transport = self._live_transport()
            channel = transport.open_session(timeout=self._timeouts.silence)
            try:
                channel.settimeout(_SLICE)
                channel.exec_command(shlex.join(arguments))
                if feed is not None:
                    feed(lambda data: self._send(channel, data, deadline))
                if not channel.closed:
                    channel.shutdown_write()
                return self._answer(channel, deadline, most)
            finally:
                channel.close()

    def _answer(self, channel: paramiko.Channel, deadline: float, most: int) -> CommandResult:
        output = tempfile.SpooledTemporaryFile(max_size=1 << 24)  # noqa: SIM115 - the caller reads and closes it
        try:
            said = self._receive(channel, deadline, output, most)
            if channel.exit_status < 0:
                self._live_transport()
                raise BoardError(f"board {self._board.name}: a command was killed there ({said}); look at its memory")
            output.seek(0)
        except BaseException:
            output.close()
            raise
        return CommandResult(code=channel.exit_status, output=output, said=said)

    def _send(self, channel: paramiko.Channel, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            self._check(deadline)
            try:
                sent = channel.send(rest[:_PACKET_BYTES])
            except TimeoutError:
                continue
            except OSError:
                # The command has ended without reading all; its exit code says why. Or the connection has.
                self._live_transport()
                return
            self._last_sign = time.monotonic()
            rest = rest[sent:]

    def _receive(self, channel: paramiko.Channel, deadline: float, output: IO[bytes], most: int) -> str:
        """Write a command's standard output into `output` until it has ended; returns what it said beside that."""
        ready = select.poll()
        ready.register(channel, select.POLLIN)
        said, written, complained = b"", 0, 0
        while True:
            # What is asked for before the buffers are looked at cannot come in between.
            is_whole = channel.eof_received or channel.closed
            is_over = is_whole and channel.status_event.is_set()
            if not is_over:
                self._check(deadline)
            data = channel.recv(1 << 18) if channel.recv_ready() else b""
            words = channel.recv_stderr(1 << 16) if channel.recv_stderr_ready() else b""
            if data or words:
                self._last_sign = time.monotonic()
                written, complained = written + len(data), complained + len(words)
                if written > most or complained > _MOST_SAID_BYTES:
                    raise self._talkative()
                output.write(data)
                said = (said + words)[-_KEPT_SAID_BYTES:]
            elif is_over:
                return clean(said.decode("utf-8", errors="replace")).strip()
            elif is_whole:
                channel.status_event.wait(_SLICE)
            else:
                ready.poll(_SLICE * 1000)

    def _check(self, deadline: float) -> None:
        now = time.monotonic()
        silent = now - self._last_sign
        if silent > self._timeouts.silence:
            raise BoardError(
                f"board {self._board.name} does not answer for {silent:.0f} s: it died, or the network is cut; see "
                "that it is on and reachable"
            )
        self._live_transport()
        if now > deadline:
            raise self._overdue()

    def _live_transport(self) -> paramiko.Transport:
        transport = self._fabric.transport if self._fabric is not None else None
        if transport is None or not transport.is_active():
            raise self._lost()
        return transport

    @property
    def _or_jump_host(self) -> str:
        via = self._board.via
        return "" if via is None else f", or its jump host {via.address},"

    def _overdue(self) -> BoardError:
        return BoardError(f"board {self._board.name} answers, but did not finish in time; look at its load and disk")

    def _talkative(self) -> BoardError:
        return BoardError(
            f"board {self._board.name} sends more than it was asked for, so it was not listened to any longer; look at "
            "what answers there"
        )

    @contextlib.contextmanager
    def _given_up_after(self, seconds: float) -> Iterator[None]:
        """Break the connection when what is done meanwhile takes longer."""

        def give_up() -> None:
            self._is_overdue = True
            if self._transport_made is not None:
                self._transport_made.close()

        guard = threading.Timer(seconds, give_up)
        guard.daemon = True
        guard.start()
        try:
            yield
        finally:
            guard.cancel()

    def _lost(self) -> BoardError:
        if self._allowance.is_overdrawn:
            return self._talkative()
        if self._is_overdue:
            return self._overdue()
        return BoardError(
            f"board {self._board.name}: the connection broke: it{self._or_jump_host} died, was restarted, or the "
            "network is cut; see that it is on and reachable"
        )

    @contextlib.contextmanager
    def _explain_broken_connection(self) -> Iterator[None]:
        import paramiko

        try:
            yield
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._lost() from error

    def _send_keepalives(self) -> None:
        """Ask again and again whether the board lives; TCP alone would not tell for a quarter of an hour."""
        while not self._closing.wait(self._timeouts.keepalive):
            transport = self._fabric.transport if self._fabric is not None else None
            if transport is None or not transport.is_active():
                return
            # Every server answers, if only that it does not know the question; this call waits for that.
            with contextlib.suppress(Exception):
                transport.global_request("keepalive@openssh.com", wait=True)
                if transport.is_active():
                    self._last_sign = time.monotonic()

    def _transport(self, login: Login, sock: socket.socket, **options: Any) -> paramiko.Transport:
        """Make paramiko's transport, with fast ciphers and the pinned key's type first."""
        import paramiko

        # What a jump host passes on is counted once, behind it.
        bounded = BoundedSocket(sock, self._allowance) if login.is_board else sock
        transport = paramiko.Transport(bounded, **options)
        self._transport_made = transport
        # Else each small message waits until the board has acknowledged the one before, which it puts off by 40 ms.
        with contextlib.suppress(AttributeError, OSError):  # what is not TCP has no such wait
            transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        security = transport.get_security_options()
        security.ciphers = tuple(name for name in _CIPHERS if name in security.ciphers)
        kind = login.host_key.split()[0]
        wanted = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
        offered = tuple(security.key_types)
        security.key_types = sorted(offered, key=lambda name: name not in wanted)
        return transport
