"""Makes an ONNX model static and self-contained: fixed input shapes, nothing left to compute about shapes.

Setting the input shapes alone is not enough for compilers: the chains of Shape, Gather and Concat that exporters leave
behind must become constants. ONNX Runtime's basic optimisations do that, with standard operators only.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.errors import ModelError, nearest
from crossfarm.stages.prepare.blame import refused_alone
from crossfarm.stages.prepare.bounded.functions import functions_of
from crossfarm.stages.prepare.bounded.graph import Bounded, bounded, written_newer
from crossfarm.stages.prepare.bounded.sources import Size
from crossfarm.stages.prepare.control_flow import has_control_flow, without_control_flow
from crossfarm.stages.prepare.external_data import ReadExternal, inline_external_data, no_external_data
from crossfarm.stages.prepare.growth import check_functions, check_growth, check_tensors
from crossfarm.stages.prepare.node_names import blamed
from crossfarm.stages.prepare.onnx_session import open_session
from crossfarm.stages.prepare.shapes import has_open_shapes, infer_shapes, open_shape
from crossfarm.stages.prepare.versions import SEPARATE_WEIGHTS_IR, converted, without_functions
from crossfarm.util.onnx_nodes import RANDOM_OPERATORS, STANDARD_DOMAINS, describe_node, opset_of, subgraphs
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import onnx

_OF_SHAPES = frozenset({"Shape", "Size"})
_DEEPEST_LOOPS = 8
"""How deep loops and branches may stand in each other."""
_KEPT = frozenset({"DequantizeLinear", *RANDOM_OPERATORS})
"""What ONNX Runtime does not compute beforehand: weights stay quantised, and random numbers are drawn each time."""
_FOLDINGS = 4
"""So many times a model is folded again while something about shapes is left in it: functions call functions."""
_SAID_LIMIT = 4000
"""So many characters of a message of ONNX Runtime are looked at; a name in it may have a million."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StaticInput:
    """What an input is fixed to.

    Attributes:
        name: as in the model.
        shape: extents, all known.
        dtype: NumPy's name of the element type.
        value: a number that replaces the input, which then disappears.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: float | int | None = None


def make_static(
    content: bytes, inputs: Sequence[StaticInput], *, read_external: ReadExternal = no_external_data
) -> onnx.ModelProto:
    """Return the model with static shapes; the same bytes give the same model; see make_bounded."""
    return make_bounded(content, inputs, read_external=read_external).model


def make_bounded(
    content: bytes,
    inputs: Sequence[StaticInput],
    *,
    read_external: ReadExternal = no_external_data,
    sizes: Mapping[str, Size] | None = None,
) -> Bounded:
    """Return the model with static shapes, and with the true ones where some depend on data.

    Args:
        content: an ONNX file.
        inputs: one for each input of the model, in any order.
        read_external: returns the content of a file beside the model, for tensors that are stored outside it.
        sizes: tensor whose extent depends on data -> its largest count, or its shape.

    Raises:
        ModelError: not ONNX, external data that may not be read, declared inputs that do not fit, functions, constants
            or tensors that grow beyond the limits of `onnx_growth`, an operator that ONNX Runtime does not know, or a
            shape that stays dynamic (the tensor and its node are named).
    """
    model = parse(content)
    inline_external_data(model, read_external)
    check_functions(model)  # what comes next walks through them
    model = converted(model)
    if sizes:
        model = written_newer(model)
    _fix_inputs(model, inputs)
    model = without_functions(model)
    _replace_sums(model.graph)
    _forget_shapes(model.graph)
    check_growth(model)
    model = _unrolled(_folded_to_the_end(model))
    if not sizes and not has_open_shapes(model):
        return Bounded(model=_finished(model), exact=None)
    made = bounded(model, sizes or {})
    if made.exact is not None:
        _strip(made.exact)
    return Bounded(model=_finished(made.model), exact=made.exact)


def _finished(model: onnx.ModelProto) -> onnx.ModelProto:
    _refuse_dynamic_shapes(model)
    check_tensors(model)
    _strip(model)
    model.functions.extend(functions_of(model))
    return model


def parse(content: bytes) -> onnx.ModelProto:
    """Return the model that an ONNX file holds.

    Raises:
        ModelError: the bytes are not an ONNX model.
    """
    import onnx

    from crossfarm.stages.prepare.foreign_files import foreign_kind

    foreign = foreign_kind(content)
    if foreign is not None:
        raise ModelError(f"the file is not an ONNX model ({len(content)} bytes) but {foreign}")
    advice = "give an ONNX file, or say `format: tflite` or `format: torch`"
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, whose module differs between its implementations
        raise ModelError(f"the file is not an ONNX model ({len(content)} bytes): {error}; {advice}") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelError(f"the file is not an ONNX model ({len(content)} bytes): it has no graph; {advice}")
    return model


def serialise(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model, always the same for the same model."""
    return bytes(model.SerializeToString(deterministic=True))


