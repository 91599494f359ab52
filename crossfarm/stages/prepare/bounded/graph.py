"""Gives a model whose extents depend on data the stated largest ones: every shape is static, and counts are outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from crossfarm.errors import ModelError, nearest
from crossfarm.stages.prepare.bounded.followers import follow, masked
from crossfarm.stages.prepare.bounded.functions import DOMAIN, OLDEST_IR, OLDEST_OPSET, VERSION
from crossfarm.stages.prepare.bounded.numbers import is_about_extents, note_numbers, take
from crossfarm.stages.prepare.bounded.sources import Size, advice, source_of
from crossfarm.stages.prepare.bounded.walk import STANDARD, Unfit, Walk, refuse
from crossfarm.util.onnx_nodes import describe_node
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import onnx


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bounded:
    """A model with the largest extents, and what it is held against.

    Attributes:
        model: with private operators in place of those whose extent depends on data.
        exact: with the operators as they were, and the same outputs; None when the model has none of them.
    """

    model: onnx.ModelProto
    exact: onnx.ModelProto | None


def written_newer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in an operator set that the private operators can be written in.

    Raises:
        ModelError: it cannot be converted.
    """
    from onnx import version_converter

    opset = next((entry.version for entry in model.opset_import if entry.domain in STANDARD), OLDEST_OPSET)
    if opset >= OLDEST_OPSET:
        return model
    try:
        return version_converter.convert_version(model, OLDEST_OPSET)
    except Exception as error:  # it raises what its C++ code throws
        raise ModelError(
            f"sizes needs operator set {OLDEST_OPSET} or newer, and the model, of {opset}, cannot be converted: "
            f"{one_line(str(error))}; export it with operator set {OLDEST_OPSET} or newer"
        ) from error


def bounded(model: onnx.ModelProto, sizes: Mapping[str, Size]) -> Bounded:
    """Return a model with static shapes.

    Args:
        model: folded, with what is known of the shapes; it is changed.
        sizes: output of a node whose extent depends on data -> its largest count, or its whole shape.

    Raises:
        ModelError: a size is missing, is stated for something else, or an operator follows that needs the true extent;
            operator and node are named.
    """
    _check_names(model, sizes)
    walk = Walk(model)
    used: set[str] = set()
    for number, node in enumerate(model.graph.node):
        _take(walk, node, number, sizes, used)
    _check_used(sizes, used)
    if not walk.counts:
        return Bounded(model=model, exact=None)
    exact = _exact(model, walk)
    return Bounded(model=_rebuilt(model, walk), exact=exact)


def _take(walk: Walk, node: onnx.NodeProto, number: int, sizes: Mapping[str, Size], used: set[str]) -> None:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    about = is_about_extents(walk, node)
    source = None if about else source_of(walk, node)
    try:
        if about:
            take(walk, copy)
        elif source is not None:
            named = next((name for name in node.output if name in sizes), None)
            if named is None:
                raise ModelError(advice(walk, node, number))
            used.add(named)
            source.replace(walk, copy, sizes[named])
        elif any(walk.counts_of(name) for name in node.input):
            follow(walk, copy)
        else:
            walk.keep(copy)
            note_numbers(walk, copy)
    except Unfit as reason:
        if source is not None:
            raise ModelError(f"{describe_node(node, number)} cannot be given a largest extent: {reason}") from reason
        refuse(node, number, str(reason))


def _check_names(model: onnx.ModelProto, sizes: Mapping[str, Size]) -> None:
    """Refuse sizes of what there is not."""
    known = [name for node in model.graph.node for name in node.output if name]
    for name in sizes:
        if name not in known:
            raise ModelError(
                f"sizes names {name!r}, which is no tensor of the model{nearest(name, known)}; where its extent is "
                "known before the model runs, leave it out"
            )


def _check_used(sizes: Mapping[str, Size], used: set[str]) -> None:
    """Refuse sizes of what has none."""
    for name in sizes:
        if name not in used:
            raise ModelError(
                f"sizes names {name!r}, whose extent does not depend on data, or not by its own node; name the output "
                "of the node that makes it depend, or leave it out"
            )


def _exact(model: onnx.ModelProto, walk: Walk) -> onnx.ModelProto:
    """Return the model as it is, with the true extents of its outputs as outputs behind them."""
    import onnx

    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    graph = exact.graph
    for output, name, axis, _ in _counted(model, walk):
        shape = f"{name}/shape"
        graph.node.append(onnx.helper.make_node("Shape", [output], [shape], name=shape))
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(axis, np.int64), f"{name}/axis"))
        graph.node.append(onnx.helper.make_node("Gather", [shape, f"{name}/axis"], [name], name=name))
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, []))
    return exact


def _counted(model: onnx.ModelProto, walk: Walk) -> list[tuple[str, str, int, str]]:
    """Return output, name of the output for its count, axis and the value that is the count."""
    taken = {name for node in model.graph.node for name in node.output} | {value.name for value in model.graph.input}
    found = []
    for value in model.graph.output:
        counts = walk.counts_of(value.name)
        for axis, count in sorted(counts.items()):
            name = f"{value.name}.count" if len(counts) == 1 else f"{value.name}.count.{axis}"
            if name in taken:
                raise ModelError(
                    f"the model has a tensor {name!r}, which is what the count of {value.name!r} is called; rename it"
                )
            found.append((value.name, name, axis, count))
    return found


def _rebuilt(model: onnx.ModelProto, walk: Walk) -> onnx.ModelProto:
    import onnx

    counted = _counted(model, walk)
    renamed: dict[str, str] = {}
    for output in dict.fromkeys(each[0] for each in counted):
        if output not in walk.filled:
            renamed[output] = walk.new_name(f"{output}/all")
    for old, new in renamed.items():
        walk.note(new, walk.element(old), walk.shape(old) or ())
        walk.counts[new] = walk.counts.pop(old)
    for node in walk.nodes:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = renamed.get(name, name)
    for old, new in renamed.items():
        value = new
        for axis, count in walk.counts_of(new).items():
            value = masked(walk, value, axis, count, lambda kind: kind.type(0))
        walk.nodes[-1].output[0] = old
    for _, name, _, count in counted:
        walk.add("Identity", count, gives=name)
    graph = model.graph
    outputs = [value.name for value in graph.output] + [name for _, name, _, _ in counted]
    nodes = _needed(walk.nodes, outputs)
    read = {name for node in nodes for name in node.input} | set(outputs)
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    constants = [tensor for tensor in (*graph.initializer, *walk.added) if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    for name in outputs:
        graph.output.append(walk.types[name])
    seen = {value.name for value in (*graph.input, *graph.output)}
    made = dict.fromkeys(name for node in nodes for name in node.output if name and name not in seen)
    graph.value_info.extend(walk.types[name] for name in made if name in walk.types)
    if any(node.domain == DOMAIN for node in nodes):
        model.opset_import.add(domain=DOMAIN, version=VERSION)
        model.ir_version = max(model.ir_version, OLDEST_IR)
    return onnx.shape_inference.infer_shapes(model) if _has_open(model) else model


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes that outputs depend on: what was computed about shapes has become constants."""
    needed, found = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            found.append(node)
            needed.update(node.input)
    return found[::-1]


def _has_open(model: onnx.ModelProto) -> bool:
    """Say whether a type is missing for a value that a later node may have made known."""
    known = {value.name for value in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    return any(name and name not in known for node in model.graph.node for name in node.output)
