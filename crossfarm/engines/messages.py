"""What the farm's end and a worker say to each other: a request for a job, and the reply when it has ended.

A request is two lines. The first says what to run. The second is a secret of this one job; the worker reads it after it
has forked the job's process, so that this process never had it in its memory. The reply must carry it: whatever else
comes over the connection is not the worker's.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import secrets
from typing import Any

from crossfarm.errors import EngineError

MOST_BYTES = 64 << 10
"""No line is longer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One job for a worker.

    Attributes:
        job: the job file, as the worker sees it.
        log: where what the job prints goes, as the worker sees it.
        stage: the job's stage.
        preload: modules to import before it.
        scratch: folder for the job's temporary files; empty where the worker has a scratch folder of its own.
    """

    job: str
    log: str
    stage: str
    preload: tuple[str, ...] = ()
    scratch: str = ""

    def encoded(self, secret: str) -> bytes:
        """Return what is sent: the request, then the secret."""
        return f"{json.dumps(dataclasses.asdict(self))}\n{secret}\n".encode()

    @classmethod
    def decoded(cls, line: bytes) -> JobRequest:
        """Return the request of a first line; it comes from the farm and is trusted."""
        raw: Any = json.loads(line)
        return cls(**{**raw, "preload": tuple(raw["preload"])})


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobReply:
    """What a worker says of a job that has ended, with all processes that it started.

    Attributes:
        status: wait status of the job's process.
        out_of_memory: memory ran out meanwhile.
        reusable: nothing is left of the job; the worker takes the next one.
    """

    status: int
    out_of_memory: bool = False
    reusable: bool = True

    def encoded(self, secret: str) -> bytes:
        """Return the line that is sent."""
        return (json.dumps({**dataclasses.asdict(self), "secret": secret}) + "\n").encode()

    @classmethod
    def decoded(cls, line: bytes, secret: str) -> JobReply:
        """Return the reply of a line.

        Raises:
            EngineError: the line is not this job's reply.
        """
        try:
            raw: Any = json.loads(line)
            given, status = raw["secret"], raw["status"]
            if isinstance(given, str) and hmac.compare_digest(given.encode(), secret.encode()):
                return cls(status=int(status), out_of_memory=bool(raw["out_of_memory"]), reusable=bool(raw["reusable"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise EngineError(
            "what came in place of the worker's reply is none of this job; its results are not taken, run it again"
        )


def new_secret() -> str:
    """Return a secret for one job: 32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)
