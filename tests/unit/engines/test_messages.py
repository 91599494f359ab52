"""A reply is one only if it carries the secret of its job."""

from __future__ import annotations

import json

import pytest

from crossfarm.engines.messages import JobReply, JobRequest, new_secret
from crossfarm.errors import EngineError

SECRET = "5" * 32
FIELDS = {"status": 0, "out_of_memory": False, "reusable": True, "secret": SECRET}


def test_a_request_is_read_without_its_secret() -> None:
    request = JobRequest(job="/job/out/job.json", log="/job/out/log\nx", stage="check", scratch="/s")
    first, second, rest = request.encoded(SECRET).split(b"\n")
    assert JobRequest.decoded(first) == request
    assert SECRET.encode() not in first
    assert second == SECRET.encode()
    assert rest == b""


def test_a_reply_with_the_secret_is_taken() -> None:
    reply = JobReply(status=9, out_of_memory=True, reusable=False)
    assert JobReply.decoded(reply.encoded(SECRET), SECRET) == reply


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"0",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 60_000,
        *(json.dumps({name: FIELDS[name] for name in FIELDS if name != missing}).encode() for missing in FIELDS),
        json.dumps({**FIELDS, "secret": "4" * 32}).encode(),
        json.dumps({**FIELDS, "secret": SECRET[:-1]}).encode(),
        json.dumps({**FIELDS, "secret": None}).encode(),
        json.dumps({**FIELDS, "secret": "\ud800"}).encode(),
        json.dumps({**FIELDS, "status": "x"}).encode(),
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(EngineError, match="none of this job"):
        JobReply.decoded(line, SECRET)


def test_no_two_jobs_have_the_same_secret() -> None:
    assert len({new_secret() for _ in range(100)}) == 100
