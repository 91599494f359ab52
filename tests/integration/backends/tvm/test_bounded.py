"""Operators whose result's extent depends on data, with the largest stated, against ONNX Runtime's true results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tvm import relax

from crossfarm.backends.tvm import lowering, onnx_import, scheduling
from crossfarm.backends.tvm.passes.register_allocation import pipeline
from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, make_bounded, serialise
from crossfarm.stages.reference.bounded import bounded
from tests.integration.backends.tvm.onnx_graphs import Array, Arrays, graph_of, numbers, runtimes_answer
from tests.integration.backends.tvm.running import HOST, PROCESSORS

pytestmark = pytest.mark.integration

some = settings(max_examples=12, deadline=None)
Sizes = Mapping[str, int | tuple[int, ...]]


def _compiled_and_run(model: onnx.ModelProto, inputs: Arrays) -> list[Array]:
    target = tvm.target.Target(HOST)
    with target:
        module = scheduling.schedule_module(onnx_import.import_onnx(model), PROCESSORS["AVX2"])
        calls = tvm.transform.Sequential(lowering.passes_to_calls())
        built = relax.build(module, target=target, relax_pipeline=calls, tir_pipeline=pipeline())
    machine = relax.VirtualMachine(built, tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(inputs[port.name]) for port in model.graph.input])
    return [tensor.numpy() for tensor in result]


def _expected(
    model: onnx.ModelProto, inputs: Arrays, static: onnx.ModelProto, counted: int | None = None
) -> list[Array]:
    """Return the true results in the stated extents, then the true extents."""
    true = dict(zip([port.name for port in model.graph.output], runtimes_answer(model, inputs), strict=True))
    wanted = []
    for port in static.graph.output:
        shape = tuple(extent.dim_value for extent in port.type.tensor_type.shape.dim)
        name, dot, last = port.name.partition(".count")
        if not dot:
            wanted.append(bounded(true[name], shape))
            continue
        stated = next(each for each in static.graph.output if each.name == name).type.tensor_type.shape.dim
        axis = int(last[1:]) if last else _axis(model, name, stated) if counted is None else counted
        wanted.append(np.array(true[name].shape[axis], np.int64))
    return wanted


def _axis(model: onnx.ModelProto, name: str, stated: Any) -> int:
    """Return the only axis that inference leaves open."""
    inferred = onnx.shape_inference.infer_shapes(model)
    port = next(each for each in inferred.graph.output if each.name == name)
    extents = port.type.tensor_type.shape.dim
    if len(extents) != len(stated):
        return 0
    return next((axis for axis, extent in enumerate(extents) if not extent.HasField("dim_value")), 0)


def assert_bounded(
    nodes: Sequence[onnx.NodeProto],
    inputs: Arrays,
    constants: Arrays,
    *,
    sizes: Sizes,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    counted: int | None = None,
) -> None:
    """Compare compiled code with ONNX Runtime's results, cut or filled up; and ONNX Runtime with the prepared file."""
    model = graph_of(nodes, inputs, constants, outputs=outputs, opset=opset)
    fixed = [StaticInput(name=name, shape=array.shape, dtype=str(array.dtype)) for name, array in inputs.items()]
    made = make_bounded(model.SerializeToString(), fixed, sizes=sizes)
    assert made.exact is not None
    wanted = _expected(model, inputs, made.model, counted)
    onnx.checker.check_model(onnx.load_model_from_string(serialise(made.model)))
    for found in (_compiled_and_run(made.model, inputs), runtimes_answer(made.model, inputs)):
        for got, right, port in zip(found, wanted, made.model.graph.output, strict=True):
            assert got.shape == right.shape, port.name
            assert got.dtype == right.dtype, port.name
            np.testing.assert_allclose(got, right, rtol=2e-5, atol=2e-5, err_msg=port.name)
    exact = dict(zip([port.name for port in made.exact.graph.output], runtimes_answer(made.exact, inputs), strict=True))
    for name, right in zip([port.name for port in made.model.graph.output], wanted, strict=True):
        np.testing.assert_array_equal(bounded(exact[name], right.shape), right)


def _boxes(generator: np.random.Generator, batches: int, count: int, *, centred: bool, equal: bool) -> Array:
    """Return boxes on a coarse grid, so that many cover each other by the very same share, or are empty."""
    if equal:
        return generator.integers(0, 4, (batches, count, 4)).astype(np.float32)
    corners = generator.uniform(0, 3, (batches, count, 4)).astype(np.float32)
    if centred:
        corners[..., 2:] = np.abs(corners[..., 2:])
    return corners


