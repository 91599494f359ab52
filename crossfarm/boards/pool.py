"""The pool requests leases for the jobs of one run, refuses jobs that can get none, and probes boards that failed.

Nothing is connected to before the first job asks for a board, so a run that needs none pays nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from crossfarm.boards import labgrid
from crossfarm.boards.inventory import Inventory
from crossfarm.boards.leases.health import Health, after_failure
from crossfarm.config.boards import Board
from crossfarm.config.targets import Target
from crossfarm.errors import BoardError, BusyError, LeaseError

if TYPE_CHECKING:
    from crossfarm.boards.leases.leases import Lease, Leases

LOOK_SECONDS = 1.0
"""Between two checks whether a waiting job has no prospect of a board, and whether a board is due for a probe."""
PROBE_WAIT_SECONDS = 60.0
BUSY_SECONDS = 5.0
"""A labgrid place that somebody else holds is left alone for so long; each look at it starts labgrid's client."""
PROBE_END_SECONDS = 3.0
"""A probe that still runs at the end of a run is waited for this long; its lease then expires."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Granted:
    """A board for a job, as long as its lease lives."""

    board: Board
    lease: Lease


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused:
    """No board for a job, and why, in one line."""

    reason: str


PoolAnswer = Granted | Refused


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Busy:
    """Somebody else held a board's labgrid place; it is not asked for before `until` on the monotonic clock."""

    until: float
    reason: str


@dataclasses.dataclass(kw_only=True)
class _Ask:
    job: str
    boards: tuple[str, ...]
    callback: Callable[[PoolAnswer], None]
    deadline: float
    ticket: str = ""
    again_at: float = math.inf


