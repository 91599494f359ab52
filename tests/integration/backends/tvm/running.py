"""Runs small graphs with schedules for any processor on this machine, and with ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import helper, numpy_helper
from tvm import relax

from crossfarm.backends.tvm import lowering, onnx_import, scheduling
from crossfarm.backends.tvm.passes.register_allocation import pipeline
from crossfarm.backends.tvm.schedules.processor import Processor

Array = np.ndarray[Any, Any]
PROCESSORS = {
    "AVX-512": Processor(lanes=(16, 8, 4), registers=32),
    "AVX2": Processor(lanes=(8, 4), registers=16),
    "NEON of 64 bits": Processor(lanes=(4,), registers=32),
    "NEON of 32 bits": Processor(lanes=(4,), registers=16),
    "none": Processor(lanes=(1,), registers=16),
}
"""LLVM splits vectors that this machine does not have, so that all of these schedules run here."""
_CPU = "x86-64-v3" if "avx2" in Path("/proc/cpuinfo").read_text() else "x86-64"
HOST = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": _CPU}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a graph gave.

    Attributes:
        scheduled: the outputs of our code.
        expected: ONNX Runtime's.
        functions: names of the functions.
        unscheduled: those that no rule covered.
        partly: those of which a rule left a part as it is, and the ones that no rule covered.
    """

    scheduled: list[Array]
    expected: list[Array]
    functions: tuple[str, ...]
    unscheduled: tuple[str, ...]
    partly: tuple[str, ...]

    def assert_close(self, tolerance: float = 2e-5) -> None:
        """Compare every output, relative to its scale."""
        for got, wanted in zip(self.scheduled, self.expected, strict=True):
            assert got.shape == wanted.shape
            assert got.dtype == wanted.dtype
            if wanted.size:
                scale = max(1.0, float(np.abs(wanted.astype(np.float64)).max()))
                difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max()
                assert difference <= tolerance * scale


def run_both(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    *,
    outputs: Sequence[str] = ("y",),
    processor: Processor,
) -> Outcome:
    """Run a graph once with our schedules and once with ONNX Runtime."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    expected = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        list(outputs), dict(inputs)
    )
    target = tvm.target.Target(HOST)
    with target:
        module = scheduling.schedule_module(onnx_import.import_onnx(model), processor)
        names = [str(name.name_hint) for name, function in module.functions.items() if name.name_hint != "main"]
        left, partly = scheduling.uncovered(module, names), scheduling.unscheduled(module, names)
        built = relax.build(
            module,
            target=target,
            relax_pipeline=tvm.transform.Sequential(lowering.passes_to_calls()),
            tir_pipeline=pipeline(),
        )
    machine = relax.VirtualMachine(built, tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(array) for array in inputs.values()])
    tensors = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return Outcome(
        scheduled=[tensor.numpy() for tensor in tensors],
        expected=[np.asarray(array) for array in expected],
        functions=tuple(names),
        unscheduled=left,
        partly=partly,
    )
