"""Places of a labgrid coordinator as boards: acquired with labgrid's own client before a use and released after it.

Our lease on a board comes first, so no other farm of the same database can ask for the place. All these farms
show themselves to labgrid under one name. A place that is acquired under it while we hold the lease was left behind by
a farm that was killed; it is taken over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from crossfarm.config.boards import Labgrid
from crossfarm.errors import BoardError, BusyError

TIMEOUT_SECONDS = 15.0
"""For one call of the client; less than a lease lives without a heartbeat."""
NOT_PROMISED = (
    "labgrid keeps no time limit and no token: a killed farm leaves its place acquired until a next use, "
    "and a place that others hold is asked for again every few seconds"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """As whom labgrid knows the farms of one database; it writes `host/user`."""

    host: str
    user: str

    def __str__(self) -> str:
        return f"{self.host}/{self.user}"


def identity(database: str) -> Identity:
    """Return the name of all farms that share a database of leases.

    Args:
        database: its URL. A PostgreSQL database is the same whoever logs in; a SQLite file, a socket and
            `localhost` belong to this host.
    """
    parts = urlsplit(database)
    server = (parts.hostname or "").lower()
    is_here = server in ("", "localhost", "::1") or server.startswith("127.")
    where = f"{parts.scheme} {server} {parts.port or 5432} {parts.path} {parts.query}"
    digest = hashlib.sha256(where.encode()).hexdigest()[:12]
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) if is_here else "shared"
    return Identity(host=host, user=f"crossfarm-{digest}")


def acquire_place(wanted: Labgrid, own: Identity) -> None:
    """Acquire a place, or take it over from a farm of ours that was killed; our lease on its board must be held.

    Args:
        wanted: coordinator and place.
        own: as whom.

    Raises:
        BusyError: somebody else holds the place.
        BoardError: the coordinator does not answer, has no such place, or refuses it; or there is no client.
    """
    # Who held the place at the first try may have released it before we looked who it was.
    if not _try_to_take(wanted, own, is_last=False):
        _try_to_take(wanted, own, is_last=True)


def _try_to_take(wanted: Labgrid, own: Identity, *, is_last: bool) -> bool:
    """Return whether the place is ours now; False when it was refused and is free, an error then at the last try."""
    asked = _call(wanted, own, "acquire")
    acquired = re.search(r"^acquired place (.+)$", asked.stdout, re.MULTILINE)
    if asked.returncode == 0 and acquired is not None and acquired[1] == wanted.place:
        return True
    if asked.returncode == 0 and acquired is not None:  # the client takes part of a name for a pattern
        _call(wanted.model_copy(update={"place": acquired[1]}), own, "release-from", str(own))
        raise _no_place(wanted)
    shown = _call(wanted, own, "show")
    name = re.search(r"^Place '(.+)':$", shown.stdout, re.MULTILINE)
    holder = re.search(r"^[ \t]+acquired: (\S+)$", shown.stdout, re.MULTILINE)
    if shown.returncode == 0 and name is not None and name[1] != wanted.place:
        raise _no_place(wanted)
    is_free = shown.returncode == 0 and holder is not None and holder[1] == "None"
    if is_free and not is_last:
        return False
    if is_free or shown.returncode != 0 or holder is None:
        raise _failed(wanted, asked)
    if holder[1] != str(own):
        raise BusyError(
            f"the labgrid place {wanted.place} at {wanted.coordinator} is held by {holder[1]}; "
            f"`labgrid-client -p {wanted.place} release` there gives it back"
        )
    return True


def release_place(wanted: Labgrid, own: Identity) -> None:
    """Release a place if it is ours; another's stays with them. The arguments are those of `take`.

    Raises:
        BoardError: the coordinator does not answer or refuses, or there is no client.
    """
    done = _call(wanted, own, "release-from", str(own))
    if done.returncode != 0 and "is not acquired" not in done.stderr:
        raise _failed(wanted, done)


@contextlib.contextmanager
def held(wanted: Labgrid | None, database: str, is_live: Callable[[], bool]) -> Iterator[None]:
    """Hold a place for a while; without one, nothing is done.

    Args:
        wanted: coordinator and place.
        database: URL of the database of the leases.
        is_live: whether our lease still lives; without it the place may serve another farm of ours, and stays.

    Raises:
        BusyError, BoardError: as `take` and `give_back`.
    """
    if wanted is None:
        yield
        return
    own = identity(database)
    acquire_place(wanted, own)
    try:
        yield
    finally:
        if is_live():
            release_place(wanted, own)


def _call(wanted: Labgrid, own: Identity, *verb: str) -> subprocess.CompletedProcess[str]:
    """Run labgrid's client once; a session of its own keeps Ctrl-C from ending it half-way."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LG_") or name == "LG_PROXY"}
    try:
        return subprocess.run(
            [wanted.client, "-x", wanted.coordinator, "-p", wanted.place, *verb],
            env={**kept, "LG_HOSTNAME": own.host, "LG_USERNAME": own.user},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BoardError(
            f"the labgrid coordinator {wanted.coordinator} did not answer within {TIMEOUT_SECONDS:g} s "
            f"about the place {wanted.place}; see whether it runs"
        ) from None
    except OSError as error:
        raise BoardError(
            f"{wanted.client} cannot be started ({error.strerror or error}); install labgrid, "
            "or name its client under `labgrid: client:` in boards.yaml"
        ) from error


def _failed(wanted: Labgrid, done: subprocess.CompletedProcess[str]) -> BoardError:
    said = " ".join((done.stderr.strip() or done.stdout.strip()).split())[-300:] or f"exit code {done.returncode}"
    return BoardError(
        f"the labgrid coordinator {wanted.coordinator} does not give the place {wanted.place}: {said}; "
        "see whether it runs and has that place"
    )


def _no_place(wanted: Labgrid) -> BoardError:
    return BoardError(
        f"the labgrid coordinator {wanted.coordinator} has no place {wanted.place}; "
        "`labgrid-client places` lists those that it has"
    )