class Pool:
    """The boards of one run; a thread of its own asks for them."""

    def __init__(self, inventory: Inventory, *, targets: Mapping[str, Target], user: str, priority: int = 0) -> None:
        """Make a pool; nothing is connected to yet.

        Args:
            inventory: the boards.
            targets: every toolchain file by name, for probes.
            user: who asks; boards are shared out fairly between users.
            priority: higher goes first.
        """
        self._inventory, self._targets = inventory, targets
        self._user, self._priority = user, priority
        self._inbox: queue.SimpleQueue[_Ask | None] = queue.SimpleQueue()
        self._open: dict[str, _Ask] = {}
        self._probing: set[str] = set()
        self._busy: dict[str, _Busy] = {}
        self._places: dict[str, Granted] = {}
        self._takers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._leases: Leases | None = None
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._probes: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, job: str, boards: Sequence[str], callback: Callable[[PoolAnswer], None]) -> None:
        """Ask for one of some boards; returns at once.

        Args:
            job: what for.
            boards: names of those that would do.
            callback: is called once, from another thread.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="pool", daemon=True)
            self._thread.start()
        deadline = time.monotonic() + self._inventory.wait
        self._inbox.put(_Ask(job=job, boards=tuple(boards), callback=callback, deadline=deadline))

    def obtain(self, job: str, boards: Sequence[str]) -> PoolAnswer:
        """Ask for one of some boards, and wait for the answer."""
        answers: queue.SimpleQueue[PoolAnswer] = queue.SimpleQueue()
        self.ask(job, boards, answers.put)
        while not self._is_closed:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=LOOK_SECONDS)
        return Refused(reason="the run ended before a board was free")

    def confirm(self, granted: Granted) -> None:
        """Make sure that a lease still lives, before its result counts.

        Raises:
            LeaseError: it does not, or that cannot be found out.
        """
        self._connected().confirm(granted.lease)

    def release(self, granted: Granted) -> None:
        """Release a board. When the database cannot be reached, the lease expires."""
        with self._lock:
            has_place = self._places.pop(granted.lease.ticket, None) is not None
        # Without its lease a place may serve another farm of ours by now.
        if has_place and granted.board.labgrid is not None and self._connected().is_live(granted.lease):
            try:
                labgrid.release_place(granted.board.labgrid, labgrid.identity(self._inventory.database))
            except BoardError as error:
                self.failed(granted.board.name, str(error))
        with contextlib.suppress(LeaseError):
            self._connected().release(granted.lease)

    def failed(self, board: str, reason: str) -> None:
        """Record that a job failed because of a board; it is not granted before a probe finds it good."""
        with contextlib.suppress(LeaseError):
            self._connected().change_health(
                board, lambda health, now: after_failure(health, reason=reason, now=now, wall=time.time())
            )

    def close(self) -> None:
        """Release everything and end; callbacks of jobs that still wait are not called."""
        with self._lock:
            self._is_closed = True
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join()
        for taker in self._takers:
            taker.join()
        with self._lock:
            left = [threading.Thread(target=self.release, args=(granted,)) for granted in self._places.values()]
        for giver in left:
            giver.start()
        for giver in left:
            giver.join()
        if self._leases is not None:
            self._leases.close()
        for probe in self._probes:
            probe.join(PROBE_END_SECONDS)

    def _connected(self) -> Leases:
        """Return the leases; connects at the first call.

        Raises:
            LeaseError: the database cannot be used.
        """
        from crossfarm.boards.leases.leases import Leases

        with self._lock:
            if self._leases is None:
                self._leases = Leases(self._inventory.database)
            return self._leases

    def _serve(self) -> None:
        next_look = 0.0
        while not self._is_closed:
            with contextlib.suppress(queue.Empty):
                ask = self._inbox.get(timeout=LOOK_SECONDS)
                if ask is not None:
                    self._request(ask)
            if self._open and time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + LOOK_SECONDS

    def _request(self, ask: _Ask) -> None:
        def callback(lease: Lease | None) -> None:
            if not self._close_ask(ask):
                return
            if lease is None:  # this host slept for longer than a request lives
                self._inbox.put(ask)
            else:
                self._use(ask, Granted(board=self._inventory.declared[lease.board], lease=lease))

        busy = {name: until for name in ask.boards if (until := self._busy_until(name)) > time.monotonic()}
        free = [name for name in ask.boards if name not in busy]
        ask.again_at = min(busy.values(), default=math.inf)
        with self._lock:
            self._open[ask.job] = ask
        if not free:
            return
        try:
            ask.ticket = self._connected().request(
                free, user=self._user, purpose=ask.job, callback=callback, priority=self._priority
            )
        except LeaseError as error:
            self._refuse(ask, str(error))

    def _use(self, ask: _Ask, granted: Granted) -> None:
        """Report a granted board; one that is a labgrid place only after that is acquired too, which takes a second."""
        if granted.board.labgrid is None:
            ask.callback(granted)
            return
        taker = threading.Thread(target=self._take_place, args=(ask, granted), name="labgrid", daemon=True)
        with self._lock:
            if self._is_closed:  # the lease ends with the pool
                return
            self._takers = [other for other in self._takers if other.is_alive()] + [taker]
            taker.start()

    def _take_place(self, ask: _Ask, granted: Granted) -> None:
        board = granted.board
        if board.labgrid is None:
            raise ValueError(f"{board.name} is no place of labgrid")
        try:
            labgrid.acquire_place(board.labgrid, labgrid.identity(self._inventory.database))
        except BusyError as error:
            self._note_busy(board.name, error)
        except BoardError as error:
            self.failed(board.name, str(error))
        else:
            self._busy.pop(board.name, None)
            with self._lock:
                self._places[granted.lease.ticket] = granted
            if not self._is_closed:
                ask.callback(granted)
            return
        self.release(granted)
        self._ask_again(ask)

    def _ask_again(self, ask: _Ask) -> None:
        """Make a closed ask again; what still comes for the one before finds it closed."""
        self._inbox.put(dataclasses.replace(ask, ticket=""))

    def _note_busy(self, board: str, error: BusyError) -> None:
        self._busy[board] = _Busy(until=time.monotonic() + BUSY_SECONDS, reason=str(error))

    def _busy_until(self, board: str) -> float:
        found = self._busy.get(board)
        return found.until if found is not None else 0.0

    def _close_ask(self, ask: _Ask) -> bool:
        """Return whether an ask was still open; it is closed now, so that its callback is called once."""
        with self._lock:
            if self._open.get(ask.job) is not ask:
                return False
            del self._open[ask.job]
            return True

    def _refuse(self, ask: _Ask, reason: str) -> None:
        if self._close_ask(ask):
            self._withdraw(ask)
            ask.callback(Refused(reason=reason))

    def _withdraw(self, ask: _Ask) -> None:
        if ask.ticket:
            with contextlib.suppress(LeaseError):
                self._connected().withdraw(ask.ticket)

    def _look(self) -> None:
        """Probe the boards that are due, and refuse jobs that can get no board."""
        with self._lock:
            asks = list(self._open.values())
        try:
            status = self._connected().status()
        except LeaseError as error:
            for ask in asks:
                if time.monotonic() > ask.deadline:
                    self._refuse(ask, str(error))
            return
        health = {name: status.boards[name].health for ask in asks for name in ask.boards if name in status.boards}
        for name, found in health.items():
            is_busy = self._busy_until(name) > time.monotonic()
            if found.is_due(status.now) and name not in self._probing and not is_busy:
                self._probe(name)
        for ask in asks:
            mine = {name: health.get(name, Health()) for name in ask.boards}
            if not any(found.is_hopeful or name in self._probing for name, found in mine.items()):
                self._refuse(ask, f"no board is healthy: {_spoken(mine)}; ./inv boards --probe looks again")
            elif time.monotonic() > ask.deadline:
                busy = [found.reason for name, found in self._busy.copy().items() if name in ask.boards]
                unfree = f"no board was free within {self._inventory.wait:g} s; ./inv boards shows who has it"
                self._refuse(ask, "; ".join([unfree, *busy]))
            elif time.monotonic() >= ask.again_at and self._close_ask(ask):
                self._withdraw(ask)
                self._ask_again(ask)

    def _probe(self, name: str) -> None:
        from crossfarm.boards.probe import probe_board

        def run() -> None:
            try:
                try:
                    probe_board(
                        self._connected(),
                        self._inventory.declared[name],
                        targets=self._targets,
                        user=self._user,
                        timeout=PROBE_WAIT_SECONDS,
                        only_due=True,
                    )
                except BusyError as error:
                    self._note_busy(name, error)
                except LeaseError:
                    pass  # it is in use, or the database does not answer; looked at again later
            finally:
                self._probing.discard(name)

        self._probing.add(name)
        thread = threading.Thread(target=run, name=f"probe {name}", daemon=True)
        self._probes = [probe for probe in self._probes if probe.is_alive()] + [thread]
        thread.start()


def _spoken(health: Mapping[str, Health]) -> str:
    return "; ".join(f"{name} is {found.state} ({found.reason})" for name, found in health.items())
