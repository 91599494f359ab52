"""Answers as JSON: one object on the standard output, whatever else is said or goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from invoke import Exit
from invoke.context import Context

from crossfarm.cli.verbs import JSON, Given, Option, verb
from crossfarm.errors import ConfigError
from crossfarm.util.paths import HOME

CHATTY = """
import subprocess, sys
from invoke import Exit
from invoke.context import Context
from crossfarm.cli.verbs import JSON, Given, verb

@verb(JSON)
def table(given):
    print("progress")
    subprocess.run(["echo", "a program"])
    if given["json"]:
        given["json"].write_object({"name": "a\\u202eb\\x9b", "more": [1]})
        given["json"].write_object({"second": "is not heard"})
    else:
        print("the table")
    print("the end")
    return 3

try:
    table(Context(), json=len(sys.argv) > 1)
except Exit as ended:
    print("afterwards", ended.code)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHATTY, *arguments], capture_output=True, text=True, cwd=HOME, check=True
    )


def test_only_the_answer_stands_on_the_standard_output() -> None:
    done = run("--json")
    answer, rest = done.stdout.split("\n}\n")
    assert json.loads(answer + "}") == {"name": "a\u202eb\x9b", "more": [1]}
    assert "\u202e" not in done.stdout
    assert rest == "afterwards 3\n"
    assert sorted(done.stderr.splitlines()) == ["a program", "progress", "the end"]


def test_without_the_option_all_is_as_it_was() -> None:
    done = run()
    assert sorted(done.stdout.splitlines()) == ["a program", "afterwards 3", "progress", "the end", "the table"]
    assert done.stderr == ""


@verb(Option(name="how", help="to end"), JSON)
def ends(given: Given) -> int:
    """End in some way."""
    if given["how"] == "interrupted":
        raise KeyboardInterrupt
    if given["how"] == "wrong":
        raise ConfigError("models.yaml:3: no such thing\x1b[2J")
    return 0


@pytest.mark.parametrize(
    ("how", "code", "message"), [("wrong", 2, "models.yaml:3: no such thing"), ("interrupted", 130, "")]
)
def test_what_goes_wrong_is_an_object_too(
    how: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        ends(Context(), how=how, json=True)
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert (ended.value.code, answer["exit_code"], answer["outcome"]) == (
        code,
        code,
        "interrupted" if how == "interrupted" else "error",
    )
    assert message in answer["error"]
    assert "\x1b" not in said.out + said.err


def test_a_verb_gets_none_where_no_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    ends(Context())
    assert capsys.readouterr().out == ""
