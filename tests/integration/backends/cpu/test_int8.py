"""Laws of the integer kernels: whatever the shapes and the target, they give the bits of the NumPy reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
import tvm
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from tvm import relax

from crossfarm.backends import importing, integer, lowering
from crossfarm.backends.cpu import depthwise, int8_winograd, rules
from crossfarm.backends.cpu.int8_dot import DOTS, IntegerUnit, integer_unit
from crossfarm.backends.cpu.int8_graph import use_integers
from crossfarm.backends.cpu.int8_left import left_in_float
from crossfarm.backends.cpu.processor import processor_of
from crossfarm.backends.integer import Steps
from crossfarm.spec.targets import CodeGeneration

pytestmark = pytest.mark.integration

Array = np.ndarray[Any, Any]
FLAGS = Path("/proc/cpuinfo").read_text()
node = helper.make_node
laws = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def _targets() -> dict[str, tuple[CodeGeneration, IntegerUnit]]:
    """Return what this machine can run: its own instructions, and the code of targets without any."""
    found = {}
    for name, cpu, features, flag in (
        ("vpdpbusd", "x86-64-v4", ("+avx512vnni",), "avx512_vnni"),
        ("vpmaddwd of 512 bits", "x86-64-v4", (), "avx512bw"),
        ("vpmaddwd of 256 bits", "x86-64-v3", (), "avx2"),
        ("vpmaddwd of 128 bits", "x86-64", (), "sse2"),
    ):
        if flag in FLAGS:
            code = CodeGeneration(triple="x86_64-linux-gnu", cpu=cpu, features=features)
            found[name] = (code, integer_unit(lowering.tvm_target(code)))
    plain = CodeGeneration(triple="x86_64-linux-gnu", cpu="x86-64")
    found["plain vectors"] = (plain, IntegerUnit(activation="int8", dots=(DOTS["plain4"],), registers=16))
    found["scalars"] = (plain, IntegerUnit(activation="int8", dots=(DOTS["plain1"],), registers=16))
    return found


TARGETS = _targets()
targets = st.sampled_from(sorted(TARGETS))
types = st.sampled_from(["uint8", "int8"])
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(2.0**-12, 2.0**-2).map(lambda scale: float(np.float32(scale)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantised tensor: what stands in DequantizeLinear and QuantizeLinear."""

    dtype: str
    steps: Steps

    def constants(self, name: str) -> dict[str, Array]:
        """Return its constants."""
        return {
            f"{name}_scale": np.float32(self.steps.scale).reshape(()),
            f"{name}_zero": np.array(self.steps.zero, self.dtype),
        }


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw type, scale and zero point."""
    dtype = draw(types)
    info = np.iinfo(dtype)
    zero = draw(st.one_of(st.sampled_from([int(info.min), int(info.max)]), st.integers(info.min, info.max)))
    return Tensor(dtype=dtype, steps=Steps(scale=draw(scales), zero=zero))


def quantised_as(tensor: Tensor, name: str, result: str) -> list[onnx.NodeProto]:
    """Return a QuantizeLinear to the steps of `result`."""
    return [node("QuantizeLinear", [name, f"{result}_scale", f"{result}_zero"], [result])]


def run(
    target: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    *,
    output: str = "y",
) -> tuple[Array, tuple[str, ...]]:
    """Run a graph in integers and return its output and the names of its functions."""
    result, names, _ = _run(target, nodes, inputs, constants, output)
    return result, names


def run_and_count(
    target: str, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array]
) -> tuple[Array, dict[str, int]]:
    """Run a graph in integers and return its output and which operators were left in float32."""
    result, _, left = _run(target, nodes, inputs, constants, "y")
    return result, left


def _run(
    target: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    output: str,
) -> tuple[Array, tuple[str, ...], dict[str, int]]:
    code, unit = TARGETS[target]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    tvm_target = lowering.tvm_target(code)
    with tvm_target:
        module = use_integers(importing.import_onnx(model), unit)
        left = left_in_float(module)
        module = rules.schedule_module(module, processor_of(tvm_target))
        names = [str(name.name_hint) for name in module.functions if name.name_hint != "main"]
        assert rules.uncovered(module, names) == ()
        built = relax.build(
            module, target=tvm_target, relax_pipeline=tvm.transform.Sequential(lowering.passes_to_calls())
        )
    machine = relax.VirtualMachine(built, tvm.cpu())
    result: Array = machine["main"](*[tvm.runtime.tensor(array) for array in inputs.values()]).numpy()
    return result, tuple(names), left


def any_integers(seed: int, shape: Sequence[int], dtype: str, *, least: int | None = None) -> Array:
    info = np.iinfo(dtype)
    low = info.min if least is None else least
    return np.random.default_rng(seed).integers(low, info.max, shape, dtype=dtype, endpoint=True)


def first(image: Array) -> Array:
    """Return an image [n, h, w, c] as ONNX has it."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sliding:
    """How a kernel slides over an image."""

    pads: tuple[int, int, int, int]
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def convolved(
    target: str, image: Array, weights: Array, how: Sliding, *, source: Tensor, result: Tensor, relu: bool, seed: int
) -> tuple[Array, Array, tuple[str, ...]]:
    """Return a convolution, with bias, of an image [n, h, w, c], what it should be, and the names of its functions."""
    channels = weights.shape[3]
    scale = (np.random.default_rng(seed).uniform(0.5, 2.0, channels) * 2.0**-7).astype(np.float32)
    bias = any_integers(seed + 2, (channels,), "int16").astype(np.int32)
    sums_scale = np.float64(source.steps.scale) * scale.astype(np.float64)
    activation = [node("Relu", ["c"], ["a"])] if relu else [node("Identity", ["c"], ["a"])]
    found, names = run(
        target,
        [
            node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
            node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["v"], axis=0),
            node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["d"], axis=0),
            node(
                "Conv",
                ["r", "v", "d"],
                ["c"],
                kernel_shape=weights.shape[:2],
                strides=how.strides,
                pads=how.pads,
                dilations=how.dilation,
                group=how.groups,
            ),
            *activation,
            *quantised_as(result, "a", "y"),
        ],
        {"x": first(image)},
        {
            **source.constants("x"),
            **result.constants("y"),
            "w": np.ascontiguousarray(weights.transpose(3, 2, 0, 1)),
            "w_scale": scale,
            "w_zero": np.zeros(scale.shape, np.int8),
            "b": bias,
            "b_scale": sums_scale.astype(np.float32),
            "b_zero": np.zeros(scale.shape, np.int32),
        },
    )
    sums = integer.convolve(
        image,
        weights,
        zero=source.steps.zero,
        strides=how.strides,
        padding=how.pads,
        dilation=how.dilation,
        groups=how.groups,
    )
    low, high = result.steps.bounds(result.dtype, 0.0 if relu else -np.inf)
    wanted = integer.requantise(
        sums,
        bias,
        integer.multipliers(sums_scale, result.steps.scale),
        low=low,
        high=high,
        zero=result.steps.zero,
        dtype=result.dtype,
    )
    return found, first(wanted), names


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
    how = Sliding(
        pads=data.draw(st.tuples(*[st.integers(0, 2)] * 4), label="pads"),
        strides=(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))),
        dilation=(data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))),
        groups=groups,
    )
    assume(height + how.pads[0] + how.pads[2] > how.dilation[0] * (kernel[0] - 1))
    assume(width + how.pads[1] + how.pads[3] > how.dilation[1] * (kernel[1] - 1))
    image = any_integers(seed, (data.draw(st.integers(1, 2)), height, width, groups * depth), source.dtype)
    weights = any_integers(seed + 1, (*kernel, depth, groups * per_group), "int8", least=-127)
    frame_bytes = data.draw(st.sampled_from([depthwise.FRAME_BYTES, 1024]), label="bytes of a frame")
    with patch.object(depthwise, "FRAME_BYTES", frame_bytes):
        found, wanted, names = convolved(
            target, image, weights, how, source=source, result=result, relu=relu, seed=seed
        )
    assert np.array_equal(found, wanted)
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
    tiles = data.draw(st.sampled_from([1, int8_winograd.TILES_IN_STRIP]), label="tiles in a strip")
    shared = data.draw(st.sampled_from([0, int8_winograd.PARALLEL_OPERATIONS]), label="operations worth a thread")
    with (
        patch.object(int8_winograd, "MARGIN", np.inf),
        patch.object(int8_winograd, "TILES_IN_STRIP", tiles),
        patch.object(int8_winograd, "PARALLEL_OPERATIONS", shared),
    ):
        found, wanted, names = convolved(
            target, image, weights, Sliding(pads=pads), source=source, result=result, relu=False, seed=seed
        )
    assert np.array_equal(found, wanted)
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
    sums = (left.astype(np.int32) - source.steps.zero) @ weights.T.astype(np.int32)
    scale = np.full(columns, np.float64(source.steps.scale) * np.float64(np.float32(0.01)))
    low, high = result.steps.bounds(result.dtype)
    wanted = integer.requantise(
        sums,
        np.zeros(columns, np.int32),
        integer.multipliers(scale, result.steps.scale),
        low=low,
        high=high,
        zero=result.steps.zero,
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
    low, high = result.steps.bounds(result.dtype)
    how = integer.addition(left.steps, right.steps, result.steps)
    wanted = integer.add(x, z, how=how, low=low, high=high, zero=result.steps.zero, dtype=result.dtype)
    assert np.array_equal(found, wanted)
    real = integer.dequantise(x, steps=left.steps) + integer.dequantise(z, steps=right.steps)
    step = np.abs(integer.dequantise(wanted, steps=result.steps) - real) / result.steps.scale
    inside = (wanted > np.iinfo(result.dtype).min) & (wanted < np.iinfo(result.dtype).max)
    assert np.all(step[np.broadcast_to(inside, step.shape)] <= 0.52)


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
        else integer.quantise(integer.dequantise(array, steps=part.steps), steps=result.steps, dtype=result.dtype)
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
    sums = integer.convolve(
        image, weights, zero=source.steps.zero, strides=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1
    )
    scale = np.full(channels[1], np.float64(source.steps.scale) * np.float64(np.float32(0.01)))
    low, high = result.steps.bounds(result.dtype)
    product = integer.requantise(
        sums,
        np.zeros(channels[1], np.int32),
        integer.multipliers(scale, result.steps.scale),
        low=low,
        high=high,
        zero=result.steps.zero,
        dtype=result.dtype,
    )
    real = integer.dequantise(beside, steps=other.steps)
    plain = integer.quantise(real, steps=result.steps, dtype=result.dtype) if other != result else beside
    negative = integer.quantise(-real, steps=result.steps, dtype=result.dtype)
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
    real = np.maximum(integer.dequantise(values, steps=source.steps), np.float32(0))
    assert np.array_equal(found, integer.quantise(real, steps=result.steps, dtype=result.dtype))
    assert left == {}
