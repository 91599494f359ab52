"""This host as a board: what it says of itself, and how a target's programs run on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from crossfarm.boards.transports import local
from crossfarm.config.targets import Emulator
from crossfarm.errors import BoardError

HERE = (platform.machine(),)


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_probe_knows_machine_and_kernel() -> None:
    state = local.probe()
    assert state.machine == os.uname().machine
    assert state.kernel == os.uname().release
    assert state.temperature is None or -50 < state.temperature < 150


def test_the_fingerprint_holds_no_name_of_this_very_machine() -> None:
    facts = local.fingerprint(machines=HERE, emulator=None)
    assert set(facts) == {"machine", "cpu", "kernel"}
    assert os.uname().nodename not in facts.values()


def test_the_fingerprint_changes_with_the_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator = Emulator(command=("qemu-z80",))
    before = local.fingerprint(machines=("z80",), emulator=emulator)
    assert before["emulator"] == "missing"
    _script(tmp_path / "qemu-z80", "exit 0")
    after = local.fingerprint(machines=("z80",), emulator=emulator)
    _script(tmp_path / "qemu-z80", "exit 100")
    assert (
        len(
            {before["emulator"], after["emulator"], local.fingerprint(machines=("z80",), emulator=emulator)["emulator"]}
        )
        == 3
    )


def test_code_for_this_machine_runs_natively_even_with_an_emulator() -> None:
    found = local.execution_mode(machines=HERE, emulator=Emulator(command=("qemu-z80",)))
    assert (found.timing, found.prefix) == ("silicon", ())


def test_the_first_emulator_on_the_path_stands_in_for_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _script(tmp_path / "qemu-z80-static", "exit 0")
    emulator = Emulator(command=("qemu-z80", "-L", str(tmp_path)), names=("qemu-z80", "qemu-z80-static"))
    found = local.execution_mode(machines=("z80",), emulator=emulator)
    assert found.timing == "emulated"
    assert found.prefix == (str(tmp_path / "qemu-z80-static"), "-L", str(tmp_path))


def test_a_missing_emulator_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator = Emulator(command=("qemu-z80",), names=("qemu-z80", "qemu-z80-static"), package="qemu-user-static")
    with pytest.raises(BoardError, match=r"qemu-z80 or qemu-z80-static\) is not on PATH; .*apt-get install qemu-user"):
        local.execution_mode(machines=("z80",), emulator=emulator)
    with pytest.raises(BoardError, match="the target runs on z80 and declares no emulator"):
        local.execution_mode(machines=("z80",), emulator=None)


def test_a_missing_library_of_the_target_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _script(tmp_path / "qemu-z80", "exit 0")
    emulator = Emulator(command=("qemu-z80", "-L", str(tmp_path / "z80")), library_package="libc6-z80-cross")
    with pytest.raises(BoardError, match=r"C library is not in .*/z80, .*apt-get install libc6-z80-cross"):
        local.execution_mode(machines=("z80",), emulator=emulator)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("echo 'qemu-z80 version 7.2.22 (Debian 1:7.2)'", "qemu-z80 7.2.22"), ("exit 3", "qemu-z80")],
)
def test_an_emulator_tells_its_version_or_nothing(tmp_path: Path, text: str, expected: str) -> None:
    assert local.emulator_version(str(_script(tmp_path / "qemu-z80", text))) == expected
