"""Who is told of a run, when, of what, and that nobody is told a secret."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crossfarm.config.notices import Notice
from crossfarm.pipeline.notify import notify
from crossfarm.reports.regression.comparison import Comparison, Row
from crossfarm.reports.regression.verdicts import Verdict
from crossfarm.reports.run_view import Overview, overview
from crossfarm.results import EndRecord
from tests.unit.reports.records import BAD, GOOD, check, run_record, whole_run

KEEP = "import pathlib, sys; pathlib.Path('told.json').write_text(sys.stdin.read())"
VERDICT = Verdict(word="regressed", old=1e6, new=1.2e6, change=0.2, reason="against 12 runs")
REGRESSED = Row(kind="regressed", cell=GOOD, metric="latency.p50", unit="ns", board="pi-1", verdict=VERDICT, gates=True)
NEW, SAME = Row(kind="new", cell=BAD, reason="it passed"), Row(kind="unchanged", cell=BAD, metric="program")
FINE = overview(
    [run_record(cells=(GOOD,)), check(GOOD, "accuracy.output.y", "passed"), EndRecord(exit_code=0, seconds=1)]
)


def compared(*rows: Row) -> Comparison:
    return Comparison(old="the runs before", new="r1", rows=rows)


def notice(**fields: Any) -> Notice:
    return Notice.model_validate({"name": "team", "command": (sys.executable, "-c", KEEP)} | fields)


def tell(
    folder: Path, *rows: Row, seen: Overview = FINE, comparison: Comparison | None = None, **fields: Any
) -> tuple[list[str], dict[str, Any] | None]:
    """Tell one; return what could not be told, and what a command was told."""
    found = comparison if comparison is not None else compared(*rows) if rows else None
    lines = list(notify([notice(**fields)], seen, found, folder=folder))
    told = folder / "told.json"
    return lines, json.loads(told.read_text()) if told.exists() else None


def test_a_command_gets_the_comparison_the_run_and_a_text_as_json_on_its_input(tmp_path: Path) -> None:
    lines, told = tell(tmp_path, REGRESSED, NEW, SAME, seen=overview(whole_run()))
    assert lines == []
    assert told is not None
    assert [row["kind"] for row in told["rows"]] == ["regressed", "new"]
    assert told["rows"][0] | {"command": None} == told["rows"][0]
    assert (told["rows"][0]["old"], told["rows"][0]["new"], told["rows"][0]["gates"]) == (1e6, 1.2e6, True)
    assert (told["counts"]["regressed"], told["counts"]["unchanged"], told["gates"]) == (1, 1, True)
    assert (told["run"]["id"], told["run"]["exit_code"]) == ("r1", 1)
    assert told["run"]["headline"].startswith("FAILED: 4 cells")
    assert told["text"].splitlines()[0] == f"crossfarm: {told['run']['headline']}"
    line = f"regressed: {GOOD} on pi-1: latency.p50 1.00 ms -> 1.20 ms (+20.0%)"
    assert line in told["text"].splitlines()


@pytest.mark.parametrize(
    ("when", "rows", "is_told"),
    [
        ("worse", (REGRESSED,), True),
        ("worse", (NEW,), False),
        ("changed", (NEW,), True),
        ("changed", (SAME,), False),
        ("always", (SAME,), True),
    ],
)
def test_somebody_is_told_of_what_he_wants_to_know(
    tmp_path: Path, when: str, rows: tuple[Row, ...], is_told: bool
) -> None:
    _, told = tell(tmp_path, *rows, when=when)
    assert (told is not None) is is_told


def test_without_a_run_before_a_run_that_is_not_good_is_the_news(tmp_path: Path) -> None:
    assert tell(tmp_path)[1] is None
    _, told = tell(tmp_path, seen=overview(whole_run()))
    assert told is not None
    assert (told["rows"], told["old"]) == ([], None)


def test_a_chat_service_gets_the_text_alone_under_its_key(tmp_path: Path) -> None:
    _, told = tell(tmp_path, REGRESSED, text_key="content")
    assert told is not None
    assert list(told) == ["content"]
    assert "regressed" in told["content"]


def test_very_many_rows_are_counted_and_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    rows = [Row(kind="new", cell=f"a\n\x1b[2J-{number}", reason="</script>") for number in range(1200)]
    _, told = tell(tmp_path, *rows, when="changed")
    assert told is not None
    assert (len(told["rows"]), told["rows_left_out"]) == (1000, 200)
    assert len(told["text"].splitlines()) == 14
    assert "\x1b" not in told["text"]
    assert told["text"].endswith("and 1190 more rows")


def test_numbers_that_are_not_finite_leave_it_json(tmp_path: Path) -> None:
    nan = Verdict(word="regressed", old=float("nan"), new=float("inf"), change=float("nan"), reason="it is not finite")
    row = Row(kind="regressed", cell=GOOD, metric="program", unit="bytes", verdict=nan)
    _, told = tell(tmp_path, row)
    assert told is not None
    assert (told["rows"][0]["old"], told["rows"][0]["new"]) == (None, None)


def test_a_variable_that_is_not_set_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    lines, told = tell(tmp_path, REGRESSED, secrets=["NO_SUCH_VARIABLE"])
    assert lines == ["notify team: not told: the variable NO_SUCH_VARIABLE is not set"]
    assert told is None


def test_a_command_that_fails_is_told_with_its_last_words_and_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "hunter2")
    monkeypatch.setenv("MAIL_TOKEN", "hunter2-and-more")
    code = (
        "import os, sys; print('refused:', os.environ['MAIL_PASSWORD'], os.environ['MAIL_TOKEN'], chr(27)); sys.exit(7)"
    )
    lines, _ = tell(tmp_path, REGRESSED, command=[sys.executable, "-c", code], secrets=["MAIL_PASSWORD", "MAIL_TOKEN"])
    (line,) = lines
    assert line.startswith(f"notify team: not told: {sys.executable} ended with exit code 7: refused: *** ***")
    assert "hunter2" not in line and "more" not in line


def test_a_command_that_there_is_not_is_told(tmp_path: Path) -> None:
    lines, _ = tell(tmp_path, REGRESSED, command=["./no-such-program"])
    assert "./no-such-program cannot be run: No such file or directory" in lines[0]


def test_a_command_that_reads_nothing_is_fine(tmp_path: Path) -> None:
    rows = [Row(kind="new", cell=f"x-{number}", reason="y" * 300) for number in range(1000)]
    assert tell(tmp_path, *rows, command=["true"], when="always") == ([], None)


def test_an_address_in_a_variable_that_is_not_https_is_refused_without_saying_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT", "http://example.org/SECRET")
    lines = list(
        notify(
            [Notice.model_validate({"name": "chat", "url_variable": "CHAT", "when": "always"})],
            FINE,
            None,
            folder=tmp_path,
        )
    )
    assert lines == ["notify chat: not told: CHAT holds no https:// address"]


def test_a_history_that_cannot_be_read_is_told_as_such_and_not_as_none(tmp_path: Path) -> None:
    why = "history.db: it is no database"
    assert list(notify([notice(when="always")], FINE, None, folder=tmp_path, why_not=why)) == []
    told = json.loads((tmp_path / "told.json").read_text())["text"].splitlines()
    assert told[-1] == f"the runs before cannot be read: {why}"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": "https://example.org/x"}, "exactly one of command, url, url_variable"),
        ({"headers": {"X-Token": "TOKEN"}}, "headers are of a webhook"),
        ({"command": None, "url": "https://example.org/x", "secrets": ["A"]}, "secrets are of a command"),
        ({"command": None, "url": "http://example.org/x"}, "String should match"),
        ({"command": None, "url": "https://user:pass@example.org/x"}, "String should match"),
        ({"timeout": 601}, "less than or equal to 600"),
        ({"when": "sometimes"}, "'worse', 'changed' or 'always'"),
        ({"secrets": ["A", "A"]}, "secrets must differ"),
    ],
)
def test_a_notice_that_cannot_be_meant_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        notice(**fields)
