"""A graph while it is walked through: what is known of its values, and the nodes that take the place of others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import describe_node
from crossfarm.util.text import one_line

if TYPE_CHECKING:
    import onnx

    Array = np.ndarray[Any, Any]

Counts = Mapping[int, str]
"""Axis -> the value, an int64 scalar, that says how many places along it count; they are the first ones."""
STANDARD = ("", "ai.onnx")
_WAY_OUT = (
    "leave what follows to whoever uses the outputs, by ending the model before this node, or export it with a fixed "
    "size"
)


class Walk:
    """The graph of a model, node by node in the order of computation.

    Attributes:
        nodes: those of the new graph.
        counts: value -> its axes of which not all places count.
        filled: values whose places that do not count are zeros.
        numbers: those that follow from counts and constants: with the largest counts, and with other ones.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.opsets = list(model.opset_import)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
        self.nodes: list[onnx.NodeProto] = []
        self.added: list[onnx.TensorProto] = []
        self.counts: dict[str, dict[int, str]] = {}
        self.filled: set[str] = set()
        self.numbers: dict[str, tuple[Array, Array]] = {}
        self._probes: dict[str, int] = {}
        self._made: dict[tuple[object, ...], str] = {}
        self._names = {name for node in graph.node for name in (*node.input, *node.output)} | set(self.types)

    def new_name(self, wanted: str) -> str:
        """Return a name that nothing has yet."""
        name = wanted
        while name in self._names or name in self.constants:
            name += "_"
        self._names.add(name)
        return name

    def counts_of(self, name: str) -> Counts:
        """Return the axes of a value of which not all places count."""
        return self.counts.get(name, {})

    def probe(self, count: str) -> int:
        """Return another number for a count than its largest, which no other count has: a prime."""
        if count not in self._probes:
            after = max(self._probes.values(), default=1_000_000)
            self._probes[count] = next(number for number in itertools.count(after + 1) if _is_prime(number))
        return self._probes[count]

    def count_of_probe(self, extent: int, largest: int) -> str:
        """Return the count that an extent is, or a multiple of it.

        Args:
            extent: computed with the numbers of `probe`.
            largest: the same with the largest counts.

        Raises:
            Unfit: it is none.
        """
        for count, prime in self._probes.items():
            if extent > 0 and extent % prime == 0:
                times = extent // prime
                return count if times == 1 else self.add("Mul", count, self.constant(times))
        raise Unfit(f"an extent of {largest} at most follows from a count in a way that is not known")

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value; None when it is open."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        value = self.types.get(name)
        if value is None or not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            return None
        extents = value.type.tensor_type.shape.dim
        if not all(extent.HasField("dim_value") for extent in extents):
            return None
        return tuple(extent.dim_value for extent in extents)

    def element(self, name: str) -> int:
        """Return ONNX's number of a value's element type."""
        if name in self.constants:
            return int(self.constants[name].data_type)
        return int(self.types[name].type.tensor_type.elem_type)

    def array(self, name: str) -> Array | None:
        """Return the content of a constant; None when the value is none, or left out."""
        import onnx

        tensor = self.constants.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add an initialiser and return its name."""
        import onnx

        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key in self._made:
            return self._made[key]
        name = self._made[key] = self.new_name(f"bounded/constant_{len(self.added)}")
        tensor = onnx.numpy_helper.from_array(array, name)
        self.constants[name] = tensor
        self.added.append(tensor)
        return name

    def note(self, name: str, element: int, shape: Sequence[int]) -> None:
        """Say of which type a value is."""
        import onnx

        self.types[name] = onnx.helper.make_tensor_value_info(name, element, list(shape))

    def add(self, operator: str, *inputs: str, gives: str = "", **attributes: Any) -> str:
        """Add a node of ONNX with one output and return the name of that; what there is already is taken again.

        So what is computed of one count in two places is one count too.

        Args:
            operator: of ONNX.
            inputs: names; empty for one that is left out.
            gives: name of the output; a new one when it is empty.
            attributes: of the node.
        """
        import onnx

        key = (operator, inputs, tuple(sorted(attributes.items())))
        if not gives and key in self._made:
            return self._made[key]
        output = self._made[key] = gives or self.new_name(f"bounded/{operator}_{len(self.nodes)}")
        self.keep(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def keep(self, node: onnx.NodeProto) -> None:
        """Add a node, and find the shapes of its outputs where they are open."""
        self.nodes.append(node)
        wanted = [name for name in node.output if name and self.shape(name) is None]
        if not wanted:
            return
        for name, value in self._inferred(node).items():
            if name in wanted:
                self.types[name] = value

    def _inferred(self, node: onnx.NodeProto) -> dict[str, onnx.ValueInfoProto]:
        import onnx

        given = [name for name in dict.fromkeys(node.input) if name]
        if any(name not in self.constants and name not in self.types for name in given):
            return {}
        graph = onnx.helper.make_graph(
            [node],
            "alone",
            [self.types[name] for name in given if name not in self.constants],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
            [self.constants[name] for name in given if name in self.constants],
        )
        model = onnx.helper.make_model(graph, opset_imports=self.opsets)
        try:
            strict = node.domain in STANDARD  # of other domains it knows nothing
            found = onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            raise Unfit(f"the shapes do not fit each other: {one_line(str(error))}") from error
        return {value.name: value for value in found.output if value.type.HasField("tensor_type")}


class Unfit(Exception):  # noqa: N818 - it says what does not fit
    """Why a node cannot follow one whose extent depends on data; the message does not name the node."""


def refuse(node: onnx.NodeProto, number: int, why: str) -> NoReturn:
    """Raise a ModelError that names a node and the way out.

    Args:
        node: that is at fault.
        number: its place in the graph.
        why: continues the sentence "operator ... follows one whose extent depends on data, and".
    """
    raise ModelError(
        f"{describe_node(node, number)} follows an operator whose extent depends on data, and {why}; {_WAY_OUT}"
    )


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node, or its default."""
    import onnx

    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def axis_of(axis: int, rank: int) -> int:
    """Return an axis counted from the first."""
    return axis % rank if rank else 0
