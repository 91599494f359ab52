"""The table on the terminal."""

from __future__ import annotations

import re

from hypothesis import given

from crossfarm.reports import terminal
from crossfarm.reports.run_view import overview
from crossfarm.results import Record
from tests.unit.reports.records import BAD, LOST, any_records, check, job, run_record, whole_run


def test_the_table_shows_every_cell_and_below_it_what_is_wrong() -> None:
    text = terminal.render(overview(whole_run()))
    lines = text.splitlines()
    assert lines[0].split() == ["model", "target", "verdict", "max", "diff", "right", "p50", "program"]
    assert re.fullmatch(r"mnist +x86_64 +passed +3\.1e-07 +50\.0 % digits +12\.3 ms +310 KiB", lines[1])
    assert re.fullmatch(r"mnist +armv7 +FAILED +not finite +98\.7 ms \(emulated\)", lines[2])
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
    assert lines[1][:end].endswith(" 3.1e-07")


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