def signature(model: onnx.ModelProto) -> dict[str, Any]:
    """Return inputs, outputs (name, dtype, shape), parameters, nodes and opset of a static model as plain JSON values.

    Parameters are the elements of weights: initialisers that are floating or quantised numbers, without the scales and
    zero points of quantisation and without shapes and axes.
    """
    import math

    parameters = {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if _dtype_name(tensor.data_type) not in ("int64", "bool") and math.prod(tensor.dims) > 1
    }
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            for name in node.input[1:]:
                parameters.pop(name, None)
    return {
        "inputs": [_describe(value) for value in model.graph.input],
        "outputs": [_describe(value) for value in model.graph.output],
        "parameters": sum(parameters.values()),
        "nodes": len(model.graph.node),
        "opset": opset_of(model),
    }


def _describe(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [dim.dim_value for dim in tensor.shape.dim]
    return {"name": value.name, "dtype": _dtype_name(tensor.elem_type), "shape": shape}


def _dtype_name(element_type: int) -> str:
    import onnx

    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(element_type).name)
    except KeyError:
        return f"ONNX type {element_type}"


def _fix_inputs(model: onnx.ModelProto, inputs: Sequence[StaticInput]) -> None:
    """Set shapes, and turn inputs that have a value into initialisers."""
    import numpy as np
    import onnx

    graph = model.graph
    initialised = {tensor.name for tensor in graph.initializer}
    # Before IR version 4 initialisers had to stand among the inputs too.
    open_inputs = {value.name: value for value in graph.input if value.name not in initialised}
    declared = {item.name: item for item in inputs}
    _check_names(open_inputs.keys(), declared.keys())
    kept = []
    for name, value in open_inputs.items():
        item = declared[name]
        _check_declared(value, item)
        if item.value is not None:
            baked = np.full(item.shape, item.value, dtype=item.dtype)
            graph.initializer.append(onnx.numpy_helper.from_array(baked, name))
            continue
        kept.append(onnx.helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, item.shape))
    del graph.input[:]
    graph.input.extend(kept)
    model.ir_version = max(model.ir_version, SEPARATE_WEIGHTS_IR)


def _check_names(found: Collection[str], declared: Collection[str]) -> None:
    for name in declared:
        if name not in found:
            raise ModelError(
                f"the model has no input {name!r}{nearest(name, found)}; its inputs are {', '.join(map(repr, found))}"
            )
    for name in found:
        if name not in declared:
            raise ModelError(f"the model's input {name!r} is not declared; add it to `inputs` with its shape and dtype")


def _check_declared(value: onnx.ValueInfoProto, item: StaticInput) -> None:
    """Refuse a declared dtype, rank or extent that contradicts the model."""
    if not value.type.HasField("tensor_type"):
        raise ModelError(f"input {item.name!r} is not a tensor; only tensors can be compiled")
    tensor = value.type.tensor_type
    if _dtype_name(tensor.elem_type) != item.dtype:
        raise ModelError(
            f"input {item.name!r} is {_dtype_name(tensor.elem_type)} in the model, declared as {item.dtype}; "
            "correct `dtype`"
        )
    if not tensor.HasField("shape"):
        return
    found = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim]
    fits = len(found) == len(item.shape) and all(
        not isinstance(extent, int) or extent <= 0 or extent == want
        for extent, want in zip(found, item.shape, strict=True)
    )
    if not fits:
        shown = ", ".join(str(extent) for extent in found)
        raise ModelError(
            f"input {item.name!r} is [{shown}] in the model, declared as {list(item.shape)}; correct `shape`"
        )


def _replace_sums(graph: onnx.GraphProto) -> None:
    """Write Sum as a chain of Add: a Sum breaks TVM's change of layout."""
    import onnx

    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for subgraph in subgraphs(node):
            _replace_sums(subgraph)
        if node.op_type != "Sum" or node.domain not in STANDARD_DOMAINS or not node.input:
            nodes.append(node)
            continue
        if len(node.input) == 1:
            nodes.append(onnx.helper.make_node("Identity", node.input, node.output, name=node.name))
            continue
        left = node.input[0]
        for position, right in enumerate(node.input[1:], start=1):
            last = position == len(node.input) - 1
            result = node.output[0] if last else f"{node.output[0]}/sum_{position}"
            name = node.name if last or not node.name else f"{node.name}/sum_{position}"
            nodes.append(onnx.helper.make_node("Add", [left, right], [result], name=name))
            left = result
    del graph.node[:]
    graph.node.extend(nodes)


def _forget_shapes(graph: onnx.GraphProto) -> None:
    """Drop what the file says about shapes inside, which was true for the open ones; keep the element types."""
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for subgraph in subgraphs(node):
            _forget_shapes(subgraph)


