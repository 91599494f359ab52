"""Writes all reports of a run, made of results.jsonl and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from crossfarm.errors import StoreError
from crossfarm.reports import (
    BADGE,
    BIGGER_IS_BETTER,
    JUNIT,
    LASTING,
    PAGE,
    PAGE_BEFORE,
    SMALLER_IS_BETTER,
    SUMMARY,
    badge,
    benchmark,
    junit,
    page_again,
    summary,
)
from crossfarm.reports.past import PastReader
from crossfarm.reports.run_view import Overview, overview
from crossfarm.results import Record
from crossfarm.util.files import write_text


def write_begun(records: Sequence[Record], out: Path) -> None:
    """Write JUNIT of a run that has only begun: when it is killed, a CI server finds an error there, and not nothing.

    Raises:
        StoreError: it cannot be written.
    """
    _write(out / JUNIT, junit.render(overview(records)))


def write_reports(records: Sequence[Record], out: Path, *, past: PastReader | None = None) -> Overview:
    """Write the REPORTS of a run into the folder `out`, each at once or not at all.

    A run that was interrupted or killed is reported as far as it went, and the reports say so and name what is missing.

    Args:
        records: the run's.
        out: the folder of the reports.
        past: of the runs before, for the page.

    Returns:
        The run, for crossfarm.reports.terminal.

    Raises:
        StoreError: a report cannot be written.
    """
    seen = overview(records)
    for name, text in rendered(seen, records, out, past or PastReader(None, records)):
        _write(out / name, text)
    return seen


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text, lasting=path.name in LASTING)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}; free some space or give another --out"
        ) from error


def rendered(seen: Overview, records: Sequence[Record], out: Path, past: PastReader) -> Iterator[tuple[str, str]]:
    """Yield name and text of each report, one made after the other is written: CI reads the first one.

    Args:
        seen: the run.
        records: that it was seen in.
        out: the folder of the reports, in which the page of the run before is.
        past: what the history tells about the run.
    """
    yield JUNIT, junit.render(seen)
    yield SUMMARY, summary.render(seen)
    yield PAGE, _page(seen, records, out, past)
    yield BADGE, badge.render(seen)
    yield from zip((SMALLER_IS_BETTER, BIGGER_IS_BETTER), benchmark.render(seen), strict=True)


def _page(seen: Overview, records: Sequence[Record], out: Path, past: PastReader) -> str:
    digest = page_again.content_digest(records)
    text = page_again.renewed(out / PAGE_BEFORE, seen, digest)
    if text is not None:
        return text
    from crossfarm.reports import html

    found = past.read(seen)
    return html.render(
        seen,
        history=found.rows,
        compared=found.compared,
        untold=found.told,
        # What changed in this run will not have changed in the next, though it records the same.
        digest=digest if found.is_settled else "",
    )
