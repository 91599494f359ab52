"""Products of two computed matrices, once for each matrix of a stack, with the register tiles of dense.py.

Nothing is known beforehand. Where the columns of the right operand follow each other in memory and fill vectors, it is
read from where it is, row by row. Else it is packed first, as dense.py packs weights: the columns that are missing in
the last block repeat the last one, and their products are not copied out. Operands that are transposes of something
else are read from there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from tvm import relax, te, tirx

from crossfarm.backends.tvm.passes.relax_utils import constant_array, is_float32, static_shape
from crossfarm.backends.tvm.passes.views import strides_of, view_of
from crossfarm.backends.tvm.schedules import register_tiling
from crossfarm.backends.tvm.schedules.choices import Choose, Layer, ProductChoice, as_attributes
from crossfarm.backends.tvm.schedules.primitives import block_names, schedule_of
from crossfarm.backends.tvm.schedules.processor import PARALLEL_FLOPS, Processor
from crossfarm.backends.tvm.schedules.register_tiling import PADDED_INPUT
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
    operands = [_operand(argument, builder) for argument in call.args]
    strides = [strides for _, strides in operands]
    is_scattered = strides[1] is not None and strides[1][-1] != 1
    is_packed = is_scattered or (right[-1] % processor.widest != 0 and right[-1] > processor.widest)
    return builder.call_te(
        functools.partial(
            compute, shape=result, layer=layer, choice=choice, strides=(strides[0], strides[1]), is_packed=is_packed
        ),
        *(operand for operand, _ in operands),
        primfunc_name_hint="matmul",
        primfunc_attrs={"op_pattern": 4},
    )


def _operand(argument: RelaxExpr, builder: BlockBuilder) -> tuple[RelaxExpr, tuple[int, ...] | None]:
    """Return an operand as it is and None; or what it is a transpose of, as one row, and the strides of its axes."""
    view = view_of(argument, builder.lookup_binding, factors=False)
    if view.strides == strides_of(np.empty(view.shape, np.float32)) or not isinstance(view.source, relax.Var):
        return argument, None
    size = math.prod(static_shape(view.source) or ())
    return builder.emit(relax.op.reshape(view.source, [size])), view.strides


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


def compute(
    left: Tensor,
    right: Tensor,
    *,
    shape: tuple[int, ...],
    layer: Layer,
    choice: ProductChoice,
    strides: tuple[tuple[int, ...] | None, tuple[int, ...] | None] = (None, None),
    is_packed: bool = False,
) -> Tensor:
    """Return left [..., rows, depth] times right [..., depth, columns], float32 of a shape.

    Args:
        left: as it is, or as a row of elements.
        right: likewise.
        shape: of the result.
        layer: the product.
        choice: how it is computed.
        strides: for each operand that is given as a row, those of its axes.
        is_packed: the right one is laid out in blocks of columns first.
    """
    k = te.reduce_axis((0, layer.depth), "k")
    if not is_packed:
        return te.compute(
            shape,
            lambda *index: te.sum(
                _element(left, strides[0], (*index[:-1], k)) * _element(right, strides[1], (*index[:-2], k, index[-1])),
                axis=[k],
            ),
            name=BLOCK,
            attrs=as_attributes(layer, choice),
        )
    columns, block = layer.channels, choice.columns
    stack, blocks = shape[:-2], -(-layer.channels // choice.columns)

    def laid_out(*index: Var) -> PrimExpr:
        *own, block_number, row, column = index
        place = tirx.min(block_number * block + column, columns - 1)
        return _element(right, strides[1], (*own, row, place))

    # packed: [..., blocks, depth, columns of a block]
    packed = te.compute((*stack, blocks, layer.depth, block), laid_out, name=PADDED_INPUT)

    def element(*index: Var) -> PrimExpr:
        *own, row, column = index
        weight = packed[(*own, tirx.floordiv(column, block), k, tirx.floormod(column, block))]
        return te.sum(_element(left, strides[0], (*own, row, k)) * weight, axis=[k])

    product = te.compute((*shape[:-1], blocks * block), element, name=BLOCK, attrs=as_attributes(layer, choice))
    if blocks * block == columns:
        return product
    return te.compute(shape, lambda *index: product[index], name="crossfarm_unpadded")


def _element(operand: Tensor, strides: tuple[int, ...] | None, index: Sequence[PrimExpr]) -> PrimExpr:
    """Return an element of an operand by its index in the stack of results, row and column."""
    if strides is not None:
        place: PrimExpr = tirx.const(0, "int32")
        for axis, stride in zip(index[len(index) - len(strides) :], strides, strict=True):
            place = place + axis * stride
        return operand[place]
    axes = len(operand.shape) - 2
    own = index[len(index) - 2 - axes : len(index) - 2]
    stack = [axis if int(extent) > 1 else 0 for axis, extent in zip(own, operand.shape[:axes], strict=True)]
    return operand[(*stack, *index[-2:])]


def matches(function: PrimFunc) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: PrimFunc, processor: Processor) -> PrimFunc:
    """Schedule a product with its epilogue; see register_tiling.schedule_product."""
    form = schedule_of(function)
    spatial = len(form.get_loops(form.get_sblock(BLOCK))) - 2
    return register_tiling.schedule_product(function, processor, name=BLOCK, spatial=spatial, stacked=spatial - 1)
