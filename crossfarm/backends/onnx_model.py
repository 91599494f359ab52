"""What a backend without a graph of its own needs of the prepared ONNX file: reading, refusing, describing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.bundles.compile_report import CompileReport, PortType, versions
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


def read_model(path: Path, *, cell: Cell, operators: Collection[str]) -> ModelProto:
    """Read a prepared model, with the shapes of all values.

    Args:
        path: an ONNX file with static shapes.
        cell: for messages.
        operators: ONNX names of those that the backend knows.

    Raises:
        ModelError: it is no valid ONNX file.
        UnfitError: it holds another operator; operator and node are named.
    """
    model = load_valid(path, cell=cell)
    for node in model.graph.node:
        if node.op_type not in operators:
            raise UnfitError(
                f"{cell.id}: operator {node.op_type} of node {node.name or node.output[0]!r} cannot be compiled for "
                "this target; choose another one"
            )
    return model


def load_valid(path: Path, *, cell: Cell) -> ModelProto:
    """Read a prepared model, with the shapes of all values, whatever operators it holds.

    Raises:
        ModelError: it is no valid ONNX file.
    """
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
        onnx.checker.check_model(model)
    except Exception as error:
        # Protobuf, the checker and the file system each have errors of their own for the same fault.
        raise ModelError(f"{cell.id}: {path.name} is no valid ONNX model: {error}; prepare it again") from error
    return model


def value_types(values: Iterable[ValueInfoProto]) -> tuple[PortType, ...]:
    """Return name, dtype and shape of inputs, outputs or values between them."""
    import onnx

    return tuple(
        PortType(
            name=value.name,
            dtype=onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            shape=tuple(extent.dim_value for extent in value.type.tensor_type.shape.dim),
        )
        for value in values
    )


def describe(model: ModelProto, *, cell: Cell, made: Sequence[bytes], tools: Iterable[str]) -> CompileReport:
    """Return compile.json of a compiled model.

    Args:
        model: the model, as `read_model` gave it.
        cell: names of what was built.
        made: all that the backend made; the identity is taken over it.
        tools: distributions that made it.
    """
    digest = hashlib.sha256(f"{cell.id}\n".encode())
    for part in made:
        digest.update(f"{len(part)}\n".encode() + part)
    initialisers = {tensor.name for tensor in model.graph.initializer}
    return CompileReport(
        identity=digest.hexdigest(),
        model=cell.model,
        target=cell.target,
        variant=cell.variant,
        inputs=value_types(value for value in model.graph.input if value.name not in initialisers),
        outputs=value_types(model.graph.output),
        operators=dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        tools=versions(tools),
    )
