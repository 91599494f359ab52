"""Backends by name, and what their stages depend on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from crossfarm.backends import BACKENDS, code_section, load_backend
from crossfarm.config.cell import Cell
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.models import Model
from crossfarm.config.pipelines import Pipeline
from crossfarm.config.targets import DEFAULT_BACKEND, target_with
from crossfarm.errors import ConfigError
from crossfarm.stages import STAGES
from crossfarm.stages.protocol import Needs, Subject
from crossfarm.util.paths import HOME

TOOLCHAINS = sorted((HOME / "toolchains").glob("*.yaml"))


def _needs(stage: str, **changes: Any) -> Needs:
    declared = yaml.safe_load((HOME / "toolchains" / "armv7.yaml").read_text())
    target = target_with(LlvmCode).model_validate({**declared, **changes})
    model = Model.model_validate(
        {
            "name": "mnist_cnn",
            "licence": "MIT",
            "source": {"file": "model.onnx"},
            "inputs": [{"name": "x", "shape": [1]}],
        }
    )
    pipeline = Pipeline(name="test", targets=("armv7",))
    return STAGES[stage].needs(Subject(pipeline=pipeline, model=model, target=target, variant="float32"))


def test_a_cell_is_named_target_model_variant() -> None:
    assert Cell(model="mnist_cnn", target="armv7", variant="float32").id == "armv7-mnist_cnn-float32"


def test_an_unknown_backend_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="perhaps you meant 'tvm'"):
        load_backend("tvn")


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_backend_has_both_functions(name: str) -> None:
    backend = load_backend(name)
    assert callable(backend.compile)
    assert callable(backend.bundle)


def test_another_c_compiler_links_again_but_compiles_nothing_again() -> None:
    other = {"compiler": {"kind": "command", "command": ["arm-linux-gnueabihf-gcc"]}}
    assert _needs("compile", **other) == _needs("compile")
    assert _needs("bundle", **other) != _needs("bundle")


def test_another_processor_compiles_again() -> None:
    code = {"triple": "armv7l-linux-gnueabihf", "cpu": "cortex-a7", "float_abi": "hard"}
    assert _needs("compile", code=code) != _needs("compile")
    assert "toolchain armv7" in _needs("compile").parameters


def test_a_description_changes_no_key() -> None:
    for stage in ("compile", "bundle"):
        assert _needs(stage, description="other words") == _needs(stage)


@pytest.mark.parametrize("path", TOOLCHAINS, ids=lambda path: path.stem)
def test_every_toolchain_file_is_valid_and_named_after_its_target(path: Path) -> None:
    declared = yaml.safe_load(path.read_text())
    section = code_section(declared.get("backend", DEFAULT_BACKEND))
    assert target_with(section).model_validate(declared).name == path.stem


@pytest.mark.parametrize("path", TOOLCHAINS, ids=lambda path: path.stem)
def test_a_dynamic_target_that_is_emulated_says_where_its_c_library_comes_from(path: Path) -> None:
    declared = yaml.safe_load(path.read_text())
    target = target_with(code_section(declared.get("backend", DEFAULT_BACKEND))).model_validate(declared)
    if target.linkage == "dynamic" and target.emulator is not None:
        assert "-L" in target.emulator.command
        assert target.emulator.library_package is not None


def test_looking_at_the_stages_imports_nothing_heavy() -> None:
    code = (
        "import sys; from crossfarm.stages import STAGES; STAGES['compile']; STAGES['bundle'];"
        "from crossfarm.backends import BACKENDS, load_backend; [load_backend(name) for name in BACKENDS];"
        "heavy = {'tvm', 'onnx', 'numpy', 'onnxruntime', 'crossfarm.backends.dpu.compiling'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
