"""report.html in Chromium: nothing loads, nothing goes wrong; sorting, filters, details, width, colours, axe-core."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfarm.reports import html
from crossfarm.reports.html import HistoryRow
from crossfarm.reports.regression.comparison import Comparison, Row
from crossfarm.reports.regression.verdicts import Verdict
from crossfarm.reports.run_view import overview
from crossfarm.results import MeasurementRecord, Record
from crossfarm.setup.requirements import AXE, BROWSERS
from crossfarm.util.paths import HOME
from tests.unit.reports.records import BAD, EMULATED, GOOD, LEFT, LOST, SILICON, check, number, run_record, whole_run
from tests.unit.reports.test_html import HOSTILE, many_cells, many_runs
from tests.waiting import stretched

pytestmark = pytest.mark.integration

SERIOUS = {"serious", "critical"}
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("Chromium is not installed; ./inv setup test installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-sync",
        ]
        started = playwright.chromium.launch(executable_path=program, args=options)
        yield started
        started.close()


class Shown:
    """A page in the browser, with all that its console said and all that it asked for."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": DESKTOP} | options))
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{path.as_uri()}{fragment}")

    def rows(self) -> list[str]:
        """Return the names of the visible rows of the table, in their order."""
        return self.page.locator("#cells tbody tr:visible th").all_inner_texts()

    def column(self, name: str) -> list[str]:
        place = [head.strip() for head in self.page.locator("#cells thead th").all_inner_texts()].index(name) + 1
        return self.page.locator(f"#cells tbody tr:visible > :nth-child({place})").all_inner_texts()

    def faults(self) -> list[str]:
        """Return what axe-core calls serious, with the elements."""
        self.page.evaluate((HOME / AXE / "node_modules" / "axe-core" / "axe.min.js").read_text())
        found = self.page.evaluate("() => axe.run()")["violations"]
        return [
            f"{one['id']}: {[node['html'][:200] for node in one['nodes']][:3]}"
            for one in found
            if one["impact"] in SERIOUS
        ]


def records() -> list[Record]:
    """Return a run with something for every part of the page."""
    more: list[Record] = [
        MeasurementRecord(
            cell=GOOD,
            name="latency.p50",
            value=5.2e6,
            unit="ns",
            samples=tuple(5e6 + 12_345 * place for place in range(30)),
            provenance=SILICON,
        ),
        number(GOOD, "weights", 1_200_000, "bytes", SILICON),
        number(GOOD, "arena", 350_000, "bytes", SILICON),
        number(BAD, "program", 20_000, "bytes", EMULATED),
        *(number(GOOD, f"ladder.{name}.right", share, "share", SILICON) for name, share in RUNGS.items()),
        check(GOOD, "accuracy.ladder", "passed", value=0.975, unit="share", cases=400, details=("float: 392 of 400",)),
        number(GOOD, "work.operations", 4e6, "count", SILICON),
        number(GOOD, "work.bytes", 2e6, "bytes", SILICON),
        *(
            MeasurementRecord(cell=GOOD, name=name, value=4e6, unit=unit, samples=samples, provenance=SILICON)
            for name, unit, samples in (
                ("profile.operations", "count", (4e6, 2e5)),
                ("profile.bytes", "bytes", (2e6, 5e5)),
            )
        ),
        check(GOOD, "profile.layers", "informative", operators=("conv", "dense")),
        MeasurementRecord(
            cell=GOOD, name="profile.layers", value=5e6, unit="ns", samples=(4e6, 1e6), provenance=SILICON
        ),
    ]
    return [*whole_run()[:-1], *more, whole_run()[-1]]


RUNGS = {"float": 0.98, "quantised": 0.975, "compiled": 0.975, "target": 0.97}


def history() -> list[HistoryRow]:
    """Return ten runs of the good cell, of which one has a mark."""
    return [
        HistoryRow(
            cell=GOOD,
            metric="latency.p50",
            board="local",
            timing="silicon",
            run=f"r{day}",
            started=f"2026-11-{day:02d}T00:00:00+00:00",
            value=5e6 + (1e6 if day > 6 else 0) + day * 1e4,
            unit="ns",
            mark="change point" if day == 7 else "",
        )
        for day in range(1, 11)
    ]


