"""The rules of those who read junit.xml, one test for each rule and document.

They are read out of the public sources of mikepenz/action-junit-report (src/testParser.ts), dorny/test-reporter
(src/parsers/java-junit), EnricoMi/publish-unit-test-result-action (python/publish/junit.py), GitLab
(lib/gitlab/ci/parsers/test/junit.rb, lib/gitlab/ci/reports) and Jenkins' junit plugin (SuiteResult, CaseResult,
TimeToFloat), and of GitHub's limits.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest

from crossfarm.reports import junit
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, Record
from tests.unit.reports.records import BAD, EMULATED, GOOD, check, job, number, parse, run_record, whole_run

NASTY = "a\x00\x1b[31m\x08b ]]> </script> <!-- & \ufffe\ud800 \u202e NaN"
WRONG = ("failure", "error")
VERDICTS = (*WRONG, "skipped")


def hostile() -> list[Record]:
    """Return a run in which every text is meant to break what reads it."""
    nan, infinity = float("nan"), float("inf")
    return [
        run_record(cells=(GOOD, BAD), host=NASTY, command=NASTY, started=NASTY, tools={NASTY: NASTY}),
        JobRecord(job="fetch:x", stage="fetch", state="failed", seconds=nan, cause=NASTY, fault="infrastructure"),
        job("compile", GOOD, seconds=infinity, reason=NASTY),
        job("compile", GOOD, "failed", cause="", fault="product", log=NASTY),
        job("measure", GOOD, flaky=(NASTY, "pi-2: gone"), board=NASTY),
        job("check", GOOD),
        check(GOOD, NASTY, "failed", value=nan, limit=-infinity, unit=NASTY, message=NASTY, details=(NASTY,) * 3),
        check(GOOD, NASTY, "error", message="", file="models.yaml", line=3),
        check(GOOD, NASTY, "skipped", message=""),
        check(GOOD, "", "failed", message="two\nlines"),
        check(GOOD, "n" * 5000, "failed", message="m" * 5000),
        check(GOOD, "shown", "informative", value=infinity, message=NASTY, details=(NASTY,)),
        check(BAD, "log", "failed", message="a line too many", details=("x" * 10_000_000,), file="models.yaml", line=4),
        number(GOOD, "latency.p50", nan, "ns", EMULATED),
        EndRecord(exit_code=1, seconds=nan),
    ]


def thousand_failures() -> list[Record]:
    cells = tuple(f"armv7-m{index}-float32" for index in range(500))
    records: list[Record] = [run_record(cells=cells)]
    for cell in cells:
        records += [job("compile", cell), job("check", cell)]
        records += [check(cell, name, "failed", message="3 of 10 are wrong") for name in ("accuracy.a", "accuracy.b")]
    return [*records, EndRecord(exit_code=1, seconds=1.0)]


DOCUMENTS: dict[str, Callable[[], list[Record]]] = {
    "a whole run": whole_run,
    "a killed run": lambda: whole_run()[:5],
    "nothing at all": list,
    "hostile texts": hostile,
    "a thousand failures": thousand_failures,
}


@functools.cache
def text_of(name: str) -> str:
    return junit.render(overview(DOCUMENTS[name]()))


@functools.cache
def document(name: str) -> ET.Element:
    return parse(text_of(name))


def cases(root: ET.Element) -> Iterator[tuple[ET.Element, ET.Element]]:
    return ((suite, case) for suite in root for case in suite.findall("testcase"))


def wrong(root: ET.Element) -> Iterator[tuple[ET.Element, ET.Element]]:
    return ((case, found) for _, case in cases(root) for found in case if found.tag in WRONG)


# mikepenz/action-junit-report


def one_verdict_for_a_case(root: ET.Element) -> None:
    """It reads the first failure only, and a case that is skipped as well fails no more."""
    assert all(sum(element.tag in VERDICTS for element in case) <= 1 for _, case in cases(root))


def a_failure_has_a_message_of_one_line(root: ET.Element) -> None:
    """It is the annotation's text; without one that is what stands first in the trace."""
    messages = [found.get("message", "") for _, found in wrong(root)]
    assert all(message.strip() and "\n" not in message for message in messages)


def a_failure_has_file_and_line(root: ET.Element) -> None:
    """Without both it looks for them in the trace, and else takes the end of the class's name for a path."""
    known = any(case.get("file") for _, case in cases(root))
    for case, _ in wrong(root):
        assert not known or (case.get("file") == "models.yaml" and int(case.get("line", "0")) >= 1)


def a_lost_board_is_a_retry(root: ET.Element) -> None:
    """It counts flakyFailure elements, which a case that failed must not have beside its failure."""
    for _, case in cases(root):
        tags = [element.tag for element in case]
        assert "flakyFailure" not in tags or not set(tags) & set(WRONG)


# dorny/test-reporter


