"""What a user sees of a run when it has ended, and of its plan before: tables, where the reports are, and JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crossfarm.errors import EXIT_INTERRUPTED
from crossfarm.pipeline.options import shown
from crossfarm.pipeline.plan_types import Plan
from crossfarm.pipeline.staleness import Decision
from crossfarm.reports import JUNIT, PAGE, RESULTS, SUMMARY, terminal
from crossfarm.reports.history.place import Place
from crossfarm.reports.past import PastReader
from crossfarm.reports.run_view import Overview
from crossfarm.reports.writing import write_reports
from crossfarm.results import EndRecord, Record, read_records
from crossfarm.util.terminal import has_colour, say, size_of

SHOWN = (PAGE, SUMMARY, JUNIT, RESULTS)
"""Files of a run that its last line names."""
Tell = Callable[[Overview], object]
"""Is told what became of a run, when its reports are written."""


def tell_nobody(_: Overview) -> None:
    """Do nothing: a Tell for those who ask for none."""


def show_reports(records: Sequence[Record], out: Path, past: PastReader, *, everything: bool) -> Overview:
    """Write the reports of a run into the folder `out`, and show its table and where they are.

    Args:
        records: the run's.
        out: the folder of the reports.
        past: of the runs before, for the page.
        everything: show all rows; else as many as fit on the screen.

    Raises:
        StoreError: a report cannot be written.
    """
    seen = write_reports(records, out, past=past)
    size = size_of(sys.stdout) or terminal.LOG
    text = terminal.render(
        seen,
        colour=has_colour(sys.stdout),
        columns=size.columns,
        rows=None if everything else size.lines,
        places=[shown(out / SHOWN[0]), *SHOWN[1:]],
    )
    say(text, is_clean=True)
    return seen


def report_again(out: Path, history: Place | None, *, everything: bool = False, tell: Tell = tell_nobody) -> int:
    """Write the reports of the last run again, show its table and tell what became of it; returns its exit code.

    Args:
        out: the folder of the reports.
        history: of all runs; None where there is none.
        everything: show all rows; else as many as fit on the screen.
        tell: is told.

    Raises:
        StoreError: there is no run, or a report cannot be written.
    """
    records = read_records(out / RESULTS)
    tell(show_reports(records, out, PastReader(history, records), everything=everything))
    ends = [record for record in records if isinstance(record, EndRecord)]
    return ends[-1].exit_code if ends else EXIT_INTERRUPTED


def plan_json(plan: Plan, decisions: Mapping[str, Decision], counts: Mapping[str, int]) -> str:
    """Return what a run would do as one JSON object."""
    return json.dumps(
        {
            "cells": [cell.id for cell in plan.cells],
            "jobs": [
                {"job": name, "choice": decision.choice, "reason": decision.reason or None}
                for name, decision in decisions.items()
            ],
            "skipped": [{"cell": skip.cell.id, "stage": skip.stage, "reason": skip.reason} for skip in plan.skipped],
            "counts": dict(counts),
        },
        indent=1,
        ensure_ascii=False,
    )
