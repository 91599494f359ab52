"""The private operators that stand in place of those whose extent depends on data, as functions of standard operators.

ONNX Runtime computes them by these bodies; a compiler that has kernels of its own knows them by their names. Each gives
its results cut or filled up with zeros to a stated shape, and behind them the true count, an int64 scalar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

DOMAIN = "crossfarm"
VERSION = 1
OLDEST_OPSET = 13
"""Of the bodies."""
OLDEST_IR = 8
"""From this version of the file format on, a model holds functions."""


def functions_of(model: onnx.ModelProto) -> list[onnx.FunctionProto]:
    """Return the functions that the nodes of a model call, in alphabetical order."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    called = sorted({node.op_type for node in model.graph.node if node.domain == DOMAIN})
    return [_MAKERS[name](opset) for name in called]


class _Body:
    """Nodes of a function while they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def add(
        self, operator: str, *inputs: str, gives: str = "", refers: dict[str, str] | None = None, **own: Any
    ) -> str:
        """Add a node of one output and return the name of that.

        Args:
            operator: of ONNX.
            inputs: names.
            gives: name of the output; a new one when it is empty.
            refers: attribute of the node -> attribute of the function, with its type before a colon.
            own: attributes with their values.
        """
        import onnx

        output = gives or f"v{len(self.nodes)}"
        node = onnx.helper.make_node(operator, inputs, [output], **own)
        for name, reference in (refers or {}).items():
            kind, _, theirs = reference.partition(":")
            node.attribute.add(name=name, ref_attr_name=theirs, type=onnx.AttributeProto.AttributeType.Value(kind))
        self.nodes.append(node)
        return output

    def integers(self, *values: int) -> str:
        """Add a constant row."""
        return self.add("Constant", value_ints=list(values))

    def cut(self, name: str, length: str, *, axis: str) -> str:
        """Cut an axis to a length that is a scalar; `axis` is an attribute of the function."""
        one = self.integers(1)
        end = self.add("Reshape", length, one)
        along = self.add("Reshape", self.add("Constant", refers={"value_int": f"INT:{axis}"}), one)
        return self.add("Slice", name, self.integers(0), end, along)

    def filled(self, name: str, *, gives: str, axis: str = "axis", shape: str = "shape", kind: str = "to") -> None:
        """Cut an axis, or fill it up with zeros, to a shape; all three are attributes of the function."""
        one = self.integers(1)
        wanted = self.add("Constant", refers={"value_ints": f"INTS:{shape}"})
        along = self.add("Reshape", self.add("Constant", refers={"value_int": f"INT:{axis}"}), one)
        zeros = self.add("Cast", self.add("ConstantOfShape", wanted), refers={"to": f"INT:{kind}"})
        joined = self.add("Concat", name, zeros, refers={"axis": f"INT:{axis}"})
        end = self.add("Gather", wanted, along)
        short = self.add("Slice", joined, self.integers(0), end, along)
        self.add("Reshape", short, wanted, gives=gives)

    def counted(self, name: str, *, gives: str, axis: str = "axis") -> None:
        """Give the extent of an axis, which is an attribute of the function."""
        self.add(
            "Gather", self.add("Shape", name), self.add("Constant", refers={"value_int": f"INT:{axis}"}), gives=gives
        )

    def function(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Sequence[str], opset: int
    ) -> onnx.FunctionProto:
        """Return the function of these nodes."""
        import onnx

        opsets = [onnx.helper.make_opsetid("", opset)]
        return onnx.helper.make_function(
            DOMAIN, name, inputs, outputs, self.nodes, opset_imports=opsets, attributes=attributes
        )


def _non_max_suppression(opset: int) -> onnx.FunctionProto:
    """Of the first `valid` boxes alone."""
    body = _Body()
    one = body.integers(1)
    end = body.add("Reshape", "valid", one)
    zero = body.integers(0)
    boxes = body.add("Slice", "boxes", zero, end, body.integers(1))
    scores = body.add("Slice", "scores", zero, end, body.integers(2))
    found = body.add(
        "NonMaxSuppression",
        *(boxes, scores, "most", "iou_threshold", "score_threshold"),
        refers={"center_point_box": "INT:center_point_box"},
    )
    body.filled(found, gives="selected")
    body.counted(found, gives="count")
    inputs = ("boxes", "scores", "most", "iou_threshold", "score_threshold", "valid")
    return body.function(
        "NonMaxSuppression", inputs, ("selected", "count"), ("center_point_box", "axis", "shape", "to"), opset
    )


def _non_zero(opset: int) -> onnx.FunctionProto:
    """Of the first `valid` places along `along`."""
    body = _Body()
    found = body.add("NonZero", body.cut("values", "valid", axis="along"))
    body.filled(found, gives="places")
    body.counted(found, gives="count")
    return body.function("NonZero", ("values", "valid"), ("places", "count"), ("along", "axis", "shape", "to"), opset)


def _compress(opset: int) -> onnx.FunctionProto:
    """Of the first `valid` places along `axis`."""
    body = _Body()
    zero = body.integers(0)
    end = body.add("Reshape", "valid", body.integers(1))
    condition = body.add("Slice", "condition", zero, end, zero)
    found = body.add("Compress", "values", condition, refers={"axis": "INT:axis"})
    body.filled(found, gives="kept")
    body.counted(found, gives="count")
    return body.function(
        "Compress", ("values", "condition", "valid"), ("kept", "count"), ("axis", "shape", "to"), opset
    )


def _unique(opset: int) -> onnx.FunctionProto:
    """Of the first `valid` places along `axis`; `places` and `times` have the shape `row`, `inverse` has `whole`."""
    import onnx

    body = _Body()
    cut = body.cut("values", "valid", axis="axis")
    node = onnx.helper.make_node("Unique", [cut], ["u", "f", "i", "t"])
    for name in ("axis", "sorted"):
        node.attribute.add(name=name, ref_attr_name=name, type=onnx.AttributeProto.INT)
    body.nodes.append(node)
    body.filled("u", gives="different")
    body.filled("f", gives="places", axis="first", shape="row", kind="index")
    body.filled("i", gives="inverse", axis="first", shape="whole", kind="index")
    body.filled("t", gives="times", axis="first", shape="row", kind="index")
    body.counted("u", gives="count")
    outputs = ("different", "places", "inverse", "times", "count")
    attributes = ("axis", "sorted", "shape", "to", "first", "row", "whole", "index")
    return body.function("Unique", ("values", "valid"), outputs, attributes, opset)


_MAKERS = {
    "Compress": _compress,
    "NonMaxSuppression": _non_max_suppression,
    "NonZero": _non_zero,
    "Unique": _unique,
}
