"""Reports of a run, made of results.jsonl and of nothing else; `writing` writes them all."""

from __future__ import annotations

from pathlib import Path

RESULTS = "results.jsonl"
RESULTS_BEFORE = "results.previous.jsonl"
"""Records of the run before."""
JUNIT = "junit.xml"
SUMMARY = "summary.md"
PAGE = "report.html"
PAGE_BEFORE = "report.previous.html"
"""The page of the run before."""
REPORTS = (JUNIT, SUMMARY, PAGE)
"""Files of a run that are made of its records."""


def set_aside(out: Path) -> None:
    """Take the last run's reports away lest they be taken for the next one's.

    Its records and its page stay beside the new ones until the run after that.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, before in ((RESULTS, RESULTS_BEFORE), (PAGE, PAGE_BEFORE)):
        if (out / name).exists():
            (out / name).replace(out / before)
    for report in REPORTS:
        (out / report).unlink(missing_ok=True)
