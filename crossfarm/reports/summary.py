"""summary.md: a run for people, in the Markdown that GitHub and GitLab show.

What is wrong comes first, with its cause, its log and the command that reproduces it; then every cell in one table;
then what was skipped, where it was measured, and what the models answered.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Sequence

from crossfarm.reports.columns import COLUMNS, row
from crossfarm.reports.run_view import CellOutcome, Overview, known_failure
from crossfarm.results import CheckRecord, JobRecord, Provenance
from crossfarm.util.text import clean, count, one_line, quantity

LIMIT = 1024 * 1024 - 4096
"""Bytes of the whole page: GitHub takes 1 MiB for a step's summary."""
MOST_ANSWERS = 40
"""Answers to one data set that are shown; the wrong ones stand first where a check has very many."""
_SHARES = {
    "failures": 0.4,
    "cells": 0.75,
    "remarks": 0.78,
    "notes": 0.8,
    "skipped": 0.85,
    "provenance": 0.9,
    "answers": 1.0,
}
"""How full the page may be, as a share of LIMIT, when each section ends: none takes the room of the next."""
_SPECIAL = re.compile(r"([\\`*\[\]~])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_PROVENANCE = (
    *("target", "board", "timing", "CPU", "governor", "emulator", "sandbox"),
    *("image", "TVM", "commit", "temperature"),
)
_LEGEND = (
    "*max diff*: the loss by compiling, as the largest difference from the reference over the scale of its channel. "
    "*quantising*: the loss before that, from float32 to int8 in ONNX Runtime, on the same scale. *right*: the share "
    "of labelled cases that are answered rightly. *p50*: the median latency; one that was emulated or simulated says "
    "nothing about a real board.\n\n"
)
_MOST_CHECKS = 20
"""Failed checks that one cell shows."""


def render(seen: Overview) -> str:
    """Return the page; never more than LIMIT bytes, and what does not fit is counted."""
    page = _Page()
    page.add(f"# crossfarm: {plain(seen.headline)}\n\n")
    if not seen.is_complete:
        page.add(f"> **Incomplete:** {plain(seen.interruption)}.\n\n")
        page.section("missing", [f"- {code(job)}\n" for job in seen.missing], "planned job", share=0.05)
    _add_run(page, seen)
    _add_failures(page, seen)
    _add_known(page, seen)
    _add_flaky(page, seen)
    _add_cells(page, seen.cells)
    _add_remarks(page, seen.cells)
    _add_notes(page, seen.cells)
    _add_skipped(page, seen.cells)
    _add_provenance(page, seen.cells)
    _add_answers(page, seen.cells)
    return page.text()


