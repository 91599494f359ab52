"""Writes all reports of a run, made of results.jsonl and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from crossfarm.errors import StoreError
from crossfarm.reports import JUNIT, PAGE, PAGE_BEFORE, SUMMARY, junit, page_again, summary
from crossfarm.reports.run_view import Overview, overview
from crossfarm.results import Record, read_records
from crossfarm.util.files import write_text


def write_all(results: Path, out: Path) -> Overview:
    """Write the REPORTS of the last run of `results` into the folder `out`, each at once or not at all.

    A run that was interrupted or killed is reported as far as it went, and the reports say so and name what is missing.

    Args:
        results: the run's results.jsonl.
        out: the folder of the reports.

    Returns:
        The run, for crossfarm.reports.terminal.

    Raises:
        StoreError: the results cannot be read, or a report cannot be written.
    """
    return write_reports(read_records(results), out)


def write_reports(records: Sequence[Record], out: Path) -> Overview:
    """Write the reports as `write_all` does, of records that are at hand already."""
    seen = overview(records)
    for name, text in rendered(seen, records, out):
        try:
            write_text(out / name, text)
        except OSError as error:
            raise StoreError(
                f"{out / name}: cannot be written: {error.strerror}; free some space or give another --out"
            ) from error
    return seen


def rendered(seen: Overview, records: Sequence[Record], out: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of each report, one made after the other is written: CI reads the first one.

    Args:
        seen: the run.
        records: that it was seen in.
        out: the folder of the reports, in which the page of the run before is.
    """
    yield JUNIT, junit.render(seen)
    yield SUMMARY, summary.render(seen)
    yield PAGE, _page(seen, records, out)


def _page(seen: Overview, records: Sequence[Record], out: Path) -> str:
    digest = page_again.content_digest(records)
    text = page_again.renewed(out / PAGE_BEFORE, seen, digest)
    if text is not None:
        return text
    from crossfarm.reports import html

    return html.render(seen, digest=digest)
