"""Small ONNX graphs: built, prepared, compiled for this machine and run, and run by ONNX Runtime as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hypothesis
import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import helper, numpy_helper
from tvm import relax

from crossfarm.backends.tvm import lowering, onnx_import, rule_sets, scheduling
from crossfarm.backends.tvm.int8.rewrite import use_integers
from crossfarm.backends.tvm.passes.register_allocation import pipeline
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static
from tests.integration.backends.tvm.running import HOST, PROCESSORS

Array = np.ndarray[Any, Any]
Arrays = Mapping[str, Array]


class _Generator:
    """Random numbers that begin anew with each test (conftest.py) and with each example, which hypothesis sees to."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)

    def seed(self, value: int = 0) -> None:
        """Begin anew."""
        self.random = np.random.default_rng(value)

    def getstate(self) -> np.random.Generator:
        """Return what `setstate` goes on with."""
        return self.random

    def setstate(self, state: np.random.Generator) -> None:
        """Go on where `getstate` was called."""
        self.random = state


GENERATOR = _Generator()
hypothesis.register_random(GENERATOR)


def numbers(*shape: int) -> Array:
    """Return float32 numbers around 0."""
    return GENERATOR.random.standard_normal(shape).astype(np.float32)


def places(low: int, high: int, *shape: int) -> Array:
    """Return int64 numbers from `low` up to below `high`."""
    return GENERATOR.random.integers(low, high, shape)


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Arrays,
    constants: Arrays,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
    ml_opset: int = 5,
) -> onnx.ModelProto:
    """Return a model whose outputs have no declared type."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    versions = {"": opset, "com.microsoft": 1, "ai.onnx.ml": ml_opset}
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def prepared(model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """Return the model as the stage `prepare` makes it."""
    fixed = [StaticInput(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in inputs.items()]
    return make_static(model.SerializeToString(), fixed)


def compiled_and_run(
    model: onnx.ModelProto, inputs: Arrays, *, processor: Processor = PROCESSORS["AVX2"]
) -> list[Array]:
    """Prepare and compile a model, and return what it computes."""
    static = prepared(model, inputs)
    target = tvm.target.Target(HOST)
    with target:
        module = use_integers(onnx_import.import_onnx(static), rule_sets.unit_of(target))
        module = scheduling.schedule_module(module, processor)
        calls = tvm.transform.Sequential(lowering.passes_to_calls())
        built = relax.build(module, target=target, relax_pipeline=calls, tir_pipeline=pipeline())
    machine = relax.VirtualMachine(built, tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(inputs[port.name]) for port in static.graph.input])
    return [result.numpy()] if isinstance(result, tvm.runtime.Tensor) else [tensor.numpy() for tensor in result]


def runtimes_answer(model: onnx.ModelProto, inputs: Arrays) -> list[Array]:
    """Return what ONNX Runtime computes, node by node: its optimiser takes liberties with quantised numbers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(None, dict(inputs))]


def assert_right(
    nodes: Sequence[onnx.NodeProto] | onnx.NodeProto,
    inputs: Arrays,
    constants: Arrays,
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
    ml_opset: int = 5,
    expected: Sequence[Array] | None = None,
    tolerance: float = 2e-5,
) -> None:
    """Compare what compiled code computes with what is right: ONNX Runtime's answer, unless one is given."""
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
    model = graph_of(nodes, inputs, constants, outputs=outputs, opset=opset, ml_opset=ml_opset)
    wanted = runtimes_answer(model, inputs) if expected is None else expected
    for got, right in zip(compiled_and_run(model, inputs), wanted, strict=True):
        assert got.shape == right.shape
        assert got.dtype == right.dtype
        np.testing.assert_allclose(got, right, rtol=tolerance, atol=tolerance)
