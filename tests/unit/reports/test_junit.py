"""JUnit XML, held against what the servers and actions that read it rely on."""

from __future__ import annotations

import collections
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given

from crossfarm.reports import junit
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Provenance, Record
from tests.unit.reports.records import (
    BAD,
    EMULATED,
    GOOD,
    LOST,
    any_records,
    check,
    job,
    number,
    parse,
    run_record,
    whole_run,
)

COUNTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def document(records: list[Record]) -> ET.Element:
    return parse(junit.render(overview(records)))


def find(root: ET.Element, classname: str, name: str) -> ET.Element:
    (case,) = (item for item in root.iter("testcase") if (item.get("classname"), item.get("name")) == (classname, name))
    return case


def assert_readable(root: ET.Element) -> None:
    """Assert what Jenkins' schema, GitLab and the three usual GitHub actions need of a document."""
    assert root.tag == "testsuites"
    assert float(root.attrib["time"]) >= 0
    for suite in root:
        assert suite.tag == "testsuite"
        assert {"name", "tests", "failures", "errors", "skipped", "time"} <= set(suite.attrib)
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        for attribute, tag in COUNTS.items():
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
        for element in suite:
            assert element.tag in ("properties", "testcase")
    for attribute in ("tests", *COUNTS):
        assert int(root.attrib[attribute]) == sum(int(suite.attrib[attribute]) for suite in root)
    for case in root.iter("testcase"):
        assert re.fullmatch(r"\d+\.\d{6}", case.attrib["time"])
        assert {"name", "classname"} <= set(case.attrib)
        assert ("file" in case.attrib) == ("line" in case.attrib)
        assert not case.get("line") or int(case.attrib["line"]) >= 1
        verdicts = [element for element in case if element.tag in COUNTS.values()]
        assert len(verdicts) <= 1
        assert all(element.get("message") and element.get("type") for element in verdicts)
        order = [element.tag for element in case]
        assert order == sorted(order, key=("properties", "flakyFailure", *COUNTS.values(), "system-out").index)
    for element in root.iter():
        if "timestamp" in element.attrib:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", element.attrib["timestamp"])
    names = collections.Counter(
        (suite.get("name"), case.get("classname"), case.get("name"))
        for suite in root
        for case in suite.iter("testcase")
    )
    assert set(names.values()) <= {1}
    suites = collections.Counter(suite.get("name") for suite in root)
    assert set(suites.values()) <= {1}


def test_a_whole_run_is_readable_by_every_server() -> None:
    root = document(whole_run())
    assert_readable(root)
    assert root.attrib == {
        "name": "crossfarm",
        "tests": "10",
        "failures": "1",
        "errors": "1",
        "skipped": "2",
        "time": "61.000000",
        "timestamp": "2026-11-21T10:00:00",
    }


@given(any_records)
def test_any_records_give_a_readable_document_whose_counts_add_up(records: list[Record]) -> None:
    seen = overview(records)
    root = parse(junit.render(seen))
    assert_readable(root)
    gates = {cell.id: [item for item in cell.checks if item.status not in junit.GATE_NOTHING] for cell in seen.cells}
    cases = [item for cell in seen.cells for item in (*cell.jobs, *cell.missing, *gates[cell.id])]
    shown_only = [
        cell
        for cell in seen.cells
        if not cell.jobs and (len(gates[cell.id]) < len(cell.checks) or not (cell.missing or gates[cell.id]))
    ]
    made = [cell for cell in seen.cells if cell.state == "made" and cell.jobs]
    expected = len(cases) + len(shown_only) + len(made) + len(seen.others) + (not seen.is_complete)
    assert int(root.attrib["tests"]) == expected


def test_a_cell_that_was_made_and_not_checked_is_not_all_green() -> None:
    root = document([run_record(cells=(GOOD,)), job("compile", GOOD), EndRecord(exit_code=0, seconds=1.0)])
    skipped = find(root, "x86_64.mnist", "checks").find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "nothing was checked"
    assert root.get("skipped") == "1"


