"""TFLite to ONNX: 8-bit quantised models become graphs of QuantizeLinear and DequantizeLinear, floating ones stay so.

The signature stays as in the file (channels last). A quantised input that is declared as float32 is rounded inside, and
then the outputs are float32 too. What the model keeps between runs (resource variables, variable tensors) becomes an
input and an output where the user declares an input of its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, serialise
from crossfarm.stages.prepare.tflite.emitter import Emitter, is_real
from crossfarm.stages.prepare.tflite.folding import fold
from crossfarm.stages.prepare.tflite.inlining import inline_calls
from crossfarm.stages.prepare.tflite.operators import CONVERTERS, SHAPE_ONLY, reason
from crossfarm.stages.prepare.tflite.reader import WITHOUT_VALUES, Operator, TfliteGraph, TfliteTensor, read_tflite
from crossfarm.stages.prepare.tflite.states import is_zero, next_name

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
    graph = inline_calls(graph)
    live = _live_operators(graph)
    _refuse_unknown(graph, live)
    emitter = Emitter(graph)
    declared = {item.name: item for item in inputs}
    with _told_as_damage("an input of the TFLite file does not fit what reads it"):
        values, integers = _take_inputs(emitter, declared)
    output_names = [emitter.unique(graph.tensors[index].name) for index in graph.outputs]
    with _told_as_damage("a variable of the TFLite file does not fit what reads it"):
        values += _take_states(emitter, live, declared)
    for operator in live:
        _convert(emitter, operator)
    return _assemble(emitter, values, output_names, keep_integers=integers)


def _take_inputs(emitter: Emitter, declared: Mapping[str, StaticInput]) -> tuple[list[onnx.ValueInfoProto], bool]:
    """Return the graph's inputs, and whether outputs are stored integers: where quantised inputs are, or none is."""
    graph = emitter.graph
    values, kept = [], []
    for index in graph.inputs:
        tensor = graph.tensors[index]
        item = declared.get(tensor.name)
        quantised = is_real(tensor) and tensor.quantisation is not None
        as_integers = item is not None and item.dtype == tensor.dtype and quantised
        if quantised:
            kept.append(as_integers)
        name = emitter.unique(tensor.name)
        emitter.set_input(index, name, as_real=not as_integers)
        values.append(_value(name, tensor, as_integers=as_integers))
    return values, any(kept) or not kept


def _take_states(
    emitter: Emitter, live: Sequence[Operator], declared: Mapping[str, StaticInput]
) -> list[onnx.ValueInfoProto]:
    """Return an input for each variable, and each tensor that keeps its values, that the user declares."""
    graph, values = emitter.graph, []
    handles = {operator.outputs[0]: operator for operator in live if operator.name == "VAR_HANDLE"}
    for operator in live:
        if operator.name == "CALL_ONCE":
            _check_initial(graph, operator)
        if operator.name not in ("READ_VARIABLE", "ASSIGN_VARIABLE") or operator.inputs[0] not in handles:
            continue
        handle = handles[operator.inputs[0]]
        variable = handle.options.name or graph.tensors[handle.outputs[0]].name
        tensor = graph.tensors[(*operator.outputs, *operator.inputs[1:])[0]]
        if variable in declared and variable not in emitter.variables:
            emitter.variables[variable] = emitter.unique(variable)
            values.append(_value(emitter.variables[variable], tensor, as_integers=False))
    read = {index for operator in live for index in operator.inputs if index >= 0}
    for tensor in graph.tensors:
        if tensor.variable and tensor.index in read and tensor.name in declared and tensor.index not in emitter.states:
            emitter.states[tensor.index] = emitter.unique(tensor.name)
            values.append(_value(emitter.states[tensor.index], tensor, as_integers=False))
    return values


def _check_initial(graph: TfliteGraph, operator: Operator) -> None:
    """Refuse variables that start at something else than zero, which is what a carried input starts at."""
    number = operator.options.subgraph
    if not 0 < number < len(graph.called):
        raise ModelError(f"operator {operator.index} (CALL_ONCE) calls subgraph {number}, which is not there")
    for inner in graph.called[number].operators:
        if inner.name == "ASSIGN_VARIABLE" and not is_zero(graph.called[number].tensors[inner.inputs[1]]):
            raise ModelError(
                f"operator {operator.index} (CALL_ONCE) starts a variable at something else than zero, and a carried "
                "input starts at zero; export the model with its variables as inputs and outputs"
            )


