"""report.html: what is there before a script runs, that no text of a record becomes part of it, and how large it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from crossfarm.reports import html
from crossfarm.reports.html import HistoryRow
from crossfarm.reports.html.cell_data import LAYERS, MOST_DETAILS, MOST_LAYERS, MOST_SAMPLES
from crossfarm.reports.html.sections import MOST_FAILURES, SYMBOLS
from crossfarm.reports.run_view import overview
from crossfarm.results import EndRecord, JobRecord, MeasurementRecord, Provenance, Record
from tests.unit.reports.records import (
    BAD,
    EMULATED,
    GOOD,
    LEFT,
    SILICON,
    any_records,
    check,
    job,
    number,
    run_record,
    whole_run,
)

HOSTILE = "</script><script>alert(1)</script>]]><!--<img src=x onerror=alert(1)>&\"'\x00\x1b[2J\u202e\u2028"
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of each kind of element; what is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script"][0], parse_constant=pytest.fail)
        return found


def page(records: list[Record], **options: Any) -> str:
    return html.render(overview(records), **options)


def cell_of(records: list[Record], name: str, **options: Any) -> dict[str, Any]:
    return next(cell for cell in Page(page(records, **options)).data["cells"] if cell["id"] == name)


def test_the_page_begins_with_the_verdict_and_what_is_wrong() -> None:
    text = page(whole_run())
    assert "<h1>FAILED: 4 cells: 1 passed, 1 failed, 1 error, 1 skipped</h1>" in text
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text.partition("<dialog")[0])
    assert headings == [
        "What is wrong",
        "Matrix",
        "Cells",
        "What was not done",
        "Where it was measured",
        "How to read this",
    ]


def test_a_failure_has_cause_log_place_and_command_before_a_script_runs() -> None:
    text = page(whole_run())
    told = (
        "<b>compile</b> infrastructure: out of memory; log: <code>out/logs/1.log</code> (<code>models.yaml:12</code>)"
    )
    assert told in text
    assert f">./inv pipeline --only {BAD}</pre>" in text


def test_the_matrix_says_each_verdict_in_words_and_labels_what_is_not_of_silicon() -> None:
    text = page(whole_run())
    matrix = text.partition('<table id="matrix">')[2].partition("</table>")[0]
    assert re.search(r"</span> passed<small>12\.3 ms</small>", matrix)
    assert re.search(r"</span> failed<small>98\.7 ms \(emulated\)</small>", matrix)
    assert matrix.count('<span class="none">none</span>') == 2  # mnist has no int8, vad no x86_64


def test_every_state_has_a_symbol_of_its_own() -> None:
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_what_needs_a_look_stands_first_in_the_table() -> None:
    rows = page(whole_run()).partition('<table id="cells">')[2].partition("<tbody>")[2]
    states = re.findall(r'<span class="badge s-([a-z-]+)"', rows.partition("</table>")[0])
    assert states == ["failed", "error", "skipped", "passed"]


def test_a_share_stands_with_its_count_and_a_number_with_its_provenance_and_command() -> None:
    records = [
        *whole_run(),
        check(GOOD, "accuracy.top1.d", "passed", value=0.9625, unit="share", cases=400),
        number(GOOD, "accuracy.top1.d", 0.9625, "share", SILICON),
    ]
    document = Page(page(records)).data
    cell = next(cell for cell in document["cells"] if cell["id"] == GOOD)
    assert [line[2] for line in cell["checks"] if line[0] == "accuracy.top1.d"] == ["96.2 % (385/400)"]
    assert [line[:3] for line in cell["numbers"] if line[0] == "accuracy.top1.d"] == [
        ["accuracy.top1.d", "96.2 % (385/400)", "0.9625 share"]
    ]
    where = {line[0]: dict(document["places"][line[4]]) for line in cell["numbers"]}
    assert where["latency.p50"]["CPU model"] == "Some CPU | 2 cores"
    assert cell["command"] == f"./inv pipeline --only {GOOD}"


def test_a_number_of_another_clock_says_so_wherever_it_stands() -> None:
    simulated = Provenance(board="rtl", timing="simulated")
    estimated = Provenance(board="none", timing="estimated")
    records: list[Record] = [
        number(BAD, "latency.p50", 98.7e6, "ns", EMULATED),
        number(BAD, "peak_rss", 1024, "bytes", EMULATED),
        number(BAD, "program", 1024, "bytes", EMULATED),
        check(BAD, "latency.p50", "informative", value=98.7e6, unit="ns"),
        number(LEFT, "cycles.simulated", 5, "cycles", simulated),
        number(LEFT, "cycles.estimated", 5, "cycles", simulated),
        number(GOOD, "latency.p50", 1e6, "ns", estimated),
    ]
    cells = {cell["id"]: cell for cell in Page(page(records)).data["cells"]}
    assert [line[1] for line in cells[BAD]["numbers"]] == ["98.7 ms (emulated)", "1.00 KiB (emulated)", "1.00 KiB"]
    assert [line[2] for line in cells[BAD]["checks"]] == ["98.7 ms (emulated)"]
    assert [line[1] for line in cells[LEFT]["numbers"]] == ["5 cycles (simulated)", "5 cycles (estimated)"]
    assert [line[1] for line in cells[GOOD]["numbers"]] == ["1.00 ms (estimated)"]
    assert cells[GOOD]["latency_text"] == "1.00 ms (estimated)"


def test_the_pictures_get_the_samples_the_sizes_the_ladder_and_the_layers() -> None:
    samples = tuple(float(sample) for sample in range(1000, 2000))
    records: list[Record] = [
        MeasurementRecord(
            cell=GOOD, name="latency.p50", value=1500, unit="ns", samples=(*samples, float("nan")), provenance=SILICON
        ),
        number(GOOD, "program", 10, "bytes", SILICON),
        number(GOOD, "arena", 30, "bytes", SILICON),
        number(GOOD, "ladder.float.right", 1.0, "share", SILICON),
        number(GOOD, "ladder.quantised.right", 0.75, "share", SILICON),
        number(GOOD, "ladder.quantised.difference", 0.049, "scale", SILICON),
        check(GOOD, "accuracy.ladder", "informative", cases=4),
        check(GOOD, LAYERS, "informative", operators=tuple(f"layer{index}" for index in range(50))),
        MeasurementRecord(
            cell=GOOD, name=LAYERS, value=50, unit="ns", samples=tuple(map(float, range(50))), provenance=SILICON
        ),
    ]
    cell = cell_of(records, GOOD)
    assert (len(cell["latency"]), cell["latency"][0], cell["latency"][-1]) == (MOST_SAMPLES, 1000, 1999)
    assert cell["sizes"] == [["program", 10, "10 B"], ["arena", 30, "30 B"]]
    assert cell["ladder"] == [
        ["float", 1.0, "100 % (4/4) right"],
        ["quantised", 0.75, "75.0 % (3/4) right, furthest 4.9e-02 of the scale from the first rung"],
    ]
    assert len(cell["layers"]) == MOST_LAYERS + 1
    assert cell["layers"][0][:2] == ["layer49", 49]
    assert cell["layers"][-1][:2] == [f"{50 - MOST_LAYERS} more", sum(range(50 - MOST_LAYERS))]


def test_a_roofline_has_the_run_and_its_layers_where_work_and_time_are_known() -> None:
    work: list[Record] = [
        number(GOOD, "latency.p50", 2e6, "ns", SILICON),
        number(GOOD, "work.operations", 8e6, "count", SILICON),
        number(GOOD, "work.bytes", 4e6, "bytes", SILICON),
        check(GOOD, LAYERS, "informative", operators=("conv", "copy")),
        *(
            MeasurementRecord(cell=GOOD, name=name, value=1.0, unit=unit, samples=samples, provenance=SILICON)
            for name, unit, samples in (
                (LAYERS, "ns", (1e6, 5e5)),
                ("profile.operations", "count", (8e6, 0.0)),
                ("profile.bytes", "bytes", (2e6, 2e6)),
            )
        ),
    ]
    assert cell_of(work, GOOD)["roof"] == [["whole run", 2.0, 4e9, 2e9], ["conv", 4.0, 8e9, 2e9]]
    assert cell_of(work[1:], GOOD)["roof"] == []
    assert cell_of(work[:2], GOOD)["roof"] == []


def test_numbers_that_are_not_finite_are_told_and_leave_the_data_json() -> None:
    records: list[Record] = [
        number(GOOD, "latency.p50", float("inf"), "ns", SILICON),
        number(GOOD, "program", float("nan"), "bytes", SILICON),
        number(GOOD, "ladder.float.right", float("nan"), "share", SILICON),
        check(GOOD, "accuracy.output.y", "failed", value=float("nan"), unit="scale"),
    ]
    cell = cell_of(records, GOOD)
    assert [line[1] for line in cell["numbers"]] == ["not finite"] * 3
    assert cell["sizes"] == []
    assert cell["ladder"][0][1] is None
    assert 1e308 in cell["sort"]


def test_history_is_drawn_for_each_board_oldest_first_and_not_at_all_without_rows() -> None:
    def row(board: str, day: int, value: float, mark: str = "") -> HistoryRow:
        started = f"2026-11-{day:02d}T00:00:00+00:00"
        return HistoryRow(
            cell=GOOD,
            metric="latency.p50",
            board=board,
            timing="silicon",
            run=f"r{day}",
            started=started,
            value=value,
            unit="ns",
            mark=mark,
        )

    rows = [row("pi-1", 1, 1e6), row("pi-1", 2, 2e6, "regressed"), row("pi-2", 1, 3e6), row("pi-2", 2, float("nan"))]
    shown = Page(page(whole_run(), history=rows)).data
    assert [run[0] for run in shown["runs"]] == ["r1", "r2"]
    series = next(cell for cell in shown["cells"] if cell["id"] == GOOD)["history"]
    assert [(line[1], [point[2] for point in line[3]]) for line in series] == [
        ("pi-1", ["1.00 ms", "2.00 ms"]),
        ("pi-2", ["3.00 ms"]),
    ]
    assert series[0][3][1][3] == "regressed"
    assert cell_of(whole_run(), GOOD)["history"] == []


def test_hostile_texts_are_texts() -> None:
    answers = (HOSTILE, "a" * 5000)
    records: list[Record] = [
        run_record(command=HOSTILE, host=HOSTILE, tools={HOSTILE: HOSTILE}, cells=(HOSTILE,)),
        JobRecord(job=HOSTILE, stage=HOSTILE, state="failed", seconds=1.0, cause=HOSTILE, log=HOSTILE, command=HOSTILE),
        job("compile", GOOD, "failed", cause=HOSTILE, log=HOSTILE, command=HOSTILE, model=HOSTILE, target=HOSTILE),
        check(HOSTILE, HOSTILE, "failed", message=HOSTILE, details=answers, note=HOSTILE, file=HOSTILE),
        number(HOSTILE, HOSTILE, 1.0, HOSTILE, Provenance(board=HOSTILE, timing="silicon", cpu_model=HOSTILE)),
        EndRecord(exit_code=1, seconds=1.0),
    ]
    text = page(records)
    shown = Page(text)
    assert len(shown.of("script")) == 2
    assert not shown.of("img")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", text)
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)
    assert any("alert(1)" in cell["id"] for cell in shown.data["cells"])


@given(any_records)
def test_any_records_make_a_page_whose_elements_are_closed_and_whose_data_is_json(records: list[Record]) -> None:
    shown = Page(page(records))
    ids = [cell["id"] for cell in shown.data["cells"]]
    assert len(set(ids)) == len(ids)
    known = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
    assert len(set(known)) == len(known)


def test_nothing_but_the_pages_own_script_and_style_may_run_and_nothing_is_loaded() -> None:
    text = page(whole_run())
    shown = Page(text)
    policy = next(item["content"] or "" for item in shown.of("meta") if "http-equiv" in item)
    assert policy.startswith("default-src 'none'; ")
    for name, element in (("script", "script"), ("style", "style")):
        inside = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    loaded = [attributes.get("src") or attributes.get("href") or "" for _, attributes in shown.elements]
    assert all(address.startswith(("#", "data:")) for address in loaded if address)
    assert not any("style" in attributes for _, attributes in shown.elements)


def test_a_log_of_10_megabytes_and_10_thousand_answers_leave_the_page_small() -> None:
    log = "x" * 10_000_000
    records: list[Record] = [
        job("compile", GOOD, "failed", cause=log, reason=log, log=log, command=log),
        check(GOOD, "text.d", "failed", message=log, details=(log, *map(str, range(10_000)))),
    ]
    text = page(records)
    assert len(text) < 100_000
    assert cell_of(records, GOOD)["checks"][0][8] == 10_001 - MOST_DETAILS


def test_a_thousand_failures_are_counted_where_they_are_not_shown() -> None:
    cells = [f"t-m{index}-float32" for index in range(1000)]
    text = page([check(cell, "accuracy.output.y", "failed") for cell in cells])
    assert text.count('<article class="failure') == MOST_FAILURES
    assert f"<p>{1000 - MOST_FAILURES} more are in the table of cells.</p>" in text


def test_500_cells_with_30_runs_of_history_stay_below_5_megabytes() -> None:
    records = many_cells(500)
    text = page(records, history=many_runs(records))
    assert len(text.encode()) < 5_000_000
    assert text.count('"latency.p50","local","",[[0,') == 500


def many_runs(records: list[Record], runs: int = 30) -> list[HistoryRow]:
    """Return a number of each cell in some runs."""
    cells = dict.fromkeys(record.cell for record in records if isinstance(record, MeasurementRecord))
    return [
        HistoryRow(
            cell=cell,
            metric="latency.p50",
            board="local",
            timing="silicon",
            run=f"20261130T{run:06d}-01234567",
            started=f"2026-11-{run + 1:02d}T12:00:00+00:00",
            value=1_234_567.0 + 1000 * run,
            unit="ns",
            mark="regressed" if run == runs - 1 else "",
        )
        for cell in cells
        for run in range(runs)
    ]


def many_cells(count: int) -> list[Record]:
    """Return cells with as many numbers, samples and checks as those of the default pipeline have."""
    records: list[Record] = []
    for index in range(count):
        cell = f"{('x86_64', 'aarch64', 'armv7')[index % 3]}-some_longer_model_name_{index // 3:04d}-float32"
        records += [job(stage, cell) for stage in ("compile", "bundle", "measure", "check")]
        names = [f"accuracy.some_number_{number}.some_output" for number in range(26)]
        records += [number(cell, name, 0.123456789 / (1 + index), "share", SILICON) for name in names]
        samples = tuple(1_234_567.0 + 1_000 * place for place in range(50))
        records.append(
            MeasurementRecord(cell=cell, name="latency.p50", value=1e6, unit="ns", samples=samples, provenance=SILICON)
        )
        records += [
            check(cell, f"accuracy.check_{place}", "passed", message="a sentence with some numbers in it " * 4)
            for place in range(6)
        ]
    return records


def test_an_incomplete_run_says_so_and_names_what_is_missing() -> None:
    text = page([run_record(jobs=(f"compile:{GOOD}",))])
    assert '<h2 id="incomplete">Incomplete</h2>' in text
    assert f"<code>compile:{GOOD}</code>" in text


def test_the_script_makes_no_html_out_of_text() -> None:
    script = (Path(html.__file__).parent / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)