def test_a_wrong_answer_is_a_failure_and_a_lost_machine_an_error() -> None:
    root = document(whole_run())
    failure = find(root, "armv7.mnist", "accuracy.output.y").find("failure")
    assert failure is not None
    assert failure.get("message") == "3 are NaN"
    error = find(root, "armv7.vad", "compile").find("error")
    assert error is not None
    assert error.get("message") == "out of memory"
    assert "log: out/logs/1.log" in (error.text or "")
    assert f"to reproduce: ./inv pipeline --only {LOST}" in (error.text or "")


def test_skipped_and_cancelled_jobs_say_why() -> None:
    root = document(whole_run())
    skipped = find(root, "armv7.vad", "compile [int8]").find("skipped")
    cancelled = find(root, "armv7.vad", "measure").find("skipped")
    assert skipped is not None
    assert cancelled is not None
    assert skipped.get("message") == "skipped: no int8 for 32-bit ARM"
    assert cancelled.get("message") == "cancelled: compile failed"


def test_a_case_points_to_the_line_that_declares_its_model() -> None:
    case = find(document(whole_run()), "armv7.vad", "compile")
    assert (case.get("file"), case.get("line")) == ("models.yaml", "12")


def test_a_suite_is_a_target_and_its_board_with_the_provenance() -> None:
    root = document(whole_run())
    assert [suite.get("name") for suite in root] == ["preparation", "x86_64/local", "armv7/local"]
    properties = {item.get("name"): item.get("value") for item in root[1].findall("properties/property")}
    assert properties["governor"] == "performance"
    assert properties["tool apache-tvm"] == "0.27.0"
    assert properties["timing"] == "silicon"


def test_numbers_stand_in_the_properties_and_the_output_of_the_measuring_job() -> None:
    case = find(document(whole_run()), "armv7.mnist", "measure")
    properties = {item.get("name"): item.get("value") for item in case.findall("properties/property")}
    assert properties["latency.p50 (ns, emulated)"] == "98700000.0"
    assert "latency.p50 = 98.7 ms (emulated)" in case.findtext("system-out", "")
    silicon = find(document(whole_run()), "x86_64.mnist", "measure").findtext("system-out", "")
    assert "latency.p50 = 12.3 ms" in silicon.splitlines()


def test_what_was_only_shown_stands_in_the_last_job_and_is_no_case_that_passes() -> None:
    root = document(whole_run())
    names = [case.get("name") for case in root.iter("testcase") if case.get("classname") == "x86_64.mnist"]
    assert names == ["compile", "measure", "accuracy.output.y"]
    last = find(root, "x86_64.mnist", "measure")
    text = last.findtext("system-out", "")
    assert "accuracy.top1.digits: accuracy.top1.digits informative" in text
    assert "3.png: 8 0.61 - WRONG, it is 3" in text
    properties = {item.get("name"): item.get("value") for item in last.findall("properties/property")}
    assert properties["accuracy.top1.digits (share)"] == "0.5"


def test_a_cell_with_nothing_but_shown_numbers_is_one_skipped_case() -> None:
    shown = check(GOOD, "latency.p50", "informative", value=2.0, limit=3.0, unit="ns", note="emulated")
    case = find(document([shown]), "x86_64.mnist", "run")
    assert case.find("skipped") is not None
    assert "latency.p50: latency.p50 informative (emulated)" in case.findtext("system-out", "")
    properties = {item.get("name"): item.get("value") for item in case.findall("properties/property")}
    assert properties == {"latency.p50 (ns)": "2.0", "latency.p50 limit (ns)": "3.0"}


def test_equal_names_are_numbered() -> None:
    root = document([job("compile", GOOD), check(GOOD, "compile", "passed"), check(GOOD, "compile", "failed")])
    assert [case.get("name") for case in root.iter("testcase")][1:] == ["compile", "compile (2)", "compile (3)"]


def test_targets_that_look_the_same_share_a_suite() -> None:
    root = document([job("compile", "t\x1f-m-float32"), job("compile", "t-m-float32")])
    assert_readable(root)
    assert [suite.get("name") for suite in root if suite.get("name") != "run"] == ["t"]


