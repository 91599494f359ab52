"""What prepares features: Binarizer, ArrayFeatureExtractor, Scaler, LinearRegressor of ai.onnx.ml, and TfIdfVectorizer.

https://onnx.ai/onnx/operators/index.html#ai-onnx-ml, https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import cast, reshaped, tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm, constant
from crossfarm.backends.tvm.operators.serial import Row, inside, run_loops, scalar
from crossfarm.backends.tvm.types import Array, PrimExpr, RelaxExpr, Tensor, Var


def _binarizer(node: Node) -> RelaxExpr:
    dtype = node.dtype(0)
    threshold = constant(node.attributes.get("threshold", 0.0), dtype)
    return relax.op.astype(node.emit(relax.op.greater(node.input(0), threshold)), dtype)


def _array_feature_extractor(node: Node) -> RelaxExpr:
    """Return chosen elements of the last axis; of a vector a matrix of one row, as ONNX Runtime has it."""
    shape, count = node.shape(0), math.prod(node.shape(1))
    if not shape:
        raise UnsupportedForm("it chooses from a scalar")
    made = (*shape[:-1], count) if len(shape) > 1 else (1, count)
    if not math.prod(made):
        return constant(np.zeros(made), node.dtype(0))

    def compute(values: Tensor, places: Tensor) -> Tensor:
        def element(*at: Var) -> PrimExpr:
            before = at[:-1] if len(shape) > 1 else ()
            return values[(*before, inside(places[at[-1]], shape[-1]))]

        return te.compute(made, element, name="extracted")

    places = reshaped(node, node.input(1), [count])
    return node.compute(compute, node.input(0), places, name="array_feature_extractor")


def _scaler(node: Node) -> RelaxExpr:
    """(x - offset) * scale, each one number or one for each feature."""
    offset, scale = (np.asarray(node.attributes.get(name, default), np.float32) for name, default in _SCALES)
    value = cast(node, node.input(0), "float32")
    centred = node.emit(relax.op.subtract(value, tensor(offset)))
    return relax.op.multiply(centred, tensor(scale))


_SCALES = (("offset", [0.0]), ("scale", [1.0]))


def _linear_regressor(node: Node) -> RelaxExpr:
    """x W^T + b."""
    targets = int(node.attributes.get("targets", 1))
    if node.attributes.get("post_transform", "NONE") != "NONE":
        raise UnsupportedForm(f"it transforms its result by {node.attributes['post_transform']}")
    weights = np.asarray(node.attributes["coefficients"], np.float32).reshape(targets, -1)
    shape = node.shape(0) if len(node.shape(0)) > 1 else (1, math.prod(node.shape(0)))
    value = reshaped(node, cast(node, node.input(0), "float32"), shape)
    product = node.emit(relax.op.matmul(value, tensor(weights.T)))
    bias = np.asarray(node.attributes.get("intercepts", [0.0]), np.float32)
    return relax.op.add(product, tensor(bias))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Grams:
    """The n-grams of one size that are counted.

    Attributes:
        size: items of each.
        items: [grams, size].
        columns: of the result, one for each gram.
    """

    size: int
    items: Array
    columns: Array


def _grams(node: Node, sizes: range) -> list[_Grams]:
    attributes = node.attributes
    if "pool_int64s" not in attributes:
        raise UnsupportedForm("it counts strings")
    pool = np.asarray(attributes["pool_int64s"], np.int64)
    starts = [*(int(start) for start in attributes["ngram_counts"]), len(pool)]
    columns = np.asarray(attributes["ngram_indexes"], np.int64)
    if sorted(starts) != starts or starts[0] < 0 or columns.min(initial=0) < 0:
        raise UnsupportedForm("its pool does not fit the places where n-grams of a size begin")
    found, used = [], 0
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        size = number + 1
        count = (end - start) // size
        if count and size in sizes:
            items = pool[start : start + count * size].reshape(count, size)
            # Of an n-gram that the pool names twice, ONNX Runtime counts the last alone.
            last = {tuple(row): place for place, row in enumerate(items.tolist())}
            kept = sorted(last.values())
            found.append(_Grams(size=size, items=items[kept], columns=columns[used : used + count][kept]))
        used += count
    if used > len(columns):
        raise UnsupportedForm(f"its pool holds {used} n-grams, and it names {len(columns)} places of the result")
    return found


def _tf_idf(node: Node) -> RelaxExpr:
    """Count n-grams of integers, also with items left out between theirs, in rows of a matrix or in a vector."""
    attributes = node.attributes
    shape = node.shape(0)
    if len(shape) > 2 or node.dtype(0) not in ("int32", "int64"):
        raise UnsupportedForm(f"it counts n-grams in {node.dtype(0)} of {len(shape)} axes")
    rows, length = shape if len(shape) == 2 else (1, math.prod(shape))
    grams = _grams(node, range(int(attributes["min_gram_length"]), int(attributes["max_gram_length"]) + 1))
    farthest = int(attributes["max_skip_count"]) + 1
    width = int(max(attributes["ngram_indexes"])) + 1
    inputs = [node.input(0)]
    for each in grams:
        inputs += [tensor(each.items.astype(node.dtype(0))), tensor(each.columns.astype(np.int32))]

    def body(values: Row, *others: Row) -> None:
        result = others[-1]
        with T.serial(0, rows * width) as place:
            result[place] = tirx.const(0, "float32")
        for number, each in enumerate(grams):
            items, columns = others[2 * number], others[2 * number + 1]
            _count(values, items, columns, result, grams=each, extents=(rows, length, width), farthest=farthest)

    counts = run_loops(node, body, inputs=inputs, outputs=[((rows, width), "float32")])[0]
    if len(shape) < 2:
        counts = reshaped(node, counts, [width])
    return _weighted(node, counts, width)


def _count(
    values: Row, items: Row, columns: Row, result: Row, *, grams: _Grams, extents: tuple[int, int, int], farthest: int
) -> None:
    """Write the loops that count the n-grams of one size: gaps between the items of a single one change nothing."""
    rows, length, width = extents
    size, count = grams.size, len(grams.columns)
    for distance in range(1, (farthest if size > 1 else 1) + 1):
        starts = length - distance * (size - 1)
        if starts < 1:
            break
        with T.serial(0, rows) as row, T.serial(0, count) as gram, T.serial(0, starts) as start:
            same = scalar("int32")
            same[0] = tirx.const(1, "int32")
            with T.serial(0, size) as item:
                differs = values[row * length + start + item * distance] != items[gram * size + item]
                with T.If(differs), T.Then():
                    same[0] = tirx.const(0, "int32")
            with T.If(same[0] > 0), T.Then():
                place = scalar("int32")
                place[0] = row * width + columns[gram]
                result[place[0]] = result[place[0]] + tirx.const(1, "float32")


def _weighted(node: Node, counts: RelaxExpr, width: int) -> RelaxExpr:
    mode, weights = node.attributes["mode"], node.attributes.get("weights")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise UnsupportedForm(f"its mode is {mode!r}")
    if mode == "IDF":
        counts = node.emit(relax.op.minimum(counts, constant(1.0, "float32")))
    if mode == "TF" or not weights:
        return counts
    columns = node.attributes["ngram_indexes"]
    if len(weights) != len(columns):
        raise UnsupportedForm(f"it has {len(weights)} weights for {len(columns)} n-grams")
    # Weights are those of n-grams, in the order of the pool; ONNX's reference takes them for those of columns.
    by_column = np.zeros(width, np.float32)
    by_column[np.asarray(columns)] = weights
    return relax.op.multiply(counts, tensor(by_column))


CONVERTERS: dict[str, Converter] = {
    "TfIdfVectorizer": _tf_idf,
    "ai.onnx.ml.ArrayFeatureExtractor": _array_feature_extractor,
    "ai.onnx.ml.Binarizer": _binarizer,
    "ai.onnx.ml.LinearRegressor": _linear_regressor,
    "ai.onnx.ml.Scaler": _scaler,
}
"""Operator -> its converter."""