def _folded_to_the_end(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model folded, with its shapes.

    ONNX Runtime puts the bodies of functions in place of their calls behind its folding of constants, so that those are
    folded the next time.
    """
    folded = infer_shapes(_fold(model))
    for _ in range(_FOLDINGS):
        if not _has_constants_to_fold(folded.graph):
            break
        nodes = len(folded.graph.node)
        folded = infer_shapes(_fold(folded))
        if len(folded.graph.node) >= nodes:
            break
    return folded


def _has_constants_to_fold(graph: onnx.GraphProto) -> bool:
    """Say whether a node is left whose result ONNX Runtime would compute: of a shape, or of constants alone."""
    constants = {tensor.name for tensor in graph.initializer}
    return any(
        node.op_type in _OF_SHAPES
        or (node.op_type not in _KEPT and node.input and all(name in constants for name in node.input if name))
        for node in graph.node
    )


def _unrolled(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace branches and loops, from the outermost inwards, each time with what is then known of the shapes."""
    for _ in range(_DEEPEST_LOOPS):
        if not has_control_flow(model):
            return model
        model = without_control_flow(model)
        _forget_shapes(model.graph)
        check_growth(model)
        model = _folded_to_the_end(model)
    raise ModelError(f"the model's loops and branches are more than {_DEEPEST_LOOPS} deep; export it without them")


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let ONNX Runtime fold constants, inline branches with a known condition, and drop what nothing reads."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as scratch:
        folded = Path(scratch) / "folded.onnx"
        options.optimized_model_filepath = str(folded)
        try:
            open_session(serialise(model), options)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            if "bad_alloc" in str(error) or "Failed to allocate memory" in str(error):
                raise ModelError(
                    "ONNX Runtime needs more memory to compute the model's constants than a job may take; export the "
                    "model with smaller constants, or give jobs more with --memory"
                ) from error
            said = _runtime_text(error)
            node = blamed(model, said) or refused_alone(model)
            raise ModelError(f"ONNX Runtime refuses {node or 'the model'}: {said}") from error
        return onnx.load(folded, load_external_data=False)


def _runtime_text(error: Exception) -> str:
    """Return what ONNX Runtime says on one line, without its own source files and functions.

    Word by word: the names in it are the model's, and a regular expression over a megabyte of them took hours.
    """
    words = str(error)[:_SAID_LIMIT].split()
    if words[:1] == ["[ONNXRuntimeError]"]:
        words = words[6:]  # ": 1 : FAIL :"
    kept: list[str] = []
    place = 0
    while place < len(words):
        path, _, line = words[place].rpartition(":")
        if "/onnxruntime/" not in path or not line.isdecimal():
            kept.append(words[place])
            place += 1
            continue
        # Behind the place in its source stands the function, whose list of parameters ends in a bracket.
        ends = (end for end in range(place + 1, min(place + 40, len(words))) if words[end].endswith(")"))
        place = next(ends, place) + 1
    return one_line(" ".join(kept), _SAID_LIMIT)


def _refuse_dynamic_shapes(model: onnx.ModelProto) -> None:
    """Name the first tensor, in the order of computation, whose shape is not a list of numbers."""
    graph = model.graph
    known = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        for name in filter(None, node.output):
            shown = open_shape(known.get(name))
            if shown is not None and name not in constants:
                raise ModelError(
                    f"tensor {name!r} keeps the dynamic shape {shown} after all inputs were fixed; it comes from "
                    f"{describe_node(node, number)}, whose shape depends on the values of its inputs: export the model "
                    "with a fixed size"
                )


def _strip(model: onnx.ModelProto) -> None:
    """Drop what changes between exports of the same model: stack traces, comments, opsets of other domains.

    The model's own metadata stays: it may hold the characters or classes of the outputs.
    """
    graph = model.graph
    used = {node.domain for node in graph.node} | set(STANDARD_DOMAINS[:1])
    opsets = sorted((entry.domain, entry.version) for entry in model.opset_import if entry.domain in used)
    metadata = sorted((entry.key, entry.value) for entry in model.metadata_props)
    del model.opset_import[:]
    for domain, version in opsets:
        model.opset_import.add(domain=domain, version=version)
    del model.metadata_props[:]
    for key, value in metadata:
        model.metadata_props.add(key=key, value=value)
    del model.functions[:]
    model.ClearField("doc_string")
    _strip_graph(graph)


def _strip_graph(graph: onnx.GraphProto) -> None:
    for item in (graph, *graph.input, *graph.output, *graph.value_info, *graph.node, *graph.initializer):
        item.ClearField("doc_string")
        del item.metadata_props[:]
    for node in graph.node:
        for subgraph in subgraphs(node):
            _strip_graph(subgraph)