def test_an_interrupted_run_is_an_error_that_lists_what_is_missing() -> None:
    planned = (f"compile:{GOOD}", f"measure:{GOOD}", f"compile:{BAD}")
    end = EndRecord(exit_code=130, seconds=4.0, interrupted=True)
    root = document([run_record(cells=(GOOD, BAD), jobs=planned), job("compile", GOOD), end])
    assert_readable(root)
    error = find(root, "run", "complete").find("error")
    assert error is not None
    assert error.get("message") == "the run was interrupted after 4.00 s; 2 planned jobs left no result"
    assert planned[1] in (error.text or "")
    assert find(root, "armv7.mnist", "compile").find("skipped") is not None


def test_text_without_end_is_cut_and_what_is_lost_is_counted() -> None:
    details = tuple("x" * 1000 for _ in range(1000))
    root = document([check(GOOD, "accuracy.top1.d", "passed", details=details)])
    text = find(root, "x86_64.mnist", "accuracy.top1.d").findtext("system-out", "")
    assert len(text) < junit.MOST_OUTPUT + 100
    assert re.search(r"\(\d+ more characters\)$", text)


def test_an_empty_run_is_a_document_too() -> None:
    root = document([])
    assert_readable(root)
    assert root.get("errors") == "1"


def test_a_document_holds_every_element_and_nothing_else() -> None:
    """A run in which everything occurs; document.xml was read line by line and held against what servers read."""
    pi = Provenance(board="pi-1", timing="silicon", temperature=51.5)
    again, seen, unchecked = "arm-vad-int8", "arm-seen-float32", "arm-made-int8"
    records = [
        run_record(git_commit="abc123", cells=(GOOD, again, seen, unchecked), jobs=(f"bundle:{again}",)),
        JobRecord(job="fetch:vad.onnx", stage="fetch", state="run", seconds=2.0, started="2026-11-21T12:00:01.7+02:00"),
        JobRecord(
            job="prepare:vad",
            stage="prepare",
            model="vad",
            state="failed",
            seconds=0.25,
            cause="no\nsuch file",
            reason="never made",
        ),
        job("compile", again, key="0123", reason="sources changed", log="out/1.log"),
        job("measure", again, board="pi-2", flaky=("pi-1: it does not answer", "pi-3: too hot")),
        job("bundle", GOOD, "failed", fault="product"),
        job("measure", GOOD, "failed", fault="infrastructure", cause="lost", flaky=("pi-1: gone",)),
        check(
            again,
            "accuracy.output.y",
            "error",
            message="",
            file="models.yaml",
            line=7,
            command="./inv check",
            note="of 3",
        ),
        check(again, "accuracy.argmax", "skipped", value=1.0, message="two\nlines", details=("a", "", "b")),
        number(again, "latency.p50", 12.34e6, "ns", pi),
        number(again, "load_time", 0.5, "s", EMULATED),
        number(again, "program", 317_440, "bytes", EMULATED),
        number(seen, "latency.p50", 1e6, "ns", EMULATED),
        job("compile", unchecked),
        check(unchecked, "latency.p50", "informative", limit=2.0, file="models.yaml"),
        EndRecord(exit_code=130, seconds=4.0, interrupted=True),
    ]
    assert junit.render(overview(records)) == Path(__file__).with_name("document.xml").read_text(encoding="utf-8")


def test_without_a_first_and_a_last_record_times_and_hosts_are_left_out_and_seconds_add_up() -> None:
    root = document([job("compile", GOOD), job("measure", GOOD), job("compile", BAD)])
    assert root.get("time") == "4.500000"
    assert "timestamp" not in root.attrib
    assert [suite.get("hostname") for suite in root] == [None] * 3
    assert [suite.get("name") for suite in root] == ["run", "x86_64", "armv7"]
    assert [suite.find("properties") for suite in root] == [None] * 3
    case = find(root, "x86_64.mnist", "compile")
    assert "timestamp" not in case.attrib
    assert find(root, "run", "complete").get("time") == "0.000000"


