"""Laws of the integer kernels: whatever the shapes and the target, they give the bits of the NumPy reference."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8 import numpy_reference, winograd
from crossfarm.backends.tvm.schedules import depthwise
from tests.integration.backends.tvm.quantised import (
    TARGETS,
    Convolution,
    Tensor,
    any_integers,
    first,
    laws,
    node,
    quantised_as,
    run,
    run_and_count,
    seeds,
    targets,
    tensors,
)

pytestmark = pytest.mark.integration


@laws
@given(st.data(), targets, tensors(), tensors(), seeds)
def test_a_convolution_is_that_of_the_reference(
    data: st.DataObject, target: str, source: Tensor, result: Tensor, seed: int
) -> None:
    relu, groups = data.draw(st.booleans(), label="relu"), data.draw(st.sampled_from([1, 1, 1, 2, 3]), label="groups")
    depth, per_group = data.draw(st.integers(1, 19), label="depth"), data.draw(st.integers(1, 40), label="channels")
    if data.draw(st.booleans(), label="depthwise"):
        groups, depth, per_group = data.draw(st.integers(2, 70), label="depthwise channels"), 1, 1
    height, width = data.draw(st.integers(1, 15), label="height"), data.draw(st.integers(1, 15), label="width")
    kernel = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    pads = tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    strides = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    dilation = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)))
    assume(height + pads[0] + pads[2] > dilation[0] * (kernel[0] - 1))
    assume(width + pads[1] + pads[3] > dilation[1] * (kernel[1] - 1))
    image = any_integers(seed, (data.draw(st.integers(1, 2)), height, width, groups * depth), source.dtype)
    weights = any_integers(seed + 1, (*kernel, depth, groups * per_group), "int8", least=-127)
    padded_bytes = data.draw(st.sampled_from([depthwise.PADDED_BYTES, 1024]), label="bytes of a padded strip")
    convolution = Convolution(
        image=image,
        weights=weights,
        source=source,
        result=result,
        seed=seed,
        pads=(pads[0], pads[1], pads[2], pads[3]),
        strides=strides,
        dilation=dilation,
        groups=groups,
        relu=relu,
    )
    with patch.object(depthwise, "PADDED_BYTES", padded_bytes):
        found, names = convolution.run(target)
    assert np.array_equal(found, convolution.wanted())
    assert any("int8" in name for name in names)


@laws
@given(st.data(), st.sampled_from(sorted(set(TARGETS) - {"vpdpbusd"})), tensors(), tensors(), seeds)
def test_a_convolution_by_winograd_is_that_of_the_reference(
    data: st.DataObject, target: str, source: Tensor, result: Tensor, seed: int
) -> None:
    """Whether it pays or not, for extreme images and weights too."""
    depth = 2 * data.draw(st.one_of(st.integers(1, 9), st.sampled_from([16, 24])), label="half of the depth")
    channels = 4 * data.draw(st.one_of(st.integers(1, 5), st.sampled_from([8, 12])), label="quarter of the channels")
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * 4), label="pads")
    height = data.draw(st.integers(max(1, 3 - pads[0] - pads[2]), 15), label="height")
    width = data.draw(st.integers(max(1, 3 - pads[1] - pads[3]), 15), label="width")
    image = any_integers(seed, (1, height, width, depth), source.dtype)
    weights = any_integers(seed + 1, (3, 3, depth, channels), "int8")
    if data.draw(st.booleans(), label="extreme"):
        limits = np.iinfo(source.dtype)
        image = np.where(image > np.median(image), limits.max, limits.min).astype(image.dtype)
        weights = np.where(weights > data.draw(st.sampled_from([-129, 0, 128])), -128, 127).astype(np.int8)
    tiles = data.draw(st.sampled_from([1, winograd.TILES_IN_STRIP]), label="tiles in a strip")
    shared = data.draw(st.sampled_from([0, winograd.PARALLEL_OPERATIONS]), label="operations worth a thread")
    convolution = Convolution(image=image, weights=weights, source=source, result=result, seed=seed, pads=pads)
    with (
        patch.object(winograd, "MARGIN", np.inf),
        patch.object(winograd, "TILES_IN_STRIP", tiles),
        patch.object(winograd, "PARALLEL_OPERATIONS", shared),
    ):
        found, names = convolution.run(target)
    assert np.array_equal(found, convolution.wanted())
    assert any("winograd_int8" in name for name in names)


@laws
@given(st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 70)), targets, tensors(), tensors(), seeds)
def test_a_dense_layer_is_that_of_the_reference(
    extents: tuple[int, int, int], target: str, source: Tensor, result: Tensor, seed: int
) -> None:
    rows, depth, columns = extents
    left = any_integers(seed, (rows, depth), source.dtype)
    weights = any_integers(seed + 1, (columns, depth), "int8", least=-127)
    found, names = run(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["v"]),
            node("Gemm", ["r", "v"], ["c"], transB=1),
            *quantised_as(result, "c", "y"),
        ],
        {"x": left},
        {
            **source.constants("x"),
            **result.constants("y"),
            "w": weights,
            "w_scale": np.float32(0.01).reshape(()),
            "w_zero": np.int8(0).reshape(()),
        },
    )
    sums = (left.astype(np.int32) - source.params.zero) @ weights.T.astype(np.int32)
    scale = np.full(columns, np.float64(source.params.scale) * np.float64(np.float32(0.01)))
    low, high = result.params.bounds(result.dtype)
    wanted = numpy_reference.requantise(
        sums,
        np.zeros(columns, np.int32),
        numpy_reference.multipliers(scale, result.params.scale),
        low=low,
        high=high,
        zero=result.params.zero,
        dtype=result.dtype,
    )
    assert np.array_equal(found, wanted)
    assert any("int8" in name for name in names)


@laws
@given(st.data(), targets, st.tuples(tensors(), tensors(), tensors()), seeds)
def test_a_sum_of_two_tensors_is_that_of_the_reference(
    data: st.DataObject, target: str, drawn: tuple[Tensor, Tensor, Tensor], seed: int
) -> None:
    left, right, result = drawn
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4), label="shape")
    other = [data.draw(st.sampled_from([1, extent])) for extent in shape]
    x, z = any_integers(seed, shape, left.dtype), any_integers(seed + 1, other, right.dtype)
    found, _ = run(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["z", "z_scale", "z_zero"], ["s"]),
            node("Add", ["r", "s"], ["a"]),
            *quantised_as(result, "a", "y"),
        ],
        {"x": x, "z": z},
        {**left.constants("x"), **right.constants("z"), **result.constants("y")},
    )
    low, high = result.params.bounds(result.dtype)
    how = numpy_reference.add_params(left.params, right.params, result.params)
    wanted = numpy_reference.add(x, z, params=how, low=low, high=high, zero=result.params.zero, dtype=result.dtype)
    assert np.array_equal(found, wanted)
    real = numpy_reference.dequantise(x, params=left.params) + numpy_reference.dequantise(z, params=right.params)
    step = np.abs(numpy_reference.dequantise(wanted, params=result.params) - real) / result.params.scale
    inside = (wanted > np.iinfo(result.dtype).min) & (wanted < np.iinfo(result.dtype).max)
    # Half a step by rounding; and both factors are rounded to FACTOR_BITS of the larger one, which counts where large
    # numbers cancel out.
    numbers = np.abs(x - np.float64(left.params.zero)) + np.abs(z - np.float64(right.params.zero))
    ratio = max(left.params.scale, right.params.scale) / result.params.scale
    bound = 0.505 + numbers * float(ratio) * 2.0**-numpy_reference.FACTOR_BITS
    assert np.all((step <= bound)[np.broadcast_to(inside, step.shape)])


@laws
@given(st.data(), targets, st.lists(tensors(), min_size=1, max_size=4), tensors(), seeds)
def test_a_concatenation_is_that_of_the_reference(
    data: st.DataObject, target: str, parts: list[Tensor], result: Tensor, seed: int
) -> None:
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4), label="shape")
    axis = data.draw(st.integers(0, len(shape) - 1), label="axis")
    # A part that has the result's steps is copied.
    drawn = [data.draw(st.sampled_from([part, result]), label="part") for part in parts]
    arrays = {}
    for number, part in enumerate(drawn):
        extents = [*shape[:axis], data.draw(st.integers(1, 40), label="extent"), *shape[axis + 1 :]]
        arrays[f"x{number}"] = any_integers(seed + number, extents, part.dtype)
    constants = {
        name: value for number, part in enumerate(drawn) for name, value in part.constants(f"x{number}").items()
    }
    found, left = run_and_count(
        target,
        [
            *(node("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"r_{name}"]) for name in arrays),
            node("Concat", [f"r_{name}" for name in arrays], ["c"], axis=axis),
            *quantised_as(result, "c", "y"),
        ],
        arrays,
        {**constants, **result.constants("y")},
    )
    stored = [
        array
        if part == result
        else numpy_reference.quantise(
            numpy_reference.dequantise(array, params=part.params), params=result.params, dtype=result.dtype
        )
        for part, array in zip(drawn, arrays.values(), strict=True)
    ]
    assert np.array_equal(found, np.concatenate(stored, axis=axis))
    assert left == {}


@laws
@given(targets, st.tuples(tensors(), tensors(), tensors()), st.tuples(st.integers(1, 20), st.integers(1, 20)), seeds)
def test_products_and_floats_are_joined_in_integers(
    target: str, drawn: tuple[Tensor, Tensor, Tensor], channels: tuple[int, int], seed: int
) -> None:
    """One part is a convolution that is rounded once, one is stored, one is computed in float32 between the two."""
    source, other, result = drawn
    image = any_integers(seed, (1, 5, 6, channels[0]), source.dtype)
    beside = any_integers(seed + 1, (1, 5, 6, 3), other.dtype)
    weights = any_integers(seed + 2, (1, 1, channels[0], channels[1]), "int8", least=-127)
    found, left = run_and_count(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["z", "z_scale", "z_zero"], ["s"]),
            node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["v"]),
            node("Conv", ["r", "v"], ["c"]),
            node("Neg", ["s"], ["n"]),
            node("Concat", ["c", "s", "n"], ["j"], axis=1),
            *quantised_as(result, "j", "y"),
        ],
        {"x": first(image), "z": first(beside)},
        {
            **source.constants("x"),
            **other.constants("z"),
            **result.constants("y"),
            "w": np.ascontiguousarray(weights.transpose(3, 2, 0, 1)),
            "w_scale": np.float32(0.01).reshape(()),
            "w_zero": np.int8(0).reshape(()),
        },
    )
    sums = numpy_reference.convolve(
        image, weights, zero=source.params.zero, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1
    )
    scale = np.full(channels[1], np.float64(source.params.scale) * np.float64(np.float32(0.01)))
    low, high = result.params.bounds(result.dtype)
    product = numpy_reference.requantise(
        sums,
        np.zeros(channels[1], np.int32),
        numpy_reference.multipliers(scale, result.params.scale),
        low=low,
        high=high,
        zero=result.params.zero,
        dtype=result.dtype,
    )
    real = numpy_reference.dequantise(beside, params=other.params)
    plain = numpy_reference.quantise(real, params=result.params, dtype=result.dtype) if other != result else beside
    negative = numpy_reference.quantise(-real, params=result.params, dtype=result.dtype)
    assert np.array_equal(found, first(np.concatenate([product, plain, negative], axis=3)))
    assert left == {"negative": 1}


@laws
@given(targets, tensors(), tensors(), st.lists(st.integers(1, 12), min_size=1, max_size=4), seeds)
def test_relu_of_a_stored_tensor_is_that_of_the_reference(
    target: str, source: Tensor, result: Tensor, shape: list[int], seed: int
) -> None:
    values = any_integers(seed, shape, source.dtype)
    found, left = run_and_count(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("Relu", ["r"], ["a"]),
            *quantised_as(result, "a", "y"),
        ],
        {"x": values},
        {**source.constants("x"), **result.constants("y")},
    )
    real = np.maximum(numpy_reference.dequantise(values, params=source.params), np.float32(0))
    assert np.array_equal(found, numpy_reference.quantise(real, params=result.params, dtype=result.dtype))
    assert left == {}
