"""A small part of each kind of `./inv fuzz`, and the harness itself: it sees tracebacks, writes, hangs and crashes."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from crossfarm.errors import ConfigError
from tests.fuzz import bundle_files, harness, kinds
from tests.fuzz.harness import Kind
from tests.integration.runner.building import make_bundle

pytestmark = pytest.mark.integration

SHARE = 0.03


@pytest.mark.parametrize("name", kinds.NAMES)
def test_no_hostile_input_does_harm(name: str, tmp_path: Path) -> None:
    if name == "bundles" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; apt-get install gcc")
    kind = kinds.load(name)
    totals = harness.run(kind, seed=0, numbers=range(round(SHARE * kind.count)), kept=tmp_path / "kept")
    assert not totals.failures, "\n".join(f"{result.number}: {result.text}" for result in totals.failures)
    assert any(result.outcome == "refused" for result in totals.results), "not one input was hostile"


def test_a_bundle_that_nobody_spoiled_is_accepted(tmp_path: Path) -> None:
    """Else the fuzzer would see no more of the runner than its first refusal."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; apt-get install gcc")
    make_bundle(tmp_path / "bundle", bundle_files._program())
    assert bundle_files.feed(tmp_path)


def _nothing(rng: random.Random, folder: Path) -> None:
    (folder / "input").write_text(str(rng.random()))


def _refuses(folder: Path) -> bool:
    raise ConfigError("no")


def _tracebacks(folder: Path) -> bool:
    raise KeyError("no")


def _writes(folder: Path) -> bool:
    (folder.parent / "outside").write_text("")
    return True


def _rewrites(folder: Path) -> bool:
    (folder / "link").symlink_to("/dev/null")
    (folder / ".." / "input" / "input").write_text("0")
    return True


def _takes_memory(folder: Path) -> bool:
    return len(bytes(harness.MEMORY_BYTES)) > 0


def _crashes(folder: Path) -> bool:
    os.kill(os.getpid(), signal.SIGSEGV)
    return True


def _colours(folder: Path) -> bool:
    raise ConfigError("\x1b[31mno")


@pytest.mark.parametrize(
    ("feed", "outcome"),
    [
        (lambda folder: True, "accepted"),
        (lambda folder: False, "refused"),
        (_refuses, "refused"),
        (_tracebacks, "failed"),
        (_writes, "failed"),
        (_rewrites, "failed"),
        (_takes_memory, "failed"),
        (_crashes, "failed"),
        (_colours, "failed"),
    ],
)
def test_the_harness_tells_harm_from_refusal(feed: Callable[[Path], bool], outcome: str, tmp_path: Path) -> None:
    kind = Kind(name="some", count=1, make=_nothing, feed=feed)
    totals = harness.run(kind, seed=1, numbers=range(1), kept=tmp_path / "kept")
    assert [result.outcome for result in totals.results] == [outcome]
    kept = tmp_path / "kept" / "some-1-0" / "REPEAT.txt"
    assert kept.exists() == (outcome == "failed")


def test_an_input_that_takes_too_long_is_a_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "PROCESSOR_SECONDS", 1)

    def spin(folder: Path) -> bool:
        while True:
            pass

    totals = harness.run(Kind(name="some", count=1, make=_nothing, feed=spin), seed=0, numbers=range(1), kept=tmp_path)
    assert [result.outcome for result in totals.results] == ["failed"]


@pytest.mark.parametrize("name", kinds.NAMES)
def test_a_seed_and_a_number_make_the_same_input_again(name: str, tmp_path: Path) -> None:
    if name == "bundles" and shutil.which("gcc") is None:
        pytest.skip("gcc is not installed; apt-get install gcc")
    kind = kinds.load(name)
    made = []
    for place in ("one", "other"):
        folder = tmp_path / place
        folder.mkdir()
        kind.make(random.Random("x:3"), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        made.append({path.relative_to(folder): path.read_bytes() for path in files})
    assert made[0] == made[1]
    assert made[0]
