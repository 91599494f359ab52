"""What a user mistypes: the code of bad configuration, the nearest name, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crossfarm.cli.program import spelled_out
from crossfarm.util.paths import HOME


def _type(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crossfarm.cli.program", "--search-root", str(HOME), *words]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pipeline", "--onyl", "x"), "there is no option --onyl; perhaps you meant '--only'"),
        (("pipelin",), "there is no task 'pipelin'; perhaps you meant 'pipeline'"),
        (("plan", "--only"), "needed value"),
        (("bench",), "positional"),
        (("matrix", "--json", "--gitlab"), "--json and --gitlab: give one of them"),
        (("matrix", "--json", "--tag", "nowhere"), "--tag nowhere"),
    ],
)
def test_a_mistyped_command_ends_with_code_2_and_the_nearest_name(words: tuple[str, ...], told: str) -> None:
    done = _type(*words)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_the_list_of_tasks_and_the_version_are_shown() -> None:
    assert "pipeline" in _type("--list").stdout
    assert _type("--version").stdout.startswith("crossfarm 0.")


@pytest.mark.parametrize("words", [("package", "--help"), ("plan", "--help"), ("--help", "bundle")])
def test_help_of_a_task_is_shown_even_where_it_wants_an_argument(words: tuple[str, ...]) -> None:
    done = _type(*words)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout or "Example:" in done.stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("history export h.db", "history-export h.db"),
        ("history import out/results.jsonl", "history-import out/results.jsonl"),
        ("history prune --keep-runs 3", "history-prune --keep-runs 3"),
        ("history mnist_cnn", "history mnist_cnn"),
        ("history mnist_cnn x86_64,armv7 --last 3", "history mnist_cnn --target x86_64,armv7 --last 3"),
        ("history mnist_cnn --json", "history mnist_cnn --json"),
        ("history --json mnist_cnn", "history --json mnist_cnn"),
        ("history", "history"),
        ("merge a b c", "merge a,b,c"),
        ("merge a b --out o", "merge a,b --out o"),
        ("merge --folders a,b", "merge --folders a,b"),
        ("merge", "merge"),
        ("boards --power pi-1 off", "boards --power pi-1:off"),
        ("boards --power pi-1 off --json", "boards --power pi-1:off --json"),
        ("boards --power pi-1 --json", "boards --power pi-1 --json"),
        ("boards --power", "boards --power"),
        ("plan history export", "plan history export"),
        ("", ""),
    ],
)
def test_verbs_below_a_verb_and_second_places_are_spelled_out(typed: str, meant: str) -> None:
    assert spelled_out(typed.split()) == meant.split()