@some
@given(
    seed=st.integers(0, 2**31),
    extents=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 24)),
    centred=st.booleans(),
    equal=st.booleans(),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    threshold=st.sampled_from([None, 0.0, 0.5, 2.0]),
    most=st.sampled_from([0, 1, 3, 100]),
    size=st.integers(1, 12),
)
def test_non_max_suppression(  # noqa: PLR0917 - what hypothesis draws
    seed: int,
    extents: tuple[int, int, int],
    centred: bool,
    equal: bool,
    overlap: float,
    threshold: float | None,
    most: int,
    size: int,
) -> None:
    generator = np.random.default_rng(seed)
    batches, classes, count = extents
    scores = generator.uniform(0, 1, (batches, classes, count)).astype(np.float32)
    if equal:
        scores = np.round(scores * 4) / 4
    inputs = {"b": _boxes(generator, batches, count, centred=centred, equal=equal), "s": scores}
    constants = {"m": np.array([most]), "o": np.array([overlap], np.float32)}
    names = ["b", "s", "m", "o"]
    if threshold is not None:
        constants["t"] = np.array([threshold], np.float32)
        names.append("t")
    node = helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=int(centred), name="nms")
    assert_bounded([node], inputs, constants, sizes={"y": size})


def test_thresholds_may_be_computed() -> None:
    inputs = {
        "b": numbers(1, 9, 4),
        "s": numbers(1, 2, 9),
        "m": np.array([3]),
        "o": np.array([0.3], np.float32),
        "t": np.array([-0.5], np.float32),
    }
    assert_bounded([helper.make_node("NonMaxSuppression", list(inputs), ["y"])], inputs, {}, sizes={"y": (6, 3)})


@some
@given(
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    dtype=st.sampled_from(["float32", "int64", "bool", "uint8"]),
    size=st.integers(1, 9),
)
def test_non_zero(seed: int, shape: list[int], dtype: str, size: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2, shape)
    inputs = {"x": np.asarray(values, dtype)}
    assert_bounded([helper.make_node("NonZero", ["x"], ["y"])], inputs, {}, sizes={"y": size})


@some
@given(
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    axis=st.one_of(st.none(), st.integers(-3, 2)),
    shorter=st.integers(0, 1),
    size=st.integers(1, 7),
)
def test_compress(seed: int, shape: list[int], axis: int | None, shorter: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    if axis is not None:
        axis = axis % len(shape)
    length = int(np.prod(shape)) if axis is None else shape[axis]
    condition = generator.integers(0, 2, max(1, length - shorter)).astype(bool)
    inputs = {"x": generator.standard_normal(shape).astype(np.float32), "c": condition}
    node = helper.make_node("Compress", ["x", "c"], ["y"], **({} if axis is None else {"axis": axis}))
    assert_bounded([node], inputs, {}, sizes={"y": size})


@some
@given(
    seed=st.integers(0, 2**31),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    axis=st.one_of(st.none(), st.integers(-3, 2)),
    is_sorted=st.booleans(),
    dtype=st.sampled_from(["float32", "int64"]),
    size=st.integers(1, 8),
)
def test_unique(  # noqa: PLR0917 - what hypothesis draws
    seed: int, shape: list[int], axis: int | None, is_sorted: bool, dtype: str, size: int
) -> None:
    inputs = {"x": np.random.default_rng(seed).integers(-1, 2, shape).astype(dtype)}
    along = {} if axis is None else {"axis": axis % len(shape)}
    node = helper.make_node("Unique", ["x"], ["y", "first", "inverse", "times"], sorted=int(is_sorted), **along)
    assert_bounded([node], inputs, {}, sizes={"y": size}, outputs=("y", "first", "inverse", "times"))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("wanted", [0, 2, 5])
def test_as_many_of_the_best_as_data_say(largest: int, wanted: int) -> None:
    inputs = {"x": numbers(2, 7), "k": np.array([wanted])}
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], largest=largest)
    assert_bounded([node], inputs, {}, sizes={"y": 4}, outputs=("y", "i"), counted=1)


