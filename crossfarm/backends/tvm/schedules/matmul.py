"""Products of two computed matrices, as in attention: nothing is known beforehand, so nothing is packed.

The right operand is read from where it is, row by row, in vectors along its columns. It is the schedule of dense.py in
every other respect, once for each matrix of a stack.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tvm import te

from crossfarm.backends.tvm.passes.relax_utils import constant_array, is_float32, static_shape
from crossfarm.backends.tvm.schedules import register_tiling
from crossfarm.backends.tvm.schedules.choices import Choose, Layer, ProductChoice, as_attributes
from crossfarm.backends.tvm.schedules.primitives import block_names, schedule_of
from crossfarm.backends.tvm.schedules.processor import PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.tiles import Product, register_tiles
from crossfarm.backends.tvm.types import BlockBuilder, PrimExpr, PrimFunc, RelaxCall, RelaxExpr, Tensor, Var

BLOCK = "crossfarm_matmul"


def rewrite(call: RelaxCall, builder: BlockBuilder, processor: Processor, choose: Choose) -> RelaxExpr | None:
    """Replace a relax.matmul of two computed stacks of matrices.

    Returns:
        An expression, or None when the rule does not cover the call.
    """
    left, right = (static_shape(argument) or () for argument in call.args)
    result = static_shape(call) or ()
    if constant_array(call.args[1]) is not None or not is_float32(*call.args) or math.prod(result) == 0:
        return None
    if len(left) < 2 or len(right) < 2 or left[-1] == 0 or right[-1] < processor.lanes[-1]:
        return None
    layer = Layer(kind="matmul", image=(math.prod(result[:-2]), 1, left[-2], left[-1]), channels=right[-1])
    choice = choose(layer, processor)
    if not isinstance(choice, ProductChoice):
        return None
    return builder.call_te(
        functools.partial(compute, shape=result, layer=layer, choice=choice),
        *call.args,
        primfunc_name_hint="matmul",
        primfunc_attrs={"op_pattern": 4},
    )


def choose(layer: Layer, processor: Processor) -> ProductChoice | None:
    """Decide how a product is computed: as a dense layer of one matrix, but no tile may be larger than that matrix."""
    batch, _, rows, depth = layer.image
    product = Product(rows=rows, run=rows, columns=layer.channels, steps=depth, depth=depth)
    tiles = [tile for tile in register_tiles(processor, product) if tile.columns <= layer.channels]
    if not tiles:
        return None
    tile = tiles[0]
    trips = [batch, -(-rows // tile.rows), -(-layer.channels // tile.columns)]
    return ProductChoice(
        rows=tile.rows,
        vectors=tile.vectors,
        lanes=tile.lanes,
        columns_first=False,
        depth_unroll=register_tiling.depth_unroll(depth, tile) if processor.unrolls_depth else 1,
        shared_loops=register_tiling.shared_loops(trips) if layer.flops > PARALLEL_FLOPS else 0,
    )


def compute(left: Tensor, right: Tensor, *, shape: tuple[int, ...], layer: Layer, choice: ProductChoice) -> Tensor:
    """Return left [..., rows, depth] times right [..., depth, columns], float32 of a shape."""
    k = te.reduce_axis((0, layer.depth), "k")

    def stacked(operand: Tensor, index: Sequence[Var]) -> list[PrimExpr]:
        """Return the matrix of an operand that belongs to an index in the stack of results."""
        axes = len(operand.shape) - 2
        own = index[len(index) - axes :] if axes else ()
        return [axis if int(extent) > 1 else 0 for axis, extent in zip(own, operand.shape[:axes], strict=True)]

    def element(*index: Var) -> PrimExpr:
        *stack, row, column = index
        return te.sum(
            left[(*stacked(left, stack), row, k)] * right[(*stacked(right, stack), k, column)],
            axis=[k],
        )

    return te.compute(shape, element, name=BLOCK, attrs=as_attributes(layer, choice))


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Schedule a product with its epilogue; see register_tiling.schedule_product."""
    form = schedule_of(function)
    spatial = len(form.get_loops(form.get_sblock(BLOCK))) - 2
    return register_tiling.schedule_product(function, processor, name=BLOCK, spatial=spatial, stacked=spatial - 1)
