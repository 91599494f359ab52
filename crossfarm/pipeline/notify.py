"""Tells those whom a pipeline names what became of a run; no run fails because somebody could not be told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from crossfarm.config.notices import Notice
from crossfarm.errors import ToolError, ToolTimeoutError
from crossfarm.reports import QUIET
from crossfarm.reports.regression.comparison import Comparison, Kind
from crossfarm.reports.regression.notice import document, text_of
from crossfarm.reports.run_view import Overview
from crossfarm.util.https import is_private
from crossfarm.util.processes import ending, run_tool
from crossfarm.util.text import one_line
from crossfarm.util.webhook import post

_WORSE: frozenset[Kind] = frozenset({"newly failing", "regressed", "unconfirmed", "missing"})
_HIDDEN = "***"


def notify(
    notices: Sequence[Notice], seen: Overview, compared: Comparison | None, *, folder: Path, why_not: str = ""
) -> Iterator[str]:
    """Tell each of those whom it concerns; yield a line for each that could not be told.

    Args:
        notices: who is told, and of what.
        seen: the run.
        compared: the run beside those before it; None where there are none.
        folder: where commands start.
        why_not: why those before it cannot be read; empty where they can, or where there are none.
    """
    told = document(seen, compared, why_not=why_not)
    for notice in notices:
        if not _concerns(notice, seen, compared):
            continue
        content = told if notice.text_key is None else text_of(seen, compared, key=notice.text_key, why_not=why_not)
        if why := _deliver(notice, content, folder):
            yield f"notify {notice.name}: not told: {one_line(_without_secrets(why, notice), 300)}"


def _concerns(notice: Notice, seen: Overview, comparison: Comparison | None) -> bool:
    if notice.when == "always":
        return True
    if comparison is None:
        # Without a run before, a run that is not good is the news.
        return seen.end is None or seen.end.exit_code != 0 or notice.when == "changed"
    kinds = {row.kind for row in comparison.rows}
    return bool(kinds & _WORSE if notice.when == "worse" else kinds.difference(QUIET))


def _deliver(notice: Notice, content: str, folder: Path) -> str:
    """Return why it was not told, empty when it was."""
    missing = [name for name in notice.variables if not os.environ.get(name)]
    if missing:
        return f"the variable {missing[0]} is not set"
    if notice.command is not None:
        return _run(notice.command, content, folder, notice.timeout)
    url = notice.url or os.environ[notice.url_variable or ""]
    if not is_private(url):
        return f"{notice.url_variable or 'url'} holds no https:// address"
    headers = {name: os.environ[variable] for name, variable in notice.headers.items()}
    return post(url, content, headers=headers, seconds=notice.timeout)


def _run(command: Sequence[str], content: str, folder: Path, seconds: float) -> str:
    try:
        done = run_tool(command, folder=folder, wall_seconds=seconds, given=content, merged=True)
    except ToolTimeoutError:
        return f"{command[0]} did not end within {seconds:g} s and was killed"
    except ToolError as error:
        return str(error)
    except OSError as error:  # it ended before it had read all, or its folder is gone
        return f"{command[0]}: {error.strerror}"
    said = done.stdout.strip().splitlines()
    return "" if done.returncode == 0 else f"{command[0]} {ending(done.returncode)}{f': {said[-1]}' if said else ''}"


def _without_secrets(text: str, notice: Notice) -> str:
    """Return a text without the values of a notice's variables, the longest first: one may be a part of another."""
    values = {os.environ.get(name, "") for name in notice.variables}
    for value in sorted(filter(None, values), key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    return text
