"""JUnit XML as continuous-integration servers read it.

A suite is a target (and the board that ran it), a class `target.model`, a case one job or one check that can fail. A
failure is the product's fault, an error the infrastructure's. What was only shown is no case, which would count as one
that passed: it stands in the properties and in system-out of the cell's last job. Servers that show no properties find
the key numbers in the message and in system-out. Jobs about a source or a model stand in the suite `preparation`, an
incomplete run in the suite `run`. tests/unit/reports/test_junit_readers.py holds the rules of those who read it.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from crossfarm.reports.run_view import CellOutcome, Overview, is_flaky, known_failure
from crossfarm.reports.shown import cases_by_name, cases_of, label, shown
from crossfarm.results import CheckRecord, JobRecord, Provenance, RunRecord
from crossfarm.util.text import clean, count, one_line

MOST_OUTPUT = 64 * 1024
"""Characters of text that one case carries at most."""
MOST_BYTES = 28_000_000
"""Of a document: GitLab takes files of less than 30 MB."""
_OUTPUTS = ((MOST_OUTPUT, MOST_OUTPUT), (MOST_OUTPUT, 4096), (16_384, 1024), (4096, 512), (1024, 0), (256, 0))
"""Characters that a case which is wrong carries at most, and any other one: the first that make the document fit."""
_DEFAULT_VARIANT = "float32"
_LONGEST_CLASS, _LONGEST_NAME = 100, 140
"""Characters: with a number behind it, both fit into the title of an annotation on GitHub, which holds 255."""
_UNNAMED = "unnamed"
GATE_NOTHING = ("informative", "unexpected pass")
"""States of rows that are no cases of their own."""


@dataclasses.dataclass(kw_only=True)
class _Case:
    """A test case: what junit-xml knows of it, and what is added to its element."""

    classname: str
    name: str
    seconds: float = 0.0
    timestamp: str | None = None
    file: str | None = None
    line: int | None = None
    failure: str | None = None
    error: str | None = None
    skipped: str | None = None
    text: str = ""
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    flaky: Sequence[str] = ()

    @property
    def is_wrong(self) -> bool:
        return self.failure is not None or self.error is not None


@dataclasses.dataclass(kw_only=True)
class _Suite:
    name: str
    cases: list[_Case] = dataclasses.field(default_factory=list)
    properties: dict[str, str] = dataclasses.field(default_factory=dict)


def render(seen: Overview) -> str:
    """Return the JUnit document of a run. Every attribute that a server relies on is there, and no name is twice.

    Texts are cut, those of cases that passed before those of others, until it fits into MOST_BYTES.
    """
    suites = _suites(seen)
    for suite in suites:
        _make_names_unique(suite.cases)
    for most in _OUTPUTS:
        texts = sum(min(len(case.text), most[not case.is_wrong]) for suite in suites for case in suite.cases)
        # What is certain not to fit need not be rendered first.
        if texts <= MOST_BYTES or most is _OUTPUTS[-1]:
            document = _document(seen, suites, most)
            if len(document) <= MOST_BYTES // 4 or len(document.encode()) <= MOST_BYTES:
                return document
    return document


def _document(seen: Overview, suites: Sequence[_Suite], most: tuple[int, int]) -> str:
    from junit_xml import TestSuite

    root = ET.Element("testsuites")
    started = _timestamp(seen.run.started if seen.run else None)
    totals: collections.Counter[str] = collections.Counter()
    seconds = 0.0
    for suite in suites:
        built = TestSuite(
            suite.name,
            [_junit_case(case, most[not case.is_wrong]) for case in suite.cases],
            hostname=one_line(seen.run.host.split(" ")[0]) if seen.run else None,
            timestamp=started,
            properties={clean(name): clean(value) for name, value in suite.properties.items()},
        ).build_xml_doc()
        for element, case in zip(built.iter("testcase"), suite.cases, strict=True):
            _complete(element, case, started)
        spent = sum(case.seconds for case in suite.cases)
        built.set("time", f"{spent:.6f}")
        seconds += spent
        totals.update({name: int(built.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")})
        root.append(built)
    root.attrib.update(
        {"name": "crossfarm", **{name: str(totals[name]) for name in ("tests", "failures", "errors", "skipped")}}
    )
    root.set("time", f"{_finite(seen.end.seconds) if seen.end else seconds:.6f}")
    if started:
        root.set("timestamp", started)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suites(seen: Overview) -> list[_Suite]:
    suites: dict[str, _Suite] = {}

    def suite(name: str) -> _Suite:
        # Names that differ only in what XML cannot hold are one name in the document.
        shown = one_line(name, _LONGEST_CLASS) or _UNNAMED
        return suites.setdefault(shown, _Suite(name=shown))

    if not seen.is_complete:
        missing = "\n".join(seen.missing)
        suite("run").cases.append(
            _Case(classname="run", name="complete", error=seen.interruption, text=f"{seen.interruption}\n{missing}")
        )
    for job in seen.others:
        suite("preparation").cases.append(_job_case(job, f"preparation.{_subject(job)}", job.stage))
    boards: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for cell in seen.cells:
        if cell.provenance:
            boards[cell.target].add(cell.provenance.board)
    for cell in seen.cells:
        # A cell that failed before it was measured belongs to the only board of its target all the same.
        board = cell.provenance.board if cell.provenance else next(iter(boards[cell.target]), None)
        known = board if cell.provenance or len(boards[cell.target]) == 1 else None
        found = suite(f"{cell.target}/{known}" if known else cell.target)
        found.cases.extend(_cell_cases(cell))
        if cell.provenance:
            found.properties.update(_provenance(cell.provenance))
    rows: list[JobRecord | CheckRecord] = [*seen.others]
    for cell in seen.cells:
        rows += [*cell.jobs, *cell.checks]
    declared = next((row.file for row in rows if row.file), None)
    for found in suites.values():
        if seen.run:
            found.properties = {**_run_properties(seen.run), **found.properties}
        for case in found.cases:
            if case.is_wrong and not case.file:
                # Without a file, annotations would point into one that is named like the class.
                case.file, case.line = declared, 1
    return list(suites.values())


def _cell_cases(cell: CellOutcome) -> Iterator[_Case]:
    classname = f"{cell.target}.{cell.model}"
    # The usual variant has plain names, so that they stay what they are when a model gets a second one.
    suffix = f" [{cell.variant}]" if cell.variant and cell.variant != _DEFAULT_VARIANT else ""
    shown = [check for check in cell.checks if check.status in GATE_NOTHING]
    held = [check for check in cell.checks if check.status not in GATE_NOTHING]
    for job in cell.jobs:
        told: list[str] = []
        details: list[str] = []
        properties: dict[str, str] = {}
        if job.stage == "measure":
            told += _spoken_numbers(cell)
            properties |= _numbers(cell)
        if job is cell.jobs[-1]:
            told += map(_spoken_row, shown)
            details += itertools.chain.from_iterable(map(_row_details, shown))
            properties |= _row_properties(shown)
        case = _job_case(job, classname, job.stage + suffix, told=told, details=details)
        case.properties |= properties
        yield case
    for stage in cell.missing:
        yield _Case(classname=classname, name=stage + suffix, skipped="the run ended before it got here")
    if not cell.jobs and (shown or not (cell.missing or held)):
        rows = [line for check in shown for line in (_spoken_row(check), *_row_details(check))]
        yield _Case(
            classname=classname,
            name=f"run{suffix}",
            skipped=cell.cause or "it shows numbers and checks nothing",
            text="\n".join([cell.cause, *_spoken_numbers(cell), *rows]),
            properties=_numbers(cell) | _row_properties(shown),
        )
    if cell.state == "made" and cell.jobs:
        # Without it, a server that shows green cases only would call a cell good that was never compared.
        yield _Case(classname=classname, name=f"checks{suffix}", skipped=cell.cause, text=cell.cause)
    timing = cell.provenance.timing if cell.provenance else None
    for check in held:
        yield _check_case(check, classname, check.name + suffix, timing=timing)


def _job_case(
    job: JobRecord, classname: str, name: str, *, told: Sequence[str] = (), details: Sequence[str] = ()
) -> _Case:
    """Return the case of a job.

    Args:
        job: its record.
        classname: of the case, and so is `name`.
        told: lines that must be seen. Jenkins keeps 500 characters from the beginning of a text and 500 from its end.
        details: lines that may be cut away.
    """
    why = one_line(job.cause or job.reason or "")
    is_infrastructure = job.fault == "infrastructure"
    log = f"log: {job.log}" if job.log else ""
    flaky = f"flaky, ran well on {job.board} after {'; '.join(job.flaky)}" if is_flaky(job) else ""
    failed = why or "no cause was told" if job.state == "failed" else None
    # GitLab shows the text of a failure alone, and test-reporter its first line.
    first = [failed or "", f"{job.job}: {job.state}"] if failed else [f"{job.job}: {job.state}", why]
    lines = [*first, flaky, *told, log, _reproduce(job.command), *details]
    return _Case(
        classname=classname,
        name=name,
        seconds=_finite(job.seconds),
        timestamp=_timestamp(job.started),
        file=job.file,
        line=job.line,
        failure=failed if not is_infrastructure else None,
        error=failed if is_infrastructure else None,
        skipped=_left_out(job, why),
        text="\n".join(line for line in lines if line),
        properties={
            "job": job.job,
            "state": job.state,
            **({"key": job.key} if job.key else {}),
            **({"board": job.board} if job.board else {}),
            **({"flaky": "; ".join(job.flaky)} if is_flaky(job) else {}),
        },
        flaky=job.flaky if is_flaky(job) else (),
    )


def _left_out(job: JobRecord, why: str) -> str | None:
    """Return why a job counts neither as good nor as failed."""
    if job.state == "known failure":
        return f"known failure: {known_failure(job)}"
    return f"{job.state}: {why}" if job.state in ("skipped", "cancelled") else None


def _held_back(check: CheckRecord, message: str) -> str | None:
    """Return why a check counts neither as good nor as failed."""
    if check.status == "known failure":
        return f"known failure: {known_failure(check)}"
    return message if check.status == "skipped" else None


def _check_case(check: CheckRecord, classname: str, name: str, *, timing: str | None) -> _Case:
    message = one_line(check.message) or check.status
    is_wrong = check.status in ("failed", "error")
    # As in the text of a job that failed: the message first, then all of it where it has more than one line.
    rest = "" if clean(check.message).strip() == message else check.message
    first = (message, rest) if is_wrong else (check.message,)
    properties: dict[str, str] = {"status": check.status}
    if check.value is not None:
        properties |= {"value": repr(check.value), "unit": check.unit or ""}
        properties |= {"cases": str(check.cases)} if check.cases else {}
        worth = label(check.name, check.unit, timing)
        properties |= {"timing": worth} if worth else {}
    if check.limit is not None:
        properties["limit"] = repr(check.limit)
    if check.note:
        properties["note"] = check.note
    if check.expected:
        properties["expected"] = check.expected
    return _Case(
        classname=classname,
        name=name,
        file=check.file,
        line=check.line,
        failure=message if check.status == "failed" else None,
        error=message if check.status == "error" else None,
        skipped=_held_back(check, message),
        text="\n".join(line for line in (*first, *check.details, _reproduce(check.command)) if line),
        properties=properties,
    )


def _junit_case(case: _Case, most: int) -> Any:
    from junit_xml import TestCase

    text = clean(case.text)
    if len(text) > most:
        text = f"{text[:most]}\n({count(len(text) - most, 'more character')})".strip()
    built = TestCase(clean(case.name), clean(case.classname), stdout=None if case.is_wrong else text)
    if case.failure is not None:
        built.add_failure_info(clean(case.failure) or "failed", text)
    elif case.error is not None:
        built.add_error_info(clean(case.error) or "error", text)
    elif case.skipped is not None:
        built.add_skipped_info(clean(case.skipped) or "skipped")
    return built


def _complete(element: ET.Element, case: _Case, started: str | None) -> None:
    """Add what junit-xml leaves out: a time that is always there, the place in the declaration, properties."""
    element.set("time", f"{case.seconds:.6f}")
    if case.timestamp or started:
        element.set("timestamp", case.timestamp or started or "")
    if case.file:
        element.set("file", clean(case.file))
        element.set("line", str(case.line or 1))
    for told in reversed(case.flaky):
        # Counted as a retry by those who know it; the case passes all the same.
        lost = ET.Element("flakyFailure", {"type": "board", "message": one_line(told)})
        lost.text = one_line(told)
        element.insert(0, lost)
    if case.properties:
        properties = ET.Element("properties")
        for name, value in case.properties.items():
            ET.SubElement(properties, "property", {"name": clean(name), "value": clean(value)})
        element.insert(0, properties)


def _make_names_unique(cases: Iterable[_Case]) -> None:
    """Number the later ones of equal names: some servers drop all but the first of a name."""
    taken: set[tuple[str, str]] = set()
    for case in cases:
        case.classname = one_line(case.classname, _LONGEST_CLASS) or _UNNAMED
        case.name = one_line(case.name, _LONGEST_NAME) or _UNNAMED
        plain, number = case.name, 1
        while (case.classname, case.name) in taken:
            number += 1
            case.name = f"{plain} ({number})"
        taken.add((case.classname, case.name))


def _numbers(cell: CellOutcome) -> dict[str, str]:
    """Return a cell's numbers for machines: no digit is lost, and the unit is part of the name."""
    return {
        f"{name} ({', '.join(filter(None, (item.unit, label(name, item.unit, item.provenance.timing))))})": repr(
            item.value
        )
        for name, item in cell.measurements.items()
    }


