"""Opens the issue about regressions, or updates the one that is open: python3 tell_regressions.py comparison.json...

Needs Python alone and GitHub's own program gh, which finds its token in GH_TOKEN: no package gets near the token. There
is one issue at a time. Its text is the last comparison that was bad; a comment says so when what is bad changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WORKFLOW = os.environ.get("GITHUB_WORKFLOW", "")
"""Each has an issue of its own."""
MARK = f"<!-- crossfarm regressions {hashlib.sha256(WORKFLOW.encode('utf-8', 'replace')).hexdigest()[:8]} "
"""Begins the issue's text, by which it is found again; a digest of what is bad follows."""
TITLE = f"Regressions found by {WORKFLOW or 'a run'}"
LONGEST = 60_000
"""Characters of a text: GitHub takes 65,536."""
MOST_NAMED = 50
"""In a comment."""
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")


@dataclasses.dataclass(frozen=True)
class Bad:
    """A row of a comparison that gates."""

    kind: str
    cell: str
    metric: str
    board: str
    old: str
    new: str
    change: str
    reason: str
    command: str

    @property
    def name(self) -> str:
        """Return what it is about, the same every night."""
        return " ".join(part for part in (self.kind, self.cell, self.metric) if part)


def main(paths: Sequence[str]) -> int:
    """Read comparisons, those that are there, and tell of what gates in them; returns the exit code."""
    files = [Path(path) for path in paths if Path(path).is_file()]
    comparisons = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    bad = [_bad(row) for compared in comparisons for row in compared["rows"] if row["gates"]]
    if not bad:
        say(f"{len(files)} comparisons: nothing regressed, so no issue is opened")
        return 0
    text = issue_text(bad, [f"{compared['new']} against {compared['old']}" for compared in comparisons])
    return tell(text, bad)


def tell(text: str, bad: Sequence[Bad]) -> int:
    """Open the issue with a text, or update the one that is open."""
    found = gh("issue", "list", "--state", "open", "--search", f'"{TITLE}" in:title', "--json", "number,body,author")
    # Anybody may write an issue that begins like ours; only that of a bot is ours to change.
    ours = {
        issue["number"]: issue["body"]
        for issue in json.loads(found)
        if issue["author"].get("is_bot") and issue["body"].startswith(MARK)
    }
    if not ours:
        say(gh("issue", "create", "--title", TITLE, "--body-file", "-", text=text))
        return 0
    number = max(ours)
    say(gh("issue", "edit", str(number), "--body-file", "-", text=text))
    if not ours[number].startswith(f"{MARK}{digest(bad)} "):
        names = "\n".join(f"- {_code(row.name)}" for row in bad[:MOST_NAMED])
        more = f"\n- and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        comment = f"What regressed changed since the run before. It is now:\n\n{names}{more}\n"
        gh("issue", "comment", str(number), "--body-file", "-", text=comment)
    return 0


def digest(bad: Sequence[Bad]) -> str:
    """Return what tells the same regressions of two nights from others."""
    return hashlib.sha256("\n".join(sorted(row.name for row in bad)).encode("utf-8", "replace")).hexdigest()[:16]


def issue_text(bad: Sequence[Bad], compared: Sequence[str]) -> str:
    """Return the text of the issue. What it shows came from models and boards, so it stands in code spans alone."""
    server, repository, run = (os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    link = f"[This run]({server}/{repository}/actions/runs/{run}) has the reports.\n" if run else ""
    head = [f"{MARK}{digest(bad)} -->", "", *(f"{_code(text)}." for text in compared)]
    head += ["", link, "| | cell | number | board | before | now | change | why |", "|---|---|---|---|---|---|---|---|"]
    text = "\n".join(head)
    shown = 0
    for row in bad:
        cells = (row.kind, row.cell, row.metric, row.board, row.old, row.new, row.change, row.reason)
        line = f"\n| {' | '.join(_code(cell) for cell in cells)} |"
        if len(text) + len(line) > LONGEST - 2000:
            break
        text, shown = text + line, shown + 1
    if shown < len(bad):
        text += f"\n\n{len(bad) - shown} more are in comparison.json of the artifact."
    commands = list(dict.fromkeys(row.command for row in bad if row.command))[:5]
    if commands:
        text += "\n\nTo reproduce:\n\n" + "\n".join(f"    {_line(command)}" for command in commands)
    return f"{text}\n\nClose this issue when it is mended, or when it is wanted: the next regression opens a new one.\n"


def say(text: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{text.strip()}\n")


def gh(*arguments: str, text: str = "") -> str:
    """Run gh, which gets `text` on its standard input, and return what it printed; end the program when it fails."""
    environment = {**os.environ, "GH_REPO": os.environ.get("GITHUB_REPOSITORY", "")}
    done = subprocess.run(["gh", *arguments], input=text, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"gh {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
    return done.stdout


def _bad(row: Mapping[str, Any]) -> Bad:
    change = row.get("change")
    return Bad(
        kind=str(row["kind"]),
        cell=str(row["cell"]),
        metric=str(row.get("metric") or ""),
        board=str(row.get("board") or ""),
        old=_number(row.get("old"), row.get("unit")),
        new=_number(row.get("new"), row.get("unit")),
        change=f"{change:+.1%}" if isinstance(change, float | int) else "",
        reason=str(row.get("reason") or ""),
        command=str(row.get("command") or ""),
    )


def _number(value: object, unit: object) -> str:
    return f"{value:.6g} {unit or ''}".strip() if isinstance(value, float | int) else ""


def _code(text: str) -> str:
    """Return a text on one line as code, in which GitHub sees no mention, no link and no end of a table's cell."""
    line = _line(text).replace("`", "'").replace("|", "/")
    return f"`{line}`" if line else ""


def _line(text: str) -> str:
    line = " ".join(_HIDDEN.sub(" ", text).split())
    return line if len(line) <= 300 else f"{line[:299]}…"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
