"""GroupQueryAttention of com.microsoft, as exported language models have it: heads that share keys, and a cache.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GroupQueryAttention;
where that is silent, what ONNX Runtime's kernel does.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite, Rewriting
from crossfarm.backends.tvm.operators.node import UnsupportedForm
from crossfarm.backends.tvm.types import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Extents:
    """Of a node.

    Attributes:
        batch: sequences.
        fresh: new places of each.
        total: places of each, those before it included.
        past: places that the cache has room for.
        heads: of queries, and of keys and values.
        size: elements of a head.
    """

    batch: int
    fresh: int
    total: int
    past: int
    heads: tuple[int, int]
    size: int

    @property
    def room(self) -> int:
        """Places that the cache has room for afterwards."""
        return max(self.total, self.past)

    @property
    def is_first(self) -> bool:
        """Whether nothing was before."""
        return self.fresh == self.total


def _grouped(graph: Rewriting) -> bool:
    extents = _extents(graph)
    before = "" if extents.is_first else _before(graph, extents)
    query, key, value = _parts(graph, extents)
    if graph.attributes.get("do_rotary", 0):
        places = graph.input(9) or _places(graph, extents, before)
        query, key = (_rotated(graph, each, places) for each in (query, key))
    sides = [
        _cached(graph, each, extents, before, past=graph.input(3 + number), gives=graph.output(1 + number))
        for number, each in enumerate((key, value))
    ]
    key, value = (_repeated(graph, each, extents) for each in sides)
    _attended(graph, extents, (query, key, value), _allowed(graph, extents, before))
    return True


def _extents(graph: Rewriting) -> _Extents:
    attributes = graph.attributes
    shape, total = graph.shape(graph.input(0)), graph.array(6)
    past = graph.shape(graph.input(3)) if graph.input(3) else (0, 0, 0, 0)
    if shape is None or len(shape) != 3 or past is None or total is None:
        raise UnsupportedForm("its queries, its cache or its total length is known only when the model runs")
    if graph.input(11) or attributes.get("smooth_softmax", 0) > 0 or attributes.get("qk_output", 0):
        raise UnsupportedForm("it has a sink of its softmax, or gives its scores")
    if attributes.get("kv_cache_bit_width", 0) or any(graph.output(number) for number in (3,)):
        raise UnsupportedForm("its cache is quantised, or it gives its scores")
    heads = attributes["num_heads"], attributes["kv_num_heads"]
    shared = heads[0] if graph.input(1) else heads[0] + 2 * heads[1]
    return _Extents(
        batch=shape[0],
        fresh=shape[1],
        total=int(total.reshape(-1)[0]),
        past=past[2],
        heads=heads,
        size=shape[2] // shared,
    )


def _before(graph: Rewriting, extents: _Extents) -> str:
    """Return how many places of each sequence are in the cache: [batch], int64."""
    last = graph.add("Reshape", graph.add("Cast", graph.input(5), to=7), graph.constant([extents.batch], np.int64))
    return graph.add("Add", last, graph.constant([1 - extents.fresh], np.int64))


def _places(graph: Rewriting, extents: _Extents, before: str) -> str:
    """Return the place of each new element in its sequence: [batch, fresh]."""
    counted = np.arange(extents.fresh)[None]
    if not before:
        return graph.constant(np.repeat(counted, extents.batch, axis=0), np.int64)
    return graph.add("Add", graph.unsqueezed(before, 1), graph.constant(counted, np.int64))


def _parts(graph: Rewriting, extents: _Extents) -> tuple[str, str, str]:
    """Return queries, keys and values as [batch, heads, fresh, size]."""
    given = [graph.input(number) for number in range(3)]
    ends = np.cumsum([extents.heads[0], extents.heads[1], extents.heads[1]]) * extents.size
    if not given[1]:
        limits = zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
        given = [graph.sliced(given[0], begin, end, axis=2) for begin, end in limits]
    made = []
    for value, heads in zip(given, (extents.heads[0], extents.heads[1], extents.heads[1]), strict=True):
        shape = [extents.batch, extents.fresh, heads, extents.size]
        wide = graph.add("Reshape", value, graph.constant(shape, np.int64))
        made.append(graph.add("Transpose", wide, perm=[0, 2, 1, 3]))
    return made[0], made[1], made[2]


def _rotated(graph: Rewriting, value: str, places: str) -> str:
    """Turn pairs of numbers by the angle of their place; the cosines say how many of a head are turned."""
    cosines = graph.shape(graph.input(7))
    if cosines is None:
        raise UnsupportedForm("its cosines have an open shape")
    interleaved = graph.attributes.get("rotary_interleaved", 0)
    names = [value, graph.input(7), graph.input(8), places]
    return graph.add("RotaryEmbedding", *names, interleaved=interleaved, rotary_embedding_dim=2 * cosines[-1])


def _cached(graph: Rewriting, fresh: str, extents: _Extents, before: str, *, past: str, gives: str) -> str:
    """Return keys or values with those of the cache before them; what is behind the last one is 0."""
    shape = (extents.batch, extents.heads[1], extents.room, extents.size)
    dtype = graph.dtype(graph.input(0))
    held = fresh
    if before:
        held = past
    known = extents.past if before else extents.fresh
    if known < extents.room:
        behind = graph.constant(np.zeros((*shape[:2], extents.room - known, shape[3])), dtype)
        held = graph.add("Concat", held, behind, axis=2) if known else behind
    if before:
        held = graph.add("TensorScatter", held, fresh, before, axis=2)
        if extents.batch > 1 or extents.room > extents.total:
            ends = graph.add("Add", before, graph.constant([extents.fresh], np.int64))
            ends = graph.unsqueezed(ends, 1, 2, 3)
            columns = graph.constant(np.arange(extents.room).reshape(1, 1, -1, 1), np.int64)
            held = graph.add("Where", graph.add("Less", columns, ends), held, graph.constant(0, dtype))
    if gives:
        return graph.add("Identity", held, gives=gives)
    return held


def _repeated(graph: Rewriting, side: str, extents: _Extents) -> str:
    """Return keys or values with each head once for every head of queries that reads it."""
    heads, own = extents.heads
    if heads == own:
        return side
    return graph.add("Gather", side, graph.constant(np.repeat(np.arange(own), heads // own), np.int64), axis=1)


def _allowed(graph: Rewriting, extents: _Extents, before: str) -> str:
    """Return what is added to scores: 0 where a query may look, -infinity elsewhere; [batch or 1, 1, fresh, room]."""
    dtype = graph.dtype(graph.input(0))
    window = graph.attributes.get("local_window_size", -1)
    rows = np.arange(extents.fresh).reshape(1, 1, -1, 1)
    columns = np.arange(extents.room).reshape(1, 1, 1, -1)
    # How far a place is before the newest one of the first query, less where the query stands.
    distance: Array = columns - rows
    if not before:
        allowed = (distance <= 0) & (distance > -window if window > 0 else np.True_)
        return graph.constant(np.where(allowed, 0, -np.inf), dtype)
    offset, far = graph.unsqueezed(before, 1, 2, 3), graph.constant(distance, np.int64)
    seen = graph.add("Not", graph.add("Greater", far, offset))
    if window > 0:
        nearest = graph.add("Sub", offset, graph.constant([window], np.int64))
        seen = graph.add("And", seen, graph.add("Greater", far, nearest))
    return graph.add("Where", seen, graph.constant(0, dtype), graph.constant(-np.inf, dtype))


def _attended(graph: Rewriting, extents: _Extents, parts: tuple[str, str, str], allowed: str) -> None:
    """Write the output: softmax(Q K^T * scale, capped, + allowed) V."""
    attributes, dtype = graph.attributes, graph.dtype(graph.input(0))
    query, key, value = parts
    scale = attributes.get("scale", 0.0) or 1 / math.sqrt(extents.size)
    turned = graph.add("Transpose", key, perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", graph.add("Mul", query, graph.constant(scale, dtype)), turned)
    if cap := attributes.get("softcap", 0.0):
        inner = graph.add("Tanh", graph.add("Div", scores, graph.constant(cap, dtype)))
        scores = graph.add("Mul", inner, graph.constant(cap, dtype))
    if graph.input(10):
        shape = graph.shape(graph.input(10))
        if shape is None or shape[-1] != extents.room:
            raise UnsupportedForm("its bias is not as long as its cache")
        scores = graph.add("Add", scores, graph.input(10))
    shares = graph.add("Softmax", graph.add("Add", scores, allowed), axis=-1)
    flat = graph.constant([extents.batch, extents.fresh, extents.heads[0] * extents.size], np.int64)
    made = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    graph.add("Reshape", made, flat, gives=graph.output(0))


REWRITES: dict[str, Rewrite] = {"com.microsoft.GroupQueryAttention": _grouped}
"""Operator -> what replaces it."""
