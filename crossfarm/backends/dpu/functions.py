"""Functions of one number of 8 bits: an activation, or HardSwish in pieces as exporters write it; a table holds one.

The pieces may store results in 8 bits on the way, as int8_shift does: x + 3, cut off at 0 and 6, times x, over 6.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from crossfarm.backends.dpu.quantised_graph import QuantisedGraph
from crossfarm.backends.dpu.rules import Broken

if TYPE_CHECKING:
    from onnx import NodeProto

ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSigmoid", "HardSwish")
"""Those that the published rules name."""
PIECES = ("Add", "Sub", "Mul", "Div", "Clip", "Relu", "HardSigmoid")
"""Of HardSwish; each with one constant number, but for the product of two functions of the same tensor."""
_MOST_STEPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Function:
    """A function of one stored tensor.

    Attributes:
        source: the tensor of 8 bits that it reads.
        nodes: what computes it, behind all that is stored on the way.
        inside: what stands before those and is needed for it alone, in the order of the graph.
        table: int8, for 0 to 127, then for -128 to -1.
    """

    source: str
    nodes: tuple[NodeProto, ...]
    inside: tuple[NodeProto, ...]
    table: Any


def function_of(graph: QuantisedGraph, last: NodeProto, quantise: NodeProto) -> Function:
    """Return the function whose result a QuantizeLinear stores.

    Args:
        graph: which holds it.
        last: the node before the QuantizeLinear.
        quantise: the QuantizeLinear.

    Raises:
        Broken: it is no function of one tensor, or of other pieces.
    """
    if last.op_type not in (*ACTIVATIONS, *PIECES):
        raise Broken(f"{last.op_type} is no operator of the array")
    order = {id(node): place for place, node in enumerate(graph.nodes)}
    outer, leaves = _walk(graph, last)
    inside: dict[int, NodeProto] = {}
    for _ in range(_MOST_STEPS):
        if len(leaves) <= 1:
            break
        latest = max(leaves, key=lambda name: order.get(id(graph.makers.get(name)), -1))
        maker = graph.makers.get(latest)
        before = graph.makers.get(maker.input[0]) if maker is not None and maker.op_type == "QuantizeLinear" else None
        if maker is None or before is None or before.op_type not in (*ACTIVATIONS, *PIECES):
            break
        graph.exponent(maker)
        more, further = _walk(graph, before)
        leaves = (leaves - {latest}) | further
        inside |= {id(node): node for node in (*more, maker)}
    if len(leaves) != 1:
        raise Broken(f"{last.op_type} of several tensors is no operator of the array")
    (source,) = leaves
    hidden = tuple(sorted(inside.values(), key=lambda node: order[id(node)]))
    everything = sorted((*outer, *hidden, quantise), key=lambda node: order[id(node)])
    return Function(source=source, nodes=tuple(outer), inside=hidden, table=_table(graph, source, everything, quantise))


def _walk(graph: QuantisedGraph, last: NodeProto) -> tuple[list[NodeProto], set[str]]:
    """Return the nodes that compute a value from stored tensors, and those tensors.

    Raises:
        Broken: something else is among them, or one of their results is needed elsewhere too.
    """
    nodes: list[NodeProto] = []
    leaves: set[str] = set()
    pending = [last]
    shape = graph.shapes.get(last.output[0])
    while pending:
        node = pending.pop()
        if node.op_type not in (*ACTIVATIONS, *PIECES):
            raise Broken(f"{node.op_type} is no operator of the array")
        if len(graph.users.get(node.output[0], [])) != 1 or node.output[0] in graph.outputs:
            raise Broken("its result is needed in float32 too")
        if any(node is other for other in nodes):
            continue
        nodes.append(node)
        for name in filter(None, node.input):
            if name in graph.constants:
                if graph.constants[name].size != 1:
                    raise Broken(f"{node.op_type} with a constant of several numbers is no operator of the array")
                continue
            maker = graph.makers.get(name)
            if graph.shapes.get(name) != shape or maker is None:
                raise Broken(f"{node.op_type} of tensors of several extents is no operator of the array")
            if maker.op_type == "DequantizeLinear":
                leaves.add(graph.stored(name)[0])
            else:
                pending.append(maker)
    return nodes, leaves


def _table(graph: QuantisedGraph, source: str, nodes: list[NodeProto], quantise: NodeProto) -> Any:
    """Return what ONNX Runtime gives for each number of 8 bits: 0 to 127, then -128 to -1."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    read = {name for node in nodes for name in node.input}
    readers = {
        name: graph.makers[name]
        for name in read
        if name in graph.makers and graph.makers[name].op_type == "DequantizeLinear"
    }
    given: dict[str, list[Any]] = {}
    for name, reader in readers.items():
        given.setdefault(reader.input[0], []).append((name, reader))
    ordered = [reader for _, reader in given.pop(source)]
    for node in nodes:
        ordered.append(node)
        ordered += [reader for name in node.output for _, reader in given.pop(name, [])]
    used = {name for node in ordered for name in node.input}
    shape = [1, 256]
    made = helper.make_graph(
        ordered,
        "table",
        [helper.make_tensor_value_info(source, TensorProto.INT8, shape)],
        [helper.make_tensor_value_info(quantise.output[0], TensorProto.INT8, shape)],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items() if name in used],
    )
    model = helper.make_model(made, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    numbers = np.arange(256, dtype=np.uint8).view(np.int8).reshape(shape)
    return session.run(None, {source: numbers})[0].reshape(256)