def compared() -> Comparison:
    """Return a comparison with something of every kind that stands in the page."""
    verdict = Verdict(word="regressed", old=5e6, new=5.2e6, change=0.04, reason="against 12 runs; confirmed in turns")
    rows = [
        Row(kind=kind, cell=cell, reason="it passed before", board="pi-1")
        for kind, cell in (("newly failing", BAD), ("missing", "armv6-mnist-float32"), ("new", LEFT))
    ]
    number = Row(
        kind="regressed", cell=GOOD, metric="latency.p50", unit="ns", board="local", verdict=verdict, gates=True
    )
    others = [dataclasses.replace(number, kind=kind) for kind in ("unconfirmed", "improved", "newly passing")]
    return Comparison(
        old="the last 12 runs before", new="r1", rows=(rows[0], number, others[0], *rows[1:], *others[1:])
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "report.html"
    made.write_text(html.render(overview(records()), history=history(), compared=compared()), encoding="utf-8")
    return made


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    opened: list[Shown] = []

    def opener(path: Path, fragment: str = "", **options: Any) -> Shown:
        opened.append(Shown(browser, path, fragment, **options))
        return opened[-1]

    yield opener
    for one in opened:
        assert one.said == []
        assert [address for address in one.asked if not address.startswith(("file:", "data:"))] == []
        one.context.close()


def test_a_column_is_sorted_both_ways_and_what_is_empty_stays_at_the_end(show: Any, path: Path) -> None:
    shown = show(path)
    button = shown.page.get_by_role("button", name="p50")
    button.click()
    assert [text for text in shown.column("p50") if text] == ["5.20 ms", "98.7 ms (emulated)"]
    assert shown.page.locator("th[aria-sort=ascending]").inner_text().strip() == "p50"
    button.press("Enter")
    assert shown.column("p50") == ["98.7 ms (emulated)", "5.20 ms", "", ""]
    assert shown.page.locator("th[aria-sort=descending]").count() == 1
    assert shown.page.locator("th[aria-sort]").count() == 1


def test_words_and_choices_filter_table_and_matrix_and_say_how_many_are_left(show: Any, path: Path) -> None:
    shown = show(path)
    shown.page.get_by_label("Search").fill("ARMV7 memory")
    assert shown.column("verdict") == ["! error"]
    assert shown.page.locator("#shown").inner_text() == "1 of 4 cells"
    assert shown.page.locator("#matrix tbody tr:visible").count() == 1
    shown.page.get_by_role("button", name="Reset").click()
    assert len(shown.rows()) == 4
    shown.page.locator("#filter-verdict").select_option("passed")
    assert shown.rows() == ["mnist"]
    assert shown.page.locator("#matrix .field:visible").count() == 1
    shown.page.locator("#filter-target").select_option("armv7")
    assert shown.rows() == []
    assert shown.page.locator("#shown").inner_text() == "0 of 4 cells"


def test_a_field_of_the_matrix_opens_its_cell_by_keyboard_and_escape_leads_back(show: Any, path: Path) -> None:
    shown = show(path)
    field = shown.page.locator("#matrix .field", has_text="passed")
    field.focus()
    shown.page.keyboard.press("Enter")
    dialog = shown.page.get_by_role("dialog", name=GOOD)
    dialog.wait_for()
    captions = dialog.locator("figcaption").all_inner_texts()
    assert captions == [
        *("Accuracy ladder", "Latency", "Size", "Time per layer", "Roofline"),
        "History of latency.p50 on local",
    ]
    roof = dialog.locator("figure", has_text="Roofline").locator("svg").get_attribute("aria-label") or ""
    assert "whole run: 769 Mops/s, 2 operations a byte, 77 % of the roof (estimate)" in roof
    assert "roofs, estimates from what 1 cell of this board reached: 1 Gops/s and 500 MB/s" in roof
    assert dialog.locator("svg[role=img]").count() == len(captions)
    assert dialog.locator(".dot").count() == 30
    assert "97.5 % (390/400)" in dialog.get_by_role("region", name="numbers").inner_text()
    assert "change point, 2026-11-07" in (dialog.locator("svg").last.get_attribute("aria-label") or "")
    shown.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert field.evaluate("element => element === document.activeElement")


def test_the_next_cell_is_the_next_of_the_table_and_an_address_leads_to_a_cell(show: Any, path: Path) -> None:
    shown = show(path, f"#cell={LOST}")
    shown.page.get_by_role("dialog", name=LOST).wait_for()
    assert "out of memory" in shown.page.locator("#detail").inner_text()
    assert shown.page.locator("#detail .command pre").first.inner_text() == f"./inv pipeline --only {LOST}"
    shown.page.get_by_role("button", name="Next").click()
    shown.page.get_by_role("dialog", name=LEFT).wait_for()
    assert shown.page.url.endswith(f"#cell={LEFT}")


def test_what_changed_stands_worst_first_and_leads_to_its_cell(show: Any, path: Path) -> None:
    shown = show(path)
    kinds = shown.page.locator("#changes tbody td:first-child").all_inner_texts()
    assert kinds == ["newly failing", "regressed", "unconfirmed", "missing", "new", "improved", "newly passing"]
    row = shown.page.locator("#changes tbody tr", has_text="regressed")
    assert "5.00 ms\t5.20 ms\t+4.0%" in row.inner_text()
    row.get_by_role("link").click()
    shown.page.get_by_role("dialog", name=GOOD).wait_for()
    assert shown.page.locator("#changes tbody tr", has_text="missing").get_by_role("link").count() == 0
    assert "false alarm" in shown.page.locator("footer #alarms").inner_text()


def test_an_emulated_time_says_so_in_table_matrix_and_details(show: Any, path: Path) -> None:
    shown = show(path, f"#cell={BAD}")
    assert "98.7 ms (emulated)" in shown.column("p50")
    assert shown.page.locator("#matrix .field", has_text="98.7 ms (emulated)").count() == 1
    told = shown.page.locator("#detail").inner_text()
    assert "98.7 ms (emulated)" in told
    assert "Times of this cell are emulated" in told


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("fragment", ["", f"#cell={GOOD}", f"#cell={BAD}"], ids=["page", "good", "bad"])
def test_axe_finds_nothing_serious(show: Any, path: Path, colours: str, size: dict[str, int], fragment: str) -> None:
    if not (HOME / AXE / "node_modules").is_dir():
        pytest.skip("axe-core is not installed; ./inv setup test installs it")
    shown = show(path, fragment, viewport=size, color_scheme=colours, reduced_motion="reduce")
    assert shown.faults() == []


@pytest.mark.parametrize("fragment", ["", f"#cell={GOOD}"], ids=["page", "details"])
def test_a_phone_scrolls_tables_and_never_the_page(show: Any, path: Path, fragment: str) -> None:
    shown = show(path, fragment, viewport=PHONE)
    wide = "element => element.scrollWidth - element.clientWidth"
    assert shown.page.locator("html").evaluate(wide) == 0
    if fragment:
        assert shown.page.locator("#detail").evaluate(wide) == 0


def test_dark_mode_changes_the_colours(show: Any, path: Path) -> None:
    colour = "element => getComputedStyle(element).backgroundColor"
    seen = {
        scheme: show(path, color_scheme=scheme).page.locator("body").evaluate(colour) for scheme in ("light", "dark")
    }
    assert seen == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}


