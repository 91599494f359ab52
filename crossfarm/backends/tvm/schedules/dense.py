"""Products with a constant matrix: dense layers, Gemm, MatMul by weights.

The matrix is packed as [blocks, depth, columns of a block], as in convolution.py with a window of one pixel.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.passes.relax_utils import constant_array, is_float32, static_shape
from crossfarm.backends.tvm.schedules.choices import Choose, Layer, ProductChoice, as_attributes
from crossfarm.backends.tvm.schedules.primitives import block_names, schedule_of
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.register_tiling import schedule_product
from crossfarm.backends.tvm.types import Array, BlockBuilder, PrimExpr, PrimFunc, RelaxCall, RelaxExpr, Tensor, Var

BLOCK = "crossfarm_dense"


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
    """Replace a relax.matmul by a constant matrix [depth, columns].

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    weights = constant_array(call.args[1])
    if weights is None or weights.ndim != 2 or not is_float32(*call.args) or 0 in weights.shape:
        return None
    shape = static_shape(call.args[0]) or ()
    if len(shape) < 2 or math.prod(shape) == 0:
        return None
    depth, columns = weights.shape
    layer = Layer(kind="dense", image=(1, 1, math.prod(shape[:-1]), depth), channels=columns)
    choice = choose(layer, processor)
    if not isinstance(choice, ProductChoice):
        return None
    return builder.call_te(
        functools.partial(compute, layer=layer, choice=choice),
        call.args[0],
        relax.const(pack(weights, block=choice.columns)),
        primfunc_name_hint="dense",
        primfunc_attrs={"op_pattern": 4},
    )


def pack(weights: Array, *, block: int) -> Array:
    """Return weights [depth, columns] as [blocks, depth, block], with zeros behind the last column."""
    depth, columns = weights.shape
    padded = -(-columns // block) * block
    full = np.pad(weights, ((0, 0), (0, padded - columns)))
    return np.ascontiguousarray(full.reshape(depth, padded // block, block).transpose(1, 0, 2))


def compute(left: Tensor, packed: Tensor, *, layer: Layer, choice: ProductChoice) -> Tensor:
    """Return left [..., rows, depth] times a packed matrix: float32 [..., rows, columns]."""
    columns = layer.channels
    # packed: [blocks, depth, block]
    block_count, depth, block = (int(extent) for extent in packed.shape)
    leading = tuple(left.shape)[:-1]
    k = te.reduce_axis((0, depth), "k")

    def element(*index: Var) -> PrimExpr:
        column = index[-1]
        weight = packed[tirx.floordiv(column, block), k, tirx.floormod(column, block)]
        return te.sum(left[(*index[:-1], k)] * weight, axis=[k])

    # product: [..., rows, padded columns]
    product = te.compute((*leading, block_count * block), element, name=BLOCK, attrs=as_attributes(layer, choice))
    if block_count * block == columns:
        return product
    return te.compute((*leading, columns), lambda *index: product[index], name="crossfarm_unpadded")


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Schedule a product with its epilogue; see register_tiling.schedule_product."""
    form = schedule_of(function)
    spatial = len(form.get_loops(form.get_sblock(BLOCK))) - 2
    return schedule_product(function, processor, name=BLOCK, spatial=spatial)
