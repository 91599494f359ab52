"""Checks what CI servers read: workflows, the action, templates of GitLab, shell scripts; part of `./inv lint`."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from crossfarm.errors import EXIT_GOOD, EXIT_INFRASTRUCTURE
from crossfarm.util.paths import HOME

ACTIONLINT = Path("requirements", "workflows", "node_modules", "@tktco", "node-actionlint")
WORKFLOWS, ACTION, TEMPLATES = Path(".github", "workflows"), Path("action.yml"), Path("docs", "templates")
CI = Path(".ci")
"""The folder of the scripts that workflows and the action run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linter:
    """A program that looks at some files.

    Attributes:
        name: of it.
        command: runs it from the project's folder; None where it is not installed.
    """

    name: str
    command: tuple[str, ...] | None


def linters(home: Path = HOME) -> Iterator[Linter]:
    """Yield what is run, one after another."""
    workflows = sorted(str(path.relative_to(home)) for path in (home / WORKFLOWS).glob("*.yml"))
    templates = sorted(str(path.relative_to(home)) for path in (home / TEMPLATES).glob("gitlab*.yml"))
    scripts = ["inv", *sorted(str(path.relative_to(home)) for path in (home / CI).rglob("*") if _is_shell(path))]
    node = shutil.which("node")
    is_there = node is not None and (home / ACTIONLINT / "main.wasm").is_file()
    yield Linter(
        name="actionlint",
        command=(node or "", ".ci/actionlint.cjs", str(ACTIONLINT), *workflows) if is_there else None,
    )
    yield _program("zizmor", "--offline", "--quiet", "--no-progress", "--persona=pedantic", ".github", str(ACTION))
    yield _program("shellcheck", "--external-sources", *scripts)
    for schema, files in (
        ("vendor.github-workflows", workflows),
        ("vendor.github-actions", [str(ACTION)]),
        ("vendor.gitlab-ci", templates),
    ):
        yield _program("check-jsonschema", "--quiet", "--builtin-schema", schema, *files)


def lint_workflows(home: Path = HOME) -> int:
    """Run them all, and return the exit code of the first that finds something.

    One that is not installed is told in a line. It fails the run where CI is set, because there setup has run.
    """
    code = EXIT_GOOD
    told: set[str] = set()
    for linter in linters(home):
        if linter.command is not None:
            done = subprocess.run(linter.command, cwd=home, check=False).returncode
            code = code or abs(done)
        elif linter.name not in told:
            told.add(linter.name)
            sys.stderr.write(f"lint: {linter.name} is not installed, and checks nothing; ./inv setup installs it\n")
            code = code or (EXIT_INFRASTRUCTURE if os.environ.get("CI") else EXIT_GOOD)
    return code


def _is_shell(path: Path) -> bool:
    return path.is_file() and not path.suffix


def _program(name: str, *arguments: str) -> Linter:
    """Return a program that pip put beside this Python."""
    path = Path(sys.executable).parent / name
    return Linter(name=name, command=(str(path), *arguments) if path.exists() else None)


if __name__ == "__main__":
    sys.exit(lint_workflows())
