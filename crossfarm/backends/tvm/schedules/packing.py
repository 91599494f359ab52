"""Replaces operators of constant weights by ones over packed weights, before anything is legalised or fused."""

from __future__ import annotations

from tvm.relax.expr_functor import PyExprMutator, mutator

from crossfarm.backends.tvm.passes.relax_utils import operator_name, rewrite_functions
from crossfarm.backends.tvm.schedules import convolution, dense, depthwise, layer_norm, matmul, register_tiling, softmax
from crossfarm.backends.tvm.schedules.choices import Choice, Choose, Layer
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.types import IRModule, RelaxCall, RelaxExpr

_REWRITES = {
    "relax.nn.conv1d": (convolution.rewrite,),
    "relax.nn.conv2d": (depthwise.rewrite, convolution.rewrite),
    "relax.matmul": (
        matmul.rewrite,
        dense.rewrite,
    ),
    "relax.nn.layer_norm": (layer_norm.rewrite,),
    "relax.nn.softmax": (softmax.rewrite,),
}
"""Operator -> rules, the first that covers a call wins."""


def choose(layer: Layer, processor: Processor) -> Choice | None:
    """Decide by rules how a layer is computed."""
    if layer.kind == "depthwise":
        return depthwise.choose(layer, processor)
    if layer.kind == "matmul":
        return matmul.choose(layer, processor)
    return register_tiling.choose(layer, processor)


def pack(module: IRModule, processor: Processor, choose: Choose) -> IRModule:
    """Return a module in which every operator that a rule covers is a call of that rule's PrimFunc.

    Args:
        module: of Relax functions.
        processor: what for.
        choose: decides how each layer is computed.
    """

    @mutator
    class Packer(PyExprMutator):  # type: ignore[misc]
        """Asks the rules about every call."""

        def visit_call_(self, call: RelaxCall) -> RelaxExpr:
            """Rewrite one call, whose arguments have been rewritten."""
            call = self.visit_expr_post_order(call)
            for rewrite in _REWRITES.get(operator_name(call), ()):
                made = rewrite(call, self.builder_, processor, choose)
                if made is not None:
                    return made
            return call

    return rewrite_functions(module, Packer)