def _spoken_row(check: CheckRecord) -> str:
    note = f" ({one_line(check.note)})" if check.note else ""
    return f"{one_line(check.name)}: {one_line(check.message)}{note}"


def _row_details(check: CheckRecord) -> Iterator[str]:
    return (f"{one_line(check.name)}: {line}" for line in check.details if line)


def _row_properties(checks: Iterable[CheckRecord]) -> dict[str, str]:
    """Return the values of rows that gate nothing, and the limits that stand beside some, by the names of the rows."""
    found: dict[str, str] = {}
    for check in checks:
        unit = f" ({check.unit})" if check.unit else ""
        for name, value in ((check.name, check.value), (f"{check.name} limit", check.limit)):
            if value is not None:
                found[f"{name}{unit}"] = repr(value)
    return found


def _spoken_numbers(cell: CellOutcome) -> list[str]:
    """Return a cell's numbers for people, a line each; time that is not of a real board says so."""
    cases = cases_by_name(cell.checks)
    return [
        f"{name} = "
        + shown(
            item.value,
            item.unit,
            cases=item.cases or cases_of(name, cases),
            label=label(name, item.unit, item.provenance.timing),
        )
        for name, item in cell.measurements.items()
    ]


def _provenance(found: Provenance) -> dict[str, str]:
    pairs = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    return {name: str(value) for name, value in pairs.items() if value is not None}


def _run_properties(run: RunRecord) -> dict[str, str]:
    fixed = {"run": run.run, "command": run.command, "crossfarm": run.version, "host": run.host}
    commit = {"git_commit": run.git_commit} if run.git_commit else {}
    return {**fixed, **commit, **{f"tool {name}": version for name, version in run.tools.items()}}


def _subject(job: JobRecord) -> str:
    return job.model or job.job.partition(":")[2] or job.job


def _reproduce(command: str | None) -> str:
    return f"to reproduce: {command}" if command else ""


def _finite(seconds: float) -> float:
    return seconds if 0 < seconds < 1e9 else 0.0


def _timestamp(text: str | None) -> str | None:
    """Return an ISO 8601 time the way JUnit wants it: in UTC, whole seconds, no offset; None when it is not one."""
    try:
        moment = datetime.datetime.fromisoformat(text or "")
        return moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return None
