"""The page of a run that recorded what the run before did: the bytes of a page made anew, and made without Jinja2."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from crossfarm.reports import PAGE, PAGE_BEFORE, html, page_again
from crossfarm.reports.page_again import content_digest, renewed
from crossfarm.reports.run_view import overview
from crossfarm.reports.writing import write_reports
from crossfarm.results import EndRecord, JobRecord, Record, RunRecord
from tests.unit.reports.records import GOOD, check, run_record, whole_run


def later(records: list[Record], **changes: object) -> list[Record]:
    """Return the same run an hour later, under another name."""
    start = {"run": "r2", "started": "2026-11-21T13:00:00+02:00", "command": "inv <!--/run--> pipeline"} | changes
    return [run_record(**start), *records[1:-1], EndRecord(exit_code=1, seconds=2.0)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    write_reports(whole_run(), tmp_path)
    (tmp_path / PAGE).rename(tmp_path / PAGE_BEFORE)
    return tmp_path


def no_render(*_: object, **__: object) -> str:
    pytest.fail("made anew")


def test_it_is_what_the_page_made_anew_is(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = later(whole_run())
    expected = html.render(overview(again), digest=content_digest(again))
    monkeypatch.setattr(html, "render", no_render)
    write_reports(again, out)
    text = (out / PAGE).read_text()
    assert text == expected
    assert "<code>inv &lt;!--/run--&gt; pipeline</code>" in text
    assert "run <code>r2</code>" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda records: [*records[:-1], check(GOOD, "text.d", "passed"), records[-1]],
        lambda records: [records[0], dataclasses.replace(records[1], state="run"), *records[2:]],
        lambda records: later(records, cells=(GOOD,)),
        lambda records: later(records, jobs=("compile:x",)),
        lambda records: later(records, tools={"apache-tvm": "0.28.0"}),
        lambda records: [*records[:-1], EndRecord(exit_code=1, seconds=1.0, interrupted=True)],
        lambda records: records[:-1],
    ],
    ids=["a check", "a job", "a cell", "a planned job", "a tool", "interrupted", "killed"],
)
def test_whatever_else_changed_it_is_made_anew(change: object, out: Path) -> None:
    assert callable(change)
    records: list[Record] = change(whole_run())
    assert isinstance(records[1], JobRecord)
    assert renewed(out / PAGE_BEFORE, overview(records), content_digest(records)) is None
    write_reports(records, out)
    assert (out / PAGE).read_text() == html.render(overview(records), digest=content_digest(records))


def test_a_change_of_what_makes_the_page_makes_it_anew(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_again, "_code_digest", lambda: b"another version")
    again = later(whole_run())
    assert renewed(out / PAGE_BEFORE, overview(again), content_digest(again)) is None


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-20], lambda text: text.replace("<!--run-->", ""), lambda text: "", lambda text: "x"]
)
def test_a_damaged_page_is_made_anew(damage: object, out: Path) -> None:
    assert callable(damage)
    before, again = out / PAGE_BEFORE, later(whole_run())
    before.write_text(damage(before.read_text()))
    assert renewed(before, overview(again), content_digest(again)) is None


def test_a_page_that_is_no_text_or_not_there_is_made_anew(out: Path) -> None:
    again = later(whole_run())
    (out / PAGE_BEFORE).write_bytes(b"\xff\xfe")
    assert renewed(out / PAGE_BEFORE, overview(again), content_digest(again)) is None
    assert renewed(out / "nothing.html", overview(again), content_digest(again)) is None
    assert isinstance(again[0], RunRecord)
