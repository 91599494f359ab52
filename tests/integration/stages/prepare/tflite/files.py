"""Writes TFLite files of a few operators, runs them in LiteRT, and converted in ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.tflite.graph import convert

schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="ai-edge-litert is not installed")
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")

Array = NDArray[Any]

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
    "int4": schema.TensorType.INT4,
    "resource": schema.TensorType.RESOURCE,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Steps:
    """How a tensor is quantised."""

    scale: Any
    zero_point: Any = 0
    axis: int = 0


class TfliteFile:
    """A TFLite file in the making: tensors get numbers, operators name them."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.operatorCodes = []
        self._model.buffers = [schema.BufferT()]
        self._model.subgraphs = []
        self.graph()

    def graph(self) -> int:
        """Begin another subgraph and return its number."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self._model.subgraphs.append(graph)
        self._graph = graph
        return len(self._model.subgraphs) - 1

    def tensor(
        self,
        shape: Sequence[int] = (),
        dtype: str = "float32",
        *,
        data: Array | None = None,
        steps: Steps | None = None,
        variable: bool = False,
        stored: bytes | None = None,
        sparsity: Any = None,
    ) -> int:
        """Add a tensor and return its number; `stored` are the bytes where they are not those of `data`."""
        tensor = schema.TensorT()
        index = len(self._graph.tensors)
        tensor.name = f"t{index}".encode()
        tensor.shape = [int(extent) for extent in (shape if data is None else data.shape)]
        tensor.type = _TYPES[dtype if data is None or stored is not None else data.dtype.name]
        tensor.isVariable = variable
        tensor.sparsity = sparsity
        tensor.buffer = 0
        if data is not None:
            stored = stored if stored is not None else np.ascontiguousarray(data).tobytes()
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(stored, np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        if steps is not None:
            quantisation = schema.QuantizationParametersT()
            scale = np.atleast_1d(np.asarray(steps.scale, np.float32))
            quantisation.scale = scale
            quantisation.zeroPoint = np.broadcast_to(np.asarray(steps.zero_point, np.int64), scale.shape).copy()
            quantisation.quantizedDimension = steps.axis
            tensor.quantization = quantisation
        self._graph.tensors.append(tensor)
        return index

    def add(self, name: str, inputs: Sequence[int], outputs: Sequence[int], kind: str = "", /, **options: Any) -> None:
        """Add an operator; `kind` is the schema's name of its options, which are named as there."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = _versions.get(name, 1)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if kind:
            made = getattr(schema, f"{kind}T")()
            for key, value in options.items():
                assert hasattr(made, key), key
                setattr(made, key, value)
            second = name.startswith("STABLEHLO")
            kinds = schema.BuiltinOptions2 if second else schema.BuiltinOptions
            setattr(operator, "builtinOptions2Type" if second else "builtinOptionsType", getattr(kinds, kind))
            setattr(operator, "builtinOptions2" if second else "builtinOptions", made)
        self._model.operatorCodes.append(code)
        self._graph.operators.append(operator)

    def intermediates(self, tensors: Sequence[int]) -> None:
        """Say the tensors that hold steps inside of the operator that was added last."""
        self._graph.operators[-1].intermediates = list(tensors)

    def content(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file; inputs and outputs are those of the subgraph that was begun last."""
        self.ports(inputs, outputs)
        builder = flatbuffers.Builder(4096)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def ports(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Say the inputs and outputs of the subgraph that was begun last."""
        self._graph.inputs, self._graph.outputs = list(inputs), list(outputs)

    def first(self) -> None:
        """Go on with the first subgraph."""
        self._graph = self._model.subgraphs[0]


_versions: Mapping[str, int] = {"BROADCAST_TO": 2}


def by_litert(content: bytes, feeds: Sequence[Mapping[int, Array]], *, usual: bool = False) -> list[list[Array]]:
    """Return the outputs of LiteRT's reference kernels, or of its usual ones, for one run after another."""
    made = _interpreter(content, usual=usual)
    results = []
    for feed in feeds:
        for index, values in feed.items():
            made.set_tensor(index, values)
        made.invoke()
        results.append([made.get_tensor(item["index"]).copy() for item in made.get_output_details()])
    return results


def _interpreter(content: bytes, *, usual: bool) -> Any:
    """Return an interpreter ready to run; some operators have no reference kernel, but one for all processors."""
    kinds = interpreter.OpResolverType
    processor = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        kind = processor if usual else kinds.BUILTIN_REF
        made = interpreter.Interpreter(model_content=content, experimental_op_resolver_type=kind)
    except ValueError:
        made = interpreter.Interpreter(model_content=content, experimental_op_resolver_type=processor)
    made.allocate_tensors()
    made.reset_all_variables()
    return made


def declared_inputs(feed: Mapping[int, Array]) -> list[StaticInput]:
    """Return the inputs as models.yaml would declare them."""
    return [
        StaticInput(name=f"t{index}", shape=values.shape, dtype=values.dtype.name) for index, values in feed.items()
    ]


def converted(content: bytes, feed: Mapping[int, Array]) -> bytes:
    """Return the static ONNX file that `prepare` makes."""
    inputs = declared_inputs(feed)
    model = convert(content, inputs)
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    return serialise(make_static(model, inputs))


def by_onnx(content: bytes, feed: Mapping[int, Array]) -> list[Array]:
    """Return the outputs of the converted file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(converted(content, feed), options, providers=["CPUExecutionProvider"])
    named = {f"t{index}": values for index, values in feed.items()}
    return [np.asarray(value) for value in session.run(None, named)]


def check(
    content: bytes,
    feed: Mapping[int, Array],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    steps: int = 1,
    equal: float = 0.9,
    usual: bool = False,
) -> None:
    """Hold the converted file to LiteRT.

    Args:
        content: a TFLite file.
        feed: number of an input -> its values.
        rtol: of floats.
        atol: of floats, as a share of the largest one if that is above 1.
        steps: by which stored integers of a quantised output may differ.
        equal: share of them that must be equal, where there are a hundred or more.
        usual: hold it to LiteRT's usual kernels, where its reference kernel is at fault.
    """
    (expected,) = by_litert(content, [feed], usual=usual)
    found = by_onnx(content, feed)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if theirs.dtype == np.float32:
            scale = max(1.0, float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)))
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * scale)
        elif theirs.dtype in (np.int8, np.uint8, np.int16) and steps:
            difference = np.abs(ours.astype(int) - theirs.astype(int))
            assert difference.max(initial=0) <= steps
            assert (difference == 0).mean() >= equal or difference.size < 100
        else:
            np.testing.assert_array_equal(ours, theirs)
