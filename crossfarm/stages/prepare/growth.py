"""How large a model becomes when its functions are inlined and its constants computed, estimated before either is done.

A file of a kilobyte can ask for more memory than any machine has: functions that call each other twice, constants that
are joined with themselves again and again. What the estimate cannot see, for instance a size that depends on values of
constants, the memory limit of the job stops.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import describe_node, static_shape, subgraphs
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import onnx

NODES_LIMIT = 200_000
"""The most nodes of a model, its functions inlined; large models have a tenth of it."""
CALLS_LIMIT = 64
"""How deep functions may call each other."""
FOLDED_LIMIT = 1 << 30
"""The most bytes of all constants that are computed, beside a multiple of what the model stores."""
FOLDED_SHARE = 4
"""So many times the bytes of the stored tensors may be computed on top: weights are transposed, scaled, converted."""
TENSOR_LIMIT = 2 << 30
"""The most bytes of one tensor at run time."""
_LENGTH_LIMIT = 1 << 20
"""The most numbers of one list of extents; ONNX's shape inference computes those itself."""
_SMALL = 1 << 16
"""Bytes of a tensor whose values say something about shapes."""
_FROM_SHAPES = frozenset({"Shape", "Size"})

_Function = tuple[str, str, str]


def check_growth(model: onnx.ModelProto) -> None:
    """Refuse a model whose functions or constants would grow beyond the limits.

    Args:
        model: with fixed inputs and all its tensors inside; it is not changed.

    Raises:
        ModelError: functions call themselves, or too deep, or inlined have too many nodes; or the constants that can be
            computed take too many bytes: the node is named.
    """
    check_functions(model)
    light = _without_weights(model)
    if light.functions:
        light = _inlined(light)
    _check_lengths(light)
    _check_folded(light, allowed=FOLDED_LIMIT + FOLDED_SHARE * _stored_bytes(model))


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with the bodies of its functions in place of their calls.

    Raises:
        ModelError: two functions have one name, a call does not fit its function, or the like.
    """
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:  # its errors share no base class
        raise ModelError(
            f"the model's functions cannot be put in place of their calls: {one_line(str(error))}; export the model "
            "without functions"
        ) from error


def check_tensors(model: onnx.ModelProto) -> None:
    """Refuse a static model with a tensor that no target of ours could hold.

    Raises:
        ModelError: one has more than TENSOR_LIMIT bytes.
    """
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        size = _size(value)
        if size is not None and size > TENSOR_LIMIT:
            raise ModelError(
                f"tensor {value.name!r} has {size} bytes, and {TENSOR_LIMIT} is the most that can be compiled; give "
                "smaller shapes under inputs in models.yaml, or export a smaller model"
            )


def check_functions(model: onnx.ModelProto) -> None:
    """Add up nodes from the innermost function to the graph; nothing is inlined."""
    functions = {(item.domain, item.name, item.overload): item for item in model.functions}
    nodes: dict[_Function, int] = {}
    depth: dict[_Function, int] = {}
    for start in functions:
        path: list[_Function] = [start]
        on_path = {start}
        while path:
            here = path[-1]
            calls = [call for node in _all_nodes(functions[here].node) if (call := _called(node)) in functions]
            missing = next((call for call in calls if call not in nodes), None)
            if missing is None:
                nodes[here] = _count(functions[here].node, nodes)
                depth[here] = 1 + max((depth[call] for call in calls), default=0)
                _refuse_large(nodes[here], depth[here], f"function {here[1]!r}")
                on_path.discard(path.pop())
                continue
            if missing in on_path:
                raise ModelError(
                    f"the model's function {missing[1]!r} calls itself; export the model without functions"
                )
            path.append(missing)
            on_path.add(missing)
    _refuse_large(_count(model.graph.node, nodes), 0, "the graph")


def _refuse_large(nodes: int, depth: int, where: str) -> None:
    if nodes > NODES_LIMIT:
        raise ModelError(
            f"{where} has {nodes} nodes when the model's functions are inlined, and {NODES_LIMIT} is the most that is "
            "read; export a smaller model"
        )
    if depth > CALLS_LIMIT:
        raise ModelError(
            f"{where} calls functions that call functions more than {CALLS_LIMIT} deep; export it without functions"
        )


def _count(nodes: Iterable[onnx.NodeProto], known: dict[_Function, int]) -> int:
    return sum(known.get(_called(node), 1) for node in _all_nodes(nodes))


def _called(node: onnx.NodeProto) -> _Function:
    return (node.domain, node.op_type, node.overload)


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of their subgraphs, in no order."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        for graph in subgraphs(node):
            waiting.extend(graph.node)


def _stored_bytes(model: onnx.ModelProto) -> int:
    nodes = [node for graph in (model.graph, *model.functions) for node in _all_nodes(graph.node)]
    stored = [*model.graph.initializer, *(attribute.t for node in nodes for attribute in node.attribute)]
    return sum(tensor.ByteSize() for tensor in stored)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large tensors have shapes and no values."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    for tensor in model.graph.initializer:
        graph.initializer.append(_hollow(tensor))
    for node in model.graph.node:
        held = next((item.t for item in node.attribute if item.name == "value" and item.HasField("t")), None)
        if node.op_type == "Constant" and held is not None and held.ByteSize() > _SMALL:
            graph.initializer.append(_hollow(held))
            graph.initializer[-1].name = node.output[0]
        else:
            graph.node.append(node)
    return light


def _hollow(tensor: onnx.TensorProto) -> onnx.TensorProto:
    import onnx

    if tensor.ByteSize() <= _SMALL:
        return tensor
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scope:
    """A graph of a model with what is constant in and around it.

    Attributes:
        graph: its nodes come in the order of computation.
        constants: names that depend on no input -> how many extents they can list.
        types: name -> what shape inference says.
    """

    graph: onnx.GraphProto
    constants: dict[str, int]
    types: dict[str, onnx.ValueInfoProto]


def _foldable(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, _Scope]]:
    """Yield each node that ONNX Runtime might compute once, with the scope that it stands in."""
    waiting: list[tuple[onnx.GraphProto, dict[str, int], dict[str, onnx.ValueInfoProto]]] = [(model.graph, {}, {})]
    while waiting:
        graph, constants, types = waiting.pop()
        scope = _Scope(graph=graph, constants=dict(constants), types=dict(types))
        scope.types.update((value.name, value) for value in (*graph.input, *graph.value_info, *graph.output))
        for tensor in graph.initializer:
            scope.constants[tensor.name] = _length(tensor)
        for sparse in graph.sparse_initializer:
            scope.constants[sparse.values.name] = 0
        for node in graph.node:
            inner = list(subgraphs(node))
            waiting.extend((each, scope.constants, scope.types) for each in inner)
            given = [name for name in node.input if name]
            if not inner and (node.op_type in _FROM_SHAPES or all(name in scope.constants for name in given)):
                yield node, scope
                length = _extents(node, [scope.constants.get(name, 0) for name in given])
                scope.constants.update((name, length) for name in node.output if name)


def _length(tensor: onnx.TensorProto) -> int:
    """Return how many numbers shape inference may take for extents: those of any tensor that has its values."""
    return math.prod(tensor.dims) if tensor.ByteSize() <= _SMALL else 0


def _extents(node: onnx.NodeProto, given: Sequence[int]) -> int:
    """Return the most extents that a node's output can list, as shape inference computes them."""
    if node.op_type in _FROM_SHAPES:
        return _SMALL
    if node.op_type == "Constant":
        held = next((item for item in node.attribute if item.name in ("value", "value_ints")), None)
        return max(_length(held.t), len(held.ints)) if held is not None else 1
    return sum(given) if node.op_type == "Concat" else max(given, default=0)


