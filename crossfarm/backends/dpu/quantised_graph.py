"""The int8_shift graph as the partition sees it: stored tensors with their exponents, and the float values between."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.backends.dpu.layers import Tensor
from crossfarm.backends.dpu.rules import Broken
from crossfarm.errors import ModelError, UnfitError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto


class QuantisedGraph:
    """An ONNX graph of QuantizeLinear and DequantizeLinear, and what is asked of it again and again.

    Attributes:
        model: with the shapes of all values.
        nodes: in the order of the graph.
        constants: name -> array.
        makers: value -> node that gives it.
        users: value -> nodes that read it.
        outputs: of the graph.
        inputs: of the graph, constants left out.
        shapes: value -> extents.
        types: value -> ONNX element type.
    """

    def __init__(self, model: ModelProto) -> None:
        """Index a model.

        Args:
            model: its shapes are inferred.
        """
        from onnx import numpy_helper

        graph = model.graph
        self.model = model
        self.nodes = list(graph.node)
        self.constants: dict[str, NDArray[Any]] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.makers: dict[str, NodeProto] = {name: node for node in graph.node for name in node.output}
        self.users: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)
        self.outputs = [value.name for value in graph.output]
        self.inputs = [value.name for value in graph.input if value.name not in self.constants]
        values = (*graph.value_info, *graph.input, *graph.output)
        self.shapes: dict[str, tuple[int, ...]] = {
            value.name: tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim) for value in values
        }
        self.types: dict[str, int] = {value.name: value.type.tensor_type.elem_type for value in values}
        self.operators = Counter(node.op_type for node in graph.node)

    def stored(self, real: str) -> tuple[str, int]:
        """Return the tensor of 8 bits that a float value is read from, and the exponent of its scale.

        Raises:
            Broken: it is read from none whose scale is a power of two, around 0.
        """
        node = self.makers.get(real)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.constants:
            raise Broken(f"it reads {real!r} in float32, not in 8 bits")
        return node.input[0], self.exponent(node)

    def constant(self, real: str) -> tuple[NDArray[Any], int]:
        """Return the stored numbers of a constant, and the exponent of their scale.

        Raises:
            Broken: it is no quantised constant.
        """
        node = self.makers.get(real)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self.constants:
            raise Broken(f"{real!r} is no constant in 8 bits")
        return self.constants[node.input[0]], self.exponent(node)

    def exponent(self, node: NodeProto) -> int:
        """Return the exponent of the scale of a QuantizeLinear or DequantizeLinear.

        Raises:
            Broken: its scale is no power of two, or there are several, or its zero point is not 0.
        """
        scale, zero = self.constants.get(node.input[1]), None
        if len(node.input) > 2 and node.input[2]:
            zero = self.constants.get(node.input[2])
            if zero is None or zero.any() or zero.dtype.name not in ("int8", "int32"):
                raise Broken("its zero point is not 0 of int8")
        if scale is None or scale.size != 1:
            raise Broken("it has a scale for each channel, not one for the tensor")
        mantissa, exponent = math.frexp(float(scale.reshape(())))
        if mantissa != 0.5:
            raise Broken(f"its scale {float(scale.reshape(())):g} is no power of two")
        return exponent - 1

    def tensor(self, name: str) -> Tensor:
        """Return a stored tensor's extents.

        Raises:
            Broken: it is no tensor of one image.
        """
        shape = self.shapes.get(name, ())
        if len(shape) not in (2, 4) or shape[0] != 1 or not all(shape):
            raise Broken(f"its tensor is of {shape}, and the array takes one image of 2 or 4 dimensions")
        return (
            Tensor(channels=shape[1]) if len(shape) == 2 else Tensor(channels=shape[1], height=shape[2], width=shape[3])
        )


def read_graph(path: Path, *, cell: str) -> QuantisedGraph:
    """Read a model.

    Raises:
        ModelError: it is no valid ONNX file.
        UnfitError: it holds nothing that is quantised.
    """
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
        onnx.checker.check_model(model)
    except Exception as error:
        # Protobuf, the checker and the file system each have errors of their own for the same fault.
        raise ModelError(f"{cell}: {path.name} is no valid ONNX model: {error}; prepare it again") from error
    graph = QuantisedGraph(model)
    if "QuantizeLinear" not in graph.operators:
        raise UnfitError(
            f"{cell}: the array computes in 8 bits, and the model is not quantised; use the variant int8_shift"
        )
    return graph


def attributes(node: NodeProto) -> Mapping[str, Any]:
    """Return a node's attributes."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def title(node: NodeProto) -> str:
    """Return what a node is called in messages."""
    return str(node.name or node.output[0])
