"""Backend dpu: int8_shift models on an array in the style of AMD's DPU, what it leaves over on the CPU.

The parts of the array become command lists; those of the CPU stay ONNX. A bundle holds the functional model as a
program, the core as SystemVerilog, and all parts with the order in which they run.

The work stands in modules that are imported when it is done, because this module is imported to look at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.backends.dpu.array import DpuCode
from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell

DECLARATION = BackendDeclaration(
    section=DpuCode,
    sources={
        "compile": ("crossfarm/backends/dpu/", "crossfarm/backends/onnx_model.py", "crossfarm/bundles/accelerator.py"),
        "bundle": ("crossfarm/bundles/linking/", "crossfarm/bundles/accelerator.py", "runner/dpu/"),
        "measure": ("crossfarm/boards/simulators/base.py", "crossfarm/boards/simulators/dpu.py"),
    },
    tools={"compile": ("onnx", "onnxruntime", "numpy"), "bundle": ("ziglang",), "measure": ("numpy", "onnxruntime")},
    preload={"compile": ("onnxruntime",)},
    simulator="crossfarm.boards.simulators.dpu",
)


def compile(*, cell: Cell, model: Path, code: DpuCode, output: Path, tuned: Mapping[str, Any] | None = None) -> None:
    """Write plan.json, K.commands and K.constants or K.onnx of each part, accelerator.json and compile.json.

    Raises:
        ModelError: the model is not quantised.
        UnfitError: nothing of it fits the array, or a layer does not fit into the banks.
    """
    from crossfarm.backends.dpu.compiling import compile_cell

    compile_cell(cell=cell, model=model, code=code, output=output)


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Link the functional model, and put it beside parts, core, inputs and manifest; see protocol.Backend.bundle."""
    from crossfarm.backends.dpu.bundling import bundle_cell

    bundle_cell(order, output=output)