def _check_lengths(model: onnx.ModelProto) -> None:
    """Refuse lists of extents that are joined with themselves until shape inference fills the memory."""
    for node, scope in _foldable(model):
        if _extents(node, [scope.constants.get(name, 0) for name in node.input]) > _LENGTH_LIMIT:
            raise ModelError(
                f"{describe_node(node)} makes a list of more than {_LENGTH_LIMIT} extents; export the model again"
            )


def _check_folded(model: onnx.ModelProto, *, allowed: int) -> None:
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception:  # its errors share no base class; what is wrong is told when the shapes are needed
        return
    taken = sum(_bytes(sparse.values.data_type, sparse.dims) for sparse in inferred.graph.sparse_initializer)
    if taken > allowed:
        raise ModelError(
            f"the model's sparse tensors take {taken} bytes unpacked; {allowed} is the most that is computed"
        )
    for node, scope in _foldable(inferred):
        taken += sum(_size(scope.types.get(name)) or 0 for name in node.output)
        if taken > allowed:
            raise ModelError(
                f"{describe_node(node)} is computed from constants, which take {taken} bytes up to there, and "
                f"{allowed} is the most that is computed; export the model with smaller constants"
            )


def _size(value: Any) -> int | None:
    """Return the bytes of a tensor; None when its type or shape is not known."""
    shape = static_shape(value)
    return None if shape is None else _bytes(value.type.tensor_type.elem_type, shape)


def _bytes(element_type: int, extents: Sequence[int]) -> int:
    import onnx

    try:
        width = onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize
    except KeyError:
        width = 8
    return max(0, math.prod(extents)) * width
