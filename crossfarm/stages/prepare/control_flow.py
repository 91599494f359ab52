"""Unrolls Loop and Scan whose trips are known, and replaces If: a program with fixed shapes has no control flow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.loop_condition import LoopCondition
from crossfarm.util.onnx_nodes import (
    STANDARD_DOMAINS,
    describe_node,
    opset_of,
    static_shape,
    subgraphs,
)

if TYPE_CHECKING:
    from typing import Any

    import onnx

    Array = np.ndarray[Any, Any]

UNROLLED_LIMIT = 20_000
"""The most nodes that loops may become."""
_OPERATORS = ("If", "Loop", "Scan")
_SCANS_WITHOUT_BATCH = 9
"""From this operator set on, the first axis of what a Scan goes over is no batch."""


def has_control_flow(model: onnx.ModelProto) -> bool:
    """Say whether a graph holds a branch or a loop."""
    return any(_is_control_flow(node) for node in model.graph.node)


def without_control_flow(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the outermost branches and loops replaced by their nodes; what is in them may hold more.

    Args:
        model: folded, with the types of all values.

    Raises:
        ModelError: a loop whose trips depend on data, a branch whose results have different shapes, or too many nodes;
            the node is named.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    unroller = _Unroller(result)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if _is_control_flow(node):
            nodes.extend(unroller.replaced(node))
        else:
            nodes.append(node)
        if len(nodes) > UNROLLED_LIMIT + len(model.graph.node):
            raise _refusal(node, f"its loops have more than {UNROLLED_LIMIT} nodes when they are unrolled")
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _is_control_flow(node: onnx.NodeProto) -> bool:
    return node.op_type in _OPERATORS and node.domain in STANDARD_DOMAINS


def _refusal(node: onnx.NodeProto, why: str) -> ModelError:
    return ModelError(
        f"{describe_node(node)} cannot be compiled: {why}; export the model with a fixed number of steps, "
        "or without the branch"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Copy:
    """The nodes of a subgraph under new names, and what they give."""

    nodes: list[onnx.NodeProto]
    outputs: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Walk:
    """What a Scan goes over, and how.

    Attributes:
        node: that is replaced.
        body: what is done at each place.
        weights: of the body: name inside -> name in the graph around it.
        trips: places.
        axes: of each input along which it is read.
        backwards: of each input, whether it is read from its end.
    """

    node: onnx.NodeProto
    body: onnx.GraphProto
    weights: Mapping[str, str]
    trips: int
    axes: Sequence[int]
    backwards: Sequence[int]


class _Unroller:
    """Replaces the control flow of one graph; new initialisers are added to it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._opset = opset_of(model)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self._shapes = {value.name: static_shape(value) for value in values}

    def replaced(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return what a node of control flow becomes."""
        if node.op_type == "If":
            return self._branch(node)
        return self._loop(node) if node.op_type == "Loop" else self._scan(node)

    def _branch(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Compute both branches and choose: nodes have no side effects, and shapes must be the same anyway."""
        branches = [_graph(node, "then_branch"), _graph(node, "else_branch")]
        condition = self._array(node.input[0])
        if condition is not None:
            chosen = branches[0] if bool(condition.reshape(-1)[0]) else branches[1]
            prefix = f"{node.output[0]}/taken/"
            copy = self._copied(chosen, self._weights(chosen, prefix), prefix)
            return [*copy.nodes, *_renamed(copy.outputs, node.output)]
        for one, other in zip(branches[0].output, branches[1].output, strict=True):
            if static_shape(one) is None or static_shape(one) != static_shape(other):
                raise _refusal(node, "which branch is taken depends on data, and their results differ in shape")
        copies = [
            self._copied(branch, self._weights(branch, prefix), prefix)
            for branch, prefix in zip(branches, (f"{node.output[0]}/then/", f"{node.output[0]}/else/"), strict=True)
        ]
        nodes = [*copies[0].nodes, *copies[1].nodes]
        taken = node.input[0]
        if self._shape_of(taken) != ():
            # One of a single element along an axis would give a scalar that axis too.
            taken = f"{node.output[0]}/taken"
            shape = self._constant(f"{taken}/shape", np.zeros(0, np.int64))
            nodes.append(_node("Reshape", [node.input[0], shape], [taken]))
        for one, other, output in zip(copies[0].outputs, copies[1].outputs, node.output, strict=True):
            nodes.append(_node("Where", [taken, one, other], [output]))
        return nodes

    def _loop(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        body = _graph(node, "body")
        trips, starts = (self._array(name) if name else None for name in (*node.input, "", "")[:2])
        if node.input[0] and trips is None:
            raise _refusal(node, "its number of trips depends on data")
        if len(node.input) > 1 and node.input[1] and starts is None:
            raise _refusal(node, "whether it starts depends on data")
        most = int(trips.reshape(-1)[0]) if trips is not None else UNROLLED_LIMIT + 1
        if starts is not None and not bool(starts.reshape(-1)[0]):
            most = 0
        carried = list(node.input[2:])
        gathered: list[list[str]] = [[] for _ in body.output[1 + len(carried) :]]
        goes_on = LoopCondition(body, self._constants, self._opset)
        kept = self._weights(body, f"{next(name for name in node.output if name)}/")
        nodes: list[onnx.NodeProto] = []
        for number in range(most):
            if number >= UNROLLED_LIMIT:
                raise _refusal(node, f"it makes more than {UNROLLED_LIMIT} trips")
            prefix = f"{next(name for name in node.output if name)}/trip_{number}/"
            given = {
                **kept,
                body.input[0].name: self._constant(prefix + "number", np.array(number, np.int64)),
                body.input[1].name: self._constant(prefix + "goes_on", np.array(True)),
            }
            given.update(zip((value.name for value in body.input[2:]), carried, strict=True))
            copy = self._copied(body, given, prefix)
            nodes.extend(copy.nodes)
            carried = copy.outputs[1 : 1 + len(carried)]
            for list_of, name in zip(gathered, copy.outputs[1 + len(carried) :], strict=True):
                list_of.append(name)
            if len(nodes) > UNROLLED_LIMIT:
                raise _refusal(node, f"it has more than {UNROLLED_LIMIT} nodes when it is unrolled")
            holds = goes_on.after(number)
            if holds is None:
                raise _refusal(node, "when it ends depends on data")
            if not holds:
                break
        nodes.extend(_renamed(carried, node.output))
        return [*nodes, *self._stacked(node, gathered, node.output[len(carried) :], [0] * len(gathered))]

    def _scan(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self._opset < _SCANS_WITHOUT_BATCH:
            return self._scan_of_batches(node)
        body = _graph(node, "body")
        count = _integer(node, "num_scan_inputs")
        carried, scanned = list(node.input[:-count]), list(node.input[-count:])
        results = len(body.output) - len(carried)
        axes = _integers(node, "scan_input_axes") or [0] * count
        backwards = _integers(node, "scan_input_directions") or [0] * count
        made_axes = _integers(node, "scan_output_axes") or [0] * results
        made_backwards = _integers(node, "scan_output_directions") or [0] * results
        trips = self._extents(node, scanned)[axes[0]]
        prefix = f"{next(name for name in node.output if name)}/"
        walk = _Walk(
            node=node, body=body, weights=self._weights(body, prefix), trips=trips, axes=axes, backwards=backwards
        )
        nodes, carried, gathered = self._walked(walk, carried, scanned, prefix)
        ordered = [parts[::-1] if turned else parts for parts, turned in zip(gathered, made_backwards, strict=True)]
        nodes.extend(_renamed(carried, node.output))
        return [*nodes, *self._stacked(node, ordered, node.output[len(carried) :], made_axes)]

    def _scan_of_batches(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Unroll a Scan of operator set 8: its first axis is that of a batch, whose elements are walked one by one."""
        if node.input[0]:
            raise _refusal(node, "it is told the length of each of its sequences, which depends on data")
        body = _graph(node, "body")
        count = _integer(node, "num_scan_inputs")
        carried, scanned = list(node.input[1:-count]), list(node.input[-count:])
        backwards = _integers(node, "directions") or [0] * count
        batch, trips, *_ = self._extents(node, scanned)
        prefix = f"{next(name for name in node.output if name)}/"
        walk = _Walk(
            node=node,
            body=body,
            weights=self._weights(body, prefix),
            trips=trips,
            axes=[0] * count,
            backwards=backwards,
        )
        nodes: list[onnx.NodeProto] = []
        made: list[list[str]] = [[] for _ in node.output]
        for number in range(batch):
            place = f"{prefix}element_{number}/"
            index = self._constant(place + "index", np.array(number, np.int64))
            parts = [f"{place}part_{k}" for k in range(len(carried) + count)]
            taken = zip([*carried, *scanned], parts, strict=True)
            nodes.extend(_node("Gather", [name, index], [part], axis=0) for name, part in taken)
            walked, last, gathered = self._walked(walk, parts[: len(carried)], parts[len(carried) :], place)
            seen = [f"{place}seen_{k}" if node.output[len(last) + k] else "" for k in range(len(gathered))]
            nodes += [*walked, *self._stacked(node, gathered, seen, [0] * len(gathered))]
            for names, name in zip(made, [*last, *seen], strict=True):
                names.append(name)
            if len(nodes) > UNROLLED_LIMIT:
                raise _refusal(node, f"it has more than {UNROLLED_LIMIT} nodes when it is unrolled")
        return [*nodes, *self._stacked(node, made, node.output, [0] * len(made))]

    def _extents(self, node: onnx.NodeProto, scanned: Sequence[str]) -> tuple[int, ...]:
        """Return the shape of the first of what is scanned."""
        shapes = [self._shape_of(name) for name in scanned]
        if any(shape is None for shape in shapes):
            raise _refusal(node, "the length of what it scans depends on data")
        return shapes[0] or ()

    def _walked(
        self, walk: _Walk, carried: Sequence[str], scanned: Sequence[str], prefix: str
    ) -> tuple[list[onnx.NodeProto], list[str], list[list[str]]]:
        """Return the nodes of all trips, the states behind the last one, and for each result what each trip gave."""
        body, states = walk.body, list(carried)
        if walk.trips > UNROLLED_LIMIT:
            raise _refusal(walk.node, f"it makes more than {UNROLLED_LIMIT} trips")
        gathered: list[list[str]] = [[] for _ in range(len(body.output) - len(states))]
        nodes: list[onnx.NodeProto] = []
        for number in range(walk.trips):
            trip = f"{prefix}trip_{number}/"
            given = {**walk.weights, **dict(zip((value.name for value in body.input), states, strict=False))}
            ports = body.input[len(states) :]
            for value, name, axis, turned in zip(ports, scanned, walk.axes, walk.backwards, strict=True):
                place = np.array(walk.trips - 1 - number if turned else number, np.int64)
                index, made = self._constant(f"{trip}place_of_{value.name}", place), f"{trip}{value.name}"
                nodes.append(_node("Gather", [name, index], [made], axis=axis))
                given[value.name] = made
            copy = self._copied(body, given, trip)
            nodes.extend(copy.nodes)
            states = copy.outputs[: len(states)]
            for list_of, name in zip(gathered, copy.outputs[len(states) :], strict=True):
                list_of.append(name)
            if len(nodes) > UNROLLED_LIMIT:
                raise _refusal(walk.node, f"it has more than {UNROLLED_LIMIT} nodes when it is unrolled")
        return nodes, states, gathered

    def _stacked(
        self, node: onnx.NodeProto, parts: Sequence[Sequence[str]], outputs: Sequence[str], axes: Sequence[int]
    ) -> Iterator[onnx.NodeProto]:
        """Yield what puts the results of all trips one behind the other, along a new axis."""
        for names, output, axis in zip(parts, outputs, axes, strict=False):
            if not output:
                continue
            if not names:
                raise _refusal(node, "it makes no trip, and a result is a list of what the trips gave")
            widened = []
            for number, name in enumerate(names):
                made = f"{output}/part_{number}"
                if self._opset >= 13:
                    yield _node("Unsqueeze", [name, self._constant(made + "/axis", np.array([axis], np.int64))], [made])
                else:
                    yield _node("Unsqueeze", [name], [made], axes=[axis])
                widened.append(made)
            yield _node("Concat", widened, [output], axis=axis)

    def _weights(self, graph: onnx.GraphProto, prefix: str) -> dict[str, str]:
        """Add the initialisers of a subgraph to the graph around it; returns their names there."""
        import onnx

        names: dict[str, str] = {}
        for tensor in graph.initializer:
            names[tensor.name] = prefix + tensor.name
            added = onnx.TensorProto()
            added.CopyFrom(tensor)
            added.name = prefix + tensor.name
            self._graph.initializer.append(added)
            self._constants[added.name] = added
        return names

    def _copied(self, graph: onnx.GraphProto, given: Mapping[str, str], prefix: str) -> _Copy:
        """Return the nodes of a subgraph with names of their own; names of the graph around it stay."""
        names = dict(given)
        for node in graph.node:
            names.update((name, prefix + name) for name in node.output if name)
        nodes = [_with_names(node, names, prefix) for node in graph.node]
        return _Copy(nodes=nodes, outputs=[names.get(value.name, value.name) for value in graph.output])

    def _constant(self, name: str, array: Array) -> str:
        import onnx

        tensor = onnx.numpy_helper.from_array(array, name)
        self._graph.initializer.append(tensor)
        self._constants[name] = tensor
        return name

    def _array(self, name: str) -> Array | None:
        import onnx

        tensor = self._constants.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def _shape_of(self, name: str) -> tuple[int, ...] | None:
        if name in self._constants:
            return tuple(self._constants[name].dims)
        return self._shapes.get(name)


def _with_names(node: onnx.NodeProto, names: Mapping[str, str], prefix: str) -> onnx.NodeProto:
    """Return a copy of a node with other names, also of what its subgraphs read from around them."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + node.name if node.name else ""
    del copy.input[:], copy.output[:]
    copy.input.extend(names.get(name, name) for name in node.input)
    copy.output.extend(names.get(name, name) for name in node.output)
    for graph in subgraphs(copy):
        _rename_inside(graph, names)
    return copy


def _rename_inside(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    own = {value.name for value in (*graph.input, *graph.initializer)}
    own |= {output for node in graph.node for output in node.output}
    seen = {name: new for name, new in names.items() if name not in own}
    for node in graph.node:
        given = [seen.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(given)
        for inner in subgraphs(node):
            _rename_inside(inner, seen)
    for value in graph.output:
        value.name = seen.get(value.name, value.name)


def _renamed(names: Iterable[str], outputs: Iterable[str]) -> Iterator[onnx.NodeProto]:
    for name, output in zip(names, outputs, strict=False):
        if output:
            yield _node("Identity", [name], [output])


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node(operator, inputs, outputs, **attributes)


def _graph(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    found: onnx.GraphProto = next(attribute.g for attribute in node.attribute if attribute.name == name)
    return found


def _integer(node: onnx.NodeProto, name: str) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == name)


def _integers(node: onnx.NodeProto, name: str) -> list[int]:
    return next(([int(each) for each in item.ints] for item in node.attribute if item.name == name), [])
