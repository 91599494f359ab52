"""Tries forms in processes of their own: one that dies or takes too long is the outcome of its form alone."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.attempt import CRASH, Outcome
from tests.conformance.forms import Form

_MEMORY = 12 << 30


@dataclasses.dataclass(kw_only=True)
class _Child:
    form: Form
    process: int
    pipe: int
    started: float
    content: bytes = b""


def run(
    forms: Sequence[Form], work: Callable[[Form], Outcome], *, jobs: int, seconds: float, log: Path
) -> Iterator[Outcome]:
    """Yield the outcome of each form, in the order in which they end.

    Args:
        forms: to try.
        work: tries one; everything that it imports is best imported before, since each child is a fork of this process.
        jobs: so many at a time.
        seconds: that one may take.
        log: gets what compilers say.
    """
    waiting = list(reversed(forms))
    running: list[_Child] = []
    gc.collect()
    gc.freeze()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_start(waiting.pop(), work, log))
        for child in list(running):
            ended = _poll(child, seconds)
            if ended is not None:
                running.remove(child)
                yield ended
        time.sleep(0.005)


def _start(form: Form, work: Callable[[Form], Outcome], log: Path) -> _Child:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        os.close(writing)
        return _Child(form=form, process=process, pipe=reading, started=time.monotonic())
    try:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        try:
            found = work(form)
        except BaseException as error:  # a child says what it met, whatever it is
            traceback.print_exc()
            found = _crash(form, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", 0.0)
        sys.stdout.flush()
        with os.fdopen(writing, "wb") as stream:
            stream.write(json.dumps(dataclasses.asdict(found)).encode())
    finally:
        os._exit(0)


def _poll(child: _Child, seconds: float) -> Outcome | None:
    try:
        while part := os.read(child.pipe, 65536):
            child.content += part
        closed = True
    except BlockingIOError:
        closed = False
    took = time.monotonic() - child.started
    if not closed and took <= seconds:
        return None
    if not closed:
        os.killpg(child.process, signal.SIGKILL)
    status = os.waitpid(child.process, 0)[1]
    os.close(child.pipe)
    if not closed:
        return _crash(child.form, f"it took longer than {seconds:g} s", took)
    if os.WIFSIGNALED(status) or not child.content:
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "without an answer"
        return _crash(child.form, f"the process died: {name}", took)
    fields: dict[str, Any] = json.loads(child.content)
    return Outcome(**fields)


def _crash(form: Form, reason: str, seconds: float) -> Outcome:
    case = form.case
    return Outcome(
        id=form.id, operator=case.operator, opset=case.opset, status=CRASH, reason=reason, seconds=round(seconds, 3)
    )
