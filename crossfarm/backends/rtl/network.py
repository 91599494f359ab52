"""What of a prepared model NNgen makes a core of: refuses the rest, writes it as NNgen reads it, counts its cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.config.cell import Cell
from crossfarm.errors import UnfitError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATORS = (
    *("Conv", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization"),
    *("Relu", "Add", "Flatten", "Reshape", "Identity"),
)
"""Those of which cores were simulated here; NNgen knows more."""
_ONLY: Mapping[str, Mapping[str, Any]] = {
    "Conv": {"group": 1, "dilations": [1, 1], "auto_pad": b"NOTSET"},
    "MaxPool": {"ceil_mode": 0, "dilations": [1, 1], "auto_pad": b"NOTSET"},
    "AveragePool": {"ceil_mode": 0, "pads": [0, 0, 0, 0], "auto_pad": b"NOTSET"},
    "Gemm": {"alpha": 1.0, "beta": 1.0, "transA": 0},
}
"""Operator -> attributes that NNgen does not read, with the value that it takes for granted."""
_ASSUMED: Mapping[str, Mapping[str, Any]] = {
    "Conv": {"strides": [1, 1], "pads": [0, 0, 0, 0]},
    "MaxPool": {"strides": [1, 1], "pads": [0, 0, 0, 0]},
    "AveragePool": {"strides": [1, 1], "pads": [0, 0, 0, 0]},
    "Flatten": {"axis": 1},
}
"""Operator -> attributes that NNgen wants to be there, with ONNX's defaults."""
_ROW_CYCLES = 70
"""That a core takes to begin a row of an output; measured on the digits CNN."""
SMALLEST_FOR_SUMS = 16
"""Bits from which NNgen's adder of two activations is right."""


def refuse(model: ModelProto, *, cell: Cell, width: int) -> None:
    """Refuse a model that NNgen would take and make into a wrong core, or that it does not take.

    Args:
        model: with shapes of all values, and operators out of OPERATORS alone.
        cell: for messages.
        width: bits of weights and activations.

    Raises:
        UnfitError: operator and node are named.
    """
    constants = _constants(model)
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.tensor_type
        if value.name not in constants and (
            kind.elem_type != 1 or not kind.shape.dim or kind.shape.dim[0].dim_value != 1
        ):
            raise UnfitError(
                f"{cell.id}: {value.name} is no float32 tensor of one case (batch 1), which a core takes and gives; "
                "choose another target"
            )
    for node in model.graph.node:
        where = f"{cell.id}: {node.op_type} {node.name or node.output[0]!r}"
        found = _attributes(node)
        for name, wanted in _ONLY.get(node.op_type, {}).items():
            if found.get(name, wanted) != wanted:
                raise UnfitError(
                    f"{where} has {name} {_shown(found[name])}, but NNgen reads none and takes {_shown(wanted)} for "
                    "granted; choose another target"
                )
        if node.op_type in ("Conv", "Gemm") and not set(node.input[1:]) <= constants:
            raise UnfitError(f"{where} has weights that are no constants; choose another target")
        if node.op_type == "Add" and not set(node.input) & constants and width < SMALLEST_FOR_SUMS:
            raise UnfitError(
                f"{where} adds two activations, and NNgen's adder of {width} bits is wrong in the RTL; take "
                f"{SMALLEST_FOR_SUMS} bits: the target rtl_int{SMALLEST_FOR_SUMS}"
            )


def write_for_nngen(model: ModelProto, path: Path) -> None:
    """Write a model as NNgen reads it: no attribute that it misreads, none missing, weights of Gemm turned."""
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for node in made.graph.node:
        found = _attributes(node)
        if node.op_type == "Gemm" and not found.pop("transB", 0):
            weights = tensors[node.input[1]]
            name = f"{node.output[0]}.weights_turned"
            made.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(weights).T.copy(), name))
            node.input[1] = name
        dropped = _ONLY.get(node.op_type, {}).keys() - {"pads"}
        kept = {**_ASSUMED.get(node.op_type, {}), **{k: v for k, v in found.items() if k not in dropped}}
        if node.op_type == "Gemm":
            kept["transB"] = 1
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(kept.items()))
    # NNgen would make storage for each.
    used = {name for node in made.graph.node for name in node.input}
    unused = [tensor for tensor in made.graph.initializer if tensor.name not in used]
    for tensor in unused:
        made.graph.initializer.remove(tensor)
    onnx.save(made, path)


def estimated_cycles(model: ModelProto, *, width: int, parallelism: int, bus: int) -> int:
    """Return about how many cycles a core takes for one case.

    A core multiplies all pixels of a kernel at once. To that come its words over the bus, and what it takes to begin
    each row of an output. The digits CNN is estimated at 6,374 cycles for 5,813 and, with four channels at once, 2,902
    for 2,489. This decides what is simulated, and is shown as an estimate alone.

    Args:
        model: with shapes of all values.
        width: bits of weights and activations.
        parallelism: channels, in and out, that are computed in one cycle.
        bus: bits of the memory port.
    """
    shapes = dict(_shapes(model))
    total = 0
    for node in model.graph.node:
        out = shapes.get(node.output[0], ())
        weights = shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
        match node.op_type:
            case "Conv":
                total += math.prod(out[2:]) * _steps(out[1], weights[1], parallelism)
            case "Gemm":
                total += _steps(math.prod(out), math.prod(weights) // math.prod(out), parallelism)
            case "MaxPool" | "AveragePool":
                kernel = math.prod(_attributes(node)["kernel_shape"])
                total += math.prod(out[2:]) * kernel * math.ceil(out[1] / parallelism)
            case "GlobalAveragePool":
                total += math.prod(shapes[node.input[0]]) // parallelism
            case "Add":
                total += math.prod(out) // parallelism
            case _:
                continue
        moved = [shapes[name] for name in (*node.input, node.output[0]) if name in shapes]
        total += sum(_words(shape, bus // width) for shape in moved)
        total += _ROW_CYCLES * (out[2] if len(out) > 2 else 1)
    return total


def _words(shape: tuple[int, ...], in_a_word: int) -> int:
    """Return the words that a tensor takes: channels lie together, and fill whole words."""
    channels = shape[1] if len(shape) > 1 else math.prod(shape)
    return math.prod(shape) // max(channels, 1) * math.ceil(channels / in_a_word)


def _steps(outputs: int, inputs: int, parallelism: int) -> int:
    return math.ceil(outputs / parallelism) * math.ceil(inputs / parallelism)


def _shapes(model: ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    graph = model.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name, tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim)
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)


def _constants(model: ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _shown(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
