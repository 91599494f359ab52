"""Calls of MERA, with small programs in the place of its Python: aborts, hangs and errors become one sentence."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from crossfarm.errors import ModelError, ToolError, ToolMissingError, ToolTimeoutError
from crossfarm.util import environments
from crossfarm.util.mera.calls import MERA, Step, call, sentence
from tests.waiting import wait_until

LONG = f"87654.{os.getpid()}"
"""Seconds that are no other process's."""
ABORT = """
echo 'I1130 14:00:00.000000 12 quantizer.cc:1] loading' >&2
echo 'F1130 14:00:01.123456    12 mera_quantizer.cc:77] Quantization transformation for SiLU failed: no Var' >&2
echo '*** Check failure stack trace: ***' >&2
echo '    @     0x7f0000000000  google::LogMessage::Fail()' >&2
kill -ABRT $$
"""


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a shell script the Python of MERA's environment."""
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "environments",))

    def make(script: str) -> None:
        folder = tmp_path / "environments" / MERA.folder_name
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        (folder / environments.COMPLETE).touch()

    return make


def run(tmp_path: Path, *, processor_seconds: int = 60, wall_seconds: float = 60.0) -> Any:
    """Call MERA for the cell `c`."""
    (tmp_path / "work").mkdir()
    return call(
        [Step(doing="quantising", request={"action": "quantise"}), Step(doing="running", request={"action": "run"})],
        cell="c",
        folder=tmp_path / "work",
        processor_seconds=processor_seconds,
        wall_seconds=wall_seconds,
    )


def test_what_the_script_answers_comes_back(python: Any, tmp_path: Path) -> None:
    python('grep -q quantise "$3" && echo \'[{"captured": "all"}, {}]\' > "$4"')
    assert run(tmp_path) == [{"captured": "all"}, {}]


def test_the_step_that_failed_is_named(python: Any, tmp_path: Path) -> None:
    python('printf .. > "$5"; kill -SEGV $$')
    with pytest.raises(ModelError, match="was ended by SIGSEGV while running c: it said nothing"):
        run(tmp_path)


def test_an_abort_is_told_with_the_vendor_s_own_sentence(python: Any, tmp_path: Path) -> None:
    python(ABORT)
    expected = "SIGABRT while quantising c: Quantization transformation for SiLU failed: no Var; leave the cell out"
    with pytest.raises(ModelError, match=expected):
        run(tmp_path)


def test_an_error_of_mera_is_the_model_s_fault(python: Any, tmp_path: Path) -> None:
    python("echo 'mera: ValueError: no such layout' >&2; exit 3")
    with pytest.raises(ModelError, match="refused while quantising c: ValueError: no such layout"):
        run(tmp_path)


def test_a_mera_that_does_not_start_is_no_fault_of_the_model(python: Any, tmp_path: Path) -> None:
    python("echo 'ImportError: libLLVM-14.so.1: cannot open' >&2; exit 1")
    with pytest.raises(ToolError, match="libLLVM-14") as caught:
        run(tmp_path)
    assert not isinstance(caught.value, ModelError)


def test_a_hang_ends_with_all_that_it_started(python: Any, tmp_path: Path) -> None:
    python(f"sleep {LONG} & wait")
    with pytest.raises(ToolTimeoutError, match="did not end within 1 s and was killed; raise the limit"):
        run(tmp_path, wall_seconds=1.0)
    wait_until(lambda: not _sleeps())


def _sleeps() -> bool:
    """Return whether a process sleeps as long as the one of the test does."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == f"sleep\0{LONG}\0".encode():
                return True
    return False


def test_a_loop_ends_by_its_processor_time(python: Any, tmp_path: Path) -> None:
    python("while :; do :; done")
    with pytest.raises(ToolError, match="more than 1 s of processor time"):
        run(tmp_path, processor_seconds=1)


def test_an_answer_that_is_missing_is_told(python: Any, tmp_path: Path) -> None:
    python("exit 0")
    with pytest.raises(ToolError, match="MERA left no answer while quantising c"):
        run(tmp_path)


def test_a_missing_environment_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PLACES", (tmp_path,))
    with pytest.raises(ToolMissingError, match=r"environment mera is not there; \./inv setup makes it"):
        run(tmp_path)


def test_its_libraries_are_found_before_the_system_s(python: Any, tmp_path: Path) -> None:
    python('echo "$LD_LIBRARY_PATH" >libraries; echo [] > "$4"')
    run(tmp_path)
    first, second = (tmp_path / "work" / "libraries").read_text().strip().split(":")
    assert first == f"{second}/crossfarm"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", "it said nothing"),
        ("one\ntwo\n    @ 0x1 f()\nAborted\n", "two"),
        ("F20261130 14:00:00.1 7 a.cc:1] Check failed: x == y\nmera: late\n", "Check failed: x == y"),
        ("mera: " + "a" * 1000, "a" * 400 + "..."),
    ],
)
def test_the_sentence_is_the_one_that_says_why(said: str, expected: str) -> None:
    assert sentence(said) == expected
