"""Operators that read between pixels, and transforms of signals, on many forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.integration.backends.tvm.onnx_graphs import Array, assert_right, graph_of, numbers

pytestmark = pytest.mark.integration

few = settings(max_examples=8, deadline=None)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_sampled_grids(mode: str, padding: str, corners: int) -> None:
    inputs = {"x": numbers(2, 2, 5, 6), "g": (numbers(2, 4, 3, 2) * 0.9).clip(-3, 3)}
    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=corners)
    expected = ReferenceEvaluator(graph_of([node], inputs, {}, opset=20)).run(None, inputs)
    assert_right(node, inputs, {}, opset=20, tolerance=1e-4, expected=expected)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_sampled_grids_of_volumes(mode: str) -> None:
    inputs = {"x": numbers(1, 2, 4, 5, 6), "g": numbers(1, 2, 3, 4, 3)}
    node = helper.make_node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode="border")
    assert_right(node, inputs, {}, opset=20, tolerance=1e-4)


@few
@given(
    ratio=st.integers(0, 3),
    mode=st.sampled_from(["avg", "max"]),
    scale=st.sampled_from([0.5, 1.0]),
    coordinates=st.sampled_from(["half_pixel", "output_half_pixel"]),
    extents=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_aligned_regions(ratio: int, mode: str, scale: float, coordinates: str, extents: tuple[int, int]) -> None:
    boxes = np.array([[0, 0, 7, 8], [-2, 3, 5, 6.5], [4, 4, 12, 12], [3, 3, 3, 3]], np.float32)
    inputs = {"x": numbers(2, 3, 9, 8), "r": boxes, "b": np.array([0, 1, 1, 0])}
    node = helper.make_node(
        "RoiAlign",
        ["x", "r", "b"],
        ["y"],
        mode=mode,
        sampling_ratio=ratio,
        spatial_scale=scale,
        coordinate_transformation_mode=coordinates,
        output_height=extents[0],
        output_width=extents[1],
    )
    assert_right(node, inputs, {}, opset=16, tolerance=1e-4)


@few
@given(
    groups=st.sampled_from([1, 2]),
    offset_groups=st.sampled_from([1, 2, 4]),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    masked=st.booleans(),
)
def test_deformed_convolutions(
    groups: int, offset_groups: int, strides: tuple[int, int], pads: tuple[int, ...], masked: bool
) -> None:
    made = [
        (extent + pads[k] + pads[k + 2] - kernel) // strides[k] + 1
        for k, (extent, kernel) in enumerate([(8, 3), (9, 2)])
    ]
    inputs = {"x": numbers(2, 4, 8, 9), "o": numbers(2, offset_groups * 12, *made)}
    names = ["x", "w", "o", "b"]
    if masked:
        inputs["m"] = numbers(2, offset_groups * 6, *made)
        names.append("m")
    node = helper.make_node(
        "DeformConv",
        names,
        ["y"],
        group=groups,
        offset_group=offset_groups,
        strides=strides,
        pads=pads,
        kernel_shape=[3, 2],
    )
    constants = {"w": numbers(4, 4 // groups, 3, 2), "b": numbers(4)}
    assert_right(node, inputs, constants, opset=22, tolerance=1e-4)


def _both_parts(values: Array) -> Array:
    return np.stack([values.real, values.imag], axis=-1).astype(np.float32)


@few
@given(
    count=st.integers(1, 20),
    length=st.none() | st.integers(1, 24),
    is_complex=st.booleans(),
    kind=st.sampled_from(["forward", "inverse", "onesided"]),
    first=st.booleans(),
)
def test_transforms_are_numpys(count: int, length: int | None, is_complex: bool, kind: str, first: bool) -> None:
    assume(not (is_complex and kind == "onesided"))  # ONNX defines that for real inputs alone
    shape = (count, 3) if first else (3, count)
    x = numbers(2, *shape, 2 if is_complex else 1)
    axis = 1 if first else 2
    signal = x[..., 0] + (1j * x[..., 1] if is_complex else 0)
    right = (np.fft.ifft if kind == "inverse" else np.fft.fft)(signal, n=length, axis=axis)
    if kind == "onesided":
        right = np.take(right, range(right.shape[axis] // 2 + 1), axis=axis)
    constants = {"a": np.array(axis)} | ({} if length is None else {"n": np.array(length)})
    node = helper.make_node(
        "DFT",
        ["x", "" if length is None else "n", "a"],
        ["y"],
        inverse=int(kind == "inverse"),
        onesided=int(kind == "onesided"),
    )
    assert_right(node, {"x": x}, constants, opset=20, expected=[_both_parts(right)], tolerance=1e-4)


def test_a_transform_too_long_for_a_matrix_is_numpys() -> None:
    x = numbers(1, 2200, 1)
    right = np.fft.rfft(x[..., 0], axis=1)
    node = helper.make_node("DFT", ["x"], ["y"], onesided=1, axis=1)
    assert_right(node, {"x": x}, {}, opset=17, expected=[_both_parts(right)], tolerance=2e-3)


@few
@given(step=st.integers(1, 9), frame=st.integers(2, 16), onesided=st.integers(0, 1), baked=st.booleans())
def test_short_time_transforms(step: int, frame: int, onesided: int, baked: bool) -> None:
    window, signal = numbers(frame), numbers(2, 60, 1)
    frames = np.lib.stride_tricks.sliding_window_view(signal[..., 0], frame, axis=1)[:, ::step]
    right = np.fft.fft(frames * window, axis=-1)[..., : frame // 2 + 1 if onesided else frame]
    inputs, constants = {"x": signal}, {"s": np.array(step)}
    (constants if baked else inputs)["w"] = window
    node = helper.make_node("STFT", ["x", "s", "w"], ["y"], onesided=onesided)
    assert_right(node, inputs, constants, opset=17, expected=[_both_parts(right)], tolerance=1e-4)