class _Page:
    """Blocks of Markdown that together stay within LIMIT bytes."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._bytes = 0

    def add(self, block: str) -> None:
        self._blocks.append(block)
        self._bytes += len(block.encode("utf-8", "replace"))

    def section(self, head: str, blocks: Iterable[str], what: str, *, share: float, foot: str = "") -> None:
        """Add `blocks` as long as the page is not fuller than `share`, then how many were left out."""
        self.add(head)
        left_out = 0
        for block in blocks:
            if left_out or self._bytes + len(block.encode("utf-8", "replace")) > LIMIT * share:
                left_out += 1
            else:
                self.add(block)
        self.add(foot)
        if left_out:
            self.add(f"\n{count(left_out, f'more {what}')} did not fit; results.jsonl has everything.\n")
        self.add("\n")

    def text(self) -> str:
        return "".join(self._blocks)


def _add_run(page: _Page, seen: Overview) -> None:
    if seen.run is None:
        return
    run = seen.run
    commit = f" of commit {code(run.git_commit)}" if run.git_commit else ""
    page.add(
        f"{code(run.command)} on {plain(run.host)}, {plain(run.started)}, crossfarm {plain(run.version)}{commit}.\n\n"
    )


def _add_failures(page: _Page, seen: Overview) -> None:
    blocks = [_failed_job(job) for job in seen.failed_others]
    blocks += [_failed_cell(cell) for cell in seen.cells if cell.state in ("failed", "error")]
    if blocks:
        page.section("## What is wrong\n\n", blocks, "failure", share=_SHARES["failures"])


def _add_flaky(page: _Page, seen: Overview) -> None:
    if seen.flaky:
        blocks = [
            f"- {code(job.job)} ran well on {plain(job.board or 'another board')} after {plain('; '.join(job.flaky))}\n"
            for job in seen.flaky
        ]
        page.section("## Flaky\n\n", blocks, "flaky job", share=_SHARES["failures"] + 0.07)


def _add_known(page: _Page, seen: Overview) -> None:
    blocks = [f"- {code(cell.id)}: {plain(row.message)}\n" for cell in seen.cells for row in cell.unexpected]
    if blocks:
        page.section("## What passes unexpectedly\n\n", blocks, "row", share=_SHARES["failures"] + 0.02)
    blocks = [f"- {code(cell.id)}: {plain(known_failure(item))}\n" for cell in seen.cells for item in cell.known]
    if blocks:
        page.section("## Known failures\n\n", blocks, "row", share=_SHARES["failures"] + 0.05)


def _failed_job(job: JobRecord) -> str:
    return f"### {code(job.job)}\n\n{_job_line(job)}\n" + _reproduce(job.command)


def _failed_cell(cell: CellOutcome) -> str:
    lines = []
    for item in cell.failing[:_MOST_CHECKS]:
        if isinstance(item, JobRecord):
            lines.append(_job_line(item))
        else:
            lines.append(f"- **{plain(item.name)}** {item.status}: {plain(item.message)}{_place(item)}")
    if len(cell.failing) > _MOST_CHECKS:
        lines.append(f"- and {len(cell.failing) - _MOST_CHECKS} more")
    return f"### {code(cell.id)}\n\n" + "\n".join(lines) + "\n" + _reproduce(cell.command)


def _job_line(job: JobRecord) -> str:
    whose = " (infrastructure)" if job.fault == "infrastructure" else ""
    log = f"; log: {code(job.log)}" if job.log else ""
    return f"- **{plain(job.stage)}**{whose}: {plain(job.cause or 'no cause was told')}{log}{_place(job)}"


def _place(item: JobRecord | CheckRecord) -> str:
    return f" ({code(f'{item.file}:{item.line or 1}')})" if item.file else ""


def _reproduce(command: str | None) -> str:
    if not command:
        return "\n"
    line = one_line(command, 2000)
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", line)), default=0))
    return f"\nTo reproduce:\n\n{fence}\n{line}\n{fence}\n\n"


def _add_cells(page: _Page, cells: Sequence[CellOutcome]) -> None:
    if not cells:
        return
    head = f"## Cells\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    rows = (f"| {' | '.join(plain(value) for value in row(cell))} |\n" for cell in cells)
    page.section(head, rows, "cell", share=_SHARES["cells"])
    page.add(_LEGEND)


def _add_remarks(page: _Page, cells: Sequence[CellOutcome]) -> None:
    """Say once what holds for several cells: a model loses in the same layers whatever it is compiled for."""
    same: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    for cell in cells:
        for remark in cell.remarks:
            same[remark.message].append(cell.id)
    if same:
        blocks = [f"- {', '.join(map(code, ids[:4]))}{_and_more(ids)}: {plain(text)}\n" for text, ids in same.items()]
        page.section("## About the differences\n\n", blocks, "remark", share=_SHARES["remarks"])


def _and_more(ids: Sequence[str]) -> str:
    return f" and {len(ids) - 4} more" if len(ids) > 4 else ""


def _add_notes(page: _Page, cells: Sequence[CellOutcome]) -> None:
    blocks = [f"- {code(cell.id)}: {plain(note.message)}\n" for cell in cells for note in cell.notes]
    if blocks:
        page.section("## What could be faster\n\n", blocks, "note", share=_SHARES["notes"])


def _add_skipped(page: _Page, cells: Sequence[CellOutcome]) -> None:
    left = [cell for cell in cells if cell.state in ("made", "skipped", "not run")]
    if left:
        blocks = [f"- {code(cell.id)} {cell.state}: {plain(cell.cause)}\n" for cell in left]
        page.section("## What was not done\n\n", blocks, "cell", share=_SHARES["skipped"])


def _add_provenance(page: _Page, cells: Sequence[CellOutcome]) -> None:
    # Temperatures differ from cell to cell, so one row says from where to where they went.
    rows: collections.defaultdict[tuple[str, ...], list[float]] = collections.defaultdict(list)
    for cell in cells:
        if cell.provenance:
            temperature = cell.provenance.temperature
            rows[_provenance_row(cell.target, cell.provenance)] += [] if temperature is None else [temperature]
    if rows:
        head = f"## Where it was measured\n\n| {' | '.join(_PROVENANCE)} |\n|{'---|' * len(_PROVENANCE)}\n"
        lines = (
            f"| {' | '.join(plain(value) for value in (*values, _span(temperatures)))} |\n"
            for values, temperatures in rows.items()
        )
        page.section(head, lines, "row", share=_SHARES["provenance"])


def _provenance_row(target: str, found: Provenance) -> tuple[str, ...]:
    image = found.image_digest.removeprefix("sha256:")[:12] if found.image_digest else None
    commit = found.git_commit[:12] if found.git_commit else None
    cpu = " under ".join(filter(None, (found.cpu_model, found.virtualisation)))
    where = (found.board, found.timing, cpu, found.governor, found.emulator, found.sandbox)
    return tuple(value or "" for value in (target, *where, image, found.tvm_version, commit))


def _span(temperatures: Sequence[float]) -> str:
    finite = [value for value in temperatures if math.isfinite(value)]
    if not finite:
        return ""
    low, high = (quantity(value, "celsius") for value in (min(finite), max(finite)))
    return low if low == high else f"{low} to {high}"


def _add_answers(page: _Page, cells: Sequence[CellOutcome]) -> None:
    """Show what the models said to real data; cells that said the same share a block."""
    same: collections.defaultdict[tuple[str, str, tuple[str, ...]], list[str]] = collections.defaultdict(list)
    for cell in cells:
        for check in cell.checks:
            if check.details and check not in cell.remarks:
                same[cell.model, check.name, check.details].append(cell.id)
    blocks = []
    for (model, name, details), ids in same.items():
        where = ", ".join(one_line(item) for item in ids[:4]) + _and_more(ids)
        shown = [plain(line) for line in details[:MOST_ANSWERS]]
        if len(details) > MOST_ANSWERS:
            shown.append(f"and {len(details) - MOST_ANSWERS} more in junit.xml")
        lines = "\n".join(f"- {line}" for line in shown)
        title = f"{html(model)}, {html(name)} ({html(where)})"
        blocks.append(f"<details><summary>{title}</summary>\n\n{lines}\n\n</details>\n")
    if blocks:
        page.section("## What the models answered\n\n", blocks, "list", share=_SHARES["answers"])


def html(text: str) -> str:
    """Return `text` on one line for a place where HTML is read."""
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(text: str) -> str:
    """Return `text` on one line so that Markdown shows it as it is, in a table's cell too."""
    escaped = _SPECIAL.sub(lambda match: "\\" + match[0], clean(one_line(text)))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


def code(text: str) -> str:
    """Return `text` on one line as code, outside of tables."""
    line = one_line(text, 2000)
    ticks = "`" * (1 + max((len(found) for found in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"
