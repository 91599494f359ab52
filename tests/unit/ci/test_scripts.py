"""The scripts of workflows that need no GitHub, run with what they call played by small programs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from crossfarm.util.paths import HOME

CI = HOME / ".ci"


def run(script: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(folder / "output"), **environment},
    )


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("fail", "code", "regressed", "expected"),
    [
        ("regressions", "0", "false", 0),
        ("regressions", "0", "", 0),
        ("regressions", "0", "true", 1),
        ("regressions", "3", "false", 3),
        ("checks", "0", "true", 0),
        ("checks", "1", "true", 1),
        ("never", "1", "true", 0),
    ],
)
def test_the_action_ends_as_it_is_told_to(tmp_path: Path, fail: str, code: str, regressed: str, expected: int) -> None:
    done = run(CI / "action" / "end", tmp_path, IN_FAIL=fail, EXIT_CODE=code, REGRESSED=regressed)
    assert done.returncode == expected


@pytest.mark.parametrize(("code", "said"), [(0, "regressed=false\n"), (1, "regressed=true\n"), (3, "")])
def test_a_history_that_cannot_be_used_costs_a_warning_and_no_run(tmp_path: Path, code: int, said: str) -> None:
    program(tmp_path, "inv", f"echo '### compared' > comparison.md\nexit {code}")
    (tmp_path / ".ci").symlink_to(CI)
    (tmp_path / "output").touch()
    given = {"OUT": ".", "HISTORY": "h.db", "STORE": "s", "IN_MODELS": "m", "IN_PIPELINE": "p", "IN_CONFIRM": "false"}
    summary = tmp_path / "summary"
    done = run(
        CI / "action" / "compare",
        tmp_path,
        GITHUB_ACTION_PATH=str(tmp_path),
        GITHUB_STEP_SUMMARY=str(summary),
        **given,
    )
    assert done.returncode == 0
    assert (tmp_path / "output").read_text() == said
    assert ("::warning title=crossfarm: not compared::" in done.stdout) == (code == 3)
    assert summary.exists() == (code != 3)


def test_the_nightly_merges_all_targets_of_the_matrix_also_those_that_left_nothing(tmp_path: Path) -> None:
    program(
        tmp_path,
        "inv",
        'echo "$@" > called; mkdir -p merged; touch merged/results.jsonl\n'
        "echo '[1]' > merged/benchmark-smaller.json; echo '[]' > merged/benchmark-bigger.json; exit 3",
    )
    matrix = json.dumps({"include": [{"target": "x86_64"}, {"target": "armv7"}]})
    (tmp_path / ".ci").symlink_to(CI)
    done = run(
        CI / "nightly" / "merge",
        tmp_path,
        GITHUB_ACTION_PATH=str(tmp_path),
        MATRIX=matrix,
        OUT="merged",
        HISTORY="h.db",
    )
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert called == "merge parts/part-x86_64 parts/part-armv7 --out=merged --history=h.db\n"
    assert "::stop-commands::" in done.stdout
    assert (tmp_path / "output").read_text() == "exit-code=3\nsmaller=true\nbigger=false\n"


def test_a_nightly_without_any_results_fails(tmp_path: Path) -> None:
    program(tmp_path, "inv", "exit 3")
    (tmp_path / ".ci").symlink_to(CI)
    given = {"GITHUB_ACTION_PATH": str(tmp_path), "MATRIX": '{"include": [{"target": "a"}]}'}
    done = run(CI / "nightly" / "merge", tmp_path, **given, OUT="m", HISTORY="h")
    assert done.returncode == 3


class Action:
    """A folder with the scripts of the action, and an inv and a docker that keep what they were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".ci").symlink_to(CI)
        program(folder, "inv", 'echo "inv $*" >> called\n[[ $1 != matrix ]] || printf "x86_64\\narmv7\\n"')
        program(
            folder / "bin",
            "docker",
            'echo "docker $*" >> called\n'
            '[[ $1 != images ]] || printf "crossfarm-base:1\\n<none>:<none>\\ncrossfarm-armv7:2\\n"',
        )

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            **{"IN_MODELS": "models.yaml", "IN_PIPELINE": "default", "IN_TARGETS": "", "IN_ONLY": "", "IN_BOARDS": ""},
            **{
                "IN_ENGINE": "auto",
                "IN_REGISTRY": "",
                "IN_REQUIRE_CHECKS": "true",
                "GITHUB_ACTION_PATH": str(self.folder),
            },
            **{"OUT": "out", "STORE": "store", "HISTORY": "h.db", "IMAGES": "images.tar"},
        }
        return run(CI / "action" / script, self.folder, **(given | environment))

    @property
    def called(self) -> list[str]:
        return (self.folder / "called").read_text().splitlines()


