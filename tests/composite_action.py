"""Runs the steps of action.yml here as GitHub's runner would: the scripts for real, caches and artifacts as folders.

It knows the few forms of expressions that action.yml is written in, and fails on any other.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from crossfarm.util.paths import HOME

_TERM = re.compile(r"(?P<name>[\w.-]+) (?P<operator>==|!=) '(?P<value>[^']*)'")
_EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")


@dataclasses.dataclass(kw_only=True)
class Ended:
    """How a use of the action ended.

    Attributes:
        failed: the name of the first step that failed; None when none did.
        code: its exit code.
        states: name of a step -> `success`, `failure` or `skipped`.
        output: what each script printed, by the name of its step.
        summaries: what each step added to the summary, by its name.
        outputs: of the action.
    """

    failed: str | None = None
    code: int = 0
    states: dict[str, str] = dataclasses.field(default_factory=dict)
    output: dict[str, str] = dataclasses.field(default_factory=dict)
    summaries: dict[str, str] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)


class Repository:
    """A repository that uses the action, and what GitHub keeps for it between two runs."""

    def __init__(self, folder: Path) -> None:
        """Make an empty one in `folder`."""
        self.folder = folder
        self.workspace = folder / "workspace"
        self.artifacts = folder / "artifacts"
        self.caches = folder / "caches"
        for path in (self.workspace, self.artifacts, self.caches):
            path.mkdir()
        self.action: dict[str, Any] = yaml.safe_load((HOME / "action.yml").read_text())
        self._run = 0

    def use(self, environment: Mapping[str, str] | None = None, **inputs: str) -> Ended:
        """Run all steps on a new machine, which has the repository and nothing else.

        Args:
            environment: what the machine sets.
            inputs: of the action, spelled with underscores.
        """
        self._run += 1
        shutil.rmtree(self.workspace / ".crossfarm", ignore_errors=True)
        given = {name: str(value.get("default", "")) for name, value in self.action["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        values = {"runner.environment": "self-hosted"} | {f"inputs.{name}": value for name, value in given.items()}
        ended = Ended()
        for step in self.action["runs"]["steps"]:
            self._step(step, values, ended, environment or {})
        ended.outputs = {name: self._filled(output["value"], values) for name, output in self.action["outputs"].items()}
        return ended

    def _step(
        self, step: Mapping[str, Any], values: dict[str, str], ended: Ended, environment: Mapping[str, str]
    ) -> None:
        name = step["name"]
        condition = step.get("if", "").removeprefix("${{ ").removesuffix(" }}")
        if not self._holds(condition, values, is_failed=ended.failed is not None):
            ended.states[name] = "skipped"
            return
        if "uses" in step:
            parameters = {key: self._filled(str(value), values) for key, value in step["with"].items()}
            found = self._uses(step["uses"].partition("@")[0], parameters)
            code = 0
        else:
            code, found = self._script(step, values, ended, environment)
        ended.states[name] = "failure" if code else "success"
        if code and ended.failed is None:
            ended.failed, ended.code = name, code
        if "id" in step:
            values[f"steps.{step['id']}.outcome"] = ended.states[name]
            values |= {f"steps.{step['id']}.outputs.{key}": value for key, value in found.items()}

    def _script(
        self, step: Mapping[str, Any], values: Mapping[str, str], ended: Ended, environment: Mapping[str, str]
    ) -> tuple[int, dict[str, str]]:
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}
        for path in files.values():
            path.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.workspace,
            env={
                **os.environ,
                **{name: str(path) for name, path in files.items()},
                "GITHUB_ACTION_PATH": str(HOME),
                "GITHUB_WORKSPACE": str(self.workspace),
                "GITHUB_RUN_ID": str(self._run),
                "GITHUB_RUN_ATTEMPT": "1",
                **environment,
                **{name: self._filled(value, values) for name, value in step["env"].items()},
            },
            capture_output=True,
            text=True,
            check=False,
        )
        ended.output[step["name"]] = done.stdout + done.stderr
        ended.summaries[step["name"]] = files["GITHUB_STEP_SUMMARY"].read_text()
        assert not files["GITHUB_ENV"].read_text(), "what a step sets there rules over all steps of the user's job"
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        return done.returncode, dict(line.split("=", 1) for line in lines)

    def _uses(self, action: str, parameters: Mapping[str, str]) -> dict[str, str]:
        if action == "actions/upload-artifact":
            shutil.copytree(
                self.workspace / parameters["path"], self.artifacts / parameters["name"], dirs_exist_ok=True
            )
            return {}
        if parameters["path"].startswith("~"):  # of pip, and this machine's own
            return {}
        path = self.workspace / parameters["path"]
        if action == "actions/cache/save":
            self._copy(path, self.caches / parameters["key"])
            return {}
        assert action == "actions/cache/restore"
        prefix = parameters.get("restore-keys", parameters["key"])
        kept = sorted(self.caches.glob(f"{prefix}*"), key=lambda found: found.stat().st_ctime_ns)
        if kept:
            self._copy(kept[-1], path)
        return {"cache-hit": str(bool(kept) and kept[-1].name == parameters["key"]).lower()}

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copy a file or folder that is there; GitHub's cache warns of one that is not."""
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)

    @staticmethod
    def _holds(condition: str, values: Mapping[str, str], *, is_failed: bool) -> bool:
        terms: Sequence[str] = condition.split(" && ") if condition else []
        if is_failed and "!cancelled()" not in terms:
            return False
        for term in terms:
            if term == "!cancelled()":
                continue
            found = _TERM.fullmatch(term)
            assert found, f"an expression that this runner does not know: {term}"
            if (values.get(found["name"], "") == found["value"]) != (found["operator"] == "=="):
                return False
        return True

    @staticmethod
    def _filled(text: str, values: Mapping[str, str]) -> str:
        return _EXPRESSION.sub(lambda match: values.get(match[1], ""), text)
