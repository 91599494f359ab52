"""MERA itself, on models of models.yaml: what it quantises, compiles and simulates, and what it aborts over."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from crossfarm.results import CheckRecord, JobRecord, MeasurementRecord, read_records
from crossfarm.store.store import Store
from crossfarm.util.mera.calls import DEPLOYED, MERA, variables
from crossfarm.util.paths import HOME

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(MERA.interpreter() is None, reason=f"MERA: {MERA.missing()}"),
]

PIPELINE = """
name: trial
models: [mnist_cnn, efficientnet_lite0, ppocr_cls, pplcnet_orientation]
targets: [mera_f100, mera_f200]
measure: {data_limit: 4}
"""
CELLS = (
    "mera_f100-mnist_cnn-float32",
    *(f"mera_f200-{name}-float32" for name in ("mnist_cnn", "efficientnet_lite0", "ppocr_cls", "pplcnet_orientation")),
)
CYCLES = {CELLS[0]: 9210, CELLS[1]: 8586, CELLS[2]: 585236}
"""Cell -> cycles that MERA 1.6 is known to count at 300 MHz."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run left."""

    code: int
    said: str
    checks: Mapping[str, Mapping[str, CheckRecord]]
    measurements: Mapping[str, Mapping[str, MeasurementRecord]]
    jobs: Mapping[str, JobRecord]
    store: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("mera")
    (folder / "trial.yaml").write_text(PIPELINE)
    command = [sys.executable, "-m", "invoke", "--search-root", str(HOME), "pipeline", "--engine", "local"]
    only = ["--only", ",".join(CELLS)]
    paths = ["--pipeline", str(folder / "trial.yaml"), "--store", str(folder / "store"), "--out", str(folder / "out")]
    done = subprocess.run([*command, *paths, *only], cwd=HOME, capture_output=True, text=True, check=False)
    found = read_records(folder / "out" / "results.jsonl")
    return Ran(
        code=done.returncode,
        said=done.stdout + done.stderr,
        checks={cell: {r.name: r for r in found if isinstance(r, CheckRecord) and r.cell == cell} for cell in CELLS},
        measurements={
            cell: {r.name: r for r in found if isinstance(r, MeasurementRecord) and r.cell == cell} for cell in CELLS
        },
        jobs={record.job: record for record in found if isinstance(record, JobRecord)},
        store=folder / "store",
    )


@pytest.mark.parametrize("cell", CYCLES)
def test_the_simulator_equals_the_functional_model_and_counts_what_is_known(ran: Ran, cell: str) -> None:
    rows = ran.checks[cell]
    assert rows["simulator.equal"].status == "passed", ran.said
    assert rows["cycles"].value == CYCLES[cell]
    assert "not cycle-accurate" in rows["cycles"].message
    assert "no board declares a dna-f" in rows["accelerator"].message
    assert ran.measurements[cell]["latency.p50"].value == pytest.approx(CYCLES[cell] / 0.3, rel=1e-3)
    assert not [row.message for row in rows.values() if row.status == "failed"]


def test_a_simulator_that_differs_is_a_known_failure_without_cycles(ran: Ran) -> None:
    rows = ran.checks["mera_f200-ppocr_cls-float32"]
    assert rows["simulator.equal"].status == "known failure", "a red row, were it not declared under `expected`"
    assert "InterpreterHw" in str(rows["simulator.equal"].expected)
    assert not {"cycles", "latency.p50"} & rows.keys()


def test_an_abort_is_that_cell_s_row_and_the_others_go_on(ran: Ran) -> None:
    record = ran.jobs["compile:mera_f200-pplcnet_orientation-float32"]
    assert (record.state, record.fault) == ("known failure", "product")
    assert "SiLU" in str(record.expected)
    cause = str(record.cause)
    assert "SIGABRT while quantising mera_f200-pplcnet_orientation-float32" in cause and "SiLU failed" in cause
    assert ran.code == 0 and "Traceback" not in ran.said, "nothing that is declared gates"


