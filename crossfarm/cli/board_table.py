"""The table and the JSON of `./inv boards`: boards, their health and holders, and the queue."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Sequence

from crossfarm.boards.inventory import Inventory
from crossfarm.boards.labgrid import NOT_PROMISED
from crossfarm.boards.leases.health import Health
from crossfarm.boards.leases.leases import BoardStatus, LeaseStatus
from crossfarm.config.boards import Board
from crossfarm.util.text import one_line

_HEADS = ("board", "transport", "targets", "health", "since", "held by", "since")


def as_text(inventory: Inventory, status: LeaseStatus) -> str:
    """Return aligned text: a row a board, below it why one is not good, then the queue in the order of asking.

    What boards, and other users of the database, have said is cleaned.
    """
    now = time.time()
    rows: list[tuple[str, ...]] = [_HEADS]
    notes: dict[int, str] = {}
    for board in inventory.chosen.values():
        found = _status_of(status, board.name)
        holder = found.holder
        rows.append(
            (
                board.name,
                board.transport,
                ",".join(board.targets),
                found.health.state,
                _ago(found.health.since, now),
                one_line(f"{holder.user}: {holder.purpose}") if holder else "-",
                _ago(holder.since, now) if holder else "-",
            )
        )
        if found.health.state != "good":
            notes[len(rows) - 1] = f"  {one_line(found.health.reason)}{_next_probe(found.health, status.now)}"
    lines: list[str] = []
    for number, line in enumerate(_aligned(rows)):
        lines += [line, *([notes[number]] if number in notes else [])]
    places = [board for board in inventory.chosen.values() if board.labgrid is not None]
    if places:
        names = ", ".join(f"{board.name} is {_place(board)}" for board in places)
        lines += ["", f"places of labgrid: {names}; {NOT_PROMISED}"]
    waiting = [row for row in status.waiting if not inventory.chosen.keys().isdisjoint(row.boards)]
    if waiting:
        queue = [("waiting", "priority", "since", "for")]
        queue += [
            (
                one_line(f"{row.user}: {row.purpose}"),
                str(row.priority),
                _ago(row.since, now),
                one_line(", ".join(row.boards)),
            )
            for row in waiting
        ]
        lines += ["", *_aligned(queue)]
    return "\n".join(lines) + "\n"


def as_json(inventory: Inventory, status: LeaseStatus) -> str:
    """Return the same as JSON; times are seconds since the epoch."""
    boards = []
    for board in inventory.chosen.values():
        found = _status_of(status, board.name)
        holder = found.holder
        boards.append(
            {
                "name": board.name,
                "transport": board.transport,
                "address": board.address,
                "targets": list(board.targets),
                "tags": list(board.tags),
                "labgrid": _place(board),
                "health": found.health.state,
                "reason": found.health.reason,
                "since": found.health.since or None,
                "token": found.token,
                "holder": {"user": holder.user, "purpose": holder.purpose, "since": holder.since} if holder else None,
            }
        )
    fields = ("user", "purpose", "priority", "since", "boards")
    queue = [
        {name: value for name, value in dataclasses.asdict(row).items() if name in fields} for row in status.waiting
    ]
    return json.dumps({"boards": boards, "queue": queue}, indent=1) + "\n"


def _place(board: Board) -> str | None:
    return f"{board.labgrid.place} at {board.labgrid.coordinator}" if board.labgrid is not None else None


def _status_of(status: LeaseStatus, name: str) -> BoardStatus:
    """Return the status of a board; one that nobody ever asked for is good and free."""
    return status.boards.get(name) or BoardStatus(name=name, health=Health(), token=0, holder=None)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _ago(moment: float, now: float) -> str:
    """Return a moment as time of day and how long ago: `14:03:11 (4 min)`; with the date when it was another day."""
    if not moment:
        return "-"
    seconds = max(0.0, now - moment)
    form = (
        "%H:%M:%S"
        if time.strftime("%F", time.localtime(moment)) == time.strftime("%F", time.localtime(now))
        else "%F %H:%M"
    )
    return f"{time.strftime(form, time.localtime(moment))} ({_spoken(seconds)})"


def _spoken(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _next_probe(health: Health, now: float) -> str:
    if health.state == "quarantined":
        return "; ./inv boards --release puts it back into use"
    return (
        "; probed again when a run next asks for it"
        if health.is_due(now)
        else (f"; not probed again before {_spoken(health.next_probe - now)} have gone by")
    )
