"""Convolutions, pooling, dense layers and reductions, held to LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.stages.prepare.tflite.files import Array, Steps, TfliteFile, check

pytestmark = pytest.mark.integration

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=10)
SAME, VALID = 0, 1
INT16 = "int16"


def _stored(random: np.random.Generator, shape: Any, dtype: str) -> Array:
    if dtype == "float32":
        return random.normal(size=shape).astype(np.float32)
    bounds = np.iinfo(dtype)
    return random.integers(bounds.min + (dtype == INT16), bounds.max + 1, shape).astype(dtype)


def _steps(dtype: str, scale: float) -> Steps | None:
    if dtype == "float32":
        return None
    if dtype == INT16:
        return Steps(scale=scale / 256)
    return Steps(scale=scale, zero_point=3 if dtype == "int8" else 120)


def _weights(file: TfliteFile, random: np.random.Generator, shape: Any, dtype: str, axis: int) -> tuple[int, Array]:
    """Add weights, of integers with one scale a channel (uint8: one for all), and return number and scales."""
    if dtype == "float32":
        return file.tensor(data=_stored(random, shape, dtype)), np.ones(1)
    if dtype == "uint8":
        return file.tensor(data=_stored(random, shape, dtype), steps=Steps(scale=0.01, zero_point=128)), np.array(
            [0.01]
        )
    scales = random.uniform(0.003, 0.02, shape[axis]).astype(np.float32)
    values = random.integers(-127, 128, shape).astype(np.int8)
    return file.tensor(data=values, steps=Steps(scale=scales, zero_point=0, axis=axis)), scales


def _bias(file: TfliteFile, random: np.random.Generator, count: int, dtype: str, scales: Array) -> int:
    if dtype == "float32":
        return file.tensor(data=_stored(random, count, dtype))
    step = 0.05 / 256 if dtype == INT16 else 0.05
    values = random.integers(-500, 500, count).astype(np.int64 if dtype == INT16 else np.int32)
    return file.tensor(data=values, steps=Steps(scale=(scales * step).astype(np.float32), zero_point=0))


def _extent(size: int, window: int, stride: int, dilation: int, padding: int) -> int:
    reach = (window - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - reach) // stride + 1


@st.composite
def _geometries(draw: st.DrawFn, *, dilated: bool = True) -> dict[str, Any]:
    size = draw(st.tuples(st.integers(5, 10), st.integers(5, 10)))
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) if dilated else (1, 1)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if dilation == (1, 1) else (1, 1)
    return {"size": size, "window": window, "stride": stride, "dilation": dilation, "padding": draw(st.integers(0, 1))}


def _options(geometry: dict[str, Any], activation: int) -> dict[str, Any]:
    return {
        "padding": geometry["padding"],
        "strideH": geometry["stride"][0],
        "strideW": geometry["stride"][1],
        "fusedActivationFunction": activation,
    }


def _dilations(geometry: dict[str, Any]) -> dict[str, int]:
    return {"dilationHFactor": geometry["dilation"][0], "dilationWFactor": geometry["dilation"][1]}


def _after(geometry: dict[str, Any]) -> list[int]:
    parts = (geometry[key] for key in ("size", "window", "stride", "dilation"))
    return [_extent(*four, geometry["padding"]) for four in zip(*parts, strict=True)]


DTYPES = ["float32", "int8", "uint8", "int16"]


def _equal(dtype: str) -> float:
    """Return the share of elements that must be equal; LiteRT's multipliers of 16-bit sums have 15 bits."""
    return 0.5 if dtype == INT16 else 0.9


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(geometry=_geometries(), activation=st.sampled_from((0, 1, 3)), groups=st.sampled_from((1, 2)), seed=SEEDS)
def test_convolution(dtype: str, geometry: dict[str, Any], activation: int, groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    if dtype in ("uint8", INT16):
        groups = 1  # LiteRT has no such kernel
    file = TfliteFile()
    shape = (1, *geometry["size"], 4)
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    kernel, scales = _weights(file, random, (6, *geometry["window"], 4 // groups), dtype, 0)
    bias = _bias(file, random, 6, dtype, scales)
    output = file.tensor((1, *_after(geometry), 6), dtype, steps=_steps(dtype, 0.3))
    options = {**_options(geometry, activation), **_dilations(geometry)}
    file.add("CONV_2D", [source, kernel, bias], [output], "Conv2DOptions", **options)
    check(file.content([source], [output]), {source: _stored(random, shape, dtype)}, equal=_equal(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(geometry=_geometries(), activation=st.sampled_from((0, 1, 3)), multiplier=st.integers(1, 2), seed=SEEDS)
def test_depthwise_convolution(
    dtype: str, geometry: dict[str, Any], activation: int, multiplier: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    file = TfliteFile()
    shape = (1, *geometry["size"], 3)
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    kernel, scales = _weights(file, random, (1, *geometry["window"], 3 * multiplier), dtype, 3)
    bias = _bias(file, random, 3 * multiplier, dtype, scales)
    output = file.tensor((1, *_after(geometry), 3 * multiplier), dtype, steps=_steps(dtype, 0.1))
    options = {**_options(geometry, activation), **_dilations(geometry), "depthMultiplier": multiplier}
    file.add("DEPTHWISE_CONV_2D", [source, kernel, bias], [output], "DepthwiseConv2DOptions", **options)
    check(file.content([source], [output]), {source: _stored(random, shape, dtype)}, equal=_equal(dtype))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8", INT16])
@settings(max_examples=20)
@given(geometry=_geometries(dilated=False), more=st.tuples(st.integers(0, 1), st.integers(0, 1)), seed=SEEDS)
def test_transposed_convolution(
    with_bias: bool, dtype: str, geometry: dict[str, Any], more: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    file = TfliteFile()
    shape = (1, *_after(geometry), 4)
    # Several sizes lead to one image by the convolution that this is the transposition of.
    wanted = (1, *geometry["size"], 3)
    shape_of = file.tensor(data=np.array(wanted, np.int32))
    kernel, scales = _weights(file, random, (3, *geometry["window"], 4), dtype, 0)
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    output = file.tensor(wanted, dtype, steps=_steps(dtype, 0.2))
    inputs = [shape_of, kernel, source, *([_bias(file, random, 3, dtype, scales)] if with_bias else [])]
    file.add("TRANSPOSE_CONV", inputs, [output], "TransposeConvOptions", **_options(geometry, 0))
    check(file.content([source], [output]), {source: _stored(random, shape, dtype)}, equal=_equal(dtype))


@pytest.mark.parametrize("padding", [SAME, VALID])
def test_a_convolution_of_volumes(padding: int) -> None:
    random = np.random.default_rng(4)
    file = TfliteFile()
    shape = (1, 5, 6, 7, 2)
    source, bias = file.tensor(shape), file.tensor(data=_stored(random, 3, "float32"))
    kernel = file.tensor(data=_stored(random, (2, 3, 2, 2, 3), "float32"))
    after = [_extent(*four, padding) for four in zip((5, 6, 7), (2, 3, 2), (1, 2, 2), (1, 1, 1), strict=True)]
    output = file.tensor((1, *after, 3))
    options = {"strideD": 1, "strideH": 2, "strideW": 2, "padding": padding, "fusedActivationFunction": 1}
    file.add("CONV_3D", [source, kernel, bias], [output], "Conv3DOptions", **options)
    check(file.content([source], [output]), {source: _stored(random, shape, "float32")})


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"])
@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(geometry=_geometries(dilated=False), activation=st.sampled_from((0, 1, 3)), seed=SEEDS)
def test_pooling(name: str, dtype: str, geometry: dict[str, Any], activation: int, seed: int) -> None:
    if name == "L2_POOL_2D" and dtype != "float32":
        return  # LiteRT has no such kernel
    random = np.random.default_rng(seed)
    file = TfliteFile()
    shape = (2, *geometry["size"], 3)
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    output = file.tensor((2, *_after(geometry), 3), dtype, steps=_steps(dtype, 0.05))
    options = {
        **_options(geometry, activation),
        "filterHeight": geometry["window"][0],
        "filterWidth": geometry["window"][1],
    }
    file.add(name, [source], [output], "Pool2DOptions", **options)
    # Means of few integers often lie at a half, which LiteRT rounds away from zero.
    check(file.content([source], [output]), {source: _stored(random, shape, dtype)}, equal=0.3)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@FEW
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), activation=st.sampled_from((0, 1)), seed=SEEDS
)
def test_a_dense_layer(dtype: str, keep: bool, shape: tuple[int, ...], activation: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    file = TfliteFile()
    source = file.tensor((*shape, 8), dtype, steps=_steps(dtype, 0.05))
    if dtype == "float32":
        kernel, scales = file.tensor(data=_stored(random, (5, 8), dtype)), np.ones(1)
    else:
        one = Steps(scale=0.01, zero_point=120 if dtype == "uint8" else 0)
        kernel = file.tensor(data=_stored(random, (5, 8), "uint8" if dtype == "uint8" else "int8"), steps=one)
        scales = np.array([0.01])
    bias = _bias(file, random, 5, dtype, scales)
    after = (*shape, 5) if keep else (int(np.prod(shape)), 5)
    output = file.tensor(after, dtype, steps=_steps(dtype, 0.3))
    options = {"fusedActivationFunction": activation, "keepNumDims": keep}
    file.add("FULLY_CONNECTED", [source, kernel, bias], [output], "FullyConnectedOptions", **options)
    check(file.content([source], [output]), {source: _stored(random, (*shape, 8), dtype)}, equal=_equal(dtype))


def test_a_dense_layer_with_a_scale_for_each_channel() -> None:
    random = np.random.default_rng(3)
    file = TfliteFile()
    source = file.tensor((4, 8), "int8", steps=_steps("int8", 0.05))
    kernel, scales = _weights(file, random, (5, 8), "int8", 0)
    output = file.tensor((4, 5), "int8", steps=_steps("int8", 0.3))
    bias = _bias(file, random, 5, "int8", scales)
    file.add("FULLY_CONNECTED", [source, kernel, bias], [output], "FullyConnectedOptions")
    check(file.content([source], [output]), {source: _stored(random, (4, 8), "int8")})


def test_a_dense_layer_with_computed_weights() -> None:
    random = np.random.default_rng(3)
    file = TfliteFile()
    source, kernel, output = file.tensor((4, 8)), file.tensor((5, 8)), file.tensor((4, 5))
    file.add("FULLY_CONNECTED", [source, kernel, -1], [output], "FullyConnectedOptions")
    feed = {source: _stored(random, (4, 8), "float32"), kernel: _stored(random, (5, 8), "float32")}
    check(file.content([source, kernel], [output]), feed)


@pytest.mark.parametrize("swaps", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@settings(max_examples=5)
@given(batch=st.lists(st.integers(1, 3), max_size=2).map(tuple), seed=SEEDS)
def test_a_product_of_matrices(
    swaps: tuple[bool, bool], constant: bool, dtype: str, batch: tuple[int, ...], seed: int
) -> None:
    if constant and dtype == "int8":
        return
    random = np.random.default_rng(seed)
    left, right = (4, 6)[:: -1 if swaps[0] else 1], (6, 5)[:: -1 if swaps[1] else 1]
    file = TfliteFile()
    values = [_stored(random, (*batch, *left), dtype), _stored(random, (*batch, *right), dtype)]
    first = file.tensor(values[0].shape, dtype, steps=_steps(dtype, 0.05))
    second = file.tensor(data=values[1]) if constant else file.tensor(values[1].shape, dtype, steps=_steps(dtype, 0.04))
    output = file.tensor((*batch, 4, 5), dtype, steps=_steps(dtype, 0.4))
    file.add("BATCH_MATMUL", [first, second], [output], "BatchMatMulOptions", adjX=swaps[0], adjY=swaps[1])
    feed = {first: values[0]} if constant else {first: values[0], second: values[1]}
    check(file.content(list(feed), [output]), feed)


SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
REDUCTIONS = ["MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"]


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "int32", "int8"])
@FEW
@given(shape=SHAPES, keep=st.booleans(), data=st.data())
def test_a_reduction(name: str, dtype: str, shape: tuple[int, ...], keep: bool, data: st.DataObject) -> None:
    rank = len(shape)
    axes = data.draw(
        st.lists(st.integers(-rank, rank - 1), min_size=1, max_size=rank, unique_by=lambda axis: axis % rank)
    )
    if name in ("REDUCE_ANY", "REDUCE_ALL"):
        dtype = "bool"
    if name == "REDUCE_PROD" and dtype == "int8":
        return  # the product of steps is no step: LiteRT rescales it in fixed point at every factor
    random = np.random.default_rng(rank)
    values = random.random(shape) < 0.7 if dtype == "bool" else _stored(random, shape, dtype)
    if dtype == "int32":
        values = (values % 7 - 3).astype(np.int32)
    reduced = {axis % rank for axis in axes}
    after = tuple(1 if at in reduced else extent for at, extent in enumerate(shape) if keep or at not in reduced)
    file = TfliteFile()
    steps = _steps("int8", 0.05) if dtype == "int8" else None
    source = file.tensor(shape, dtype, steps=steps)
    written = _steps("int8", 0.5) if dtype == "int8" and name == "SUM" else steps
    output = file.tensor(after, dtype, steps=written)
    named = file.tensor(data=np.array(axes, np.int32))
    file.add(name, [source, named], [output], "ReducerOptions", keepDims=keep)
    # The reference kernel of SUM takes int8 for uint8.
    check(file.content([source], [output]), {source: values}, equal=0.5, usual=name == "SUM")


@pytest.mark.parametrize("name", ["ARG_MAX", "ARG_MIN"])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int32"])
@FEW
@given(shape=SHAPES, data=st.data())
def test_where_the_extreme_is(name: str, wide: bool, dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    values = np.round(_stored(np.random.default_rng(1), shape, dtype) / (40 if dtype == "int8" else 1)).astype(dtype)
    file = TfliteFile()
    source = file.tensor(shape, dtype, steps=_steps("int8", 0.05) if dtype == "int8" else None)
    after = shape[:axis] + shape[axis % len(shape) + 1 :]
    output = file.tensor(after, "int64" if wide else "int32")
    kind = "ArgMaxOptions" if name == "ARG_MAX" else "ArgMinOptions"
    named = file.tensor(data=np.array(axis, np.int32))
    file.add(name, [source, named], [output], kind, outputType=4 if wide else 2)
    check(file.content([source], [output]), {source: values}, steps=0)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("beta", [1.0, 0.5])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_softmax(dtype: str, beta: float, shape: tuple[int, ...], seed: int) -> None:
    file = TfliteFile()
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    after = {"float32": None, "int8": Steps(scale=1 / 256, zero_point=-128), "uint8": Steps(scale=1 / 256)}[dtype]
    output = file.tensor(shape, dtype, steps=after)
    file.add("SOFTMAX", [source], [output], "SoftmaxOptions", beta=beta)
    check(file.content([source], [output]), {source: _stored(np.random.default_rng(seed), shape, dtype)})


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_log_softmax(dtype: str, shape: tuple[int, ...], seed: int) -> None:
    file = TfliteFile()
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    zero = {"int8": 127, "uint8": 255}
    output = file.tensor(shape, dtype, steps=Steps(scale=16 / 256, zero_point=zero[dtype]) if dtype in zero else None)
    file.add("LOG_SOFTMAX", [source], [output], "LogSoftmaxOptions")
    check(file.content([source], [output]), {source: _stored(np.random.default_rng(seed), shape, dtype)})


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_length_of_one(dtype: str, shape: tuple[int, ...], seed: int) -> None:
    file = TfliteFile()
    source = file.tensor(shape, dtype, steps=_steps(dtype, 0.05))
    after = {"float32": None, "int8": Steps(scale=1 / 128), "uint8": Steps(scale=1 / 128, zero_point=128)}[dtype]
    output = file.tensor(shape, dtype, steps=after)
    file.add("L2_NORMALIZATION", [source], [output], "L2NormOptions")
    # LiteRT takes the root in fixed point.
    check(file.content([source], [output]), {source: _stored(np.random.default_rng(seed), shape, dtype)}, equal=0.5)


@pytest.mark.parametrize("radius", [0, 1, 5])
def test_a_normalisation_over_neighbouring_channels(radius: int) -> None:
    values = _stored(np.random.default_rng(2), (1, 3, 4, 6), "float32")
    file = TfliteFile()
    source, output = file.tensor(values.shape), file.tensor(values.shape)
    options = {"radius": radius, "bias": 1.5, "alpha": 0.3, "beta": 0.75}
    file.add("LOCAL_RESPONSE_NORMALIZATION", [source], [output], "LocalResponseNormalizationOptions", **options)
    # The reference kernel leaves the last channel of each window out.
    check(file.content([source], [output]), {source: values}, usual=True)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_running_sums(exclusive: bool, backwards: bool, dtype: str) -> None:
    values = (_stored(np.random.default_rng(2), (2, 3, 4), dtype) % 9).astype(dtype)
    file = TfliteFile()
    source, output = file.tensor(values.shape, dtype), file.tensor(values.shape, dtype)
    named = file.tensor(data=np.array(-2, np.int32))
    file.add("CUMSUM", [source, named], [output], "CumsumOptions", exclusive=exclusive, reverse=backwards)
    check(file.content([source], [output]), {source: values})


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8"])
def test_the_largest_few(dtype: str) -> None:
    values = np.random.default_rng(2).permutation(60).reshape(4, 15).astype(dtype)
    file = TfliteFile()
    steps = _steps("int8", 0.05) if dtype == "int8" else None
    source, found, places = (
        file.tensor((4, 15), dtype, steps=steps),
        file.tensor((4, 3), dtype, steps=steps),
        file.tensor((4, 3), "int32"),
    )
    file.add("TOPK_V2", [source, file.tensor(data=np.array(3, np.int32))], [found, places], "TopKV2Options")
    check(file.content([source], [found, places]), {source: values}, steps=0)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_one_hot(axis: int, dtype: str) -> None:
    file = TfliteFile()
    indices = file.tensor((2, 3), "int32")
    depth, on, off = (
        file.tensor(data=value) for value in (np.array(4, np.int32), np.array(1, dtype), np.array(0, dtype))
    )
    output = file.tensor({-1: (2, 3, 4), 0: (4, 2, 3), 1: (2, 4, 3)}[axis], dtype)
    file.add("ONE_HOT", [indices, depth, on, off], [output], "OneHotOptions", axis=axis)
    check(file.content([indices], [output]), {indices: np.array([[0, 3, -1], [2, 9, 1]], np.int32)})


def test_buckets() -> None:
    values = _stored(np.random.default_rng(2), (3, 7), "float32") * 5
    file = TfliteFile()
    source, output = file.tensor(values.shape), file.tensor(values.shape, "int32")
    file.add("BUCKETIZE", [source], [output], "BucketizeOptions", boundaries=[-3.0, 0.0, 0.5, 4.0])
    check(file.content([source], [output]), {source: values})