def a_time_everywhere(root: ET.Element) -> None:
    """It parses the attribute without asking whether it is there, and shows NaN where it is not."""
    for element in (root, *root, *(case for _, case in cases(root))):
        seconds = float(element.attrib["time"])
        assert math.isfinite(seconds) and seconds >= 0
        assert re.fullmatch(r"\d+\.\d+", element.attrib["time"])


def every_suite_and_case_has_a_name(root: ET.Element) -> None:
    """It trims names without asking whether they are there."""
    assert all(suite.get("name", "").strip() for suite in root)
    assert all(case.get("name", "").strip() for _, case in cases(root))


def suites_are_not_nested(root: ET.Element) -> None:
    """It reads the cases of the suites below the root, and of no others."""
    assert all(child.tag in ("properties", "testcase") for suite in root for child in suite)


def a_class_is_not_named_like_its_suite(root: ET.Element) -> None:
    """Such cases lose their heading, but for a suite of one case."""
    assert all(case.get("classname") != suite.get("name") or len(suite) <= 2 for suite, case in cases(root))


def the_first_line_of_a_failure_says_what_is_wrong(root: ET.Element) -> None:
    """Its list of failures shows the first line that is not empty."""
    for _, found in wrong(root):
        first = next(line for line in (found.text or "").splitlines() if line.strip())
        message = found.get("message", "")
        assert " ".join(first.split()).startswith(message.removesuffix("…")), (first, message)


# EnricoMi/publish-unit-test-result-action


def counts_are_numbers_that_add_up(root: ET.Element) -> None:
    """It sums the attributes of the suites, apart from the cases."""
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
        assert int(suite.attrib["disabled"]) == 0
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
    for attribute in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[attribute]) == sum(int(suite.attrib[attribute]) for suite in root)


def a_test_is_known_by_class_and_name(root: ET.Element) -> None:
    """Equal ones count as several runs of one test; GitLab drops all but the first of a suite."""
    names = collections.Counter((s.get("name"), c.get("classname"), c.get("name")) for s, c in cases(root))
    assert not [name for name, times in names.items() if times > 1]


def a_suite_has_no_empty_output(root: ET.Element) -> None:
    """An element system-out of a suite without a text ends it."""
    assert not [child for suite in root for child in suite if child.tag in ("system-out", "system-err")]


def no_text_is_huge(root: ET.Element) -> None:
    """libxml2 refuses texts of 10 MB, unless `large_files` is set."""
    assert max(len(element.text or "") for element in root.iter()) <= junit.MOST_OUTPUT + 100
    assert max(len(value) for element in root.iter() for value in (*element.attrib.values(), "")) < 100_000


def a_line_is_a_whole_number(root: ET.Element) -> None:
    for _, case in cases(root):
        assert ("file" in case.attrib) == ("line" in case.attrib)
        assert int(case.get("line", "1")) >= 1


# GitLab


def the_text_of_a_failure_holds_its_message(root: ET.Element) -> None:
    """It shows the text alone, and nothing when that is empty."""
    for _, found in wrong(root):
        assert found.get("message", "").removesuffix("…") in " ".join((found.text or "").split())


def one_root_with_suites_below(root: ET.Element) -> None:
    """It takes cases out of suites below one `testsuites` only."""
    assert root.tag == "testsuites"
    assert all(suite.tag == "testsuite" for suite in root)
    assert len(root)


def no_type_is_one_of_ruby(root: ET.Element) -> None:
    """It reads the document as a hash, in which `type` asks for a conversion; some are refused and end the report."""
    kinds = {element.get("type") for element in root.iter() if "type" in element.attrib}
    assert kinds <= {"failure", "error", "skipped", "board"}


# Jenkins


def no_suite_has_a_name_twice(root: ET.Element) -> None:
    """It takes two suites of one name for the same one and drops the later."""
    assert len({suite.get("name") for suite in root}) == len(root)


def a_suite_has_no_error_of_its_own(root: ET.Element) -> None:
    """That stands for a class that could not be loaded."""
    assert not [child for suite in root for child in suite if child.tag in WRONG]


def package_and_class(root: ET.Element) -> None:
    """What stands before the last dot is the package: the target, or where there is none `preparation` or `run`."""
    for suite, case in cases(root):
        package = case.get("classname", "").rpartition(".")[0]
        assert package in (suite.get("name", "").partition("/")[0], "")
        assert package or case.get("classname") == "run"


def numbers_stand_where_they_are_kept(root: ET.Element) -> None:
    """Of the output of a case that passed it keeps 500 characters from each end."""
    for _, case in cases(root):
        text = case.findtext("system-out", "")
        kept = text[:500] + text[-500:]
        properties = {item.get("name", "") for item in case.findall("properties/property")}
        assert "latency.p50 (ns)" not in properties or "latency.p50 = " in kept


# GitHub, and XML itself


