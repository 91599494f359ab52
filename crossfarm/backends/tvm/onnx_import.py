"""From ONNX to Relax."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tvm
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, helper
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from crossfarm.backends.tvm.operators.families import CONVERTERS, REWRITES
from crossfarm.backends.tvm.operators.graph_rewriting import rewritten
from crossfarm.backends.tvm.operators.node import Node
from crossfarm.backends.tvm.operators.qoperators import as_eight_bits
from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr, RuntimeTensor
from crossfarm.backends.tvm.unsupported import said_by
from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import describe_node, full_name, opset_of


def known_operators() -> Collection[str]:
    """Return the names of the ONNX operators that can be imported, by us or by TVM."""
    return frozenset(onnx_frontend._get_convert_map()) | {"Constant"} | CONVERTERS.keys() | REWRITES.keys()


def import_onnx(model: ModelProto) -> IRModule:
    """Import a model that `unsupported.check_graph` has passed.

    Args:
        model: with static shapes; its weights become constants.

    Returns:
        tvm.IRModule with one Relax function, `main`, whose parameters and results are in the model's order.

    Raises:
        ModelError: a node uses its operator in a way that TVM cannot import; the message names it.
    """
    model = rewritten(model, REWRITES)
    opset = opset_of(model)
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
            ours = self._by_us(number, inputs, opset)
            if ours is not None:
                return ours
            return super()._convert_operator(op_name, inputs, attrs, opset)
        except Exception as error:
            node = describe_node(self._nodes_in_order[number], number)
            raise ModelError(
                f"{node} cannot be imported: {said_by(error)}; replace it before the model is exported, "
                "or list the target under skip with this reason"
            ) from error

    def _by_us(self, number: int, inputs: Sequence[RelaxExpr], opset: int) -> RelaxExpr | None:
        """Return what our own converter makes of a node; None when there is none, or it leaves the node to TVM."""
        node = self._nodes_in_order[number]
        convert = CONVERTERS.get(full_name(node))
        if convert is None:
            return None
        result = convert(
            Node(
                operator=full_name(node),
                inputs=tuple(inputs),
                outputs=tuple(node.output),
                attributes={attribute.name: _value(attribute) for attribute in node.attribute},
                opset=opset,
                builder=self.bb,
            )
        )
        if result is None:
            return None
        if isinstance(result, relax.Expr):
            return self.bb.normalize(result)
        values = [self.bb.emit(value) for value in result]
        return relax.Tuple(values) if len(values) > 1 else values[0]

    def _parse_array(self, tensor_proto: TensorProto) -> RuntimeTensor:
        """Return a constant; numbers of four bits in the dtype of eight, which is what TVM has."""
        return tvm.runtime.tensor(as_eight_bits(tensor_proto))

    def _parse_graph_input(self, graph: GraphProto) -> None:
        """Make a parameter of each input; TVM's own takes an extent of 0 for an open one."""
        for port in graph.input:
            if port.name not in self._nodes:
                tensor = port.type.tensor_type
                dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
                shape = [extent.dim_value for extent in tensor.shape.dim]
                self._num_input += 1
                self._input_names.append(port.name)
                self._nodes[port.name] = self._new_var(port.name, shape=shape, dtype=dtype)
            self._inputs[port.name] = self._nodes[port.name]

    def _check_for_unsupported_ops(self, graph: GraphProto) -> None:
        """Leave it to `unsupported.check_graph`, which names the nodes."""


def _value(attribute: AttributeProto) -> object:
    """Return the value of an attribute, text as str."""
    value = helper.get_attribute_value(attribute)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


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
