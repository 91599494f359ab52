"""Integers with scales and zero points: products are exact, whatever is constant; numbers are quantised in every form.

On processors without the dot-product instruction ONNX Runtime saturates sums of uint8 by int8, so NumPy says what is
right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from crossfarm.errors import ModelError
from tests.integration.backends.tvm.onnx_graphs import Array, assert_right, compiled_and_run, graph_of, numbers, places

pytestmark = pytest.mark.integration

few = settings(max_examples=8, deadline=None)
TYPES = st.sampled_from(["int8", "uint8"])
PAIRS = st.sampled_from([("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")])
"""Dtypes of both sides that ONNX Runtime has in this form."""
ODD = 2751
"""What sums are divided by: no whole number lies half-way between two multiples of an odd one, nor so near that float32
rounds it to the other side."""


def _integers(dtype: str, *shape: int) -> Array:
    limits = np.iinfo(dtype)
    return places(limits.min, limits.max + 1, *shape).astype(dtype)


def _scalar(value: float, dtype: str = "float32") -> Array:
    return np.array(value, dtype)


def _requantised(sums: Array, factor: float, zero: Array) -> Array:
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(sums * factor) + zero.astype(int), limits.min, limits.max).astype(zero.dtype)


def _sums(image: Array, weights: Array, pads: tuple[int, ...]) -> Array:
    padded = np.pad(image, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weights)


@few
@given(
    types=PAIRS,
    weight_zero=st.sampled_from([0, 3]),
    baked=st.booleans(),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_convolutions_in_operator_form(
    types: tuple[str, str], weight_zero: int, baked: bool, pads: tuple[int, ...]
) -> None:
    left, right = types
    x, w, bias = _integers(left, 1, 3, 6, 7), _integers(right, 4, 3, 3, 3), _integers("int16", 4).astype("int32")
    zero, zero_of_w = _scalar(5, left), _scalar(weight_zero, right)
    constants = {
        "xs": _scalar(0.02),
        "xz": zero,
        "ws": _scalar(0.01),
        "wz": zero_of_w,
        "ys": _scalar(0.0002 * ODD),
        "yz": _scalar(9, left),
    }
    sums = _sums(x.astype(int) - 5, w.astype(int) - weight_zero, pads) + bias.reshape(1, -1, 1, 1)
    expected = _requantised(sums, 1 / ODD, constants["yz"])
    inputs = {"x": x}
    (constants if baked else inputs).update({"w": w})
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=pads)
    assert_right(node, inputs, constants | {"b": bias}, expected=[expected], tolerance=0)


@few
@given(types=PAIRS, weight_zero=st.sampled_from([0, 3]), baked=st.booleans())
def test_products_in_operator_form(types: tuple[str, str], weight_zero: int, baked: bool) -> None:
    left, right = types
    a, b = _integers(left, 2, 5, 7), _integers(right, 7, 6)
    constants = {"as": _scalar(0.02), "az": _scalar(5, left), "bs": _scalar(0.01), "bz": _scalar(weight_zero, right)}
    constants |= {"ys": _scalar(0.0002 * ODD), "yz": _scalar(9, left)}
    sums = np.matmul(a.astype(int) - 5, b.astype(int) - weight_zero)
    expected = _requantised(sums, 1 / ODD, constants["yz"])
    inputs = {"a": a}
    (constants if baked else inputs).update({"b": b})
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    assert_right(node, inputs, constants, expected=[expected], tolerance=0)


@few
@given(left=TYPES, right=TYPES, baked=st.booleans())
def test_integer_products_are_exact(left: str, right: str, baked: bool) -> None:
    a, b, zeros = _integers(left, 2, 5, 7), _integers(right, 7, 6), _integers(right, 6)
    expected = np.matmul(a.astype(int) - 7, b.astype(int) - zeros.astype(int)).astype("int32")
    inputs, constants = {"a": a}, {"az": _scalar(7, left), "bz": zeros}
    (constants if baked else inputs).update({"b": b})
    node = helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])
    assert_right(node, inputs, constants, expected=[expected], tolerance=0)


@few
@given(left=TYPES, right=TYPES, pads=st.tuples(*[st.integers(0, 2)] * 4))
def test_integer_convolutions_are_exact(left: str, right: str, pads: tuple[int, ...]) -> None:
    x, w = _integers(left, 1, 3, 6, 7), _integers(right, 4, 3, 3, 3)
    expected = _sums(x.astype(int) - 7, w.astype(int) - 3, pads).astype("int32")
    node = helper.make_node("ConvInteger", ["x", "w", "xz", "wz"], ["y"], pads=pads)
    constants = {"w": w, "xz": _scalar(7, left), "wz": _scalar(3, right)}
    assert_right(node, {"x": x}, constants, expected=[expected], tolerance=0)


@few
@given(
    dtype=st.sampled_from(["int8", "uint8", "int16", "uint16"]),
    form=st.sampled_from(["one", "axis", "block"]),
    axis=st.integers(-3, 2),
)
def test_numbers_are_quantised_and_back(dtype: str, form: str, axis: int) -> None:
    shape = [4, 6, 2]
    scales: Callable[[], tuple[int, ...]] = {
        "one": lambda: (),
        "axis": lambda: (shape[axis],),
        "block": lambda: tuple(extent // 2 if place == axis % 3 else extent for place, extent in enumerate(shape)),
    }[form]
    constants = {"s": np.abs(numbers(*scales())) + np.float32(0.1), "z": _integers(dtype, *scales())}
    constants["s"] = np.asarray(constants["s"], np.float32)
    attributes = {"axis": axis, **({"block_size": 2} if form == "block" else {})}
    there = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)
    assert_right(there, {"x": numbers(*shape) * 40}, constants, tolerance=0)
    back = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], **attributes)
    assert_right(back, {"x": _integers(dtype, *shape)}, constants)


@pytest.mark.parametrize("factor", [0, 1, 7, -3])
def test_numbers_are_quantised_over_their_own_range(factor: float) -> None:
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])
    assert_right(node, {"x": np.abs(numbers(3, 7)) * np.float32(factor)}, {}, outputs=("y", "s", "z"))


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_weights_of_four_bits_are_multiplied(kind: int) -> None:
    values = places_of(kind)
    model = graph_of(
        [
            helper.make_node("DequantizeLinear", ["w", "s"], ["real"], axis=0, block_size=8),
            helper.make_node("MatMul", ["x", "real"], ["y"]),
        ],
        {"x": numbers(3, 16)},
        {"s": np.abs(numbers(2, 5))},
    )
    model.graph.initializer.append(helper.make_tensor("w", kind, [16, 5], values.reshape(-1).tolist()))
    scales = np.frombuffer(model.graph.initializer[0].raw_data, np.float32).reshape(2, 5)
    x = numbers(3, 16)
    (got,) = compiled_and_run(model, {"x": x})
    np.testing.assert_allclose(got, x @ (values * np.repeat(scales, 8, axis=0)), rtol=1e-5, atol=1e-5)


def places_of(kind: int) -> Array:
    """Return all numbers of four bits."""
    return places(-8, 8, 16, 5) if kind == TensorProto.INT4 else places(0, 16, 16, 5)


def test_numbers_of_four_bits_that_are_computed_are_refused_with_the_node() -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=TensorProto.INT4, name="narrow")
    nodes = [node, helper.make_node("DequantizeLinear", ["q", "s"], ["y"])]
    model = graph_of(nodes, {"x": numbers(3, 4)}, {"s": np.array(0.5, np.float32)})
    with pytest.raises(ModelError, match=r"operator QuantizeLinear \(node 'narrow', number 0\).*4 bits"):
        compiled_and_run(model, {"x": numbers(3, 4)})