def names_fit_into_a_title(root: ET.Element) -> None:
    """The title of an annotation holds 255 characters, its message 64 KB."""
    assert all(len(f"{c.get('classname')} {c.get('name')}") <= 255 for _, c in cases(root))
    assert all(len(found.get("message", "").encode()) < 65_536 for _, found in wrong(root))


def nothing_shown_is_a_case_that_passes(root: ET.Element) -> None:
    """A row that gates nothing would be counted as a test that passed."""
    names = {case.get("name") for _, case in cases(root)}
    assert not names & {"shown", "latency.p50", "accuracy.top1.digits"}


def no_control_characters(root: ET.Element) -> None:
    for element in root.iter():
        for text in (element.text or "", element.tail or "", *element.attrib.values()):
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202e]", text)


@dataclasses.dataclass(frozen=True)
class Rule:
    reader: str
    holds: Callable[[ET.Element], None]


RULES = (
    Rule("action-junit-report", one_verdict_for_a_case),
    Rule("action-junit-report", a_failure_has_a_message_of_one_line),
    Rule("action-junit-report", a_failure_has_file_and_line),
    Rule("action-junit-report", a_lost_board_is_a_retry),
    Rule("test-reporter", a_time_everywhere),
    Rule("test-reporter", every_suite_and_case_has_a_name),
    Rule("test-reporter", suites_are_not_nested),
    Rule("test-reporter", a_class_is_not_named_like_its_suite),
    Rule("test-reporter", the_first_line_of_a_failure_says_what_is_wrong),
    Rule("publish-unit-test-result", counts_are_numbers_that_add_up),
    Rule("publish-unit-test-result", a_test_is_known_by_class_and_name),
    Rule("publish-unit-test-result", a_suite_has_no_empty_output),
    Rule("publish-unit-test-result", no_text_is_huge),
    Rule("publish-unit-test-result", a_line_is_a_whole_number),
    Rule("GitLab", the_text_of_a_failure_holds_its_message),
    Rule("GitLab", one_root_with_suites_below),
    Rule("GitLab", no_type_is_one_of_ruby),
    Rule("Jenkins", no_suite_has_a_name_twice),
    Rule("Jenkins", a_suite_has_no_error_of_its_own),
    Rule("Jenkins", package_and_class),
    Rule("Jenkins", numbers_stand_where_they_are_kept),
    Rule("GitHub", names_fit_into_a_title),
    Rule("crossfarm", nothing_shown_is_a_case_that_passes),
    Rule("XML", no_control_characters),
)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.reader}: {rule.holds.__name__}")
def test_the_rules_of_those_who_read_it_hold(rule: Rule, name: str) -> None:
    rule.holds(document(name))


def test_a_thousand_failures_are_all_there() -> None:
    root = document("a thousand failures")
    assert (root.get("tests"), root.get("failures")) == ("2000", "1000")
    assert len(text_of("a thousand failures")) < junit.MOST_BYTES


def test_a_log_of_ten_megabytes_is_cut_and_what_is_lost_is_counted() -> None:
    (text,) = (found.text or "" for case, found in wrong(document("hostile texts")) if case.get("name") == "log")
    assert text.startswith("a line too many\nxxx")
    assert re.search(r"\n\(9934\d{3} more characters\)$", text)


def test_numbers_that_are_not_finite_stand_there_as_words() -> None:
    properties = {item.get("name"): item.get("value") for item in document("hostile texts").iter("property")}
    assert properties["latency.p50 (ns, emulated)"] == "nan"
    assert properties["shown"] == "inf"


def test_a_document_that_would_be_too_large_loses_texts_of_what_passed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(junit, "MOST_BYTES", 2_800_000)
    long = ("é" * 60_000,)
    records: list[Record] = [check(GOOD, f"good{index}", "passed", details=long) for index in range(40)]
    records += [check(BAD, f"bad{index}", "failed", details=long, message="wrong") for index in range(20)]
    text = junit.render(overview([*records, EndRecord(exit_code=1, seconds=1.0)]))
    assert len(text.encode()) <= junit.MOST_BYTES
    root = parse(text)
    assert int(root.get("tests", "0")) == 60
    assert min(len(found.text or "") for _, found in wrong(root)) > 60_000
    assert max(len(case.findtext("system-out", "")) for _, case in cases(root)) < 5000


def test_a_document_that_is_far_too_large_keeps_every_verdict() -> None:
    long = ("x" * 60_000,)
    records: list[Record] = [
        check(BAD, f"bad{index}", "failed", details=long, message="wrong") for index in range(2000)
    ]
    text = junit.render(overview([*records, EndRecord(exit_code=1, seconds=1.0)]))
    assert len(text.encode()) <= junit.MOST_BYTES
    root = parse(text)
    assert root.get("failures") == "2000"
    assert all(found.get("message") == "wrong" for _, found in wrong(root))
