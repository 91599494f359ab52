"""summary.md: what people read, and that nothing in a record can break the page."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from crossfarm.reports import summary
from crossfarm.reports.columns import COLUMNS
from crossfarm.reports.run_view import overview
from crossfarm.results import JobRecord, Record
from tests.unit.reports.records import BAD, GOOD, SILICON, any_records, check, job, number, run_record, whole_run


def page(records: list[Record]) -> str:
    return summary.render(overview(records))


def table_rows(text: str, heading: str) -> list[list[str]]:
    """Split the table under a heading the way GitHub does: at pipes that have no backslash before them."""
    section = text.partition(f"## {heading}\n\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in section.splitlines()]


def test_the_page_begins_with_the_verdict_and_what_is_wrong() -> None:
    text = page(whole_run())
    assert text.startswith("# crossfarm: FAILED: 4 cells: 1 passed, 1 failed, 1 error, 1 skipped\n")
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [
        "What is wrong",
        "Cells",
        "What was not done",
        "Where it was measured",
        "What the models answered",
    ]


def test_a_failure_has_cause_log_place_and_command() -> None:
    text = page(whole_run())
    assert "- **compile** (infrastructure): out of memory; log: `out/logs/1.log` (`models.yaml:12`)" in text
    assert f"To reproduce:\n\n```\n./inv pipeline --only {BAD}\n```" in text
    assert "- **accuracy.output.y** failed: 3 are NaN" in text


def test_a_failed_job_of_a_model_is_told_as_well() -> None:
    bad = JobRecord(job="prepare:m", stage="prepare", model="m", state="failed", seconds=1.0, cause="not ONNX")
    assert "### `prepare:m`\n\n- **prepare**: not ONNX\n" in page([run_record(), bad])


def test_the_table_has_the_numbers_of_each_cell() -> None:
    rows = table_rows(page(whole_run()), "Cells")
    assert rows[0] == list(COLUMNS)
    assert rows[2] == ["mnist", "x86_64", "passed", "3.1e-07", "", "50.0 % digits", "12.3 ms", "310 KiB", "", ""]
    assert rows[3][:6] == ["mnist", "armv7", "FAILED", "not finite", "", ""]
    assert [row[2] for row in rows[4:]] == ["ERROR", "skipped"]


def test_the_loss_by_quantising_stands_beside_the_loss_by_compiling() -> None:
    numbers = {
        "ladder.float.difference": (0.0, "scale"),
        "ladder.quantised.difference": (0.049, "scale"),
        "ladder.float.right": (1.0, "share"),
        "ladder.quantised.right": (0.95, "share"),
    }
    records: list[Record] = [check(GOOD, "accuracy.output.y", "passed", value=0.014, unit="scale")]
    ladder = [number(GOOD, name, value, unit, SILICON) for name, (value, unit) in numbers.items()]
    assert table_rows(page([*records, *ladder]), "Cells")[2][3:5] == ["1.4e-02", "4.9e-02, -5.0% right"]
    ready_made = [record for record in ladder if "ladder.float" not in record.name]
    assert table_rows(page([*records, *ready_made]), "Cells")[2][3:5] == ["1.4e-02", ""]


def test_a_share_over_one_class_says_so_beside_the_share() -> None:
    row = check(GOOD, "accuracy.top1.d", "passed", value=1.0, unit="share", note="one class only")
    assert table_rows(page([row]), "Cells")[2][5] == "100 % d (one class only)"


def test_a_share_says_of_how_many_cases_it_is() -> None:
    row = check(GOOD, "accuracy.top1.d", "passed", value=0.975, unit="share", cases=400)
    assert table_rows(page([row]), "Cells")[2][5] == "97.5 % (390/400) d"


def test_a_remark_about_differences_stands_once_for_all_cells_that_it_holds_for() -> None:
    rows = [
        check(cell, "accuracy.layers", "informative", message="Conv 5 loses most", details=("a",))
        for cell in (GOOD, BAD)
    ]
    section = page(rows).partition("## About the differences\n\n")[2].partition("\n## ")[0]
    assert section.strip() == f"- `{GOOD}`, `{BAD}`: Conv 5 loses most"
    assert "## What the models answered" not in page(rows)


def test_provenance_stands_once_for_each_board() -> None:
    rows = table_rows(page(whole_run()), "Where it was measured")
    assert rows[2][:5] == ["x86_64", "local", "silicon", "Some CPU \\| 2 cores", "performance"]
    assert rows[3][5] == "qemu-arm-static 7.2.11"
    assert len(rows) == 4


def test_what_could_be_faster_has_a_section_of_its_own() -> None:
    message = "1 operator of a quantised model computed in float32: resize2d"
    note = check(BAD, "code.left_in_float", "informative", value=1.0, unit="count", message=message)
    page = summary.render(overview([*whole_run(), note]))
    assert f"## What could be faster\n\n- `{BAD}`: {message}\n" in page
    assert "## What could be faster" not in summary.render(overview(whole_run()))


def test_skipped_cells_have_their_reason() -> None:
    assert "- `armv7-vad-int8` skipped: compile: no int8 for 32-bit ARM\n" in page(whole_run())


def test_cells_that_answered_the_same_share_a_block() -> None:
    records = [check(cell, "text.d", "passed", details=("a.png: 'x' - right",)) for cell in (GOOD, BAD)]
    text = page([*records])
    assert text.count("<details>") == 1
    assert f"<summary>mnist, text.d ({GOOD}, {BAD})</summary>" in text


def test_a_long_list_of_answers_is_cut_and_the_rest_counted() -> None:
    text = page([check(GOOD, "text.d", "passed", details=tuple(f"{n}.png: right" for n in range(100)))])
    assert text.count(".png: right\n") == summary.MOST_ANSWERS
    assert f"- and {100 - summary.MOST_ANSWERS} more in junit.xml\n" in text


def test_an_interrupted_run_says_so_at_the_top_and_lists_what_is_missing() -> None:
    text = page([run_record(cells=(GOOD,), jobs=(f"compile:{GOOD}", f"measure:{GOOD}")), job("compile", GOOD)])
    assert text.startswith("# crossfarm: INTERRUPTED")
    assert "> **Incomplete:** the run ended without a word, as if it was killed; 1 planned job left no result." in text
    assert f"- `measure:{GOOD}`\n" in text


def test_a_page_of_any_size_stays_under_one_mebibyte_and_counts_what_is_left_out() -> None:
    cells = [f"armv7-model{number:090}-float32" for number in range(5_000)]
    records: list[Record] = [job("compile", cell, "failed", cause="x" * 300) for cell in cells]
    records += [check(cell, "text.d", "passed", details=(f"{cell} " * 20,)) for cell in cells]
    text = page(records)
    assert 900_000 < len(text.encode()) < 1024 * 1024
    failures = text.count("### `armv7-model")
    rows = len(table_rows(text, "Cells")) - 2
    assert f"{5_000 - failures} more failures did not fit" in text
    assert f"{5_000 - rows} more cells did not fit" in text
    assert rows > 1000


@given(any_records)
def test_any_records_give_tables_whose_rows_all_have_the_same_columns(records: list[Record]) -> None:
    seen = overview(records)
    text = summary.render(seen)
    assert len(text.encode()) < 1024 * 1024
    if seen.cells:
        rows = table_rows(text, "Cells")
        assert {len(row) for row in rows} == {len(COLUMNS)}
        assert len(rows) == 2 + len(seen.cells)
    if any(cell.provenance for cell in seen.cells):
        assert len({len(row) for row in table_rows(text, "Where it was measured")}) == 1


@given(st.text())
@example("a|b\\|c\n`<b>&_x_ *y* [z](u)")
def test_plain_text_can_neither_leave_its_cell_nor_become_markup(text: str) -> None:
    shown = summary.plain(text)
    assert len(re.split(r"(?<!\\)(?:\\\\)*\|", shown)) == 1
    assert not re.search(r"[\n\r<>]", shown)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*\[\]~]", shown)


@given(st.text())
def test_code_ends_where_it_should(text: str) -> None:
    shown = summary.code(text)
    fence = re.match(r"`+", shown)
    assert fence
    inner = shown[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall(r"`+", inner)
    assert "\n" not in shown
