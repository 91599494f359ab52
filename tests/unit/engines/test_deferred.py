"""An engine that is made when its first job comes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crossfarm.engines.deferred import DeferredEngine
from crossfarm.engines.protocol import Engine
from crossfarm.errors import EngineError
from crossfarm.stages.job import Outcome

GOOD = Outcome(good=True, seconds=1.0)


class _Engine:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.meeting = threading.Barrier(2)

    def run(self, folder: Path, log: Path) -> Outcome:
        self.meeting.wait(timeout=60)  # both calls are here at once: the lock is not held while jobs run
        return GOOD

    def cancel(self) -> None:
        self.said.append("cancel")

    def __enter__(self) -> _Engine:
        self.said.append("enter")
        return self

    def __exit__(self, *_: object) -> None:
        self.said.append("exit")


def test_no_engine_is_made_where_no_job_comes() -> None:
    def start() -> Engine:
        raise AssertionError("nobody asked for it")

    with DeferredEngine(start) as engine:
        engine.cancel()


def test_the_first_job_makes_the_engine_and_the_others_share_it() -> None:
    made = _Engine()
    with DeferredEngine(lambda: made) as engine, ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(lambda _: engine.run(Path("folder"), Path("log")), range(2)))
    assert outcomes == [GOOD, GOOD]
    assert made.said == ["enter", "exit"]


def test_a_cancelled_engine_starts_nothing_any_more() -> None:
    made = _Engine()
    with DeferredEngine(lambda: made) as engine:
        engine.cancel()
        assert engine.run(Path("folder"), Path("log")).cause == "interrupted"
    assert made.said == []


def test_an_engine_that_cannot_be_made_is_told_by_its_own_error() -> None:
    def start() -> Engine:
        raise EngineError("no engine answers")

    with DeferredEngine(start) as engine, pytest.raises(EngineError, match="no engine answers"):
        engine.run(Path("folder"), Path("log"))
