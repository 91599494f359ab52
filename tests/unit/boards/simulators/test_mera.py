"""MERA as a board, with a small program in the place of its Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossfarm.boards.protocol import Purpose, this_host
from crossfarm.boards.simulators import mera
from crossfarm.boards.simulators.base import Simulated
from crossfarm.bundles.compile_report import PortType
from crossfarm.bundles.manifest import InputFile, Manifest
from crossfarm.errors import BoardError, BundleError
from crossfarm.util import environments
from crossfarm.util.mera.calls import MERA

REGION = {"freq_mhz": 300, "sim_time_us": 1.0, "total_sim_cycles": 300}
PROGRAM = """
import json, struct, sys
answers = []
for request in json.load(open(sys.argv[3])):
    for number in range(OUTPUTS):
        with open(request["output"] + "/%d.bin" % number, "wb") as stream:
            stream.write(struct.pack("<3f", 1, 2, 3) * request["first"])
    answers.append({"outputs": [{"dtype": "float32", "shape": [3]}] * OUTPUTS, "metrics": [METRICS] * request["first"]})
json.dump(answers, open(sys.argv[4], "w"))
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "inputs").mkdir(parents=True)
    (folder / "deploy").mkdir()
    np.zeros(6, np.float32).tofile(folder / "inputs" / "0.bin")
    Manifest(
        model="m",
        target="mera_f200",
        variant="float32",
        cell="mera_f200-m-float32",
        identity="ab" * 32,
        cases=2,
        inputs=(InputFile(name="x", dtype="float32", shape=(3,), file="inputs/0.bin"),),
        outputs=(PortType(name="y", dtype="float32", shape=(1, 3)),),
        files=(),
        provenance={},
    ).write(folder / "manifest.json")
    return folder


@pytest.fixture
def simulate(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the bundle on a MERA with these metrics and outputs."""
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "environments",))

    def run(metrics: Any, *, outputs: int = 1, cases: int = 1) -> Simulated:
        folder = tmp_path / "environments" / MERA.folder_name
        (folder / "bin").mkdir(parents=True)
        program = folder / "bin" / "python"
        text = PROGRAM.replace("OUTPUTS", str(outputs)).replace("METRICS", repr(metrics))
        program.write_text(f"#!/usr/bin/env -S python3 -S\n{text}")
        program.chmod(0o755)
        (folder / environments.COMPLETE).touch()
        purpose = Purpose(target="mera_f200", machine=("dna-f200",), emulator=None, code=None)
        with mera.open_board(this_host("mera_f200"), purpose, token=0) as board:
            return board.simulate(bundle, {}, cases=cases, timeout=60)

    return run


def test_the_functional_model_answers_all_cases_and_the_simulator_the_first(simulate: Any) -> None:
    found = simulate(REGION)
    assert found.outputs["y"].shape == (2, 1, 3) and found.simulated["y"].shape == (1, 1, 3)
    assert found.cycles == (300,) and found.latency_ns == (1000,)
    assert "one region" in found.contains and "not cycle-accurate" in found.contains


def test_the_cycles_of_all_regions_of_a_model_are_added(simulate: Any) -> None:
    found = simulate([REGION, {**REGION, "total_sim_cycles": 30}], cases=2)
    assert found.cycles == (330, 330) and found.latency_ns == (1100, 1100)
    assert "2 regions" in found.contains


def test_one_case_is_simulated_at_least_because_the_time_comes_from_there(simulate: Any) -> None:
    assert len(simulate(REGION, cases=0).cycles) == 1


@pytest.mark.parametrize("metrics", [[], {}, None, ["no"]])
def test_a_simulator_that_counts_nothing_is_told(simulate: Any, metrics: Any) -> None:
    with pytest.raises(BoardError, match="mera_f200-m-float32: MERA's simulator says no cycles"):
        simulate(metrics)


def test_another_number_of_outputs_is_told(simulate: Any) -> None:
    with pytest.raises(BundleError, match="InterpreterHw has 2 outputs, and the model 1"):
        simulate(REGION, outputs=2)


def test_it_is_missing_without_its_environment_or_avx2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PLACES", (tmp_path,))
    (tmp_path / "cpuinfo").write_text("flags : fpu sse2 avx2\n")
    monkeypatch.setattr(mera, "_CPUINFO", tmp_path / "cpuinfo")
    assert "./inv setup" in str(mera.missing())
    (tmp_path / "cpuinfo").write_text("flags : fpu sse2\n")
    assert "AVX2" in str(mera.missing())
    assert json.dumps(dict(mera.fingerprint()))
