"""The face: what a user types becomes options of a run, the same for every verb that runs something."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from invoke import Exit

from crossfarm.cli.verbs import finish
from crossfarm.errors import ConfigError, StoreError
from crossfarm.pipeline.options import Options
from crossfarm.pipeline.plan import Selection
from crossfarm.util.paths import HOME

RUNS = ("pipeline", "compile", "measure")


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tasks_under_test", HOME / "tasks.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # invoke takes the help texts out of a task when it is first asked for them, by whatever test.
    for name in [name for name in sys.modules if name.startswith("crossfarm.cli.")]:
        del sys.modules[name]
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        specification.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


@pytest.fixture
def seen(tasks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Return the options of the runs that tasks start, which are not run."""
    found: list[Options] = []

    def note(options: Options) -> int:
        found.append(options)
        return 0

    monkeypatch.setattr("crossfarm.pipeline.run.run_pipeline", note)
    return found


@pytest.mark.parametrize("verb", RUNS)
def test_every_verb_that_runs_takes_the_same_options(tasks: ModuleType, seen: list[Options], verb: str) -> None:
    task = getattr(tasks, verb)
    task.body(
        None,
        models="mine.yaml",
        pipeline="smoke",
        only="armv7-*, aarch64-*",
        skip="*-b-*",
        targets="armv7,aarch64",
        jobs="3",
        fail_fast=True,
        out="there",
        store="here",
        verbose=True,
        quiet=True,
    )
    (options,) = seen
    assert options == Options(
        models=Path("mine.yaml"),
        pipeline="smoke",
        selection=Selection(
            only=("armv7-*", "aarch64-*"),
            skip=("*-b-*",),
            targets=("armv7", "aarch64"),
            stages=("bundle",) if verb == "compile" else (),
        ),
        jobs=3,
        fail_fast=True,
        out=Path("there"),
        store=Path("here"),
        measure_again=verb == "measure",
        verbose=True,
        quiet=True,
    )


@pytest.mark.parametrize("verb", RUNS)
def test_nothing_said_is_the_default_of_every_option(tasks: ModuleType, seen: list[Options], verb: str) -> None:
    getattr(tasks, verb).body(None)
    stages = ("bundle",) if verb == "compile" else ()
    assert seen == [Options(selection=Selection(stages=stages), measure_again=verb == "measure")]


@pytest.mark.parametrize("verb", [*RUNS, "plan"])
def test_every_option_of_a_verb_has_a_help_text(tasks: ModuleType, verb: str) -> None:
    assert [argument.name for argument in getattr(tasks, verb).get_arguments() if not argument.help] == []


@pytest.mark.parametrize("text", ["two", "1.5", "nan", "inf"])
def test_a_number_of_jobs_that_is_none_ends_with_2(
    tasks: ModuleType, seen: list[Options], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(Exit) as ended:
        tasks.pipeline.body(None, jobs=text)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"--jobs {text}: give a whole number\n"
    assert not seen


@pytest.mark.parametrize(
    ("error", "code"), [(ConfigError("no such thing"), 2), (StoreError("no such thing"), 3), (KeyboardInterrupt(), 130)]
)
def test_an_error_is_one_line_and_its_exit_code(
    tasks: ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def fail() -> int:
        raise error

    with pytest.raises(Exit) as ended:
        finish(fail)
    assert ended.value.code == code
    assert capsys.readouterr().err == f"{error}\n" if str(error) else "interrupted\n"
