"""Operators that read, write and order elements at computed places, on many shapes, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from crossfarm.errors import ModelError
from tests.integration.backends.tvm.onnx_graphs import assert_right, numbers, places

pytestmark = pytest.mark.integration

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
few = settings(max_examples=12, deadline=None)


@few
@given(shape=SHAPES, data=st.data())
def test_gather_elements(shape: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wanted = tuple(
        data.draw(st.integers(1, 7 if place == axis % len(shape) else extent)) for place, extent in enumerate(shape)
    )
    indices = places(-shape[axis], shape[axis], *wanted)
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis)
    assert_right(node, {"x": numbers(*shape), "i": indices}, {})


@few
@given(shape=st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple), data=st.data())
def test_gather_nd(shape: tuple[int, ...], data: st.DataObject) -> None:
    batch = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch))
    more = data.draw(st.lists(st.integers(1, 3), max_size=2))
    axes = [places(-extent, extent, *shape[:batch], *more, 1) for extent in shape[batch : batch + depth]]
    node = helper.make_node("GatherND", ["x", "i"], ["y"], batch_dims=batch)
    assert_right(node, {"x": numbers(*shape), "i": np.concatenate(axes, axis=-1)}, {})


@few
@given(shape=SHAPES, reduction=st.sampled_from(["none", "add", "mul", "max", "min"]), data=st.data())
def test_scatter_elements(shape: tuple[int, ...], reduction: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wanted = tuple(data.draw(st.integers(1, extent)) for extent in shape)
    # Two updates of one element have no order in the standard.
    line = np.random.default_rng(len(shape)).permutation(shape[axis])[: wanted[axis]]
    along = [1] * len(shape)
    along[axis] = wanted[axis]
    indices = np.broadcast_to(line.reshape(along), wanted).copy() - (shape[axis] if data.draw(st.booleans()) else 0)
    node = helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis, reduction=reduction)
    assert_right(node, {"x": numbers(*shape), "i": indices, "u": numbers(*wanted)}, {})


@few
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    reduction=st.sampled_from(["none", "add", "mul", "max", "min"]),
    data=st.data(),
)
def test_scatter_nd(shape: tuple[int, ...], reduction: str, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, len(shape)))
    count = 1 if reduction == "none" else data.draw(st.integers(1, 6))
    indices = np.stack([places(-extent, extent, count) for extent in shape[:depth]], axis=-1)
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction=reduction)
    assert_right(node, {"x": numbers(*shape), "i": indices, "u": numbers(count, *shape[depth:])}, {})


@few
@given(shape=SHAPES, largest=st.integers(0, 1), tied=st.booleans(), data=st.data())
def test_top_k(shape: tuple[int, ...], largest: int, tied: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    wanted = np.array([data.draw(st.integers(1, shape[axis]))])
    values = places(0, 3, *shape).astype(np.float32) if tied else numbers(*shape)
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=axis, largest=largest)
    assert_right(node, {"x": values}, {"k": wanted}, outputs=("y", "i"))


def test_a_long_row_is_sorted_as_a_whole() -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"])
    assert_right(node, {"x": numbers(2, 3000)}, {"k": np.array([3000])}, outputs=("y", "i"))


@few
@given(
    shape=SHAPES,
    operator=st.sampled_from(["ArgMax", "ArgMin"]),
    last=st.integers(0, 1),
    keep=st.integers(0, 1),
    data=st.data(),
)
def test_the_first_or_last_of_equal_extremes_is_taken(
    shape: tuple[int, ...], operator: str, last: int, keep: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    node = helper.make_node(operator, ["x"], ["y"], axis=axis, select_last_index=last, keepdims=keep)
    assert_right(node, {"x": places(0, 3, *shape).astype(np.float32)}, {})


@few
@given(shape=SHAPES, exclusive=st.integers(0, 1), reverse=st.integers(0, 1), data=st.data())
def test_cumulative_sums(shape: tuple[int, ...], exclusive: int, reverse: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    node = helper.make_node("CumSum", ["x", "a"], ["y"], exclusive=exclusive, reverse=reverse)
    assert_right(node, {"x": numbers(*shape)}, {"a": np.array(axis)})


@few
@given(shape=SHAPES, depth=st.integers(1, 6), data=st.data())
def test_one_hot_marks_nothing_for_places_that_are_none(
    shape: tuple[int, ...], depth: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    constants = {"d": np.array([depth]), "v": np.array([2, 5], np.float32)}
    node = helper.make_node("OneHot", ["x", "d", "v"], ["y"], axis=axis)
    assert_right(node, {"x": places(-depth - 2, depth + 2, *shape)}, constants)


@few
@given(rows=st.integers(1, 5), columns=st.integers(1, 5), diagonal=st.integers(-6, 6), upper=st.integers(0, 1))
def test_triangles(rows: int, columns: int, diagonal: int, upper: int) -> None:
    node = helper.make_node("Trilu", ["x", "k"], ["y"], upper=upper)
    assert_right(node, {"x": numbers(2, rows, columns), "k": np.array(diagonal)}, {})


@few
@given(steps=st.integers(1, 6), batch=st.integers(1, 4), time_first=st.booleans())
def test_reversed_sequences(steps: int, batch: int, time_first: bool) -> None:
    shape = (steps, batch, 2) if time_first else (batch, steps, 2)
    node = helper.make_node(
        "ReverseSequence", ["x", "l"], ["y"], time_axis=0 if time_first else 1, batch_axis=1 if time_first else 0
    )
    assert_right(node, {"x": numbers(*shape), "l": places(1, steps + 1, batch)}, {})


@few
@given(
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
)
def test_columns_become_an_image(dilations: tuple[int, ...], pads: tuple[int, ...], strides: tuple[int, ...]) -> None:
    image, block = (8, 7), (2, 3)
    steps = [(image[k] + pads[k] + pads[k + 2] - dilations[k] * (block[k] - 1) - 1) // strides[k] + 1 for k in range(2)]
    node = helper.make_node("Col2Im", ["x", "a", "b"], ["y"], dilations=dilations, pads=pads, strides=strides)
    constants = {"a": np.array(image), "b": np.array(block)}
    assert_right(node, {"x": numbers(2, 12, steps[0] * steps[1])}, constants, opset=18)


_X = np.arange(6, dtype=np.float32).reshape(3, 2)
_BEYOND = np.array([9, -9])


@pytest.mark.parametrize(
    ("node", "inputs", "expected"),
    [
        (helper.make_node("Gather", ["x", "i"], ["y"]), {"x": _X, "i": _BEYOND}, _X[[2, 0]]),
        (helper.make_node("Gather", ["x", "i"], ["y"], axis=1), {"x": _X, "i": np.array(9, np.int32)}, _X[:, 1]),
        (helper.make_node("GatherElements", ["x", "i"], ["y"]), {"x": _X, "i": _BEYOND[None]}, [[_X[2, 0], _X[0, 1]]]),
        (helper.make_node("GatherND", ["x", "i"], ["y"]), {"x": _X, "i": _BEYOND[None]}, [_X[2, 0]]),
        (
            helper.make_node("ScatterElements", ["x", "i", "u"], ["y"]),
            {"x": _X, "i": _BEYOND[None], "u": np.array([[7, 8]], np.float32)},
            [[0, 8], [2, 3], [7, 5]],
        ),
        (
            helper.make_node("ScatterND", ["x", "i", "u"], ["y"]),
            {"x": _X, "i": _BEYOND[None], "u": np.array([7], np.float32)},
            [[0, 1], [2, 3], [7, 5]],
        ),
        (
            helper.make_node("TensorScatter", ["x", "u", "i"], ["y"]),
            {"x": _X[None], "u": np.array([[[7, 8]]], np.float32), "i": np.array([9])},
            [[[0, 1], [2, 3], [7, 8]]],
        ),
        (
            helper.make_node("MaxUnpool", ["x", "i"], ["y"], kernel_shape=[1, 2], strides=[1, 2]),
            {"x": np.array([[[[7]], [[8]]]], np.float32), "i": np.array([[[[-9]], [[99]]]])},
            [[[[7, 0]], [[0, 8]]]],
        ),
        (helper.make_node("OneHot", ["i", "d", "v"], ["y"]), {"i": _BEYOND}, np.zeros((2, 3))),
        (helper.make_node("CumSum", ["x", "i"], ["y"]), {"x": _X, "i": np.array(9)}, np.cumsum(_X, axis=1)),
        (
            helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml"),
            {"x": _X, "i": _BEYOND},
            _X[:, [1, 0]],
        ),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_an_index_beyond_reads_and_writes_no_foreign_memory(
    node: onnx.NodeProto, inputs: dict[str, np.ndarray], expected: object
) -> None:
    constants = {"d": np.array(3), "v": np.array([0, 1], np.float32)} if node.op_type == "OneHot" else {}
    opset = 24 if node.op_type == "TensorScatter" else 21
    assert_right(node, inputs, constants, expected=[np.asarray(expected, np.float32)], opset=opset)


def test_a_known_index_beyond_is_refused_with_its_node() -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], name="look")
    with pytest.raises(ModelError, match=r"operator Gather \(node 'look'"):
        assert_right(node, {"x": _X}, {"i": _BEYOND}, expected=[_X])


@few
@given(
    shape=SHAPES,
    operator=st.sampled_from(["CumSum", "CumProd"]),
    exclusive=st.integers(0, 1),
    reverse=st.integers(0, 1),
    data=st.data(),
)
def test_cumulation_along_an_axis_that_is_computed(
    *, shape: tuple[int, ...], operator: str, exclusive: int, reverse: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    node = helper.make_node(operator, ["x", "a"], ["y"], exclusive=exclusive, reverse=reverse)
    inputs = {"x": numbers(*shape), "a": np.array(axis, np.int32)}
    assert_right(node, inputs, {}, opset=26 if operator == "CumProd" else 21)


@few
@given(shape=SHAPES, more=st.lists(st.integers(1, 3), max_size=2), narrow=st.booleans(), data=st.data())
def test_gathered_slices(shape: tuple[int, ...], more: list[int], narrow: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    indices = np.asarray(places(-shape[axis], shape[axis], *more), np.int32 if narrow else np.int64)
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=axis)
    assert_right(node, {"x": numbers(*shape), "i": indices}, {})


_ROW, _LONG = np.zeros((2, 3), np.int64), np.zeros((50, 3), np.int64)


@pytest.mark.parametrize(
    ("node", "inputs"),
    [
        (helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1), {"x": (2, 3), "i": _LONG}),
        (helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1), {"x": (2, 3), "i": _LONG, "u": (50, 3)}),
        (helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=1), {"x": (2, 3), "i": _ROW, "u": (1, 3)}),
        (helper.make_node("ReverseSequence", ["x", "i"], ["y"]), {"x": (4, 5, 2), "i": np.zeros(2, np.int64)}),
        (
            helper.make_node("LSTM", ["x", "w", "r", "", "", "h"], ["y"], hidden_size=4),
            {"x": (3, 8, 2), "w": (1, 16, 2), "r": (1, 16, 4), "h": (1, 1, 1)},
        ),
        (helper.make_node("GridSample", ["x", "u"], ["y"]), {"x": (2, 1, 4, 4), "u": (1, 2, 2, 2)}),
    ],
    ids=["gathered", "scattered", "updates", "reversed", "state", "grid"],
)
def test_an_operand_that_is_too_long_or_too_short_is_refused(node: onnx.NodeProto, inputs: dict[str, object]) -> None:
    arrays = {name: each if isinstance(each, np.ndarray) else numbers(*each) for name, each in inputs.items()}
    with pytest.raises(ModelError, match=rf"operator {node.op_type} "):
        assert_right(node, arrays, {}, opset=17 if node.op_type != "GridSample" else 20, expected=[])
