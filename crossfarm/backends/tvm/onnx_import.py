"""From ONNX to Relax."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tvm
from onnx import ModelProto
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr
from crossfarm.backends.tvm.unsupported import describe_node, said_by
from crossfarm.errors import ModelError


def known_operators() -> Collection[str]:
    """Return the names of the ONNX operators that TVM imports."""
    return frozenset(onnx_frontend._get_convert_map()) | {"Constant"}


def import_onnx(model: ModelProto) -> IRModule:
    """Import a model that `unsupported.check_graph` has passed.

    Args:
        model: with static shapes; its weights become constants.

    Returns:
        tvm.IRModule with one Relax function, `main`, whose parameters and results are in the model's order.

    Raises:
        ModelError: a node uses its operator in a way that TVM cannot import; the message names it.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    importer = _Importer(model)
    try:
        return _with_reshaped_constants(importer.from_onnx(model.graph, opset))
    except ModelError:
        raise
    except Exception as error:
        # TVM raises errors of any type here, and what the user can do about them is the same.
        raise ModelError(f"TVM cannot import the model: {said_by(error)}; see the log of the job") from error


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer, which says at which node it failed."""

    def __init__(self, model: ModelProto) -> None:
        # Parameters are matched by order, so their names need not become identifiers.
        super().__init__(shape_dict={}, dtype_dict="float32", keep_params_in_input=False, sanitize=False)
        self._nodes_in_order = list(model.graph.node)
        self._converted = 0

    def _convert_operator(
        self, op_name: str, inputs: Sequence[RelaxExpr], attrs: Mapping[str, Any], opset: int
    ) -> RelaxExpr:
        number = self._converted
        self._converted += 1
        try:
            ours = _OURS[op_name](inputs, attrs) if op_name in _OURS else None
            if ours is not None:
                return self.bb.normalize(ours)
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:
            node = describe_node(self._nodes_in_order[number], number)
            raise ModelError(
                f"TVM cannot import {node}: {said_by(error)}; replace it before the model is exported, "
                "or list the target under skip with this reason"
            ) from error


def _clipped(inputs: Sequence[RelaxExpr], _attrs: Mapping[str, Any]) -> RelaxExpr | None:
    """Return a Clip between two known bounds as the one operator that it is; None for any other Clip.

    TVM's importer writes five operators, which take several times as long to compile and to run. Both keep NaN
    (passes/maxima.py).
    """
    if len(inputs) != 3 or str(inputs[0].ty.dtype) != "float32":
        return None
    bounds = [_scalar(bound) for bound in inputs[1:]]
    if bounds[0] is None or bounds[1] is None or not bounds[0] <= bounds[1]:
        return None
    return relax.op.clip(inputs[0], *bounds)


def _sign(inputs: Sequence[RelaxExpr], _attrs: Mapping[str, Any]) -> RelaxExpr | None:
    """Return a Sign, of which TVM's alone makes 0 of NaN; None for integers."""
    if not str(inputs[0].ty.dtype).startswith("float"):
        return None
    return relax.op.where(relax.op.isnan(inputs[0]), inputs[0], relax.op.sign(inputs[0]))


def _above_threshold(inputs: Sequence[RelaxExpr], attrs: Mapping[str, Any]) -> RelaxExpr:
    """Return a ThresholdedRelu as a choice; TVM's importer multiplies by 0, which makes NaN of -infinity."""
    dtype = str(inputs[0].ty.dtype)
    alpha = relax.const(attrs.get("alpha", 1.0), dtype)
    return relax.op.where(relax.op.greater(inputs[0], alpha), inputs[0], relax.const(0.0, dtype))


_OURS: dict[str, Callable[[Sequence[RelaxExpr], Mapping[str, Any]], RelaxExpr | None]] = {
    "Clip": _clipped,
    "Sign": _sign,
    "ThresholdedRelu": _above_threshold,
}
"""Operators that are imported by these functions of inputs and attributes, where they return something."""


def _scalar(expression: RelaxExpr) -> float | None:
    if not isinstance(expression, tvm.ir.GenericConst) or not isinstance(expression.value, tvm.runtime.Tensor):
        return None
    array = expression.value.numpy()
    return float(array.reshape(-1)[0]) if array.size == 1 else None


def _with_reshaped_constants(module: IRModule) -> IRModule:
    """Reshape constants (every bias of a convolution) here: TVM's FoldConstant compiles a function for each of them."""
    module["main"] = _ConstantReshaper(module).visit_expr(module["main"])
    return relax.transform.CanonicalizeBindings()(module)


@relax.expr_functor.mutator
class _ConstantReshaper(relax.PyExprMutator):  # type: ignore[misc]
    """Replaces relax.reshape of a constant to a static shape by the reshaped constant."""

    def visit_call_(self, call: RelaxCall) -> RelaxExpr:
        """Visit one call; the name is given by TVM."""
        call = super().visit_call_(call)
        if call.op != tvm.ir.Op.get("relax.reshape"):
            return call
        source, shape = call.args
        if not isinstance(source, tvm.ir.GenericConst) or not isinstance(shape, relax.ShapeExpr):
            return call
        if not all(isinstance(extent, tvm.tirx.IntImm) for extent in shape.values):
            return call
        array = source.value.numpy().reshape([int(extent) for extent in shape.values])
        return relax.const(array, str(source.value.dtype))
