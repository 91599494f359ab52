"""The page of the run before under the name of this one, where all else that it shows is the same.

A run with nothing to do records what the run before recorded. To make the page anew takes a tenth of a second, most of
it for the import of Jinja2 and for its template; to see that nothing changed takes a tenth of that, without an import.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from crossfarm.reports.run_view import Overview
from crossfarm.reports.summary import html
from crossfarm.results import EndRecord, Record, RunRecord, last_run, to_json
from crossfarm.util.text import quantity

BEGIN, END = "<!--run-->", "<!--/run-->"
"""What stands between is of this run alone. Texts of records cannot hold these: their < is escaped."""
_LAST = "</html>\n"
_HERE = Path(__file__).parent


def content_digest(records: Sequence[Record]) -> str:
    """Return the digest of all that the page of a run shows but of what `run_line` says, and of what makes the page."""
    found = hashlib.sha256(_code_digest())
    for record in last_run(records):
        if isinstance(record, RunRecord):
            found.update(repr((record.cells, record.jobs, sorted(record.tools.items()))).encode("utf-8", "replace"))
        elif isinstance(record, EndRecord):
            found.update(f"end {record.interrupted}".encode())
        else:
            found.update(to_json(record).encode("utf-8", "replace"))
    return found.hexdigest()


def digest_line(digest: str) -> str:
    """Return the line of the page that says what its content is; empty for a page that is not to be renewed."""
    return f'<meta name="crossfarm-content" content="{digest}">'


def run_line(seen: Overview) -> str:
    """Return what the page says of this run alone, as HTML."""
    run = seen.run
    if run is None:
        return ""
    seconds = f", {quantity(seen.end.seconds, 's')}" if seen.end else ""
    commit = f" of commit <code>{html(run.git_commit)}</code>" if run.git_commit else ""
    return (
        f"<code>{html(run.command)}</code> on {html(run.host)}, {html(run.started)}{seconds}, "
        f"crossfarm {html(run.version)}{commit}, run <code>{html(run.run)}</code>"
    )


def renewed(before: Path, seen: Overview, digest: str) -> str | None:
    """Return the page of a run before with the name of this run; None where it cannot be had so.

    Args:
        before: the file of that page, which need not be there.
        seen: this run.
        digest: `content_digest` of its records.
    """
    if not seen.is_complete or seen.run is None:
        return None
    try:
        text = before.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found or digest_line(digest) not in head or not tail.endswith(_LAST):
        return None
    return f"{head}{BEGIN}{run_line(seen)}{END}{tail}"


@functools.cache
def _code_digest() -> bytes:
    """Return the digest of the files that make the page."""
    found = hashlib.sha256()
    files = [path for path in _HERE.rglob("*") if path.suffix in {".py", ".html", ".css", ".js", ".json"}]
    for path in sorted([*files, _HERE.parent / "util" / "text.py", _HERE.parent / "results.py"]):
        found.update(path.read_bytes())
    return found.digest()
