"""What cannot be compiled for a board without TVM's runtime, and which node of the ONNX graph is to blame for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import STANDARD_DOMAINS, describe_node, full_name, static_shape

_DOMAINS = frozenset({*STANDARD_DOMAINS, "com.microsoft"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""What the stage `prepare` unrolls where it can; TVM imports it, but no program here branches."""


class UnsupportedError(ModelError):
    """Something that a board without TVM's runtime cannot do.

    Attributes:
        what: a noun phrase: "the function vm.builtin.copy of TVM's runtime".
    """

    def __init__(self, *, what: str) -> None:
        super().__init__(f"it needs {what}")
        self.what = what


class WrongPortError(ModelError):
    """Compiled code takes or gives something else than the model.

    Attributes:
        what: both, as a noun phrase.
        kind: `input` or `output`.
        name: of the input or output; empty when there are too few or too many.
    """

    def __init__(self, *, what: str, kind: str, name: str) -> None:
        super().__init__(f"TVM computes the {kind} {what}")
        self.what = what
        self.kind = kind
        self.name = name


def check_graph(model: ModelProto, *, known: Collection[str]) -> None:
    """Refuse a graph before it is imported.

    Args:
        model: with static shapes.
        known: names of the operators that the importer has.

    Raises:
        ModelError: an input of open shape, control flow, or an operator that the importer does not have; every node
            that is at fault is named.
    """
    initialisers = {tensor.name for tensor in model.graph.initializer}
    for port in model.graph.input:
        if port.name not in initialisers and static_shape(port) is None:
            raise ModelError(f"input {port.name!r} has an open shape; give its shape under inputs in models.yaml")
    unknown = [
        describe_node(node, number)
        for number, node in enumerate(model.graph.node)
        if node.op_type in _CONTROL_FLOW
        or not (full_name(node) in known or (node.op_type in known and node.domain in _DOMAINS))
    ]
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise ModelError(
            f"nothing here compiles {shown}; replace the operator before the model is exported, "
            "or list the target under skip with this reason"
        )


def blame(model: ModelProto, error: UnsupportedError, attempt: Callable[[ModelProto], object]) -> ModelError:
    """Find the node that is to blame for a failure, by compiling each node alone.

    Args:
        model: that failed.
        error: with which it failed.
        attempt: compiles a model far enough to fail in the same way.

    Returns:
        The error to raise, which names the node; or says that none fails alone.
    """
    for number, alone in nodes_alone(model):
        try:
            attempt(alone)
        except UnsupportedError as found:
            if found.what == error.what:
                node = describe_node(model.graph.node[number], number)
                return ModelError(
                    f"{node} needs {error.what}, and a board has the C library alone; replace the operator before the "
                    "model is exported, or list the target under skip with this reason"
                )
    return ModelError(
        f"the model needs {error.what}, and a board has the C library alone; no node of it does so by itself: see the "
        "log of the job, or list the target under skip with this reason"
    )


Signature = tuple[str, str, tuple[int, ...]]
"""Name, NumPy's name of the dtype, and shape of an input or output."""


def declared_ports(model: ModelProto) -> tuple[list[Signature | None], list[Signature | None]]:
    """Return what a model says its inputs and outputs are; None for one whose type or shape it leaves open."""
    initialisers = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in initialisers]
    return [_signature(port) for port in inputs], [_signature(port) for port in model.graph.output]


def _signature(port: ValueInfoProto) -> Signature | None:
    shape = static_shape(port)
    if shape is None or not port.type.tensor_type.elem_type:
        return None
    return port.name, str(helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type).name), shape


def check_ports(model: ModelProto, *, inputs: Sequence[Signature], outputs: Sequence[Signature]) -> None:
    """Refuse compiled code whose inputs or outputs are not those of the model.

    Args:
        model: that was compiled.
        inputs: of the code, in order.
        outputs: of the code, in order.

    Raises:
        WrongPortError: name, dtype or shape of one differs.
    """
    for kind, declared, made in zip(("input", "output"), declared_ports(model), (inputs, outputs), strict=True):
        if len(declared) != len(made):
            raise WrongPortError(what=f"{len(made)} {kind}s in place of {len(declared)}", kind=kind, name="")
        for wanted, found in zip(declared, made, strict=True):
            if wanted is not None and wanted != found:
                raise WrongPortError(what=f"{_port(found)} in place of {_port(wanted)}", kind=kind, name=wanted[0])


def _port(signature: Signature) -> str:
    name, dtype, shape = signature
    return f"{name!r} as {dtype} {list(shape)}"


def blame_for_port(model: ModelProto, error: WrongPortError, attempt: Callable[[ModelProto], object]) -> ModelError:
    """Find the first node that TVM alone computes with another dtype or shape than ONNX says.

    Args:
        model: that was compiled.
        error: how its inputs or outputs differ.
        attempt: compiles a model of one node and checks it in the same way.

    Returns:
        The error to raise: it names the output and, where one is found, the node.
    """
    advice = "this is a limitation of the compiler, not a fault of the model: replace the operator before the model is "
    advice += "exported, or list the target under skip with this reason"
    for number, alone in nodes_alone(model):
        try:
            attempt(alone)
        except WrongPortError as found:
            node = describe_node(model.graph.node[number], number)
            inside = "" if found.what == error.what else f", because {node} gives {found.what}"
            through = f" of {node}" if not inside else ""
            return ModelError(f"TVM computes the {error.kind} {error.what}{through}{inside}; {advice}")
        except ModelError:
            continue
    return ModelError(f"TVM computes the {error.kind} {error.what}; no node does so by itself; {advice}")


def said_by(error: Exception) -> str:
    """Return the last line of what an error of TVM says: before it stand places in TVM's own code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def nodes_alone(model: ModelProto) -> Iterator[tuple[int, ModelProto]]:
    """Yield number and one-node model of each node whose inputs have known types and shapes."""
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    graph = inferred.graph
    values: dict[str, ValueInfoProto] = {
        value.name: value for value in (*graph.input, *graph.value_info, *graph.output)
    }
    constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        given = [name for name in dict.fromkeys(node.input) if name]
        if any(name not in constants and name not in values for name in given):
            continue
        outputs = [values.get(name) or onnx.ValueInfoProto(name=name) for name in node.output if name]
        alone = helper.make_graph(
            [node],
            "alone",
            [values[name] for name in given if name not in constants],
            outputs,
            [constants[name] for name in given if name in constants],
        )
        yield number, _with_header_of(model, alone)


def _with_header_of(model: ModelProto, graph: GraphProto) -> ModelProto:
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
