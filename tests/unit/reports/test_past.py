"""What the history tells about a run: what changed, how its numbers went, and when the page must be made anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from crossfarm.reports import PAGE, PAGE_BEFORE
from crossfarm.reports.history.database import History
from crossfarm.reports.history.keep import keep_run
from crossfarm.reports.history.kept_run import kept_run
from crossfarm.reports.history.place import Place
from crossfarm.reports.html.history import HistoryRow
from crossfarm.reports.past import Past, PastReader
from crossfarm.reports.regression.alarms import in_words, read_alarms
from crossfarm.reports.run_view import overview
from crossfarm.reports.writing import write_reports
from crossfarm.results import Record, RunRecord
from crossfarm.util.text import count
from tests.unit.reports.kept_runs import latencies, records

CELL, OTHER = "aarch64-mnist-float32", "aarch64-vad-float32"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(file=tmp_path / "history.db")


def run(number: int, *cells: str, median: float = 1e6, seed: int | None = None) -> list[Record]:
    """Return a run of a day; runs of one seed have the same samples, as one that came out of the store."""
    samples = latencies(number if seed is None else seed, median=median)
    found = records(
        f"r{number:02d}", *(cells or (CELL,)), started=f"2026-11-{number:02d}T12:00:00+00:00", samples=samples
    )
    commit = f"{number:x}" * 40
    return [dataclasses.replace(one, git_commit=commit[:40]) if isinstance(one, RunRecord) else one for one in found]


def kept(place: Place, *runs: Sequence[Record]) -> None:
    with History(place) as history:
        history.add_all([kept_run(one) for one in runs])


def past(place: Place | None, now: Sequence[Record]) -> Past:
    return PastReader(place, now).read(overview(now))


def line(found: Past, metric: str = "latency.p50", cell: str = CELL) -> list[HistoryRow]:
    return [row for row in found.rows if (row.metric, row.cell) == (metric, cell)]


def test_a_line_has_a_point_for_each_run_and_marks_where_it_stepped_and_what_is_to_be_said_now(place: Place) -> None:
    runs = [run(number, median=1e6 if number <= 6 else 1.3e6) for number in range(1, 11)]
    now = run(11, median=1.7e6)
    kept(place, *runs, now)
    found = past(place, now)
    rows = line(found)
    assert [row.run for row in rows] == [f"r{number:02d}" for number in range(1, 12)]
    marks = {row.run: row.mark for row in rows if row.mark}
    assert marks["r07"].startswith("+30") and marks["r07"].endswith(f"since commits {'6' * 12}..{'7' * 12}")
    assert marks["r11"] == "unconfirmed"
    assert [row.kind for row in found.compared.rows if row.metric == "latency.p50"] == ["unconfirmed"]  # type: ignore[union-attr]
    assert not found.is_settled


def test_new_and_missing_cells_are_told(place: Place) -> None:
    kept(place, run(1, CELL, OTHER))
    now = run(2, CELL, "armv7-mnist-float32", seed=1)
    found = past(place, now).compared
    assert found is not None
    assert [(row.kind, row.cell) for row in found.rows[:2]] == [("missing", OTHER), ("new", "armv7-mnist-float32")]


def test_a_run_that_took_all_from_the_store_is_no_point_and_settles_the_page(place: Place) -> None:
    kept(place, run(1), run(2))
    again = run(3, seed=2)
    kept(place, again)
    found = past(place, again)
    assert [row.run for row in line(found)] == ["r01", "r02"]
    assert found.is_settled


def test_a_number_that_never_changed_is_not_drawn_and_one_that_did_is(place: Place) -> None:
    kept(place, *(run(number) for number in range(1, 5)))
    now = run(5)
    assert line(past(place, now), "program") == []


def test_very_many_cells_are_compared_by_what_became_of_them(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfarm.reports.past.MOST_CELLS", 1)
    kept(place, run(1, CELL, OTHER))
    now = run(2, CELL, "armv7-mnist-float32", median=9e6)
    kept(place, now)
    found = past(place, now)
    assert found.compared is not None
    assert found.compared.old == "the run before, cell by cell and without numbers"
    assert {(row.kind, row.cell) for row in found.compared.rows} == {
        ("missing", OTHER),
        ("new", "armv7-mnist-float32"),
    }
    assert {row.metric for row in found.rows} == {"latency.p50"}


def test_runs_whose_clock_went_back_stand_in_the_order_in_which_they_were_kept(place: Place, tmp_path: Path) -> None:
    for number in (9, 3, 5):
        assert keep_run(run(number), place, results=tmp_path / "results.jsonl") == ""
    assert [row.run for row in line(past(place, run(5)))] == ["r09", "r03", "r05"]


def test_without_a_history_nothing_is_told_and_a_damaged_one_is(place: Place) -> None:
    now = run(1)
    assert past(None, now) == past(place, now) == Past()
    assert place.file is not None
    place.file.write_bytes(b"no database at all " * 100)
    found = past(place, now)
    assert "not a database" in found.told
    assert not found.is_settled
    assert PastReader(place, now).compared is None


def test_the_page_shows_what_changed_and_is_made_anew_until_nothing_does(place: Place, tmp_path: Path) -> None:
    kept(place, run(1))

    def written(now: list[Record]) -> str:
        kept(place, now)
        if (tmp_path / PAGE).exists():
            (tmp_path / PAGE).replace(tmp_path / PAGE_BEFORE)
        write_reports(now, tmp_path, past=PastReader(place, now))
        return (tmp_path / PAGE).read_text()

    changed = written(run(2, CELL, OTHER, seed=2))
    assert "Compared with the last 12 runs before" in changed
    assert f'<span class="badge s-new">new</span></td><th scope="row"><a href="#cell={OTHER}">' in changed
    settled = written(run(3, CELL, OTHER, seed=2))
    assert "s-new" not in settled.partition("<main>")[2].partition("<script")[0]
    assert "Nothing changed." in settled
    reader = PastReader(place, run(4, CELL, OTHER, seed=2))
    (tmp_path / PAGE).replace(tmp_path / PAGE_BEFORE)
    reader.read = pytest.fail  # type: ignore[assignment,method-assign]
    write_reports(run(4, CELL, OTHER, seed=2), tmp_path, past=reader)
    assert "run <code>r04</code>" in (tmp_path / PAGE).read_text()


def test_the_footer_says_how_often_verdicts_are_wrong(tmp_path: Path) -> None:
    write_reports(run(1), tmp_path)
    text = (tmp_path / PAGE).read_text()
    assert f'<p id="alarms">{in_words()}</p>' in text
    found = read_alarms()
    assert found.worst_alarms / found.simulated_pairs <= 0.001
    assert found.found / found.slower_pairs >= 0.99
    assert (found.real_pairs, found.real_model) == (200, "mnist_cnn")
    assert f"{count(found.real_alarms, 'false alarm')} in 200 pairs of mnist_cnn" in in_words()
