"""Writes a model of a newer ONNX opset as opset 11: MERA takes 10 to 12, and ONNX's own converter cannot go down.

Between 11 and 18 most operators changed nothing but the types that they allow. What moved from an attribute to an input
moves back here. Whether the result still computes the same is not argued but tried: see `require_equal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, UnfitError
from crossfarm.util.onnx_nodes import opset_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]

TAKEN = range(10, 13)
"""Opsets that MERA reads."""
_OPSET, _FORMAT = 11, 7
_MOVED: Mapping[str, str] = {
    **{f"Reduce{what}": "axes" for what in ("L1", "L2", "Max", "Mean", "Min", "Prod", "Sum")},
    **dict.fromkeys(("Squeeze", "Unsqueeze"), "axes"),
    "Split": "split",
}
"""Operator -> what is its second input since 13 or 18, and was an attribute."""
_NEW: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys((name for name in _MOVED if name.startswith("Reduce")), ("noop_with_empty_axes", 0)),
    "Reshape": ("allowzero", 0),
    "BatchNormalization": ("training_mode", 0),
}
"""Operator -> an attribute that 11 has not, and the value that means what 11 does."""


def older(model: ModelProto, *, cell: Cell) -> ModelProto:
    """Return a model of an opset that MERA reads.

    Args:
        model: with static shapes; stays as it is.
        cell: for messages.

    Raises:
        UnfitError: it holds something that opset 11 cannot say; operator and node are named.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.ir_version = min(copy.ir_version, _FORMAT)
    del copy.metadata_props[:]
    if opset_of(copy) not in TAKEN:
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
        for node in copy.graph.node:
            del node.metadata_props[:]
            _restamp(node, constants, cell=cell)
        used = {name for node in copy.graph.node for name in node.input} | {item.name for item in copy.graph.output}
        kept = [tensor for tensor in copy.graph.initializer if tensor.name in used]
        del copy.graph.initializer[:]
        copy.graph.initializer.extend(kept)
        del copy.opset_import[:]
        copy.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
    try:
        onnx.checker.check_model(copy)
    except onnx.checker.ValidationError as error:
        raise UnfitError(
            f"{cell.id}: MERA reads ONNX opset {TAKEN[0]} to {TAKEN[-1]}, and this model of opset {opset_of(model)} "
            f"cannot be said in that: {' '.join(str(error).split())}; export it with opset 11"
        ) from error
    return copy


def _restamp(node: NodeProto, constants: Mapping[str, Array], *, cell: Cell) -> None:
    """Write what moved to an input as an attribute again, and leave out what opset 11 does not know."""
    from onnx import helper

    moved = _MOVED.get(node.op_type)
    if moved is not None and len(node.input) == 2:
        name = node.input[1]
        del node.input[1]
        if name:
            if name not in constants:
                raise _cannot(node, f"its {moved} are computed", cell)
            node.attribute.append(helper.make_attribute(moved, constants[name].reshape(-1).tolist()))
    new, means = _NEW.get(node.op_type, ("", 0))
    for attribute in [one for one in node.attribute if one.name == new]:
        if attribute.i != means and not _says_no_nought(node, constants):
            raise _cannot(node, f"its {new} is {attribute.i}", cell)
        node.attribute.remove(attribute)


def _says_no_nought(node: NodeProto, constants: Mapping[str, Array]) -> bool:
    """Return whether a Reshape has a shape without 0, the extent that `allowzero` is about."""
    return node.op_type == "Reshape" and node.input[1] in constants and bool(constants[node.input[1]].all())


def _cannot(node: NodeProto, why: str, cell: Cell) -> UnfitError:
    return UnfitError(
        f"{cell.id}: operator {node.op_type} of node {node.name or node.output[0]!r} cannot be written as ONNX opset "
        f"{_OPSET}, the one that MERA reads: {why}; export the model with opset {_OPSET}"
    )


def require_equal(model: ModelProto, other: ModelProto, inputs: Mapping[str, Array], *, cell: Cell) -> None:
    """Make sure that both models answer the same in ONNX Runtime, bit for bit, with its optimisations off.

    Args:
        model: as it was.
        other: as `older` wrote it.
        inputs: name -> tensor.
        cell: for messages.

    Raises:
        ModelError: they do not.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    answers = []
    for one in (model, other):
        try:
            session = onnxruntime.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"])
            answers.append([answer.tobytes() for answer in session.run(None, dict(inputs))])
        except Exception as error:
            # ONNX Runtime's errors share no base class of their own.
            raise ModelError(f"{cell.id}: ONNX Runtime cannot run the model: {error}; prepare it again") from error
    if answers[0] != answers[1]:
        raise ModelError(
            f"{cell.id}: MERA reads ONNX opset {TAKEN[0]} to {TAKEN[-1]}, and written so this model of opset "
            f"{opset_of(model)} answers otherwise in ONNX Runtime; export it with opset {_OPSET}"
        )
