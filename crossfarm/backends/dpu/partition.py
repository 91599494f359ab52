"""Which part of a graph runs on the array and which on the CPU, and in what order the parts run.

Every layer that matches and keeps to the rules goes to the array. Parts are merged as far as their order allows: a part
is all nodes of one side that are equally many changes of side behind the inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from crossfarm.backends.dpu.array import Array
from crossfarm.backends.dpu.layers import Network, Tensor
from crossfarm.backends.dpu.matching import Match, match
from crossfarm.backends.dpu.quantised_graph import QuantisedGraph, title
from crossfarm.backends.dpu.rules import Broken, check
from crossfarm.bundles.accelerator import LeftOver, Part, Partition

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

Side = Literal["dpu", "cpu"]
_BETWEEN = ("QuantizeLinear", "DequantizeLinear")
"""They are where values are rounded, and no operators of either side."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Nodes that run on one side without the other.

    Attributes:
        side: which.
        inputs: values that it reads.
        outputs: values that others read of it.
        network: its layers, on the array.
        nodes: its nodes, on the CPU.
    """

    side: Side
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    network: Network | None = None
    nodes: tuple[NodeProto, ...] = ()


class Partitioner:
    """The partition of one graph."""

    def __init__(self, graph: QuantisedGraph, array: Array) -> None:
        """Match every node.

        Args:
            graph: of the variant int8_shift.
            array: whose rules hold.
        """
        self._graph = graph
        self._matches: dict[int, Match] = {}
        self._rules: dict[int, str] = {}
        for node in graph.nodes:
            if node.op_type == "QuantizeLinear":
                self._match(node, array)
        self._taken = {id(each) for found in self._matches.values() for each in found.nodes}
        self._drop_unread_views()

    def segments(self) -> list[Segment]:
        """Return all parts in an order in which they can run."""
        graph = self._graph
        levels: dict[str, int] = dict.fromkeys(graph.inputs, 0)
        parts: dict[int, list[Match | NodeProto]] = {}
        for node in graph.nodes:
            found = self._matches.get(id(node))
            if found is not None:
                level = max((_raised(levels[name], odd=True) for name in found.layer.inputs), default=1)
                parts.setdefault(level, []).append(found)
                levels[found.layer.output] = level
            elif self._is_of_cpu(node):
                read = [self._source(name) for name in node.input if name and name not in graph.constants]
                level = max((_raised(levels[name], odd=False) for name in read if name in levels), default=0)
                parts.setdefault(level, []).append(node)
                levels.update(dict.fromkeys(node.output, level))
        return [self._segment(level, parts, levels) for level in sorted(parts)]

    def report(self, segments: Sequence[Segment]) -> Partition:
        """Return what of the model runs where, and why."""
        graph = self._graph
        networks = [segment.network for segment in segments if segment.network is not None]
        left = [node for node in graph.nodes if self._is_of_cpu(node) and node.op_type not in _BETWEEN]
        there = sum(node.op_type not in _BETWEEN for node in graph.nodes)
        crossing = [
            name for segment in segments if segment.side == "dpu" for name in (*segment.inputs, *segment.outputs)
        ]
        return Partition(
            accelerator=Part(
                operators=there - len(left),
                macs=sum(network.total_macs() for network in networks),
                parameter_bytes=sum(network.parameters(layer) for network in networks for layer in network.layers),
            ),
            cpu=Part(
                operators=len(left),
                macs=sum(map(self._macs, left)),
                parameter_bytes=sum(map(self._parameter_bytes, left)),
            ),
            crossings=len(crossing),
            crossing_bytes=sum(graph.tensor(name).size for name in crossing),
            left_over=tuple(
                LeftOver(operator=node.op_type, node=title(node), rule=self._rules.get(id(node), self._why(node)))
                for node in left
            ),
        )

    def cpu_model(self, segment: Segment) -> ModelProto:
        """Return a part of the CPU as a model of its own."""
        from onnx import helper, numpy_helper

        graph = self._graph
        used = {name for node in segment.nodes for name in node.input}
        made = helper.make_graph(
            list(segment.nodes),
            "part",
            [self._value(name) for name in segment.inputs],
            [self._value(name) for name in segment.outputs],
            [numpy_helper.from_array(array, name) for name, array in graph.constants.items() if name in used],
        )
        return helper.make_model(made, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)

    def _match(self, quantise: NodeProto, array: Array) -> None:
        graph = self._graph
        try:
            found = match(graph, quantise)
            check(found.layer, found.network(), array)
            self._matches[id(quantise)] = found
        except Broken as rule:
            node = graph.makers.get(quantise.input[0])
            while node is not None and node.op_type not in _BETWEEN and id(node) not in self._rules:
                self._rules[id(node)] = str(rule)
                before = graph.makers.get(node.input[0]) if node.op_type in ("Relu", "Clip") else None
                node = before

    def _drop_unread_views(self) -> None:
        """What layers alone look through is computed nowhere, be it a layer itself or not."""
        for found in reversed(list(self._matches.values())):
            if id(found.nodes[-1]) not in self._matches:
                continue
            for view in reversed(found.views):
                readers = [
                    user
                    for name in view.output
                    for each in self._graph.users.get(name, [])
                    for user in self._readers(each)
                ]
                is_read = any(name in other.layer.inputs for other in self._matches.values() for name in view.output)
                if not is_read and all(id(user) in self._taken for user in readers):
                    self._taken.add(id(view))
                    self._matches.pop(id(view), None)

    def _readers(self, node: NodeProto) -> Iterable[NodeProto]:
        """Yield what reads a node's value in the end, behind where it is stored and read again."""
        if node.op_type not in _BETWEEN or id(node) in self._matches:
            yield node
            return
        if node.output[0] in self._graph.outputs:
            yield node
        for user in self._graph.users.get(node.output[0], []):
            yield from self._readers(user)

    def _is_of_cpu(self, node: NodeProto) -> bool:
        if node.op_type == "DequantizeLinear":
            return node.output[0] in self._graph.outputs
        return id(node) not in self._taken

    def _source(self, name: str) -> str:
        """Return the stored tensor for a value that is read from one; another value as it is."""
        node = self._graph.makers.get(name)
        return str(node.input[0]) if node is not None and node.op_type == "DequantizeLinear" else name

    def _segment(self, level: int, parts: Mapping[int, list[Match | NodeProto]], levels: Mapping[str, int]) -> Segment:
        here = parts[level]
        matches = [part for part in here if isinstance(part, Match)]
        nodes = [part for part in here if not isinstance(part, Match)]
        made = {found.layer.output for found in matches} | {name for node in nodes for name in node.output}
        wanted = self._wanted(
            made, {each for number, part in parts.items() if number != level for each in self._read(part)}
        )
        if matches:
            tensors: dict[str, Tensor] = {}
            for found in matches:
                tensors.update(found.tensors)
            read = dict.fromkeys(name for found in matches for name in found.layer.inputs if name not in made)
            network = Network(
                tensors=tensors,
                layers=tuple(found.layer for found in matches),
                inputs=tuple(read),
                outputs=tuple(wanted),
            )
            return Segment(side="dpu", inputs=network.inputs, outputs=network.outputs, network=network)
        nodes = self._with_readers_of_8_bits(nodes)
        own = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input if name in levels and name not in own)
        return Segment(side="cpu", inputs=tuple(read), outputs=tuple(wanted), nodes=tuple(nodes))

    def _wanted(self, made: set[str], read: set[str]) -> list[str]:
        graph = self._graph
        return [
            name
            for node in graph.nodes
            for name in node.output
            if name in made and (name in read or name in graph.outputs)
        ]

    def _read(self, part: Iterable[Match | NodeProto]) -> set[str]:
        found: set[str] = set()
        for each in part:
            found.update(each.layer.inputs if isinstance(each, Match) else map(self._source, each.input))
        return found

    def _with_readers_of_8_bits(self, nodes: Sequence[NodeProto]) -> list[NodeProto]:
        """Add the DequantizeLinear nodes that some nodes read, each once, in the order of the graph."""
        read = {name for node in nodes for name in node.input}
        mine = {id(node) for node in nodes}
        return [
            node
            for node in self._graph.nodes
            if id(node) in mine or (node.op_type == "DequantizeLinear" and node.output[0] in read)
        ]

    def _value(self, name: str) -> ValueInfoProto:
        from onnx import helper

        return helper.make_tensor_value_info(name, self._graph.types[name], self._graph.shapes[name])

    def _macs(self, node: NodeProto) -> int:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            return 0
        shape = self._graph.shapes.get(node.input[1], ())
        made = self._graph.shapes.get(node.output[0], ())
        size, weights = 1, 1
        for extent in made:
            size *= extent
        for extent in shape:
            weights *= extent
        if node.op_type == "Conv" and shape:
            return size * weights // shape[0]
        return size * (shape[-2] if len(shape) > 1 else 1)

    def _parameter_bytes(self, node: NodeProto) -> int:
        constants = self._graph.constants
        names = [self._source(name) for name in node.input]
        return sum(constants[name].nbytes for name in names if name in constants)

    def _why(self, node: NodeProto) -> str:
        """Return why a node that no QuantizeLinear stores stays on the CPU."""
        users = self._graph.users.get(node.output[0], []) if node.output else []
        if node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity"):
            return "it only gives another shape, and not to fully connected layers alone"
        if any(user.op_type == "QuantizeLinear" for user in users):
            return f"{node.op_type} is no operator of the array"
        return "its result is not stored in 8 bits"


def _raised(level: int, *, odd: bool) -> int:
    """Return the first level of a side that is not before `level`: those of the array are odd."""
    return level if level % 2 == odd else level + 1