def test_a_job_has_its_own_time_and_others_that_of_the_run() -> None:
    records = [run_record(), job("compile", GOOD, started="2026-11-21T13:30:59.999+01:00"), job("measure", GOOD)]
    root = document(records)
    assert find(root, "x86_64.mnist", "compile").get("timestamp") == "2026-11-21T12:30:59"
    assert find(root, "x86_64.mnist", "measure").get("timestamp") == "2026-11-21T10:00:00"
    alone = document([job("compile", GOOD, started="2026-11-21T13:30:59+01:00")])
    assert find(alone, "x86_64.mnist", "compile").get("timestamp") == "2026-11-21T12:30:59"


@pytest.mark.parametrize("started", ["", "yesterday", "0001-01-01T00:00:00+23:59"])
def test_a_time_that_is_none_is_left_out(started: str) -> None:
    root = document([run_record(started=started), job("compile", GOOD, started=started)])
    assert not [element for element in root.iter() if "timestamp" in element.attrib]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0000014, "0.000001"),
        (999_999_999.0, "999999999.000000"),
        (1e9, "0.000000"),
        (-1.0, "0.000000"),
        (math.nan, "0.000000"),
        (math.inf, "0.000000"),
    ],
)
def test_seconds_that_no_clock_showed_are_none(seconds: float, shown: str) -> None:
    root = document([run_record(), job("compile", GOOD, seconds=seconds), EndRecord(exit_code=0, seconds=seconds)])
    assert root.get("time") == shown
    assert find(root, "x86_64.mnist", "compile").get("time") == shown


def test_a_job_without_model_and_subject_is_named_by_its_id() -> None:
    root = document([JobRecord(job="odd", stage="s", state="run", seconds=1.0)])
    assert find(root, "preparation.odd", "s").get("time") == "1.000000"
    root = document([JobRecord(job="fetch:a:b", stage="fetch", state="run", seconds=1.0)])
    assert find(root, "preparation.a:b", "fetch").get("time") == "1.000000"


def test_text_that_just_fits_is_whole_and_one_character_more_is_counted() -> None:
    for length, end in ((65_536, "x"), (65_537, "x\n(1 more character)")):
        root = document([check(GOOD, "c", "passed", message="x" * length)])
        text = find(root, "x86_64.mnist", "c").findtext("system-out", "")
        assert text == "x" * 65_535 + end


def test_names_that_differ_only_in_what_xml_cannot_hold_are_numbered_each_by_its_class() -> None:
    records = [check(cell, f"c{end}", "passed") for cell in (GOOD, BAD) for end in ("\x00", "\x01")]
    shown = [(case.get("classname"), case.get("name")) for case in document(records).iter("testcase")]
    assert shown[1:] == [(f"{cell}.mnist", name) for cell in ("x86_64", "armv7") for name in ("c", "c (2)")]


def test_a_cell_that_was_not_measured_belongs_to_the_only_board_of_its_target() -> None:
    measured = number("armv7-mnist-float32", "program", 1.0, "bytes", EMULATED)
    other = number("armv7-vad-int8", "program", 1.0, "bytes", Provenance(board="pi-1", timing="silicon"))
    one = document([job("compile", LOST), measured])
    assert [suite.get("name") for suite in one] == ["run", "armv7/local"]
    two = document([job("compile", LOST), measured, other])
    assert [suite.get("name") for suite in two] == ["run", "armv7", "armv7/local", "armv7/pi-1"]


def test_a_skip_without_a_reason_and_a_failure_without_a_word_say_so() -> None:
    root = document([check(GOOD, "a", "failed", message=""), check(GOOD, "b", "skipped", message="")])
    failure, skipped = find(root, "x86_64.mnist", "a")[-1], find(root, "x86_64.mnist", "b")[-1]
    assert (failure.tag, failure.get("message")) == ("failure", "failed")
    assert (skipped.tag, skipped.get("message")) == ("skipped", "skipped")
