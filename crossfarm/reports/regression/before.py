"""A run beside the last runs before it: the comparison that nightlies, notices and the page show."""

from __future__ import annotations

from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptRun
from crossfarm.reports.regression.comparison import WINDOW, Comparison, Confirm, baseline, compare, judged_names

NAME = f"the last {WINDOW} runs before"


def compared_with_before(history: History, run: KeptRun, *, confirm: Confirm | None = None) -> Comparison | None:
    """Return a run beside the last WINDOW runs before it; None when there are none.

    Args:
        history: where they are kept; the run need not be there.
        run: the run.
        confirm: see `compare`.

    Raises:
        HistoryError: the history cannot be read.
    """
    before = history.before(run, runs=WINDOW, names=judged_names(run))
    return compare(NAME, baseline(before, run), run, confirm=confirm) if before else None
