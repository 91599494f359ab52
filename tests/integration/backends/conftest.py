"""What the tests of a backend need: stages as jobs, a reference by ONNX Runtime, and the targets that run here."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.protocol import Purpose, this_host
from crossfarm.boards.simulators import cortex_m
from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import Target
from crossfarm.stages.bundle import stage as bundle
from crossfarm.stages.c_library import stage as c_library
from crossfarm.stages.compile import stage as compile
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Subject
from crossfarm.stages.runner import stage as runner
from crossfarm.util.paths import HOME

Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellBuilder:
    """Takes a model from ONNX to a bundle, in folders of its own.

    Attributes:
        target: what for.
        name: of the model.
        folder: where artifacts go.
    """

    target: Target
    name: str
    folder: Path

    def compile(self, model: onnx.ModelProto) -> Path:
        """Run the stage `compile` and return its artifact."""
        prepared = self._empty("prepare")
        onnx.save(model, prepared / "model.onnx")
        return self._run(compile, prepare=prepared)

    def bundle(self, model: onnx.ModelProto, cases: Sequence[Tensors]) -> Path:
        """Run the stages from `compile` to `bundle` over these cases and return the bundle."""
        compiled = self.compile(model)
        reference = self._empty("reference")
        (reference / "inputs").mkdir()
        ports = json.loads((compiled / "compile.json").read_text())["inputs"]
        for number, port in enumerate(ports):
            port["file"] = f"inputs/{number}.bin"
            (reference / port["file"]).write_bytes(b"".join(case[port["name"]].tobytes() for case in cases))
        described = [
            {"name": f"random {k}", "kind": "random", "dataset": None, "label": None} for k in range(len(cases))
        ]
        document = {"cases": described, "inputs": ports, "outputs": [], "classes": None, "characters": None}
        (reference / "reference.json").write_text(json.dumps(document))
        common = {} if self.target.is_freestanding else {"runner": self._run(runner)}
        if common and self.target.compiler.kind == "zig":
            common["c_library"] = self._run(c_library)
        return self._run(bundle, compile=compiled, reference=reference, **common)

    def run(self, made: Path) -> list[np.ndarray[Any, Any]]:
        """Run a bundle here and return each output, stacked over the cases."""
        if self.target.is_freestanding:
            return self._emulate(made)
        outputs = self._empty("outputs")
        command = [*prefix(self.target), str(made / "program"), str(made), "--warmup", "0", "--repeat", "1"]
        done = subprocess.run(
            [*command, "--outputs", str(outputs), "--result", str(self.folder / "result.json")],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        manifest = json.loads((made / "manifest.json").read_text())
        return [
            np.fromfile(outputs / f"{k}.bin", dtype=port["dtype"]).reshape(manifest["cases"], *port["shape"])
            for k, port in enumerate(manifest["outputs"])
        ]

    def _emulate(self, made: Path) -> list[np.ndarray[Any, Any]]:
        """Run the test image of a bundle whose library is for a processor without an operating system."""
        purpose = Purpose(
            target=self.target.name, machine=self.target.machine, emulator=None, code=self.target.instructions
        )
        board = cortex_m.open_board(this_host(self.target.name), purpose, token=0)
        output = self._empty("outputs")
        (output / "outputs").mkdir()
        board.run(board.deploy(made), [], output=output, timeout=300)
        manifest = json.loads((made / "manifest.json").read_text())
        return [
            np.fromfile(output / "outputs" / f"{k}.bin", dtype=port["dtype"]).reshape(manifest["cases"], *port["shape"])
            for k, port in enumerate(manifest["outputs"])
        ]

    def _run(self, stage: Any, **inputs: Path) -> Path:
        subject = Subject(
            pipeline=Pipeline(name="test", targets=(self.target.name,)),
            model=Model.model_validate(
                {
                    "name": self.name,
                    "licence": "Apache-2.0",
                    "source": {"file": "model.onnx"},
                    "inputs": [{"name": "x", "shape": [1]}],
                }
            ),
            target=self.target,
            variant="float32",
        )
        stage_name = stage.__name__.split(".")[-2]
        output = self._empty(stage_name)
        needs = stage.needs(subject)
        assert set(needs.inputs) == set(inputs)
        parameters = json.loads(json.dumps(needs.parameters))
        job = Job(
            id=f"{stage_name}:test",
            stage=stage_name,
            key="0" * 64,
            parameters=parameters,
            inputs=inputs,
            output=output,
            root=HOME,
        )
        stage.run(job)
        return output

    def _empty(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def load_target(name: str) -> Target:
    """Read a toolchain file of the project."""
    return load_targets(HOME / "toolchains")[name]


def prefix(target: Target) -> list[str]:
    """Return what runs a program for the target here; skip the test when nothing does."""
    if target.is_freestanding:
        if lacking := cortex_m.missing():
            pytest.skip(lacking)
        return []
    if platform.machine() in target.machine:
        return []
    emulator = target.emulator
    found = [path for name in emulator.names if (path := shutil.which(name))] if emulator else []
    if emulator is None or not found:
        pytest.skip(f"nothing here runs programs for {target.name}")
    if "-L" in emulator.command and not Path(emulator.command[emulator.command.index("-L") + 1]).is_dir():
        pytest.skip(f"{emulator.library_package} is not installed")
    return [found[0], *emulator.command[1:]]


def reference(model: onnx.ModelProto, cases: Sequence[Tensors]) -> list[np.ndarray[Any, Any]]:
    """Return what ONNX Runtime gives for each output, stacked over the cases."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [np.stack(values) for values in zip(*(session.run(None, dict(case)) for case in cases), strict=True)]


@pytest.fixture(name="builder")
def _road(tmp_path: Path) -> Callable[..., CellBuilder]:
    def make(target: str, *, name: str = "tested", folder: Path = tmp_path) -> CellBuilder:
        return CellBuilder(target=load_target(target), name=name, folder=folder / target)

    return make


@pytest.fixture(name="agree")
def _agree() -> Callable[[CellBuilder, onnx.ModelProto, Sequence[Tensors]], None]:
    def check(builder: CellBuilder, model: onnx.ModelProto, cases: Sequence[Tensors]) -> None:
        prefix(builder.target)
        found = builder.run(builder.bundle(model, cases))
        expected = reference(model, cases)
        assert [(array.dtype, array.shape) for array in found] == [(array.dtype, array.shape) for array in expected]
        for mine, theirs in zip(found, expected, strict=True):
            scale = max(float(np.max(np.abs(theirs.astype(np.float64)), initial=0.0)), 1e-30)
            assert np.max(np.abs(mine.astype(np.float64) - theirs.astype(np.float64)), initial=0.0) <= 1e-5 * scale

    return check
