"""Products with weights of four bits, which stay packed: they are the most that such a model holds and reads.

Columns are computed in tiles of sixteen. One step of the sum reads eight bytes; the low halves are the weights of the
first eight columns, the high halves those of the last eight:

    packed weights, one tile and one row k:   byte j  =  w[k, j]  |  w[k, j + 8] << 4        j = 0 .. 7

    sums of the first columns += x[m, k] * (low halves  - zero points)        within a block of rows,
    sums of the last columns  += x[m, k] * (high halves - zero points)        which has one scale for each column

so that a whole vector is unpacked by one mask, or one shift, and conversions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import numpy_helper
from tvm import relax, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import reshaped, tensor
from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite, Rewriting
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, local, run_loops
from crossfarm.backends.tvm.types import Array, PrimExpr, RelaxExpr

_TILE, _HALF = 16, 8
_ROWS = 4
"""Rows of the left side that share what is unpacked; their sums stay in eight vectors."""


def _matmul_n_bits(node: Node) -> RelaxExpr:
    """Y = A B^T with B in blocks of numbers of four bits, each block with its scale and zero point."""
    attributes = node.attributes
    depth, columns, block = attributes["K"], attributes["N"], attributes["block_size"]
    if attributes.get("bits", 4) != 4 or node.has(4):
        raise UnsupportedForm("its weights are not of four bits in their order, or are no constants")
    blocks = -(-depth // block)
    packed = node.constant(1).reshape(columns, -1)
    numbers = unpacked(packed, 4)[:, :depth]
    scales = node.constant(2).reshape(columns, blocks).astype(np.float32)
    if not node.has(3):
        zeros: Array = np.full((columns, blocks), 8.0)
    else:
        given = node.constant(3)
        zeros = (
            unpacked(given.reshape(columns, -1), 4)[:, :blocks]
            if given.dtype == np.uint8
            else given.reshape(columns, blocks)
        )
    made = _product(node, numbers.T, scales.T, zeros.T.astype(np.float32), block=block)
    return node.emit(relax.op.add(made, node.input(5))) if node.has(5) else made


def unpacked(packed: Array, bits: int) -> Array:
    """Return the numbers of each row of bytes, the lowest bits first, as float32."""
    places = np.arange(8 // bits) * bits
    return ((packed[..., None] >> places) & ((1 << bits) - 1)).reshape(packed.shape[0], -1).astype(np.float32)


def _product(node: Node, numbers: Array, scales: Array, zeros: Array, *, block: int) -> RelaxExpr:
    """Emit the product of input 0 with weights.

    Args:
        node: that is imported.
        numbers: [depth, columns], from 0 to 15.
        scales: [blocks, columns].
        zeros: zero points, as scales.
        block: rows of the weights that have a scale in common.
    """
    depth, columns = numbers.shape
    *lead, found = node.shape(0)
    if found != depth or node.dtype(0) != "float32":
        raise UnsupportedForm(f"it multiplies {node.dtype(0)} of {found} by weights of {depth} rows; float32 is known")
    rows, tiles, blocks = math.prod(lead), -(-columns // _TILE), scales.shape[0]

    def by_tiles(array: Array) -> Array:
        padded = np.pad(array, ((0, 0), (0, tiles * _TILE - columns)))
        return padded.reshape(array.shape[0], tiles, _TILE).transpose(1, 0, 2)

    tiled = by_tiles(numbers).astype(np.uint8)
    packed = tiled[..., :_HALF] | tiled[..., _HALF:] << 4

    def body(x: Row, weights: Row, factors: Row, points: Row, result: Row) -> None:
        def strip(first: PrimExpr, count: int) -> None:
            """Write the loops over the columns of `count` rows."""
            with T.serial(0, tiles) as tile:
                sums, part = local(count * _TILE, "float32"), local(count * _TILE, "float32")
                _fill(sums, count * _TILE)
                with T.serial(0, blocks) as number:
                    _fill(part, count * _TILE)
                    at = (tile * blocks + number) * _TILE
                    with T.serial(0, tirx.min(depth - number * block, block)) as step:
                        place = number * block + step
                        for side in range(2):
                            for row in range(count):
                                with T.vectorized(0, _HALF) as lane:
                                    byte = weights[(tile * depth + place) * _HALF + lane]
                                    half = byte >> tirx.const(4, "uint8") if side else byte & tirx.const(15, "uint8")
                                    weight = half.astype("float32") - points[at + side * _HALF + lane]
                                    target = (row * 2 + side) * _HALF + lane
                                    part[target] = part[target] + x[(first + row) * depth + place] * weight
                    for row in range(count):
                        for side in range(2):
                            with T.vectorized(0, _HALF) as lane:
                                target = (row * 2 + side) * _HALF + lane
                                sums[target] = sums[target] + part[target] * factors[at + side * _HALF + lane]
                for row in range(count):
                    for side in range(2):
                        with T.vectorized(0, _HALF) as lane:
                            made = (first + row) * (tiles * _TILE) + tile * _TILE + side * _HALF + lane
                            result[made] = sums[(row * 2 + side) * _HALF + lane]

        if rows >= _ROWS:
            with T.serial(0, rows // _ROWS) as group:
                strip(group * _ROWS, _ROWS)
        if rows % _ROWS:
            strip(tirx.const(rows - rows % _ROWS, "int32"), rows % _ROWS)

    constants = [tensor(np.ascontiguousarray(each)) for each in (packed, by_tiles(scales), by_tiles(zeros))]
    wide = tiles * _TILE
    inputs = [node.input(0), *constants]
    (made,) = run_loops(node, body, inputs=inputs, outputs=[((rows, wide), "float32")], name="matmul_packed")
    if wide > columns:
        made = node.emit(relax.op.strided_slice(made, axes=[1], begin=[0], end=[columns]))
    return reshaped(node, made, [*lead, columns])


def _fill(row: Row, size: int) -> None:
    for start in range(0, size, _HALF):
        with T.vectorized(0, _HALF) as lane:
            row[start + lane] = tirx.const(0, "float32")


def _matmul(graph: Rewriting) -> bool:
    """Make a product with a DequantizeLinear of constants of four bits a MatMulNBits, which keeps them packed."""
    maker = graph.makers.get(graph.input(1))
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in graph.constants:
        return False
    weights = numpy_helper.to_array(graph.constants[maker.input[0]])
    if weights.dtype.name not in ("int4", "uint4") or weights.ndim != 2 or graph.dtype(graph.input(0)) != np.float32:
        return False
    given = [name for name in maker.input[1:] if name]
    own = [graph.constants[name] for name in given if name in graph.constants]
    if len(own) < len(given):
        return False
    depth, columns = weights.shape
    shift = 8 if weights.dtype.name == "int4" else 0
    scale = numpy_helper.to_array(own[0])
    zero = numpy_helper.to_array(own[1]).astype(np.int64) if len(own) > 1 else np.zeros(scale.shape, np.int64)
    attributes = {item.name: item.i for item in maker.attribute}
    spread = _by_blocks(scale.shape, weights.shape, attributes)
    if spread is None:
        return False
    block, shape = spread
    wide: list[Array] = []
    for each in (scale, zero + shift):
        wide.append(np.broadcast_to(each.reshape(shape), (-(-depth // block), columns)).T)
    nibbles = (weights.astype(np.int64) + shift).astype(np.uint8).T
    blocks = wide[0].shape[1]
    nibbles = np.pad(nibbles, ((0, 0), (0, blocks * block - depth)))
    nibbles = np.pad(nibbles, ((0, 0), (0, nibbles.shape[1] % 2)))
    packed = nibbles[:, ::2] | nibbles[:, 1::2] << 4
    names = [
        graph.input(0),
        graph.constant(packed, np.uint8),
        graph.constant(wide[0], np.float32),
        graph.constant(wide[1], np.float32),
    ]
    graph.add(
        "MatMulNBits",
        *names,
        gives=graph.output(0),
        domain="com.microsoft",
        K=depth,
        N=columns,
        bits=4,
        block_size=block,
    )
    return True


def _by_blocks(
    scale: Sequence[int], weights: Sequence[int], attributes: dict[str, int]
) -> tuple[int, tuple[int, int]] | None:
    """Return the rows of a block, and the shape of scales as [blocks, columns]; None for no blocks of rows."""
    depth, columns = weights
    axis = attributes.get("axis", 1) % 2
    if math.prod(scale) == 1:
        return depth, (1, 1)
    if len(scale) == 1:
        return (depth, (1, columns)) if axis == 1 else (1, (depth, 1))
    if axis != 0:
        return None
    return attributes.get("block_size", 0) or -(-depth // scale[0]), (scale[0], columns)


CONVERTERS: dict[str, Converter] = {"com.microsoft.MatMulNBits": _matmul_n_bits}
"""Operator -> its converter."""
REWRITES: dict[str, Rewrite] = {"MatMul": _matmul}
"""Operator -> what replaces it."""