def test_hostile_names_run_nothing(show: Any, tmp_path: Path) -> None:
    found: list[Record] = [
        run_record(command=HOSTILE, host=HOSTILE, cells=(HOSTILE,)),
        check(HOSTILE, HOSTILE, "failed", message=HOSTILE, details=(HOSTILE,), command=HOSTILE, note=HOSTILE),
        number(HOSTILE, "latency.p50", 1.0, HOSTILE, SILICON),
    ]
    path = tmp_path / "report.html"
    path.write_text(html.render(overview(found)), encoding="utf-8")
    shown = show(path)
    shown.page.on("dialog", lambda dialog: shown.said.append(f"alert: {dialog.message}"))
    shown.page.locator("#cells tbody th a").click()
    shown.page.locator("#detail").wait_for()
    assert shown.page.locator("#detail").inner_text().count("alert(1)") > 3
    assert shown.page.locator("img").count() == 0


def test_500_cells_open_in_less_than_2_seconds(show: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    found = many_cells(500)
    path.write_text(html.render(overview(found), history=many_runs(found)), encoding="utf-8")
    started = time.monotonic()
    shown = show(path)
    shown.page.get_by_text("500 of 500 cells").wait_for()
    assert time.monotonic() - started < stretched(2)
    timing = shown.page.evaluate("() => performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert timing < 1000 * stretched(2)