@pytest.fixture(scope="module")
def bundle(ran: Ran, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of mnist_cnn for the F200."""
    store, folder = Store(ran.store), tmp_path_factory.mktemp("bundle")
    artifact = store.read(str(ran.jobs["bundle:mera_f200-mnist_cnn-float32"].key))
    assert artifact is not None
    store.restore(artifact, folder)
    return folder


def test_the_deploy_folder_holds_what_users_of_mera_know(bundle: Path) -> None:
    folders = {path.name for path in (bundle / "deploy").iterdir() if path.is_dir()}
    assert folders == {"InterpreterHw", "Simulator", "IP-x86_64", "IP-aarch64"}
    for name in folders:
        files = {path.name for path in (bundle / "deploy" / name).iterdir()}
        assert files == {*DEPLOYED, "input0.bin", "ref_result_0.bin"}
    machines = [(bundle / "deploy" / name / "deploy.so").read_bytes()[18] for name in ("IP-x86_64", "IP-aarch64")]
    assert machines == [62, 183], "what ELF calls x86-64 and AArch64"


@pytest.fixture(scope="module")
def runner(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ runner of a bundle, compiled as its first lines say."""
    python = MERA.interpreter()
    assert python is not None
    library = next(python.parent.parent.glob("lib/python3.10/site-packages/tvm/libmeratvm_runtime.so"))
    program = tmp_path_factory.mktemp("runner") / "mera_runner"
    words = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", str(bundle / "deploy" / "runner.cpp")]
    words += ["-o", str(program), "-L", str(library.parent), "-lmeratvm_runtime", f"-Wl,-rpath,{library.parent}"]
    # MERA's library wants others that the linker need not see.
    done = subprocess.run([*words, "-Wl,--allow-shlib-undefined"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def _run(runner: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    python = MERA.interpreter()
    assert python is not None
    environment = {**os.environ, **variables(python.parent.parent)}
    return subprocess.run(
        [str(runner), str(folder), *options], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("target", ["InterpreterHw", "Simulator"])
def test_the_runner_of_a_bundle_prints_latency_and_differences(bundle: Path, runner: Path, target: str) -> None:
    done = _run(runner, bundle / "deploy" / target, "--repeat", "3")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^latency: p50 \d+\.\d{3} ms, min \d+\.\d{3} ms, 3 runs$", done.stdout, re.MULTILINE)
    assert "output 0: max abs diff 0, mean abs diff 0, correct ratio 1.000000" in done.stdout


def test_the_runner_says_how_far_an_answer_is_from_its_reference(bundle: Path, runner: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(bundle / "deploy" / "InterpreterHw", folder)
    reference = np.fromfile(folder / "ref_result_0.bin", np.float32)
    (folder / "ref_result_0.bin").unlink()  # it is a link into the store
    reference[3] += np.float32(2)
    reference.tofile(folder / "ref_result_0.bin")
    done = _run(runner, folder)
    assert done.returncode == 1
    found = re.search(r"max abs diff ([\d.]+), mean abs diff ([\d.]+), correct ratio ([\d.]+)", done.stdout)
    assert found is not None
    assert [float(text) for text in found.groups()] == pytest.approx([2.0, 0.2, 0.9], rel=1e-5)
    assert _run(runner, folder, "--tolerance", "2.1").returncode == 0


@pytest.mark.parametrize("damage", ["input0.bin", "ref_result_0.bin", "deploy.json"])
def test_the_runner_tells_of_a_file_that_is_cut(bundle: Path, runner: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(bundle / "deploy" / "InterpreterHw", folder)
    content = (folder / damage).read_bytes()
    (folder / damage).unlink()
    (folder / damage).write_bytes(content[:7])
    done = _run(runner, folder)
    assert done.returncode == 2 and str(folder) in done.stderr
