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
BADGE = "badge.json"
SMALLER_IS_BETTER, BIGGER_IS_BETTER = "benchmark-smaller.json", "benchmark-bigger.json"
"""For github-action-benchmark."""
REPORTS = (JUNIT, SUMMARY, PAGE, BADGE, SMALLER_IS_BETTER, BIGGER_IS_BETTER)
"""Files of a run that are made of its records."""
LASTING = (RESULTS, JUNIT, SUMMARY, PAGE)
"""Files that are synced. Each sync costs a warm run milliseconds, and the others are made again in no time."""
QUIET = ("unchanged", "inconclusive")
"""Kinds of rows of a comparison of which nobody is told unless everything is asked for."""
COMPARISON = ("comparison.json", "comparison.md")
"""What `./inv compare --write` puts beside them."""


def set_aside(out: Path) -> None:
    """Take the last run's reports away lest they be taken for the next one's.

    Its records and its page stay beside the new ones until the run after that.

    Raises:
        OSError: the folder cannot be written.
    """
    for name, before in ((RESULTS, RESULTS_BEFORE), (PAGE, PAGE_BEFORE)):
        if (out / name).exists():
            (out / name).replace(out / before)
    for report in (*REPORTS, *COMPARISON):
        (out / report).unlink(missing_ok=True)
