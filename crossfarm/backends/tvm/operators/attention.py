"""Attention and RotaryEmbedding of ONNX, as the products and sums that the standard's function bodies write.

https://onnx.ai/onnx/operators/onnx__Attention.html. A row of scores that is masked whole gives 0, as there.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from onnx import TensorProto, helper

from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite, Rewriting
from crossfarm.backends.tvm.operators.node import UnsupportedForm
from crossfarm.backends.tvm.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Extents:
    """Of an attention.

    Attributes:
        is_flat: inputs are [batch, length, heads * size].
        queries: queries of a sequence.
        keys: keys of a sequence, those of the cache included.
        past: of them in the cache.
        heads: of queries, and of keys.
        sizes: elements of a head of queries, and of values.
    """

    is_flat: bool
    batch: int
    queries: int
    keys: int
    past: int
    heads: tuple[int, int]
    sizes: tuple[int, int]


def _attention(graph: Rewriting) -> bool:
    extents = _extents(graph)
    attributes = graph.attributes
    query = _by_heads(graph, graph.input(0), extents, heads=extents.heads[0], length=extents.queries)
    fresh = extents.keys - extents.past
    sides = []
    for number in (1, 2):
        side = _by_heads(graph, graph.input(number), extents, heads=extents.heads[1], length=fresh)
        if graph.input(3 + number):
            side = graph.add("Concat", graph.input(3 + number), side, axis=2)
        if graph.output(number):
            graph.add("Identity", side, gives=graph.output(number))
        sides.append(_widened(graph, _repeated(graph, side, extents)))
    dtype, query = _computed(graph), _widened(graph, query)
    scale = np.sqrt(attributes.get("scale") or 1 / np.sqrt(extents.sizes[0]))
    factor = graph.constant(scale, dtype)
    turned = graph.add("Transpose", sides[0], perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", graph.add("Mul", query, factor), graph.add("Mul", turned, factor))
    mode, kept = attributes.get("qk_matmul_output_mode", 0), graph.output(3)
    if kept and mode == 0:
        _gives(graph, scores, kept)
    if cap := attributes.get("softcap", 0.0):
        inner = graph.add("Tanh", graph.add("Div", scores, graph.constant(cap, dtype)))
        scores = graph.add("Mul", inner, graph.constant(cap, dtype))
    if kept and mode == 1:
        _gives(graph, scores, kept)
    bias, may_mask_all = _bias(graph, extents)
    if bias:
        scores = graph.add("Add", scores, bias)
    if kept and mode == 2:
        _gives(graph, scores, kept)
    shares = _softmax(graph, scores, bias if may_mask_all else "")
    if kept and mode == 3:
        _gives(graph, shares, kept)
    narrow = graph.dtype(graph.input(0)) == np.float16
    made = "" if extents.is_flat or narrow else graph.output(0)
    result = graph.add("MatMul", shares, sides[1], gives=made)
    if narrow:
        given = "" if extents.is_flat else graph.output(0)
        result = graph.add("Cast", result, gives=given, to=TensorProto.FLOAT16)
    if extents.is_flat:
        shape = [extents.batch, extents.queries, extents.heads[0] * extents.sizes[1]]
        flat = graph.add("Transpose", result, perm=[0, 2, 1, 3])
        graph.add("Reshape", flat, graph.constant(shape, np.int64), gives=graph.output(0))
    return True


def _computed(graph: Rewriting) -> np.dtype[np.generic]:
    """Return the dtype in which it is computed: float16 in float32, and rounded once, as ONNX Runtime has it."""
    dtype = graph.dtype(graph.input(0))
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _widened(graph: Rewriting, value: str) -> str:
    """Return a value in the dtype in which the attention is computed."""
    is_narrow = graph.dtype(graph.input(0)) == np.float16
    return graph.add("Cast", value, to=TensorProto.FLOAT) if is_narrow else value


def _gives(graph: Rewriting, value: str, output: str) -> None:
    """Write an output in the dtype of the inputs."""
    if graph.dtype(graph.input(0)) == np.float16:
        graph.add("Cast", value, gives=output, to=TensorProto.FLOAT16)
    else:
        graph.add("Identity", value, gives=output)


def _extents(graph: Rewriting) -> _Extents:
    shapes = [graph.shape(graph.input(number)) for number in range(3)]
    query, key, value = (shape or () for shape in shapes)
    past = graph.shape(graph.input(4)) if graph.input(4) else ()
    if len(query) not in (3, 4) or len(key) != len(query) or len(value) != len(query) or past is None:
        raise UnsupportedForm("its inputs have neither three nor four axes, or open shapes")
    before = past[2] if past else 0
    if len(query) == 4:
        return _Extents(
            is_flat=False,
            batch=query[0],
            queries=query[2],
            keys=key[2] + before,
            past=before,
            heads=(query[1], key[1]),
            sizes=(query[3], value[3]),
        )
    heads = graph.attributes["q_num_heads"], graph.attributes["kv_num_heads"]
    return _Extents(
        is_flat=True,
        batch=query[0],
        queries=query[1],
        keys=key[1] + before,
        past=before,
        heads=heads,
        sizes=(query[2] // heads[0], value[2] // heads[1]),
    )


def _by_heads(graph: Rewriting, value: str, extents: _Extents, *, heads: int, length: int) -> str:
    """Return [batch, heads, length, size]."""
    if not extents.is_flat:
        return value
    shape = graph.constant([extents.batch, length, heads, -1], np.int64)
    return graph.add("Transpose", graph.add("Reshape", value, shape), perm=[0, 2, 1, 3])


def _repeated(graph: Rewriting, side: str, extents: _Extents) -> str:
    """Return keys or values with each head once for every head of queries that reads it."""
    heads, own = extents.heads
    if heads == own:
        return side
    order = graph.constant(np.repeat(np.arange(own), heads // own), np.int64)
    return graph.add("Gather", side, order, axis=1)


def _bias(graph: Rewriting, extents: _Extents) -> tuple[str, bool]:
    """Return what is added to the scores, empty for nothing, and whether it may mask a whole row."""
    dtype = _computed(graph)
    zero, least = graph.constant(0, dtype), graph.constant(-np.inf, dtype)
    parts, may_mask_all = [], False
    if graph.input(3):
        parts.append(_mask(graph, extents, zero, least))
        may_mask_all = True
    filled = graph.input(6)
    rows, columns = np.arange(extents.queries)[:, None], np.arange(extents.keys)[None]
    if graph.attributes.get("is_causal", 0):
        if filled and not extents.past:
            counted = graph.add("Sub", filled, graph.constant(extents.queries, np.int64))
            offset = graph.add("Reshape", counted, graph.constant([-1, 1, 1, 1], np.int64))
            before = graph.constant((columns - rows)[None, None], np.int64)
            parts.append(graph.add("Where", graph.add("LessOrEqual", before, offset), zero, least))
        else:
            allowed = columns <= rows + extents.past
            parts.append(graph.constant(np.where(allowed, 0, -np.inf), dtype))
    left, right = (graph.attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    if left >= 0 or right >= 0:
        if filled and not extents.past:
            raise UnsupportedForm("its keys are limited to a window whose place depends on data")
        may_mask_all = True
        behind = rows + extents.past - columns
        allowed = (behind <= (left if left >= 0 else extents.keys + extents.queries)) & (
            -behind <= (right if right >= 0 else extents.keys)
        )
        parts.append(graph.constant(np.where(allowed, 0, -np.inf), dtype))
    if filled:
        may_mask_all = True
        counts = graph.add("Reshape", filled, graph.constant([-1, 1, 1, 1], np.int64))
        inside = graph.add("Less", graph.constant(columns[None, None], np.int64), counts)
        parts.append(graph.add("Where", inside, zero, least))
    bias = parts[0] if parts else ""
    for part in parts[1:]:
        bias = graph.add("Add", bias, part)
    return bias, may_mask_all


def _mask(graph: Rewriting, extents: _Extents, zero: str, least: str) -> str:
    """Return the mask as what is added; where it is shorter than the keys, those behind it are masked."""
    mask = graph.input(3)
    shape, is_bool = graph.shape(mask) or (), graph.dtype(mask) == np.bool_
    missing = extents.keys - shape[-1] if shape else 0
    if missing > 0:
        behind: Array = np.full((*shape[:-1], missing), False if is_bool else -np.inf)
        mask = graph.add("Concat", mask, graph.constant(behind, graph.dtype(mask)), axis=-1)
    return graph.add("Where", mask, zero, least) if is_bool else _widened(graph, mask)


def _softmax(graph: Rewriting, scores: str, guard: str) -> str:
    dtype = _computed(graph)
    own = helper.np_dtype_to_tensor_dtype(dtype)
    precision = graph.attributes.get("softmax_precision", 0) or own
    if precision == TensorProto.FLOAT16 and own == TensorProto.FLOAT:
        precision = own
    if precision != own:
        scores = graph.add("Cast", scores, to=precision)
    shares = graph.add("Softmax", scores, axis=-1)
    if precision != own:
        shares = graph.add("Cast", shares, to=own)
    if not guard:
        return shares
    most = graph.reduced("ReduceMax", guard, [-1])
    masked = graph.add("Equal", most, graph.constant(-np.inf, dtype))
    return graph.add("Where", masked, graph.constant(0, dtype), shares)


def _rotary(graph: Rewriting) -> bool:
    """Turn pairs of numbers of each head by the angle of their place."""
    shape, cosines = graph.shape(graph.input(0)), graph.shape(graph.input(1))
    attributes = graph.attributes
    if shape is None or cosines is None or len(shape) not in (3, 4):
        raise UnsupportedForm("its input has neither three nor four axes, or an open shape")
    heads = shape[1] if len(shape) == 4 else attributes["num_heads"]
    batch, length = shape[0], shape[2] if len(shape) == 4 else shape[1]
    size = shape[3] if len(shape) == 4 else shape[2] // heads
    turned = attributes.get("rotary_embedding_dim", 0) or size
    value = graph.input(0)
    if len(shape) == 3:
        wide = graph.constant([batch, length, heads, size], np.int64)
        value = graph.add("Transpose", graph.add("Reshape", value, wide), perm=[0, 2, 1, 3])
    pairs = []
    for number in (1, 2):
        cache = graph.input(number)
        if graph.input(3):
            cache = graph.add("Gather", cache, graph.input(3), axis=0)
        pairs.append(graph.unsqueezed(cache, 1))
    half, step = turned // 2, 2 if attributes.get("interleaved", 0) else 1
    places = ((0, turned), (1, turned)) if step == 2 else ((0, half), (half, turned))
    one, other = (_slice(graph, value, begin, end, step) for begin, end in places)
    real = graph.add("Sub", graph.add("Mul", pairs[0], one), graph.add("Mul", pairs[1], other))
    imaginary = graph.add("Add", graph.add("Mul", pairs[1], one), graph.add("Mul", pairs[0], other))
    if step == 2:
        joined = graph.add("Concat", *(graph.unsqueezed(each, -1) for each in (real, imaginary)), axis=-1)
        made = graph.add("Reshape", joined, graph.constant([batch, heads, length, turned], np.int64))
    else:
        made = graph.add("Concat", real, imaginary, axis=-1)
    if turned < size:
        made = graph.add("Concat", made, _slice(graph, value, turned, size, 1), axis=-1)
    if len(shape) == 4:
        graph.add("Identity", made, gives=graph.output(0))
    else:
        flat = graph.add("Transpose", made, perm=[0, 2, 1, 3])
        graph.add("Reshape", flat, graph.constant(list(shape), np.int64), gives=graph.output(0))
    return True


def _slice(graph: Rewriting, value: str, begin: int, end: int, step: int) -> str:
    """Return a part of the last of four axes."""
    return graph.sliced(value, begin, end, axis=3, step=step)


REWRITES: dict[str, Rewrite] = {"Attention": _attention, "RotaryEmbedding": _rotary}
"""Operator -> what replaces it."""
