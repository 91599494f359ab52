"""Workflows and the action run what the README says, may do no more than they need, and take nothing from strangers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from crossfarm.util.paths import HOME

FOLDER = HOME / ".github" / "workflows"
WORKFLOWS: Mapping[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))
}
ACTION: dict[str, Any] = yaml.safe_load((HOME / "action.yml").read_text())
FILES = [*FOLDER.glob("*.yml"), HOME / "action.yml"]
WRITES = {
    ("nightly", "issue"): {"contents": "read", "issues": "write"},
    ("nightly", "pages"): {"pages": "write", "id-token": "write"},
    ("boards", "issue"): {"contents": "read", "issues": "write"},
    ("images", "push"): {"contents": "read", "packages": "write"},
    ("images", "lock"): {"contents": "write", "pull-requests": "write", "actions": "write"},
}
"""What a job may beside reading, and no other job may."""


def jobs() -> Iterator[Any]:
    for name, workflow in WORKFLOWS.items():
        for job in workflow["jobs"]:
            yield pytest.param(name, job, id=f"{name}-{job}")


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from (("action", step) for step in ACTION["runs"]["steps"])
    for name, workflow in WORKFLOWS.items():
        yield from ((name, step) for job in workflow["jobs"].values() for step in job["steps"])


def test_there_are_the_four_workflows() -> None:
    assert set(WORKFLOWS) == {"ci", "nightly", "boards", "images"}


def test_both_commands_of_the_readme_are_run() -> None:
    commands = [step["run"] for name, step in steps() if name == "ci" and "run" in step]
    for command in ("./inv setup pipeline --models models.yaml", "./inv setup test"):
        assert command in [text.replace(" --yes", "").removesuffix(" --require-checks") for text in commands]


def test_a_pipeline_that_checks_nothing_is_not_green() -> None:
    commands = [step["run"] for _, step in steps() if re.search(r"\./inv (.* )?pipeline\b", step.get("run", ""))]
    assert len(commands) == 1
    assert all(command.endswith(" --require-checks") for command in commands)
    assert ACTION["inputs"]["require-checks"]["default"] == "true"
    uses = [step["with"] for _, step in steps() if step.get("uses") == "./"]
    assert len(uses) == 3
    assert all("require-checks" not in given for given in uses)


@pytest.mark.parametrize(("name", "job"), list(jobs()))
def test_a_job_may_only_what_it_needs_and_ends(name: str, job: str) -> None:
    found = WORKFLOWS[name]["jobs"][job]
    assert WORKFLOWS[name]["permissions"] in ({}, {"contents": "read"})
    if name != "ci":
        assert found["permissions"] == WRITES.get((name, job), {"contents": "read"})
    else:
        assert "permissions" not in found
    assert found["timeout-minutes"] <= 360
    assert found["name"]


def test_a_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) > 8
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_scripts_hold_no_expression_that_a_stranger_could_fill() -> None:
    for _, step in steps():
        assert "${{" not in step.get("run", "")
    for path in (HOME / ".ci").rglob("*"):
        assert path.is_dir() or "${{" not in path.read_text()


def test_the_action_runs_its_own_files_alone() -> None:
    scripts = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert len(scripts) == 7
    for script in scripts:
        found = re.fullmatch(r'"\$GITHUB_ACTION_PATH/(\.ci/action/[a-z]+)"', script)
        assert found
        assert (HOME / found[1]).stat().st_mode & 0o111


def test_every_action_is_pinned_by_the_commit_of_a_release() -> None:
    pins: dict[str, set[str]] = {}
    for path in FILES:
        for action, commit, comment in re.findall(r"uses: ([\w/.-]+)@(\S+)(.*)$", path.read_text(), re.MULTILINE):
            assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{path.name}: {action}"
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{path.name}: {action}: of which release it is"
            pins.setdefault("/".join(action.split("/")[:2]), set()).add(commit)
    assert len(pins) >= 7
    assert all(len(commits) == 1 for commits in pins.values()), "one release of each action"


def test_every_input_of_the_action_is_checked_and_explained() -> None:
    check = next(step for step in ACTION["runs"]["steps"] if step.get("id") == "check")
    script = (HOME / ".ci" / "action" / "check").read_text()
    page = (HOME / "docs" / "ci.md").read_text()
    for name, given in ACTION["inputs"].items():
        assert check["env"][f"IN_{name.upper().replace('-', '_')}"] == f"${{{{ inputs.{name} }}}}"
        assert re.search(rf"\b{name}\b", script)
        assert given["description"]
        assert f"| `{name}` |" in page
    for name in ACTION["outputs"]:
        assert f"`{name}`" in page


def test_nothing_of_a_pull_request_runs_where_boards_are() -> None:
    # PyYAML reads the key `on` as true.
    assert set(WORKFLOWS["boards"][True]) == {"schedule", "workflow_dispatch"}
    for name, workflow in WORKFLOWS.items():
        assert "pull_request_target" not in workflow[True]
        hosted = {job["runs-on"] for job in workflow["jobs"].values() if isinstance(job["runs-on"], str)}
        if name != "boards":
            assert hosted == {"ubuntu-24.04"}, "a pull request could change what a self-hosted runner executes"
    plan = WORKFLOWS["boards"]["jobs"]["plan"]["if"]
    assert "!github.event.repository.fork" in plan
    assert "github.event.repository.default_branch" in plan


def test_runs_on_boards_wait_for_each_other_and_none_is_cancelled() -> None:
    limits = [WORKFLOWS["boards"]["concurrency"], WORKFLOWS["boards"]["jobs"]["measure"]["concurrency"]]
    assert all(limit["queue"] == "max" and limit["cancel-in-progress"] is False for limit in limits)
    assert "${{ matrix.target }}" in limits[1]["group"]


def test_the_nightly_goes_on_when_one_target_fails_and_ends_as_it_did() -> None:
    jobs_of = WORKFLOWS["nightly"]["jobs"]
    assert jobs_of["target"]["strategy"]["fail-fast"] is False
    assert jobs_of["merge"]["if"].startswith("${{ !cancelled()")
    assert jobs_of["merge"]["steps"][-1]["run"] == ".ci/action/end"


def test_a_commit_of_an_action_gets_old_before_it_is_taken() -> None:
    (update,) = yaml.safe_load((HOME / ".github" / "dependabot.yml").read_text())["updates"]
    assert update["package-ecosystem"] == "github-actions"
    assert update["cooldown"]["default-days"] >= 7


def test_one_rule_of_zizmor_is_switched_off_and_no_place_is_hidden_from_it() -> None:
    text = (HOME / ".github" / "zizmor.yml").read_text()
    assert set(yaml.safe_load(text)["rules"]) == {"self-repository"}
    for path in [*FILES, *(HOME / ".ci").rglob("*")]:
        assert path.is_dir() or "zizmor: ignore" not in path.read_text()


def test_scripts_that_workflows_name_are_there() -> None:
    for name in WORKFLOWS:
        for script in re.findall(r"(?<![\w/])\.ci/[\w/.]*\w", (FOLDER / f"{name}.yml").read_text()):
            assert (HOME / script).exists()
