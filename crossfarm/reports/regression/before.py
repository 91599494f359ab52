"""A run beside the last runs before it: the comparison that nightlies, notices and the page show."""

from __future__ import annotations

from crossfarm.reports.history.database import History
from crossfarm.reports.history.kept_run import KeptRun
from crossfarm.reports.regression.comparison import WINDOW, Comparison, Confirm, baseline, compare, judged_names

NAME = f"the last {WINDOW} runs before"
NAME_OF_STATES = "the run before, cell by cell and without numbers"
_NO_NUMBER = ""
"""No number is called so."""


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


def states_compared(history: History, run: KeptRun) -> Comparison | None:
    """Return a run beside the run before it, by what became of each cell and no number; None when there is none.

    For runs of very many cells, whose verdicts take as long as all else that a page shows.

    Raises:
        HistoryError: the history cannot be read.
    """
    before = history.before(run, runs=1, names=(_NO_NUMBER,))
    return compare(NAME_OF_STATES, baseline(before, run), run) if before else None
