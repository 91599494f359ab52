"""Every variant that a search may try computes what ONNX Runtime computes, over random shapes."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnxruntime
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tvm import relax

from crossfarm.backends.tvm import lowering, onnx_import, scheduling
from crossfarm.backends.tvm.schedules import packing, recorded_choices, winograd
from crossfarm.backends.tvm.schedules.choices import Choice, Layer, ProductChoice, WinogradChoice, plain
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.tiles import divisors
from crossfarm.tuning.variants import variants_of
from tests.integration.backends.tvm.running import HOST, PROCESSORS, Array

pytestmark = pytest.mark.integration


def convolution(
    generator: np.random.Generator,
    image: tuple[int, int, int],
    channels: int,
    *,
    kernel: int = 3,
    padding: int = 1,
    groups: int = 1,
    strides: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    batch: int = 1,
) -> tuple[ModelProto, Array]:
    """Return relu(convolution + bias + a constant image), and an input."""
    height, width, depth = image
    weights = generator.standard_normal((channels, depth // groups, kernel, kernel)).astype(np.float32)
    bias = generator.standard_normal(channels).astype(np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"], ["c"], pads=[padding] * 4, group=groups, strides=strides, dilations=dilation
        ),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, depth, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, generator.standard_normal((batch, depth, height, width)).astype(np.float32)


def computed(model: ModelProto, image: Array, processor: Processor, choice: Choice) -> Array:
    """Return the model's output with one choice for its layer; fails when that could not be scheduled."""
    target = tvm.target.Target(HOST)
    with target:
        module = scheduling.schedule_module(onnx_import.import_onnx(model), processor, lambda *_: choice)
        names = [str(name.name_hint) for name in module.functions if name.name_hint != "main"]
        assert scheduling.uncovered(module, names) == ()
        built = relax.build(module, target=target, relax_pipeline=tvm.transform.Sequential(lowering.passes_to_calls()))
    result: Array = relax.VirtualMachine(built, tvm.cpu())["main"](tvm.runtime.tensor(image)).numpy()
    return result


def variants(model: ModelProto, processor: Processor) -> tuple[Choice, ...]:
    """Return the variants of the model's layer."""
    found: list[Choice] = []

    def note(layer: Layer, known: Processor) -> Choice | None:
        found.extend(variants_of(layer, known))
        return packing.choose(layer, known)

    with tvm.target.Target(HOST):
        scheduling.schedule_module(onnx_import.import_onnx(model), processor, note)
    return tuple(found)


def layer_of(model: ModelProto, processor: Processor) -> Layer:
    """Return the only layer of a model."""
    found: list[Layer] = []

    def note(layer: Layer, known: Processor) -> Choice | None:
        found.append(layer)
        return packing.choose(layer, known)

    with tvm.target.Target(HOST):
        scheduling.schedule_module(onnx_import.import_onnx(model), processor, note)
    (layer,) = found
    return layer


