"""The table on the terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.reports import terminal
from crossfarm.reports.columns import COLUMNS
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, Record
from crossfarm.util.text import cut, width
from tests.unit.reports.records import (
    BAD,
    LOST,
    SILICON,
    any_records,
    check,
    job,
    number,
    run_record,
    whole_run,
)


def test_the_table_shows_every_cell_and_below_it_what_is_wrong() -> None:
    text = terminal.render(overview(whole_run()))
    lines = text.splitlines()
    assert lines[0].split() == ["model", "target", "verdict", "max", "diff", "right", "p50", "program"]
    assert re.fullmatch(r"mnist +armv7 +FAILED +not finite +98\.7 ms \(emulated\)", lines[1])
    assert "ERROR" in lines[2]
    assert "skipped" in lines[3]
    assert re.fullmatch(r"mnist +x86_64 +passed +3\.1e-07 +50\.0 % digits +12\.3 ms +310 KiB", lines[4])
    assert f"\n{BAD}\n  accuracy.output.y: 3 are NaN\n  to reproduce: ./inv pipeline --only {BAD}\n" in text
    assert f"\n{LOST}\n  compile: out of memory\n  log: out/logs/1.log\n" in text
    assert "\narmv7-vad-int8 skipped: compile: no int8 for 32-bit ARM\n" in text
    assert lines[-1] == "FAILED: 4 cells: 1 passed, 1 failed, 1 error, 1 skipped"


def test_what_could_be_faster_is_told_below_the_table() -> None:
    message = "2 operators unscheduled: argmax, mean; 3.1 % of the time (emulated)"
    note = check(BAD, "code.unscheduled", "informative", value=0.031, unit="share", message=message)
    assert f"\n{BAD}: {message}\n" in terminal.render(overview([*whole_run(), note]))
    assert "unscheduled" not in terminal.render(overview(whole_run()))


def test_numbers_stand_under_each_other() -> None:
    lines = terminal.render(overview(whole_run())).splitlines()
    end = lines[0].index("max diff") + len("max diff")
    assert lines[4][:end].endswith(" 3.1e-07")


def test_colours_come_only_when_asked_for() -> None:
    seen = overview(whole_run())
    coloured = terminal.render(seen, colour=True)
    assert "\x1b[31;1mFAILED\x1b[0m " in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == terminal.render(seen)


def test_an_interrupted_run_ends_with_saying_so() -> None:
    text = terminal.render(overview([run_record(cells=())]))
    assert text.splitlines()[-1].startswith("the run ended without a word")


def test_cells_that_were_not_done_for_one_reason_share_a_line() -> None:
    records: list[Record] = [job("measure", f"armv7-m{n}-float32", "skipped", reason="no qemu") for n in range(5)]
    text = terminal.render(overview(records))
    assert "\narmv7-m0-float32, armv7-m1-float32, armv7-m2-float32 and 2 more skipped: measure: no qemu\n" in text


@given(any_records)
def test_any_records_give_text_without_control_characters(records: list[Record]) -> None:
    text = terminal.render(overview(records))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert text.endswith("\n")


def many(cells: int, *, failed: int) -> list[Record]:
    """Return a run of many cells with every column of the table, the failed ones last."""
    records: list[Record] = []
    for index in range(cells):
        cell = f"aarch64-efficientnet_lite0_{index}-int8"
        state = "failed" if index >= cells - failed else "passed"
        records += [job("check", cell), check(cell, "accuracy.output.y", state, value=3.1e-7, unit="scale")]
        records += [check(cell, "accuracy.top1.imagenet", state, value=0.771, unit="share", cases=1000)]
        records += [number(cell, name, 1234567.0, "bytes", SILICON) for name in ("program", "weights", "arena")]
        records += [number(cell, "latency.p50", 1234567.0, "ns", SILICON)]
        for name, value in (("float.difference", 0.0), ("quantised.difference", 0.0123)):
            records += [number(cell, f"ladder.{name}", value, "scale", SILICON)]
        for name, value in (("float.right", 0.81), ("quantised.right", 0.771)):
            records += [number(cell, f"ladder.{name}", value, "share", SILICON)]
    return [*records, EndRecord(exit_code=1 if failed else 0, seconds=1.0)]


def cut_line(missing: list[str], columns: int) -> str:
    return cut(f"no room for: {', '.join(missing)}", columns)


def lines_of_table(text: str) -> list[str]:
    return text.split("\n\n", maxsplit=1)[0].split("\n")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_the_table_fits_into_the_columns_and_says_what_had_no_room(columns: int) -> None:
    lines = lines_of_table(terminal.render(overview(many(3, failed=1)), columns=columns))
    assert max(map(width, lines)) <= columns
    assert lines[0].split()[:3] == ["model", "target", "verdict"]
    left_out = ["weights", "memory", "quantising", "program", "max diff", "right", "p50"]
    missing = left_out[: {40: 7, 60: 6, 80: 5, 100: 3, 200: 0}[columns]]
    assert [name for name in COLUMNS if name in lines[0]] == [name for name in COLUMNS if name not in missing]
    assert [line for line in lines if "no room" in line] == ([cut_line(missing, columns)] if missing else [])


@pytest.mark.parametrize(("failed", "rows"), [(0, 24), (1, 24), (3, 24), (1000, 24), (1000, 50), (20, 5)])
def test_a_run_of_any_size_ends_on_one_screen_and_the_rest_is_counted(failed: int, rows: int) -> None:
    seen = overview(many(1000, failed=failed))
    text = terminal.render(seen, columns=100, rows=rows, places=("out/report.html",))
    assert len(text.splitlines()) < max(rows, 24)
    lines = text.splitlines()
    assert lines[-2] == "reports: out/report.html"
    assert lines[-1] == seen.headline
    (more,) = (line for line in lines_of_table(text) if "--all shows every row" in line)
    shown = len(lines_of_table(text)) - 2
    assert int(more.split()[1]) == 1000 - shown
    whole = terminal.render(seen, columns=100, rows=None)
    assert whole.count("\naarch64-") == failed
    assert len(lines_of_table(whole)) == 1002


def test_failures_that_have_no_room_are_counted_and_the_first_is_shown() -> None:
    text = terminal.render(overview(many(1000, failed=1000)), columns=100, rows=24)
    first, *_ = re.findall(r"^aarch64-\S+$", text, re.MULTILINE)
    assert first == "aarch64-efficientnet_lite0_0-int8"
    shown = len(re.findall(r"^aarch64-\S+$", text, re.MULTILINE))
    assert f"\nand {1000 - shown} more failures; --all shows them\n" in text


def test_a_small_run_is_shown_whole_on_any_screen() -> None:
    seen = overview(whole_run())
    assert terminal.render(seen, rows=50) == terminal.render(seen)


def test_wide_letters_take_two_columns() -> None:
    text = terminal.render(overview([job("check", "arm-模型模型模型-int8"), job("check", "arm-m-int8")]))
    first, second = lines_of_table(text)[1:]
    assert width(first.partition("arm")[0]) == width(second.partition("arm")[0])


@given(any_records, st.integers(20, 120), st.integers(10, 60))
def test_any_records_fit_into_any_columns(records: list[Record], columns: int, rows: int) -> None:
    seen = overview(records)
    text = terminal.render(seen, columns=columns, rows=rows)
    if seen.cells:
        least = 3 * 8 + 2 * 2
        assert max(map(width, lines_of_table(text))) <= max(columns, least)
