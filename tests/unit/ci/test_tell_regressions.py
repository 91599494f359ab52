"""The issue about regressions: opened once, updated after that, and safe from what models are called.

gh is a program that plays GitHub: it keeps issues in a file, and takes the options of gh 2.23 alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crossfarm.util.paths import HOME

SCRIPT = HOME / ".ci" / "nightly" / "tell_regressions.py"
GH = f"""#!{sys.executable}
import json, os, pathlib, sys
path = pathlib.Path(os.environ["ISSUES"])
issues = json.loads(path.read_text())
words = sys.argv[1:]
assert os.environ["GH_REPO"] == "owner/name"
if words[:2] == ["issue", "list"]:
    assert words[2:5] == ["--state", "open", "--search"]
    assert words[6:] == ["--json", "number,body,author"]
    print(json.dumps([issue for issue in issues if issue.get("open", True)]))
elif words[:2] == ["issue", "create"]:
    assert words[2] == "--title" and words[4:] == ["--body-file", "-"]
    issue = {{"number": len(issues) + 1, "title": words[3], "body": sys.stdin.read()}}
    issues.append({{**issue, "author": {{"is_bot": True}}, "comments": []}})
    print("created", len(issues))
elif words[:2] in (["issue", "edit"], ["issue", "comment"]):
    assert words[3:] == ["--body-file", "-"]
    issue = issues[int(words[2]) - 1]
    text = sys.stdin.read()
    if words[1] == "edit":
        issue["body"] = text
    else:
        issue["comments"].append(text)
else:
    sys.exit("unknown command")
path.write_text(json.dumps(issues))
"""


def row(**changes: Any) -> dict[str, Any]:
    found = {
        "kind": "regressed",
        "cell": "armv7-mnist-float32",
        "metric": "latency.p50",
        "unit": "ns",
        "board": "pi-1",
        "old": 1e6,
        "new": 1.1e6,
        "change": 0.1,
        "reason": "10 % slower, confirmed",
        "gates": True,
        "command": "./inv pipeline --only armv7-mnist-float32",
    }
    return found | changes


class GitHub:
    """Issues, and the script that tells of regressions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "issues.json"
        self.path.write_text("[]")
        (folder / "gh").write_text(GH)
        (folder / "gh").chmod(0o755)

    @property
    def issues(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.path.read_text())
        return found

    def tell(self, *rows: dict[str, Any], workflow: str = "Nightly") -> str:
        comparison = {"old": "the last 12 runs before", "new": "20261130T020000-0a", "gates": bool(rows), "rows": rows}
        (self.folder / "comparison.json").write_text(json.dumps(comparison))
        environment = {
            **os.environ,
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "ISSUES": str(self.path),
            "GITHUB_REPOSITORY": "owner/name",
            "GITHUB_SERVER_URL": "https://git.example",
            "GITHUB_RUN_ID": "7",
            "GITHUB_WORKFLOW": workflow,
        }
        # -S: without the packages of this environment, as in the workflow.
        done = subprocess.run(
            [sys.executable, "-S", str(SCRIPT), str(self.folder / "gone.json"), str(self.folder / "comparison.json")],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def github(tmp_path: Path) -> GitHub:
    return GitHub(tmp_path)


def test_nothing_that_gates_opens_nothing(github: GitHub) -> None:
    assert "1 comparisons: nothing regressed" in github.tell(row(gates=False, kind="unconfirmed"))
    assert github.issues == []


def test_each_workflow_has_an_issue_of_its_own(github: GitHub) -> None:
    github.tell(row())
    github.tell(row(cell="armv7-other-int8"), workflow="Boards")
    github.tell(row())
    assert [issue["title"] for issue in github.issues] == [
        f"Regressions found by {name}" for name in ("Nightly", "Boards")
    ]
    assert [issue["comments"] for issue in github.issues] == [[], []]


def test_the_first_regression_opens_an_issue_with_what_it_is_and_how_to_see_it(github: GitHub) -> None:
    github.tell(row(), row(gates=False, cell="x86_64-other-int8"))
    (issue,) = github.issues
    assert (
        "| `regressed` | `armv7-mnist-float32` | `latency.p50` | `pi-1` | `1e+06 ns` | `1.1e+06 ns` | `+10.0%` |"
        in (issue["body"])
    )
    assert "[This run](https://git.example/owner/name/actions/runs/7)" in issue["body"]
    assert "    ./inv pipeline --only armv7-mnist-float32" in issue["body"]
    assert "other" not in issue["body"]


def test_the_next_night_updates_it_and_comments_only_when_something_else_is_bad(github: GitHub) -> None:
    github.tell(row())
    github.tell(row(new=1.2e6))
    (issue,) = github.issues
    assert "`1.2e+06 ns`" in issue["body"]
    assert issue["comments"] == []
    github.tell(row(new=1.2e6), row(metric="program", unit="bytes"))
    (issue,) = github.issues
    assert issue["comments"] == [
        "What regressed changed since the run before. It is now:\n\n"
        "- `regressed armv7-mnist-float32 latency.p50`\n- `regressed armv7-mnist-float32 program`\n"
    ]


def test_an_issue_that_was_closed_or_that_a_stranger_wrote_alike_is_left_alone(github: GitHub) -> None:
    github.tell(row())
    (closed,) = github.issues
    stranger = {"number": 2, "body": closed["body"], "author": {"is_bot": False}, "comments": []}
    github.path.write_text(json.dumps([closed | {"open": False}, stranger]))
    github.tell(row(new=9e9))
    assert len(github.issues) == 3
    assert [issue["body"] for issue in github.issues[:2]] == [closed["body"]] * 2


def test_a_thousand_regressions_fit_into_what_github_takes(github: GitHub) -> None:
    rows = [row(cell=f"armv7-model_{number}-float32", reason="x" * 400) for number in range(1000)]
    github.tell(*rows)
    github.tell(*rows[1:])
    (issue,) = github.issues
    assert len(issue["body"]) < 65_536
    assert "more are in comparison.json" in issue["body"]
    (comment,) = issue["comments"]
    assert len(comment) < 65_536
    assert comment.endswith("- and 949 more\n")


def test_names_from_outside_mention_nobody_and_break_no_table(github: GitHub) -> None:
    github.tell(row(cell="a|b`@team`\n<!-- --> <script>", reason="#1 @all\x1b[31m"))
    body = github.issues[0]["body"]
    (line,) = [found for found in body.splitlines() if found.startswith("| `regressed")]
    assert "`a/b'@team' <!-- --> <script>`" in line
    assert "`#1 @all [31m`" in line


def test_gh_that_fails_ends_the_script_with_what_it_said(github: GitHub) -> None:
    (github.folder / "gh").write_text("#!/bin/sh\necho 'HTTP 403' >&2\nexit 1\n")
    with pytest.raises(AssertionError, match="gh issue list failed: HTTP 403"):
        github.tell(row())
