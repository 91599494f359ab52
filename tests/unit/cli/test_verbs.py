"""Verbs: an option is declared once, and what invoke shows and reads follows from it."""

from __future__ import annotations

import pytest
from invoke import Exit
from invoke.context import Context

from crossfarm.cli.run_options import RUN_OPTIONS, all_but, options, run_options
from crossfarm.cli.verbs import Given, Option, verb
from crossfarm.pipeline.options import Options

CELL = Option(name="cell", help="id of a cell", required=True)
SEEN: list[Given] = []


@verb(
    CELL,
    Option(name="only", help="globs", kind="list"),
    Option(name="jobs", help="how many (4)", kind="count", default="4"),
    Option(name="limit", help="how much", kind="number"),
    Option(name="quiet", help="say little", kind="flag"),
    Option(name="tests", help="with tests", kind="flag", is_on=True),
)
def show(given: Given) -> int:
    """Show a cell."""
    SEEN.append(given)
    return 3 if given["quiet"] else 0


def test_a_verb_gets_every_option_as_it_is_declared() -> None:
    show(Context(), "a-b-float32", only="x, y,", limit="1.5")
    assert SEEN.pop() == {
        "cell": "a-b-float32",
        "only": ("x", "y"),
        "jobs": 4,
        "limit": 1.5,
        "quiet": False,
        "tests": True,
    }


def test_what_is_not_said_and_has_no_default_is_none() -> None:
    show(Context(), cell="c", jobs="")
    assert {name: SEEN[-1][name] for name in ("jobs", "limit", "only")} == {"jobs": None, "limit": None, "only": ()}
    SEEN.clear()


def test_invoke_sees_names_defaults_and_help_texts() -> None:
    arguments = {argument.name: argument for argument in show.get_arguments()}
    assert list(arguments) == ["cell", "only", "jobs", "limit", "quiet", "tests"]
    assert arguments["cell"].positional
    assert (arguments["jobs"].default, arguments["tests"].default) == ("4", True)
    assert arguments["only"].help == "globs"
    assert show.__doc__ == "Show a cell."


def test_an_exit_code_ends_the_program() -> None:
    with pytest.raises(Exit) as ended:
        show(Context(), cell="c", quiet=True)
    assert ended.value.code == 3
    SEEN.clear()


@pytest.mark.parametrize(("option", "text"), [("jobs", "1.5"), ("jobs", "x"), ("limit", "nan"), ("limit", "-")])
def test_a_number_that_is_none_is_refused_before_anything_is_done(
    option: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        show(Context(), cell="c", **{option: text})
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"--{option} {text}: give a ")
    assert not SEEN


def test_options_of_a_run_are_picked_by_name() -> None:
    assert [option.name for option in run_options("out", "store")] == ["out", "store"]
    assert {option.name for option in all_but("jobs")} == set(RUN_OPTIONS) - {"jobs"}


def test_what_is_no_option_of_a_run_is_left_out() -> None:
    assert options({"images": True, "jobs": 2, "only": (), "models": ""}) == Options(jobs=2)