@pytest.fixture
def action(tmp_path: Path) -> Action:
    return Action(tmp_path)


SETUP = "inv setup --yes --no-tests --models=models.yaml --pipeline=default"


def test_images_that_were_kept_are_loaded_and_those_of_a_registry_are_pulled(action: Action) -> None:
    assert action.run("prepare").returncode == 0
    assert action.called == [SETUP]
    (action.folder / "images.tar").touch()
    assert action.run("prepare", IN_REGISTRY="ghcr.io/owner").returncode == 0
    assert action.called[1:] == [
        SETUP,
        "docker load --quiet --input images.tar",
        "inv matrix --models=models.yaml --pipeline=default",
        "inv images --targets=x86_64,armv7 --pull=ghcr.io/owner",
    ]
    assert action.run("prepare", IN_ENGINE="local", IN_REGISTRY="ghcr.io/owner").returncode == 0
    assert action.called[5:] == [SETUP]


def test_images_are_kept_once_and_the_store_small(action: Action) -> None:
    clean = "inv clean --models=models.yaml --store=store --out=out --larger-than 1500"
    assert action.run("keep").returncode == 0
    assert action.called[0] == clean
    assert action.called[1].startswith("docker images ")
    assert action.called[2:] == ["docker save --output images.tar crossfarm-base:1 crossfarm-armv7:2"]
    (action.folder / "images.tar").touch()
    assert action.run("keep").returncode == 0
    assert action.called[3:] == [clean]


def test_a_run_is_asked_for_what_the_inputs_say(action: Action) -> None:
    (action.folder / "out").mkdir()
    program(action.folder, "inv", f'echo inv "$@" >>{action.folder}/called; touch out/results.jsonl')
    done = action.run("run", IN_TARGETS="armv7", IN_ONLY="*-int8", IN_BOARDS="b.yaml", IN_ENGINE="local")
    assert done.returncode == 0
    assert action.called == [
        "inv pipeline --models=models.yaml --pipeline=default --targets=armv7 --only=*-int8 --boards=b.yaml "
        "--engine=local --out=out --store=store --history=h.db --require-checks"
    ]
    assert (action.folder / "output").read_text() == "exit-code=0\n"


def test_a_run_without_results_ends_the_action_and_shows_nothing(action: Action) -> None:
    program(action.folder, "inv", "exit 2")
    (action.folder / "out").mkdir()
    (action.folder / "out" / "results.jsonl").write_text("of an earlier step")
    (action.folder / "output").touch()
    assert action.run("run").returncode == 2
    assert (action.folder / "output").read_text() == ""


class Clone:
    """A clone of a repository with an images.lock, and a gh that keeps what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.remote = folder / "remote.git"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote), cwd=folder)
        self.git("clone", "--quiet", str(self.remote), str(self.folder), cwd=folder)
        (self.folder / "images.lock").write_text("old\n")
        self.git("add", "images.lock")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "first")
        self.git("push", "--quiet", "origin", "HEAD:main")
        program(self.folder / "bin", "gh", 'echo "$*" >> ../gh.log\n[[ "$1 $2" != "pr list" ]] || cat ../open')
        (folder / "open").write_text("0\n")

    def git(self, *words: str, cwd: Path | None = None) -> str:
        command = ["git", *words]
        return subprocess.run(command, cwd=cwd or self.folder, capture_output=True, text=True, check=True).stdout

    @property
    def asked(self) -> list[str]:
        return [line.split(" --")[0] for line in (self.folder / "../gh.log").read_text().splitlines()]


def test_a_lock_that_changed_is_proposed_once_and_updated_after_that(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    home = {"HOME": str(tmp_path)}
    assert "is what it was" in run(CI / "propose_lock", clone.folder, **home).stdout
    (clone.folder / "images.lock").write_text("new\n")
    done = run(CI / "propose_lock", clone.folder, **home)
    assert done.returncode == 0, done.stderr
    assert clone.git("show", "origin/update-images-lock:images.lock", cwd=clone.folder) == "new\n"
    assert clone.asked == ["auth setup-git", "pr list", "pr create", "workflow run ci.yml"]
    (tmp_path / "open").write_text("1\n")
    (clone.folder / "images.lock").write_text("newer\n")
    assert run(CI / "propose_lock", clone.folder, **home).returncode == 0
    assert clone.asked[4:] == ["auth setup-git", "pr list", "workflow run ci.yml"]
    assert clone.git("show", "origin/update-images-lock:images.lock") == "newer\n"
    assert clone.git("show", "origin/main:images.lock") == "old\n"
