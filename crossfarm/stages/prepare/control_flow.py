"""Unrolls Loop and Scan whose trips are known, and replaces If: a program with fixed shapes has no control flow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossfarm.errors import ModelError

if TYPE_CHECKING:
    from typing import Any

    import onnx

    Array = np.ndarray[Any, Any]

UNROLLED_LIMIT = 20_000
"""The most nodes that loops may become."""
_DOMAINS = ("", "ai.onnx")
_OPERATORS = ("If", "Loop", "Scan")


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
    return node.op_type in _OPERATORS and node.domain in _DOMAINS


def _refusal(node: onnx.NodeProto, why: str) -> ModelError:
    name = f"node {node.name!r}" if node.name else f"the node that gives {next(iter(node.output), '')!r}"
    return ModelError(
        f"operator {node.op_type} ({name}) cannot be compiled: {why}; export the model with a fixed number of steps, "
        "or without the branch"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Copy:
    """The nodes of a subgraph under new names, and what they give."""

    nodes: list[onnx.NodeProto]
    outputs: list[str]


class _Unroller:
    """Replaces the control flow of one graph; new initialisers are added to it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._opset = max(entry.version for entry in model.opset_import if entry.domain in _DOMAINS)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self._shapes = {value.name: _shape(value) for value in values}

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
            if _shape(one) is None or _shape(one) != _shape(other):
                raise _refusal(node, "which branch is taken depends on data, and their results differ in shape")
        copies = [
            self._copied(branch, self._weights(branch, prefix), prefix)
            for branch, prefix in zip(branches, (f"{node.output[0]}/then/", f"{node.output[0]}/else/"), strict=True)
        ]
        nodes = [*copies[0].nodes, *copies[1].nodes]
        for one, other, output in zip(copies[0].outputs, copies[1].outputs, node.output, strict=True):
            nodes.append(_node("Where", [node.input[0], one, other], [output]))
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
        goes_on = _Condition(body, self._constants, self._opset)
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
        if self._opset < 9:
            raise _refusal(node, "Scan of operator set 8 is not known")
        body = _graph(node, "body")
        count = _integer(node, "num_scan_inputs")
        carried, scanned = list(node.input[:-count]), list(node.input[-count:])
        results = len(body.output) - len(carried)
        axes = _integers(node, "scan_input_axes") or [0] * count
        backwards = _integers(node, "scan_input_directions") or [0] * count
        made_axes = _integers(node, "scan_output_axes") or [0] * results
        made_backwards = _integers(node, "scan_output_directions") or [0] * results
        shapes = [self._shape_of(name) for name in scanned]
        if any(shape is None for shape in shapes):
            raise _refusal(node, "the length of what it scans depends on data")
        trips = (shapes[0] or ())[axes[0]]
        if trips > UNROLLED_LIMIT:
            raise _refusal(node, f"it makes more than {UNROLLED_LIMIT} trips")
        kept = self._weights(body, f"{next(name for name in node.output if name)}/")
        gathered: list[list[str]] = [[] for _ in range(results)]
        nodes: list[onnx.NodeProto] = []
        for number in range(trips):
            prefix = f"{next(name for name in node.output if name)}/trip_{number}/"
            given = {**kept, **dict(zip((value.name for value in body.input), carried, strict=False))}
            for value, name, axis, turned in zip(body.input[-count:], scanned, axes, backwards, strict=True):
                place = np.array(trips - 1 - number if turned else number, np.int64)
                index, made = self._constant(f"{prefix}place_of_{value.name}", place), f"{prefix}{value.name}"
                nodes.append(_node("Gather", [name, index], [made], axis=axis))
                given[value.name] = made
            copy = self._copied(body, given, prefix)
            nodes.extend(copy.nodes)
            carried = copy.outputs[: len(carried)]
            for list_of, name in zip(gathered, copy.outputs[len(carried) :], strict=True):
                list_of.append(name)
            if len(nodes) > UNROLLED_LIMIT:
                raise _refusal(node, f"it has more than {UNROLLED_LIMIT} nodes when it is unrolled")
        ordered = [parts[::-1] if turned else parts for parts, turned in zip(gathered, made_backwards, strict=True)]
        nodes.extend(_renamed(carried, node.output))
        return [*nodes, *self._stacked(node, ordered, node.output[len(carried) :], made_axes)]

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


class _Condition:
    """Whether a loop goes on behind a trip: what follows from constants and the number of the trip alone."""

    def __init__(self, body: onnx.GraphProto, around: Mapping[str, onnx.TensorProto], opset: int) -> None:
        self._body, self._opset = body, opset
        self._known = {**around, **{tensor.name: tensor for tensor in body.initializer}}
        self._makers = {output: node for node in body.node for output in node.output}
        self._needed = self._needs()

    def after(self, number: int) -> bool | None:
        """Return whether the loop goes on behind trip `number`; None when that depends on data."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        if self._needed is None:
            return None
        name = self._body.output[0].name
        if name == self._body.input[1].name:
            return True
        if name in self._known:
            return bool(onnx.numpy_helper.to_array(self._known[name]).reshape(-1)[0])
        inside = {output for node in self._needed for output in node.output}
        used = {name for node in self._needed for name in node.input if name} - inside
        graph = onnx.helper.make_graph(
            self._needed,
            "condition",
            [
                onnx.helper.make_tensor_value_info(value.name, kind, [])
                for value, kind in zip(
                    self._body.input[:2], (onnx.TensorProto.INT64, onnx.TensorProto.BOOL), strict=True
                )
            ],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None)],
            [self._known[each] for each in used if each in self._known],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)])
        given = {self._body.input[0].name: np.array(number, np.int64), self._body.input[1].name: np.array(True)}
        try:
            (answer,) = ReferenceEvaluator(model).run(None, given)
        except Exception:  # its errors share no base class; what it cannot compute is not known beforehand
            return None
        return bool(np.asarray(answer).reshape(-1)[0])

    def _needs(self) -> list[onnx.NodeProto] | None:
        """Return the nodes that the condition is computed by; None when one of them reads data."""
        free = {value.name for value in self._body.input[:2]}
        found: set[str] = set()
        waiting = [self._body.output[0].name]
        while waiting:
            name = waiting.pop()
            if not name or name in free or name in self._known or name in found:
                continue
            node = self._makers.get(name)
            if node is None or any(attribute.HasField("g") for attribute in node.attribute):
                return None
            found.update(node.output)
            waiting.extend(node.input)
        return [node for node in self._body.node if any(output in found for output in node.output)]


def _with_names(node: onnx.NodeProto, names: Mapping[str, str], prefix: str) -> onnx.NodeProto:
    """Return a copy of a node with other names, also of what its subgraphs read from around them."""
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + node.name if node.name else ""
    del copy.input[:], copy.output[:]
    copy.input.extend(names.get(name, name) for name in node.input)
    copy.output.extend(names.get(name, name) for name in node.output)
    for attribute in copy.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
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
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
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


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    if any(not extent.HasField("dim_value") for extent in tensor.shape.dim):
        return None
    return tuple(extent.dim_value for extent in tensor.shape.dim)