_FOLLOWERS = {
    "the rows of a mask": (
        [
            ("Greater", ["x", "zero"], ["mask"], {}),
            ("NonZero", ["mask"], ["at"], {}),
            ("Transpose", ["at"], ["t"], {"perm": [1, 0]}),
            ("GatherND", ["x", "t"], ["g"], {}),
            ("Mul", ["g", "g"], ["y"], {}),
        ],
        {"at": 9},
        ("y",),
    ),
    "a sum over what counts": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Exp", ["kept"], ["e"], {}),
            ("ReduceSum", ["e", "axis0"], ["y"], {"keepdims": 0}),
            ("Neg", ["kept"], ["k"], {}),
        ],
        {"kept": 5},
        ("y", "k"),
    ),
    "the largest of what counts": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("ReduceMax", ["kept"], ["y"], {"axes": [0], "keepdims": 1}),
            ("Softmax", ["kept"], ["k"], {"axis": 0}),
        ],
        {"kept": 5},
        ("y", "k"),
    ),
    "cut, joined, turned": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Slice", ["kept", "one", "three", "axis0"], ["cut"], {}),
            ("Concat", ["cut", "cut"], ["c"], {"axis": 1}),
            ("Unsqueeze", ["c", "axis0"], ["u"], {}),
            ("Squeeze", ["u", "axis0"], ["s"], {}),
            ("Reshape", ["s", "rows"], ["r"], {}),
            ("MatMul", ["r", "w"], ["y"], {}),
        ],
        {"kept": 4},
        ("y",),
    ),
    "cut twice by the same number": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Neg", ["kept"], ["n"], {}),
            ("Slice", ["kept", "axis0", "three", "axis0"], ["a"], {}),
            ("Slice", ["n", "axis0", "three", "axis0"], ["b"], {}),
            ("Exp", ["b"], ["e"], {}),
            ("Add", ["a", "e"], ["y"], {}),
        ],
        {"kept": 5},
        ("y",),
    ),
    "picked from the end": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Gather", ["kept", "minus"], ["y"], {"axis": 0}),
            ("Cast", ["kept"], ["k"], {"to": 7}),
        ],
        {"kept": 5},
        ("y", "k"),
    ),
    "one after the other": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("NonZero", ["kept"], ["y"], {}),
            ("Unique", ["kept"], ["k"], {"axis": 0}),
        ],
        {"kept": 5, "y": 12, "k": 5},
        ("y", "k"),
    ),
    "its own shape": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Shape", ["kept"], ["shape"], {}),
            ("Gather", ["shape", "axis0"], ["rows0"], {}),
            ("Concat", ["rows0", "minus"], ["target"], {"axis": 0}),
            ("Reshape", ["kept", "target"], ["r"], {}),
            ("Cast", ["rows0"], ["n"], {"to": 1}),
            ("Div", ["r", "n"], ["y"], {}),
        ],
        {"kept": 5},
        ("y",),
    ),
    "the best of those left": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Shape", ["kept"], ["shape"], {}),
            ("Gather", ["shape", "axis0"], ["rows0"], {}),
            ("Min", ["rows0", "three"], ["k"], {}),
            ("TopK", ["kept", "k"], ["y", "i"], {"axis": 0}),
        ],
        {"kept": 5},
        ("y", "i"),
    ),
    "numbers and repeated rows": (
        [
            ("Compress", ["x", "mask1"], ["kept"], {"axis": 0}),
            ("Shape", ["kept"], ["shape"], {}),
            ("Gather", ["shape", "nought"], ["rows0"], {}),
            ("Range", ["nought", "rows0", "unit"], ["range"], {}),
            ("Unsqueeze", ["range", "one"], ["column"], {}),
            ("Expand", ["column", "shape"], ["wide"], {}),
            ("Cast", ["wide"], ["real"], {"to": 1}),
            ("Add", ["kept", "real"], ["y"], {}),
        ],
        {"kept": 5},
        ("y",),
    ),
}


@pytest.mark.parametrize("name", list(_FOLLOWERS))
@pytest.mark.parametrize("pattern", ["10110", "00100", "11111"])
def test_what_follows(name: str, pattern: str) -> None:
    nodes, sizes, outputs = _FOLLOWERS[name]
    inputs = {"x": numbers(5, 4), "mask1": np.array([letter == "1" for letter in pattern])}
    constants = {
        "zero": np.array(0, np.float32),
        "nought": np.array(0),
        "unit": np.array(1),
        "axis0": np.array([0]),
        "one": np.array([1]),
        "three": np.array([3]),
        "minus": np.array([-1]),
        "rows": np.array([-1, 8]),
        "w": numbers(8, 3),
    }
    made = [helper.make_node(operator, ins, outs, **more) for operator, ins, outs, more in nodes]
    used = {name for node in made for name in node.input}
    given_inputs = {name: array for name, array in inputs.items() if name in used}
    given_constants = {name: array for name, array in constants.items() if name in used}
    assert_bounded(made, given_inputs, given_constants, sizes=sizes, outputs=outputs)


def test_a_node_that_needs_the_true_extent_is_named() -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"], name="find"),
        helper.make_node("Concat", ["at", "at"], ["y"], axis=1, name="both"),
    ]
    model = graph_of(nodes, {"x": numbers(2, 3)}, {}, opset=17)
    fixed = [StaticInput(name="x", shape=(2, 3), dtype="float32")]
    with pytest.raises(ModelError, match=r"operator Concat \(node 'both', number 1\).*joins tensors along an axis"):
        make_bounded(model.SerializeToString(), fixed, sizes={"at": 6})