def error_bound(choice: Choice, kernel: int, depth: int) -> float:
    """Return the largest error over the largest value that is granted.

    A sum of n products in float32 errs by about sqrt(n) of 6e-8 relative to its terms; the transforms of F(4, 3) grow
    what they add up by up to 100 in each direction, of which the result keeps the rounding (Lavin and Gray measured
    1e-6 to 2e-5 for F(4, 3)).
    """
    length = kernel * kernel * depth
    growth = {2: 4.0, 4: 60.0}[choice.tile] if isinstance(choice, WinogradChoice) else 2.0
    return 6e-8 * growth * (4 + length**0.5)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_variant_of_a_convolution_computes_the_same(data: st.DataObject) -> None:
    processor = PROCESSORS[data.draw(st.sampled_from(sorted(PROCESSORS)))]
    kernel = data.draw(st.sampled_from([1, 3, 3, 3, 5]))
    padding = data.draw(st.integers(0, kernel // 2))
    height, width = (data.draw(st.integers(max(1, kernel - 2 * padding), 17)) for _ in range(2))
    groups = data.draw(st.sampled_from([1, 1, 1, 2]))
    depth, channels = (groups * data.draw(st.integers(1, 12)) for _ in range(2))
    if data.draw(st.integers(0, 3)) == 0:
        groups = channels = depth
    seed = data.draw(st.integers(0, 1000))
    model, image = convolution(
        np.random.default_rng(seed), (height, width, depth), channels, kernel=kernel, padding=padding, groups=groups
    )
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": image}
    )[0]
    found = variants(model, processor)
    assert found, "no rule covers the layer"
    # Each example tries three of its variants: the first, which is the rule's, and two others.
    numbers = data.draw(st.sets(st.integers(0, len(found) - 1), max_size=2))
    for choice in {found[number] for number in numbers}:
        got = computed(model, image, processor, choice)
        assert got.shape == wanted.shape
        scale = max(1.0, float(np.abs(wanted).max()))
        assert np.abs(got - wanted).max() <= error_bound(choice, kernel, depth // groups) * scale


def arrangements(draw: st.DrawFn, layer: Layer, ruled: ProductChoice) -> ProductChoice:
    """Draw a choice for a layer whose input is laid out in blocks of channels or as patches."""
    height, width = layer.output
    rows = draw(st.integers(1, min(ruled.rows, 4)))
    choice = dataclasses.replace(ruled, rows=rows, columns_first=draw(st.booleans()))
    if draw(st.booleans()):
        strip = draw(st.sampled_from(divisors(height, height)))
        choice = dataclasses.replace(choice, rows=min(rows, strip * width), gathered_rows=strip)
    else:
        choice = dataclasses.replace(choice, depth_block=draw(st.sampled_from(divisors(layer.depth, 16))))
    unroll = draw(st.sampled_from(divisors(choice.innermost(layer), 4)))
    return dataclasses.replace(choice, depth_unroll=unroll, shared_loops=draw(st.integers(0, 1)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_blocks_of_channels_and_patches_compute_the_same(data: st.DataObject) -> None:
    processor = PROCESSORS[data.draw(st.sampled_from(sorted(PROCESSORS)))]
    kernel = data.draw(st.sampled_from([1, 2, 3, 3, 5]))
    padding = data.draw(st.integers(0, kernel // 2))
    strides, dilation = (tuple(data.draw(st.integers(1, 2)) for _ in range(2)) for _ in range(2))
    least = [max(1, spread * (kernel - 1) + 1 - 2 * padding) for spread in dilation]
    size = [data.draw(st.integers(each, each + 11)) for each in least]
    depth, channels = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 20))
    model, image = convolution(
        np.random.default_rng(data.draw(st.integers(0, 1000))),
        (size[0], size[1], depth),
        channels,
        kernel=kernel,
        padding=padding,
        strides=(strides[0], strides[1]),
        dilation=(dilation[0], dilation[1]),
        batch=data.draw(st.sampled_from([1, 1, 2])),
    )
    layer = layer_of(model, processor)
    ruled = packing.choose(layer, processor)
    assert isinstance(ruled, ProductChoice)
    choice = data.draw(st.composite(arrangements)(layer, ruled))
    assert recorded_choices.choice_for(layer, plain(choice), processor) == choice
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": image}
    )[0]
    got = computed(model, image, processor, choice)
    assert got.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max()))
    assert np.abs(got - wanted).max() <= error_bound(choice, kernel, depth) * scale


@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "none"])
@pytest.mark.parametrize("size, channels", [((8, 8, 8), 8), ((7, 9, 5), 11), ((1, 1, 3), 2), ((12, 5, 16), 24)])
def test_winograd_computes_images_that_tiles_divide_and_those_that_they_overhang(
    name: str, size: tuple[int, int, int], channels: int
) -> None:
    processor = PROCESSORS[name]
    model, image = convolution(np.random.default_rng(3), size, channels)
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": image}
    )[0]
    found = [choice for choice in variants(model, processor) if isinstance(choice, WinogradChoice)]
    assert {choice.tile for choice in found} == {2, 4}
    for choice in (found[0], found[-1]):
        got = computed(model, image, processor, choice)
        scale = max(1.0, float(np.abs(wanted).max()))
        assert np.abs(got - wanted).max() <= error_bound(choice, 3, size[2]) * scale


def test_one_block_of_channels_and_a_last_tile_that_overlaps_computes_the_same() -> None:
    model, image = convolution(np.random.default_rng(3), (29, 29, 32), 16, kernel=1, padding=0)
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": image}
    )[0]
    for choice in variants(model, PROCESSORS["AVX2"])[:3]:
        got = computed(model, image, PROCESSORS["AVX2"], choice)
        assert np.abs(got - wanted).max() <= error_bound(choice, 1, 32) * float(np.abs(wanted).max()), choice


@given(
    tile=st.sampled_from([2, 4]),
    depth=st.integers(1, 3),
    channels=st.integers(1, 9),
    block=st.sampled_from([1, 4, 8]),
    seed=st.integers(0, 99),
)
def test_packed_weights_are_the_transformed_ones_with_noughts_behind(
    tile: int, depth: int, channels: int, block: int, seed: int
) -> None:
    weights = np.random.default_rng(seed).standard_normal((3, 3, depth, channels)).astype(np.float32)
    packed = winograd.pack(weights, tile=tile, block=block)
    blocks = -(-channels // block)
    assert packed.shape == (tile + 2, tile + 2, blocks, depth, block)
    flat = packed.transpose(0, 1, 3, 2, 4).reshape(tile + 2, tile + 2, depth, blocks * block)
    assert not flat[..., channels:].any()
    # The corner rows of the transform are the first row of the kernel, scaled, and its last.
    corner = weights[0, 0] / (16 if tile == 4 else 1)
    np.testing.assert_allclose(flat[0, 0, :, :channels], corner, rtol=1e-6)
    np.testing.assert_allclose(flat[-1, -1, :, :channels], weights[2, 2], rtol=1e-6)
