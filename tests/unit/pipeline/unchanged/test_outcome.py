"""Kept outcomes: what is written is read, what is damaged counts as absent, and marks stand for one run alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.pipeline.unchanged.outcome import (
    MOST_KEPT,
    KeptManifest,
    KeptObject,
    Marks,
    Outcome,
    in_place_of,
    outcome_path,
    read_outcome,
    store_of,
    write_outcome,
)

OUTCOME = Outcome(
    settings="s" * 64,
    watched={"trees": ["/a"], "folders": [], "files": []},
    state="d" * 64,
    commit=None,
    root="/project",
    asks_engine=True,
    engine_problem="no engine answers",
    out="/project/out",
    manifests=(KeptManifest(path="/m", inode=1, size=2, digest="3"),),
    absent=("/absent",),
    objects=(KeptObject(path="/o", size=4, digest="5"), KeptObject(path="/p", size=6)),
    history="/history.db",
    run="r1",
    exit_code=1,
    output="passed\n",
    marks=("a", "b", "c", "d", "e", "f"),
    files={"junit.xml": "<a/>"},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_outcome(tmp_path / "one.json", OUTCOME)
    assert read_outcome(tmp_path / "one.json") == OUTCOME


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"manifests": [[1]]}, {"further": 1}, {"objects": None}, {"files": {"../.bashrc": "x"}}]
)
def test_another_form_is_as_good_as_none(tmp_path: Path, change: dict[str, object]) -> None:
    write_outcome(tmp_path / "one.json", OUTCOME)
    document = json.loads((tmp_path / "one.json").read_text())
    (tmp_path / "one.json").write_text(json.dumps({**document, **change}))
    assert read_outcome(tmp_path / "one.json") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one.json").write_bytes(content)
    assert read_outcome(tmp_path / "one.json") is None
    assert read_outcome(tmp_path / "absent.json") is None


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    for number in range(MOST_KEPT + 3):
        write_outcome(tmp_path / f"{number:02}.json", dataclasses.replace(OUTCOME, run=f"r{number}"))
    assert len(list(tmp_path.glob("*.json"))) == MOST_KEPT
    assert read_outcome(tmp_path / f"{MOST_KEPT + 2:02}.json") is not None


@given(st.floats(0.0005, 90_000), st.integers(0, 10**6))
def test_a_template_gives_the_text_of_any_run(seconds: float, number: int) -> None:
    marks = Marks.unlike_any()
    own = Marks(run=f"run-{number}", started="2026-11-30T10:00:00+01:00", seconds=seconds)
    template, wanted = " | ".join(marks.texts()), " | ".join(own.texts())
    assert in_place_of(template, marks.texts(), own.texts()) == wanted
    assert own.texts()[2] == "2026-11-30T09:00:00"


def test_the_store_is_the_one_that_is_named() -> None:
    default = Path("/default")
    assert store_of(["pipeline", "--store", "/a"], default=default) == Path("/a")
    assert store_of(["pipeline", "--store=/b"], default=default) == Path("/b")
    assert store_of(["pipeline", "--store"], default=default) == default
    assert outcome_path(Path("/a"), "0" * 64).parent == Path("/a/unchanged")
