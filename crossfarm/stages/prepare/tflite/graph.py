"""TFLite to ONNX: 8-bit quantised models become graphs of QuantizeLinear and DequantizeLinear, floating ones stay so.

The signature stays as in the file (channels last). A quantised input that is declared as float32 is rounded inside, and
then the outputs are float32 too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, serialise
from crossfarm.stages.prepare.tflite.emitter import Emitter
from crossfarm.stages.prepare.tflite.operators import CONVERTERS
from crossfarm.stages.prepare.tflite.reader import Operator, TfliteGraph, TfliteTensor, read_tflite

OPSET = 18
IR_VERSION = 10


def convert(content: bytes, inputs: Sequence[StaticInput]) -> bytes:
    """Return a TFLite model as an ONNX file.

    Args:
        content: a TFLite file.
        inputs: as declared; only their names and dtypes are read here.

    Raises:
        ModelError: not a TFLite file, or an operator or tensor that cannot be converted; it is named.
    """
    return convert_graph(read_tflite(content), inputs)


def convert_graph(graph: TfliteGraph, inputs: Sequence[StaticInput]) -> bytes:
    """Return a graph that was read from a TFLite file as an ONNX file; see `convert`."""
    live = _live_operators(graph)
    _refuse_unknown(graph, live)
    emitter = Emitter(graph)
    declared = {item.name: item.dtype for item in inputs}
    integers = [
        declared.get(graph.tensors[index].name) == graph.tensors[index].dtype != "float32" for index in graph.inputs
    ]
    values = []
    for index, as_integers in zip(graph.inputs, integers, strict=True):
        tensor = graph.tensors[index]
        name = emitter.unique(tensor.name)
        emitter.set_input(index, name, as_real=not as_integers)
        values.append(_value(name, tensor, as_integers=as_integers))
    output_names = [emitter.unique(graph.tensors[index].name) for index in graph.outputs]
    for operator in live:
        _convert(emitter, operator, graph)
    return _assemble(emitter, values, output_names, keep_integers=any(integers))


@contextlib.contextmanager
def _told_as_damage(what: str) -> Iterator[None]:
    """Refuse a file in which something does not fit; the converters count on files that LiteRT would take."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ModelError(f"{what}: {error}; fetch or export the model again") from error


def _convert(emitter: Emitter, operator: Operator, graph: TfliteGraph) -> None:
    """Convert one operator; a file whose tensors do not fit an operator is refused with its name."""
    shapes = ", ".join(str(list(graph.tensors[index].shape)) for index in operator.inputs if index != -1)
    name = f"the TFLite operator {operator.name} (number {operator.index})"
    with _told_as_damage(f"{name} does not fit its tensors of shapes {shapes[:200]}"):
        CONVERTERS[operator.name](emitter, operator)


def _live_operators(graph: TfliteGraph) -> list[Operator]:
    """Return the operators that an output depends on, in the file's order.

    The shape of a RESHAPE is not followed: it is in the file already.
    """
    wanted = set(graph.outputs)
    live = []
    for operator in reversed(graph.operators):
        if wanted.intersection(operator.outputs):
            live.append(operator)
            wanted.update(operator.inputs[:1] if operator.name == "RESHAPE" else operator.inputs)
    return live[::-1]


def _refuse_unknown(graph: TfliteGraph, operators: Iterable[Operator]) -> None:
    unknown = [operator for operator in operators if operator.name not in CONVERTERS]
    if unknown:
        shown = ", ".join(
            f"{operator.name} (number {operator.index}, output {graph.tensors[operator.outputs[0]].name!r})"
            for operator in unknown[:5]
        )
        raise ModelError(
            f"TFLite operators that cannot be converted: {shown}; convert the model to ONNX yourself and give "
            "`format: onnx`"
        )


def _value(name: str, tensor: TfliteTensor, *, as_integers: bool) -> onnx.ValueInfoProto:
    dtype = np.dtype(tensor.dtype if as_integers else "float32")
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), tensor.shape)


def _assemble(
    emitter: Emitter, inputs: list[onnx.ValueInfoProto], output_names: Sequence[str], *, keep_integers: bool
) -> bytes:
    outputs = []
    for index, name in zip(emitter.graph.outputs, output_names, strict=True):
        tensor = emitter.tensor(index)
        with _told_as_damage(f"the TFLite output {tensor.name[:200]!r} does not fit the operator that computes it"):
            result = emitter.stored(index) if keep_integers else emitter.real(index)
        emitter.nodes.append(onnx.helper.make_node("Identity", [result], [name], name=name))
        outputs.append(_value(name, tensor, as_integers=keep_integers and tensor.quantisation is not None))
    graph = onnx.helper.make_graph(emitter.nodes, "tflite", inputs, outputs, initializer=emitter.initialisers)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="crossfarm")
    return serialise(model)
