"""The C library of a target: one job builds it, the others wait, and none does when it is there."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from crossfarm.bundles.linking.c_library import CACHE, IN_IMAGE, building, missing
from crossfarm.config.targets import CommandCompiler, ZigCompiler

MUSL = ZigCompiler(kind="zig", target="x86_64-linux-musl")
SPLIT = ZigCompiler(kind="zig", target="x86_64-linux-gnu.2.17", program_target="x86_64-linux-musl")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path))
    monkeypatch.delenv(IN_IMAGE, raising=False)
    return tmp_path


def test_of_two_jobs_at_once_one_builds_and_the_other_waits_for_it(cache: Path) -> None:
    said = io.StringIO()
    answers: list[bool] = []
    is_waiting = threading.Event()

    class Log(io.StringIO):
        def flush(self) -> None:
            is_waiting.set()

    log = Log()

    def second() -> None:
        with building(MUSL, static=True, log=log) as is_wanted:
            answers.append(is_wanted)

    thread = threading.Thread(target=second)
    with building(MUSL, static=True, log=said) as is_wanted:
        assert is_wanted
        thread.start()
        assert is_waiting.wait(60)
        assert answers == []
    thread.join()
    assert answers == [False]
    assert log.getvalue() == "waiting for another job, which builds the C library of x86_64-linux-musl\n"


def test_a_build_that_failed_is_tried_again(cache: Path) -> None:
    with pytest.raises(RuntimeError), building(MUSL, static=True, log=io.StringIO()):
        raise RuntimeError
    with building(MUSL, static=True, log=io.StringIO()) as is_wanted:
        assert is_wanted


def test_other_flags_have_another_library(cache: Path) -> None:
    with building(MUSL, static=True, log=io.StringIO()):
        pass
    other = MUSL.model_copy(update={"flags": ("-mcpu=x86_64_v4",)})
    with building(other, static=True, log=io.StringIO()) as is_wanted:
        assert is_wanted


def test_an_image_brings_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(IN_IMAGE, "1")
    with building(MUSL, static=True, log=io.StringIO()) as is_wanted:
        assert not is_wanted


def test_what_a_bundle_still_needs_is_named_before_it_runs(cache: Path) -> None:
    assert missing(SPLIT, static=False, cache=cache) == ("x86_64-linux-gnu.2.17", "x86_64-linux-musl")
    with building(MUSL, static=True, log=io.StringIO()):
        pass
    assert missing(SPLIT, static=False, cache=cache) == ("x86_64-linux-gnu.2.17",)
    assert missing(CommandCompiler(kind="command", command=("gcc",)), static=False, cache=cache) == ()
