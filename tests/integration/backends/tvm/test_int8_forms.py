"""Forms that integer kernels take for some layers only: each gives the bits of the NumPy reference too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8 import numpy_reference
from tests.integration.backends.tvm.quantised import (
    TARGETS,
    Case,
    Convolution,
    Tensor,
    any_integers,
    cases,
    cases_of_dot4,
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
@given(
    st.sampled_from([5, 9, 17, 22, 24, 31, 40, 44, 88, 104, 200]),
    st.integers(1, 33),
    st.integers(1, 13),
    st.one_of(cases_of_dot4, cases),
)
def test_channels_that_no_wide_vector_divides_are_those_of_the_reference(
    channels: int, depth: int, width: int, case: Case
) -> None:
    convolution = Convolution(
        image=any_integers(case.seed, (1, 2, width, depth), case.source.dtype),
        weights=any_integers(case.seed + 1, (1, 1, depth, channels), "int8", least=-127),
        source=case.source,
        result=case.result,
        seed=case.seed,
        relu=bool(case.seed % 2),
    )
    found, _ = convolution.run(case.target)
    assert np.array_equal(found, convolution.wanted())


@laws
@given(
    st.sampled_from([8, 12, 17, 24, 31, 40, 88, 104, 200]),
    st.integers(1, 6),
    st.sampled_from([3, 5]),
    st.tuples(st.integers(1, 2), st.booleans()),
    st.one_of(cases_of_dot4, cases),
)
def test_depthwise_layers_over_few_rows_are_those_of_the_reference(
    channels: int, height: int, kernel: int, drawn: tuple[int, bool], case: Case
) -> None:
    stride, is_padded = drawn
    assume(is_padded or height >= kernel)
    pads = (kernel // 2,) * 4 if is_padded else (0,) * 4
    convolution = Convolution(
        image=any_integers(case.seed, (1, height, 9, channels), case.source.dtype),
        weights=any_integers(case.seed + 1, (kernel, kernel, 1, channels), "int8", least=-127),
        source=case.source,
        result=case.result,
        seed=case.seed,
        pads=(pads[0], pads[1], pads[2], pads[3]),
        strides=(stride, 1),
        groups=channels,
        relu=bool(case.seed % 2),
    )
    found, _ = convolution.run(case.target)
    assert np.array_equal(found, convolution.wanted())


@laws
@given(
    st.tuples(
        st.integers(1, 7), st.sampled_from([4, 8, 12, 16, 28, 64]), st.integers(1, 6), st.sampled_from([3, 8, 24, 29])
    ),
    st.tuples(st.integers(1, 4), st.integers(2, 7)),
    st.tuples(*(st.integers(0, 3) for _ in range(4))),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    cases,
)
def test_kernels_over_few_channels_are_those_of_the_reference(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    pads: tuple[int, int, int, int],
    strides: tuple[int, int],
    case: Case,
) -> None:
    height, width, depth, channels = shape
    assume(height + pads[0] + pads[2] >= kernel[0] and width + pads[1] + pads[3] >= kernel[1])
    convolution = Convolution(
        image=any_integers(case.seed, (2, height, width, depth), case.source.dtype),
        weights=any_integers(case.seed + 1, (*kernel, depth, channels), "int8", least=-127),
        source=case.source,
        result=case.result,
        seed=case.seed,
        pads=pads,
        strides=strides,
    )
    found, _ = convolution.run(case.target)
    assert np.array_equal(found, convolution.wanted())


@laws
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 12), st.integers(1, 70)),
    st.booleans(),
    targets,
    st.tuples(tensors(), tensors(), tensors()),
    seeds,
)
def test_a_product_with_gates_is_that_of_the_reference(
    shape: tuple[int, int, int, int],
    is_gate_first: bool,
    target: str,
    drawn: tuple[Tensor, Tensor, Tensor],
    seed: int,
) -> None:
    left, right, result = drawn
    image = any_integers(seed, shape, left.dtype)
    gates = any_integers(seed + 1, (shape[0], 1, 1, shape[3]), right.dtype)
    factors = ["g", "r"] if is_gate_first else ["r", "g"]
    found, kept = run_and_count(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["z", "z_scale", "z_zero"], ["g"]),
            node("Mul", factors, ["m"]),
            *quantised_as(result, "m", "y"),
        ],
        {"x": first(image), "z": first(gates)},
        {**left.constants("x"), **right.constants("z"), **result.constants("y")},
    )
    how = numpy_reference.channel_scale_params(left.params, right.params, result.params, dtype=left.dtype)
    scale = np.float64(left.params.scale) * np.float64(right.params.scale)
    if shape[1] * shape[2] > 1 and left.dtype == right.dtype == result.dtype and how is not None:
        wanted = numpy_reference.scale_channels(image, gates, params=how, dtype=result.dtype)
        assert np.array_equal(found, first(wanted))
    centred = (image.astype(np.int64) - left.params.zero) * (gates.astype(np.int64) - right.params.zero)
    exact = np.clip(
        centred * scale / np.float64(result.params.scale) + result.params.zero,
        np.iinfo(result.dtype).min,
        np.iinfo(result.dtype).max,
    )
    assert np.abs(found - first(exact)).max() <= (0.6 if how is None or how.fraction > 3 else 1.1)
    assert kept == {}


@laws
@given(
    st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(1, 12), st.integers(1, 70)),
    targets,
    st.sampled_from([("int8", 0), ("uint8", 128)]),
    st.integers(0, 14),
    seeds,
)
def test_a_product_with_gates_whose_scales_are_powers_of_two_is_exact(
    shape: tuple[int, int, int, int], target: str, stored: tuple[str, int], shift: int, seed: int
) -> None:
    """Each 2**shift-th product is a tie there; rounding them all up would turn a decision of a network."""
    dtype, zero = stored
    left, right, result = (
        Tensor(dtype=dtype, params=numpy_reference.QuantParams(scale=2.0**exponent, zero=zero))
        for exponent in (-4, -7, shift - 11)
    )
    image = any_integers(seed, shape, dtype)
    gates = any_integers(seed + 1, (shape[0], 1, 1, shape[3]), dtype)
    found, _ = run_and_count(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["z", "z_scale", "z_zero"], ["g"]),
            node("Mul", ["r", "g"], ["m"]),
            *quantised_as(result, "m", "y"),
        ],
        {"x": first(image), "z": first(gates)},
        {**left.constants("x"), **right.constants("z"), **result.constants("y")},
    )
    exact = np.rint((image.astype(np.float64) - zero) * (gates.astype(np.float64) - zero) * 2.0**-shift) + zero
    information = np.iinfo(dtype)
    assert np.array_equal(found, first(np.clip(exact, information.min, information.max).astype(dtype)))


@laws
@example(shape=(1, 9, 9, 4), target=sorted(TARGETS)[0], drawn=None, seed=1)
@given(
    st.tuples(st.integers(1, 2), st.integers(2, 9), st.integers(2, 9), st.integers(1, 40)),
    targets,
    st.one_of(st.none(), st.tuples(tensors(), tensors())),
    seeds,
)
def test_maxima_of_floats_between_quantised_tensors_are_taken_of_integers(
    shape: tuple[int, int, int, int], target: str, drawn: tuple[Tensor, Tensor] | None, seed: int
) -> None:
    same = Tensor(dtype="uint8", params=numpy_reference.QuantParams(scale=0.25, zero=7))
    source, result = drawn or (same, same)
    image = any_integers(seed, shape, source.dtype)
    found, names = run(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("Neg", ["r"], ["n"]),
            node("MaxPool", ["n"], ["m"], kernel_shape=(2, 2), strides=(1, 1)),
            *quantised_as(result, "m", "y"),
        ],
        {"x": first(image)},
        {**source.constants("x"), **result.constants("y")},
    )
    real = -numpy_reference.dequantise(image, params=source.params)
    most = np.maximum.reduce([real[:, y : y + shape[1] - 1, x : x + shape[2] - 1] for y in (0, 1) for x in (0, 1)])
    assert np.array_equal(found, first(numpy_reference.quantise(most, params=result.params, dtype=result.dtype)))
    assert any("max_pool_int8" in name for name in names)


@laws
@given(cases, st.sampled_from(["Transpose", "Reshape", "MaxPool", "Relu"]))
def test_operators_over_the_stored_integers_give_integers(case: Case, operator: str) -> None:
    """What stands between QuantizeLinear and DequantizeLinear is about the integers, not about what they stand for."""
    image = np.random.default_rng(case.seed).uniform(-300, 300, (1, 3, 4, 8)).astype(np.float32)
    image *= np.float32(case.source.params.scale)
    extra, attributes = {
        "Transpose": ([], {"perm": [0, 3, 1, 2]}),
        "Reshape": (["shape"], {}),
        "MaxPool": ([], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        "Relu": ([], {}),
    }[operator]
    nodes = [
        *quantised_as(case.source, "x", "stored"),
        node(operator, ["stored", *extra], ["made"], **attributes),
        node("DequantizeLinear", ["made", "stored_scale", "stored_zero"], ["real"]),
        node("QuantizeLinear", ["real", "stored_scale", "stored_zero"], ["y"]),
    ]
    constants = {**case.source.constants("stored"), "shape": np.array([1, 8, 3, 4], np.int64)}
    assume(operator != "Relu" or case.source.dtype == "int8")
    info = np.iinfo(case.source.dtype)
    scaled = np.rint(image / np.float32(case.source.params.scale)) + case.source.params.zero
    stored = np.clip(scaled, info.min, info.max).astype(case.source.dtype)
    wanted = {
        "Transpose": lambda: stored.transpose(0, 3, 1, 2),
        "Reshape": lambda: stored.reshape(1, 8, 3, 4),
        "MaxPool": lambda: stored.reshape(1, 3, 2, 2, 4, 2).max(axis=(3, 5)),
        "Relu": lambda: np.maximum(stored, 0),
    }[operator]()
    found, _ = run(case.target, nodes, {"x": image}, constants)
    assert found.dtype == stored.dtype
    assert np.array_equal(found, wanted)
