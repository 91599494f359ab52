"""The workflow runs what the README says, and may do no more than it needs."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from crossfarm.util.paths import HOME


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HOME / ".github" / "workflows" / "ci.yml").read_text())
    return loaded


def test_both_commands_of_the_readme_are_run(workflow: dict[str, Any]) -> None:
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    for command in ("./inv setup pipeline --models models.yaml", "./inv setup test"):
        assert command in [text.replace(" --yes", "").removesuffix(" --require-checks") for text in commands]


def test_a_pipeline_that_checks_nothing_is_not_green(workflow: dict[str, Any]) -> None:
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    pipelines = [command for command in commands if re.search(r"^\./inv (.* )?pipeline\b", command)]
    assert len(pipelines) == 2
    assert all(command.endswith(" --require-checks") for command in pipelines)


def test_the_workflow_may_only_read_and_leaves_no_token_behind(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 90
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_commands_hold_no_expression_that_a_stranger_could_fill(workflow: dict[str, Any]) -> None:
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/none@v1"))
