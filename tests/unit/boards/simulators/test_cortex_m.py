"""The emulated Cortex-M: what it is asked, and every way in which a run of its image can end."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from crossfarm.boards.protocol import Purpose, this_host
from crossfarm.boards.simulators import cortex_m
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport, Quantity
from crossfarm.bundles.compile_report import PortType
from crossfarm.bundles.manifest import InputFile, Manifest
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import BoardError, BundleError, CrossfarmError, ModelError
from crossfarm.util import sandbox
from tests.waiting import wait_for_end

RESULT = '{"nanoseconds": [5, 6], "workspace_peak_bytes": 64, "stack_peak_bytes": 320}'


def _purpose(cpu: str = "cortex-m7") -> Purpose:
    code = LlvmCode(triple="thumbv7em-none-eabihf", cpu=cpu, float_abi="hard")
    return Purpose(target="cortex_m7", machine=("thumbv7em",), emulator=None, code=code)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "inputs").mkdir(parents=True)
    np.arange(6, dtype=np.float32).tofile(folder / "inputs" / "0.bin")
    (folder / cortex_m.IMAGE).write_bytes(b"\x7fELF")
    numbers = {"ram_arena": 4096, "flash_weights": 80_000, "flash_code": 20_000}
    quantities = tuple(Quantity(name=name, value=value, unit="bytes") for name, value in numbers.items())
    AcceleratorReport(quantities=quantities).write(folder / ACCELERATOR)
    Manifest(
        model="m",
        target="cortex_m7",
        variant="int8",
        cell="cortex_m7-m-int8",
        identity="ab" * 32,
        cases=2,
        inputs=(InputFile(name="x", dtype="float32", shape=(3,), file="inputs/0.bin"),),
        outputs=(PortType(name="y", dtype="float32", shape=(3,)),),
        files=(),
        provenance={},
    ).write(folder / "manifest.json")
    return folder


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where a script stands in for the emulator; the sandbox is tried with the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(sandbox, "available", lambda: "none")
    return folder / cortex_m.PROGRAM


def _says(emulator: Path, script: str) -> None:
    words = "for word; do case $word in *arg=*) break;; esac; done; out=${word##*arg=}; out=${out%/result.json}"
    emulator.write_text(f"#!/bin/sh\n{words}\n{script}\n")
    emulator.chmod(0o755)


def _run(bundle: Path, *, timeout: float = 60, cpu: str = "cortex-m7") -> cortex_m.Simulated:
    board = cortex_m.open_board(this_host("cortex_m7"), _purpose(cpu), token=0)
    return board.simulate(bundle, {}, cases=1, timeout=timeout)


def test_outputs_times_and_sizes_come_from_the_image_and_the_bundle(bundle: Path, emulator: Path) -> None:
    _says(emulator, f"cp {bundle}/inputs/0.bin $out/outputs/0.bin; echo '{RESULT}' >$out/result.json")
    found = _run(bundle)
    assert found.outputs["y"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.latency_ns, found.timing, found.cycles) == ((5, 6), "emulated", ())
    sizes = found.sizes
    assert (sizes.arena, sizes.weights, sizes.program) == (4096, 80_000, 20_000)
    assert (sizes.workspace_peak, sizes.stack_peak) == (64, 320)


def test_the_board_follows_from_the_processor_and_a_comma_in_a_path_is_no_end_of_it(tmp_path: Path) -> None:
    words = cortex_m._words(("mps2-an386", "cortex-m4"), "/a,b", "/out")
    assert words[:4] == ["-M", "mps2-an386", "-cpu", "cortex-m4"]
    assert "enable=on,target=native,arg=image,arg=/a,,b/inputs,arg=/out/outputs,arg=/out/result.json" in words


def test_a_processor_that_no_board_has_is_refused(bundle: Path, emulator: Path) -> None:
    _says(emulator, "exit 0")
    with pytest.raises(BoardError, match="no board is emulated for the processor 'cortex-m33', only for cortex-m4, "):
        _run(bundle, cpu="cortex-m33")


def test_without_the_emulator_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert cortex_m.missing() == "qemu-system-arm is not on PATH; install it: apt-get install qemu-system-arm"
    assert cortex_m.fingerprint() == {"emulator": "missing"}
    with pytest.raises(BoardError, match="apt-get install qemu-system-arm"):
        cortex_m.open_board(this_host("cortex_m7"), _purpose(), token=0)


def test_another_emulator_measures_again(emulator: Path) -> None:
    _says(emulator, "exit 0")
    before = cortex_m.fingerprint()
    _says(emulator, "exit 1 # another one")
    assert cortex_m.fingerprint() != before


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("echo a call failed; exit 4", ModelError, "ended with exit code 4: a call failed; see the log"),
        ("echo the inputs are not those of the model; exit 3", BundleError, "make the bundle again"),
        ("echo the model wrote behind its arena; exit 6", ModelError, "the compiler counted too little memory"),
        ("echo the processor faulted; exit 7", ModelError, "its stack may be too small"),
        ("exit 99", BoardError, "ended with exit code 99: it said nothing"),
        ("kill -ABRT $$", BoardError, "was killed by SIGABRT"),
        ("exit 0", BundleError, "the image wrote no result"),
        (f"echo '{RESULT}' | sed 's/5, //' >$out/result.json", BundleError, "ran 1 of 2 cases"),
        (f"echo '{RESULT}' >$out/result.json", BundleError, "wrote 0 numbers of output y, not 6"),
    ],
)
def test_what_an_image_ends_with_is_told(
    bundle: Path, emulator: Path, script: str, kind: type[CrossfarmError], words: str
) -> None:
    _says(emulator, script)
    with pytest.raises(kind, match=words):
        _run(bundle)


def test_an_emulator_that_hangs_is_ended_with_all_that_it_started(bundle: Path, emulator: Path, tmp_path: Path) -> None:
    number = tmp_path / "number"
    _says(emulator, f"sleep 1000 & echo $! >{number}; wait")
    with pytest.raises(BoardError, match="qemu-system-arm did not end within 1 s and was stopped"):
        _run(bundle, timeout=1)
    wait_for_end(int(number.read_text()))


def test_a_bundle_without_an_image_is_refused(bundle: Path, emulator: Path) -> None:
    _says(emulator, "exit 0")
    (bundle / cortex_m.IMAGE).unlink()
    with pytest.raises(BundleError, match=r"has no image\.elf; make the bundle again"):
        _run(bundle)