@contextlib.contextmanager
def _told_as_damage(what: str) -> Iterator[None]:
    """Refuse a file in which something does not fit; the converters count on files that LiteRT would take."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise ModelError(f"{what}: {error}; fetch or export the model again") from error


def _convert(emitter: Emitter, operator: Operator) -> None:
    """Convert one operator; a file whose tensors do not fit an operator is refused with its name."""
    shapes = ", ".join(str(list(emitter.tensor(index).shape)) for index in operator.inputs if index != -1)
    name = f"the TFLite operator {operator.name} (number {operator.index})"
    with _told_as_damage(f"{name} does not fit its tensors of shapes {shapes[:200]}"):
        if not fold(emitter, operator, _call_converter, OPSET):
            _call_converter(emitter, operator)


def _call_converter(emitter: Emitter, operator: Operator) -> None:
    if operator.name != "CALL_ONCE":
        CONVERTERS[operator.name](emitter, operator)


def _live_operators(graph: TfliteGraph) -> list[Operator]:
    """Return the operators that an output or a variable depends on, in the file's order.

    The shape of a RESHAPE is not followed: it is in the file already.
    """
    wanted = set(graph.outputs)
    live = []
    for operator in reversed(graph.operators):
        if wanted.intersection(operator.outputs) or operator.name in ("ASSIGN_VARIABLE", "CALL_ONCE"):
            live.append(operator)
            if operator.name in SHAPE_ONLY:
                continue
            wanted.update(operator.inputs[:1] if operator.name == "RESHAPE" else operator.inputs)
    return live[::-1]


def _refuse_unknown(graph: TfliteGraph, operators: Iterable[Operator]) -> None:
    known = (*CONVERTERS, *SHAPE_ONLY, "CALL_ONCE")
    unknown = [operator for operator in operators if operator.name not in known]
    if unknown:
        shown = "; ".join(
            f"{operator.name} (number {operator.index}, output {_first_output(graph, operator)}): "
            f"{reason(operator.name)}"
            for operator in unknown[:5]
        )
        more = f"; and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ModelError(
            f"TFLite operators that cannot be converted: {shown}{more}. Cut the model before them, or convert it to "
            "ONNX yourself and give `format: onnx`"
        )


def _first_output(graph: TfliteGraph, operator: Operator) -> str:
    if not operator.outputs:
        return "none"
    tensor = graph.tensors[operator.outputs[0]]
    return f"{tensor.name!r}, tensor {tensor.index}"


def _value(name: str, tensor: TfliteTensor, *, as_integers: bool) -> onnx.ValueInfoProto:
    if tensor.dtype in WITHOUT_VALUES or tensor.dtype == "int4":
        raise ModelError(
            f"tensor {tensor.name!r} (number {tensor.index}) is of the type {tensor.dtype}, which no input or output "
            "can have; export the model without it"
        )
    dtype = np.dtype("float32" if is_real(tensor) and not as_integers else tensor.dtype)
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), tensor.shape)


def _assemble(
    emitter: Emitter, inputs: list[onnx.ValueInfoProto], output_names: Sequence[str], *, keep_integers: bool
) -> bytes:
    outputs = []
    for index, name in zip(emitter.graph.outputs, output_names, strict=True):
        tensor = emitter.graph.tensors[index]
        as_integers = keep_integers and is_real(tensor) and tensor.quantisation is not None
        with _told_as_damage(f"the TFLite output {tensor.name[:200]!r} does not fit the operator that computes it"):
            result = emitter.stored(index) if as_integers else emitter.value(index)
        emitter.nodes.append(onnx.helper.make_node("Identity", [result], [name], name=name))
        outputs.append(_value(name, emitter.tensor(index), as_integers=as_integers))
    outputs += _state_outputs(emitter, [value.name for value in inputs])
    graph = onnx.helper.make_graph(emitter.nodes, "tflite", inputs, outputs, initializer=emitter.initialisers)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="crossfarm")
    return serialise(model)


def _state_outputs(emitter: Emitter, inputs: Sequence[str]) -> list[onnx.ValueInfoProto]:
    """Return an output for each input that is a state; a variable that nothing assigns keeps what it was given."""
    final = dict(emitter.variables.items())
    tensors = dict(emitter.assigned)
    for index, name in emitter.states.items():
        final[emitter.graph.tensors[index].name] = name
        tensors[emitter.graph.tensors[index].name] = emitter.graph.tensors[index]
    outputs = []
    for variable in inputs:
        if variable not in final or variable not in tensors:
            continue
        name = emitter.unique(next_name(variable))
        emitter.nodes.append(onnx.helper.make_node("Identity", [final[variable]], [name], name=name))
        outputs.append(_value(name, tensors[variable], as_integers=False))
    return outputs
