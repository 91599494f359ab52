"""The place to run of the backend rtl: what a core writes is checked, and one that hangs ends with all it started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.simulators import rtl
from crossfarm.bundles.rtl import CALIBRATION, ENVIRONMENT, MODEL, CoreTensor, RtlCore
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import environments, sandbox
from tests.waiting import stretched, wait_for_end

CORE = RtlCore(
    width=8,
    parallelism=1,
    bus=32,
    megahertz=100,
    most_cycles=1000,
    inputs=(CoreTensor(name="x", shape=(1, 2), order=(0, 1), aligned=(1, 4), address=4, scale=1.0),),
    outputs=(CoreTensor(name="y", shape=(1, 3), order=(0, 1), aligned=(1, 4), address=0, scale=2.0),),
    parameters_address=8,
    memory_bytes=4096,
    state="ab" * 32,
)
INTEGERS = {"x": np.array([[[5, 6]], [[7, 8]], [[9, 10]]], np.int32)}


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without a sandbox, so that the scripts that stand for simulators see this test's folder."""
    monkeypatch.setattr(sandbox, "available", lambda: "none")


def _bundle(folder: Path, script: str) -> Path:
    """Make a bundle whose simulator is a script; `$5` is the file for cycles, `${17}` that for the output."""
    (folder / "simulator").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "parameters.bin").write_bytes(b"\1")
    return folder


def test_what_a_core_writes_is_read_as_cycles_and_integers(tmp_path: Path) -> None:
    script = "printf '70\\n71\\n' >$5; printf '\\1\\2\\3\\0\\4\\5\\377\\0' >${17}"
    cycles, found = rtl.run_core(_bundle(tmp_path, script), CORE, INTEGERS, cases=2, timeout=60)
    assert cycles == (70, 71)
    assert found["y"].tolist() == [[[1, 2, 3]], [[4, 5, -1]]]


def test_it_is_given_the_first_cases_alone(tmp_path: Path) -> None:
    script = f"cp ${{13}} {tmp_path}/given; printf '1\\n2\\n' >$5; head -c 8 /dev/zero >${{17}}"
    rtl.run_core(_bundle(tmp_path, script), CORE, INTEGERS, cases=2, timeout=60)
    assert (tmp_path / "given").read_bytes() == bytes([5, 6, 0, 0, 7, 8, 0, 0])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("printf '70\\n' >$5; head -c 8 /dev/zero >${17}", "tells no cycles of 2 cases"),
        ("printf '70\\nmany\\n' >$5; head -c 8 /dev/zero >${17}", "tells no cycles of 2 cases"),
        ("printf '70\\n71\\n' >$5; head -c 7 /dev/zero >${17}", "wrote 7 bytes of output y for 2 cases"),
    ],
)
def test_a_core_that_writes_something_else_is_a_damaged_bundle(tmp_path: Path, script: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        rtl.run_core(_bundle(tmp_path, script), CORE, INTEGERS, cases=2, timeout=60)


def test_a_core_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, "echo the core reached for address 99999 >&2; exit 3")
    with pytest.raises(BoardError, match=r"exit code 3\): the core reached for address 99999; its RTL is wrong"):
        rtl.run_core(bundle, CORE, INTEGERS, cases=2, timeout=60)


def test_a_simulator_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, f"sleep 1000 & echo $! >{tmp_path}/child; sleep 1000")
    started = time.monotonic()
    with pytest.raises(BoardError, match="simulator did not end within 2 s and was stopped"):
        rtl.run_core(bundle, CORE, INTEGERS, cases=2, timeout=2)
    assert time.monotonic() - started < stretched(60)
    child = int((tmp_path / "child").read_text())
    wait_for_end(child)


def test_without_its_python_environment_the_functional_model_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "none",))
    with pytest.raises(BoardError, match="functional model cannot be run: its Python environment rtl is not there"):
        rtl.evaluate(tmp_path, CORE, INTEGERS, timeout=60)
    assert rtl.missing() == "its Python environment rtl is not there; ./inv setup makes it"


def _environment(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a script in place of the environment's Python."""
    monkeypatch.setattr(environments, "PLACES", (folder,))
    place = folder / ENVIRONMENT.folder_name
    (place / "bin").mkdir(parents=True)
    (place / ".complete").touch()
    (place / "bin" / "python").write_text(f"#!/bin/sh\n{script}\n")
    (place / "bin" / "python").chmod(0o755)


def _model_files(bundle: Path) -> None:
    for name in (MODEL, CALIBRATION):
        (bundle / name).touch()


def test_a_functional_model_that_was_quantised_otherwise_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(tmp_path / "places", monkeypatch, "exit 3")
    _model_files(tmp_path)
    with pytest.raises(BundleError, match="quantised otherwise here than when its core was made"):
        rtl.evaluate(tmp_path, CORE, INTEGERS, timeout=60)


def test_a_functional_model_that_dies_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(tmp_path / "places", monkeypatch, "echo 'ValueError: shape' >&2; kill -ABRT $$")
    _model_files(tmp_path)
    with pytest.raises(BoardError, match=r"(?s)SIGABRT.*ValueError: shape"):
        rtl.evaluate(tmp_path, CORE, INTEGERS, timeout=60)


def test_measurements_depend_on_the_environment() -> None:
    assert ENVIRONMENT.folder_name in rtl.fingerprint()["simulator"]
    assert os.sep not in rtl.fingerprint()["simulator"]
