"""Resizing, pooling, reductions and normalisations on many shapes, against ONNX Runtime or ONNX's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from crossfarm.errors import ModelError
from tests.integration.backends.tvm.onnx_graphs import Array, assert_right, graph_of, numbers

pytestmark = pytest.mark.integration

few = settings(max_examples=12, deadline=None)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


def reference(node: Any, inputs: dict[str, Array], constants: dict[str, Array], *, opset: int = 21) -> list[Array]:
    """Return what ONNX's reference evaluator computes."""
    model = graph_of([node], inputs, constants, opset=opset, outputs=list(node.output))
    return [np.asarray(each) for each in ReferenceEvaluator(model).run(None, inputs)]


@few
@given(
    extents=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(
        ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
    ),
    flags=st.tuples(st.booleans(), st.booleans()),
    data=st.data(),
)
def test_resize_in_all_modes(
    extents: list[int], mode: str, coordinates: str, flags: tuple[bool, bool], data: st.DataObject
) -> None:
    nearest = data.draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]))
    scales = [1.0, *(data.draw(st.sampled_from([0.4, 0.6, 1.0, 1.7, 2.0, 3.0])) for _ in extents)]
    assume(all(int(scale * extent) for scale, extent in zip(scales[1:], extents, strict=True)))
    antialias, exclude = (flag and mode != "nearest" for flag in flags)
    node = helper.make_node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        mode=mode,
        coordinate_transformation_mode=coordinates,
        nearest_mode=nearest,
        antialias=int(antialias),
        exclude_outside=int(exclude),
    )
    inputs, constants = {"x": numbers(2, *extents)}, {"scales": np.array(scales, dtype=np.float32)}
    expected = reference(node, inputs, constants, opset=18)
    try:
        assert_right(node, inputs, constants, opset=18, expected=expected)
    except ModelError as error:
        assume("ONNX Runtime refuses" not in str(error))  # prepare asks it, and it has not every mode for every rank
        raise


@few
@given(
    operator=st.sampled_from(["MaxPool", "AveragePool"]),
    extents=st.lists(st.integers(3, 7), min_size=1, max_size=2),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    ceil=st.booleans(),
    data=st.data(),
)
def test_pooling_with_every_padding(
    operator: str, extents: list[int], auto: str, ceil: bool, data: st.DataObject
) -> None:
    kernel = [data.draw(st.integers(1, 3)) for _ in extents]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [data.draw(st.integers(1, 3)) for _ in extents],
        "auto_pad": auto,
    }
    if auto == "NOTSET":
        attributes["pads"] = [data.draw(st.integers(0, size - 1)) for size in kernel * 2]
        attributes["ceil_mode"] = int(ceil)
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    assert_right(node, {"x": numbers(2, 3, *extents)}, {}, opset=21)


@few
@given(
    extents=st.lists(st.integers(3, 6), min_size=1, max_size=2),
    order=st.integers(0, 1),
    data=st.data(),
)
def test_places_of_maxima(extents: list[int], order: int, data: st.DataObject) -> None:
    kernel = [data.draw(st.integers(1, 3)) for _ in extents]
    node = helper.make_node(
        "MaxPool",
        ["x"],
        ["y", "places"],
        kernel_shape=kernel,
        strides=[data.draw(st.integers(1, 2)) for _ in extents],
        pads=[data.draw(st.integers(0, size - 1)) for size in kernel * 2],
        storage_order=order if len(extents) == 2 else 0,
    )
    assert_right(node, {"x": numbers(2, 2, *extents)}, {}, outputs=("y", "places"))


@few
@given(
    operator=st.sampled_from(
        ["ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"]
    ),
    shape=SHAPES,
    keep=st.integers(0, 1),
    data=st.data(),
)
def test_reductions_over_any_axes(operator: str, shape: tuple[int, ...], keep: int, data: st.DataObject) -> None:
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True))
    signed = [axis - len(shape) if data.draw(st.booleans()) else axis for axis in axes]
    node = helper.make_node(operator, ["x", "axes"], ["y"], keepdims=keep)
    assert_right(node, {"x": numbers(*shape)}, {"axes": np.array(signed, dtype=np.int64)})


@few
@given(shape=st.lists(st.integers(2, 5), min_size=2, max_size=4).map(tuple), data=st.data())
def test_layer_normalization_with_its_statistics(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    inner = shape[axis:]
    node = helper.make_node("LayerNormalization", ["x", "s", "b"], ["y", "mean", "inverse"], axis=axis)
    assert_right(
        node, {"x": numbers(*shape)}, {"s": numbers(*inner), "b": numbers(*inner)}, outputs=("y", "mean", "inverse")
    )


@few
@given(shape=st.lists(st.integers(2, 5), min_size=2, max_size=4).map(tuple))
def test_batch_normalization_of_training(shape: tuple[int, ...]) -> None:
    constants = {name: numbers(shape[1]) for name in ("s", "b", "mean")} | {"var": np.abs(numbers(shape[1]))}
    node = helper.make_node(
        "BatchNormalization", ["x", "s", "b", "mean", "var"], ["y", "m", "v"], training_mode=1, momentum=0.8
    )
    inputs = {"x": numbers(*shape)}
    expected = reference(node, inputs, constants, opset=15)
    assert_right(node, inputs, constants, outputs=("y", "m", "v"), opset=15, expected=expected, tolerance=1e-4)


@few
@given(
    operator=st.sampled_from(["Max", "Min", "Mean", "Sum"]),
    shapes=st.lists(st.sampled_from([(), (3,), (2, 1), (2, 3), (4, 1, 3)]), min_size=1, max_size=4),
)
def test_operators_of_any_number_of_inputs(operator: str, shapes: list[tuple[int, ...]]) -> None:
    inputs = {f"x{number}": numbers(*shape) for number, shape in enumerate(shapes)}
    assert_right(helper.make_node(operator, list(inputs), ["y"]), inputs, {})


@few
@given(
    divisor=st.sampled_from([-7, -3, -1, 1, 2, 5]),
    dtype=st.sampled_from(["int32", "int64", "int8"]),
    fmod=st.integers(0, 1),
)
def test_remainders_of_either_sign(divisor: int, dtype: str, fmod: int) -> None:
    inputs = {"x": np.arange(-11, 12, dtype=dtype), "d": np.array(divisor, dtype=dtype)}
    assert_right(helper.make_node("Mod", ["x", "d"], ["y"], fmod=fmod), inputs, {})


@pytest.mark.parametrize("operator", ["Softplus", "Mish"])
def test_an_activation_keeps_what_is_small_and_does_not_overflow(operator: str) -> None:
    values = np.concatenate([np.linspace(-80, 80, 641), [-np.inf, np.inf, np.nan]]).astype(np.float32)
    with np.errstate(invalid="ignore"):  # some builds of NumPy tell of the NaN
        exact = np.logaddexp(0, values.astype(np.float64))
    right = exact if operator == "Softplus" else values[:-3].astype(np.float64) * np.tanh(exact[:-3])
    values = values if operator == "Softplus" else values[:-3]
    model_inputs = {"x": values}
    node = helper.make_node(operator, ["x"], ["y"])
    assert_right(node, model_inputs, {}, expected=[right.astype(np.float32)], tolerance=1e-6)
