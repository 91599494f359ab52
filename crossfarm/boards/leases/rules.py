"""The rules by which free boards are assigned to requests; pure functions.

Among those who wait, the higher priority goes first; then the user who holds fewer boards; then the user whose last
grant lies longer back; then whoever came first. So one user is served in order of arrival, and a user with a hundred
jobs keeps nobody else waiting for longer than one lease.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set


@dataclasses.dataclass(frozen=True, kw_only=True)
class Waiting:
    """One request that waits.

    Attributes:
        ticket: its id.
        number: grows with every request; who came first has the smaller one.
        user: who asks.
        priority: higher goes first.
        boards: names of the boards that would do.
    """

    ticket: str
    number: int
    user: str
    priority: int
    boards: Set[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
    """A board for a ticket."""

    ticket: str
    user: str
    board: str


def assign(
    *, free: Sequence[str], waiting: Sequence[Waiting], held: Mapping[str, int], last: Mapping[str, int]
) -> list[Assignment]:
    """Hand out free boards until none is left that somebody waits for.

    Args:
        free: boards that may be granted, the one to be preferred first.
        waiting: all that wait.
        held: user -> how many boards they hold now.
        last: user -> number of their last grant, larger for later ones; those who never had one are absent.

    Returns:
        Assignments in the order in which they were made.
    """
    left, open_requests = list(free), list(waiting)
    holds, latest = dict(held), dict(last)
    made: list[Assignment] = []
    while True:
        able = [request for request in open_requests if not request.boards.isdisjoint(left)]
        if not able:
            return made
        chosen = min(
            able,
            key=lambda request: (
                -request.priority,
                holds.get(request.user, 0),
                latest.get(request.user, 0),
                request.number,
            ),
        )
        board = _least_wanted(left, chosen, open_requests)
        left.remove(board)
        open_requests.remove(chosen)
        holds[chosen.user] = holds.get(chosen.user, 0) + 1
        latest[chosen.user] = max(latest.values(), default=0) + 1
        made.append(Assignment(ticket=chosen.ticket, user=chosen.user, board=board))


def _least_wanted(free: Sequence[str], chosen: Waiting, waiting: Sequence[Waiting]) -> str:
    """Return the board for a request that the fewest others wait for, so that these find one too."""
    able = [board for board in free if board in chosen.boards]
    return min(able, key=lambda board: sum(board in request.boards for request in waiting))
