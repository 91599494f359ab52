"""Integer code of every target, run here or under its emulator, gives the bits of the NumPy reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams
from crossfarm.config.targets import Target
from tests.integration.backends.conftest import CellBuilder, load_target, prefix

pytestmark = pytest.mark.integration

Array = np.ndarray[Any, Any]
node = helper.make_node
SOURCE, MIDDLE, RESULT = (
    QuantParams(scale=0.05, zero=117),
    QuantParams(scale=0.75, zero=0),
    QuantParams(scale=1.5, zero=130),
)
WEIGHT_SCALE = np.float32(2.0**-6)


def with_features(name: str, *features: str) -> Target:
    """Return a target of the project whose processor has more."""
    target = load_target(name)
    return target.model_copy(update={"code": target.code.model_copy(update={"features": features})})


TARGETS = {
    "x86_64": load_target("x86_64"),
    "aarch64": load_target("aarch64"),
    "aarch64 with SDOT": with_features("aarch64", "+dotprod"),
    "armv7": load_target("armv7"),
    "cortex_m4": load_target("cortex_m4"),
    "cortex_m7": load_target("cortex_m7"),
}


def constants(**arrays: Any) -> list[onnx.TensorProto]:
    """Return initialisers."""
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def quant_params_of(name: str, params: QuantParams) -> dict[str, Any]:
    """Return scale and zero point as initialisers of uint8."""
    return {f"{name}_scale": np.float32(params.scale), f"{name}_zero": np.uint8(params.zero)}


def two_convolutions(wide: Array, deep: Array) -> onnx.ModelProto:
    """Return a 3x3 convolution with Relu and a depthwise one behind it, quantised; weights are OIHW."""
    quantised = [
        node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["a"]),
        node("DequantizeLinear", ["wide", "w_scale", "w_zero"], ["v"]),
        node("Conv", ["a", "v"], ["b"], pads=[1, 1, 1, 1]),
        node("Relu", ["b"], ["c"]),
        node("QuantizeLinear", ["c", "m_scale", "m_zero"], ["d"]),
        node("DequantizeLinear", ["d", "m_scale", "m_zero"], ["e"]),
        node("DequantizeLinear", ["deep", "w_scale", "w_zero"], ["u"]),
        node("Conv", ["e", "u"], ["f"], group=len(deep), strides=[2, 1]),
        node("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"]),
    ]
    params = {**quant_params_of("x", SOURCE), **quant_params_of("m", MIDDLE), **quant_params_of("y", RESULT)}
    graph = helper.make_graph(
        quantised,
        "graph",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [1, 13, 9, 11])],
        [onnx.ValueInfoProto(name="y")],
        constants(**params, w_scale=WEIGHT_SCALE, w_zero=np.int8(0), wide=wide, deep=deep),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def quantised_sums(
    image: Array, weights: Array, *, source: QuantParams, result: QuantParams, low: float, **window: Any
) -> Array:
    """Return a quantised convolution of the reference; image NHWC, weights OIHW."""
    kernel = weights.transpose(2, 3, 1, 0)
    sums = numpy_reference.convolve(image, kernel, zero=source.zero, dilation=(1, 1), **window)
    bounds = result.bounds("uint8", low)
    channels = len(weights)
    scale = np.full(channels, np.float64(source.scale) * np.float64(WEIGHT_SCALE))
    return numpy_reference.requantise(
        sums,
        np.zeros(channels, np.int32),
        numpy_reference.multipliers(scale, result.scale),
        low=bounds[0],
        high=bounds[1],
        zero=result.zero,
        dtype="uint8",
    )


@pytest.mark.parametrize("name", list(TARGETS))
def test_two_quantised_convolutions_are_those_of_the_reference(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix(TARGETS[name])
    generator = np.random.default_rng(0)
    wide = generator.integers(-127, 128, (24, 13, 3, 3), dtype=np.int8)
    deep = generator.integers(-127, 128, (24, 1, 3, 3), dtype=np.int8)
    cases = [{"x": generator.integers(0, 256, (1, 13, 9, 11), dtype=np.uint8)} for _ in range(3)]
    builder = CellBuilder(target=TARGETS[name], name="quantised", folder=tmp_path_factory.mktemp("builder"))
    (found,) = builder.run(builder.bundle(two_convolutions(wide, deep), cases))
    for case, answer in zip(cases, found, strict=True):
        image = case["x"].transpose(0, 2, 3, 1)
        middle = quantised_sums(
            image, wide, source=SOURCE, result=MIDDLE, low=0.0, strides=(1, 1), padding=(1, 1, 1, 1), groups=1
        )
        wanted = quantised_sums(
            middle, deep, source=MIDDLE, result=RESULT, low=-np.inf, strides=(2, 1), padding=(0, 0, 0, 0), groups=24
        )
        assert len(np.unique(wanted)) > 50
        assert np.array_equal(answer, wanted.transpose(0, 3, 1, 2))
