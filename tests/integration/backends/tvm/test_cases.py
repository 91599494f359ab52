"""Small files that were once refused, computed wrongly, or killed the compiler: now what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.integration.backends.tvm.onnx_graphs import Array, compiled_and_run, numbers, places, runtimes_answer

pytestmark = pytest.mark.integration

CASES = Path(__file__).parent.parent / "cases"
NAMES = (
    "armv7_float_to_int64",
    "armv7_int64_to_float",
    "attention23",
    "batchnorm_epsilon_training_mode",
    "celu",
    "clip_nan",
    "convtranspose_output_shape",
    "cumsum",
    "dropout",
    "groupnorm21",
    "gru",
    "int4_weights_matmul",
    "ir3_conv",
    "loop_constant_trips",
    "lpnorm",
    "lstm",
    "max_scalar",
    "maxpool_indices",
    "maxpool_samel",
    "mean_of_three",
    "min_1",
    "min_of_scalars_sigfpe",
    "ms_gelu",
    "onehot_float32",
    "passthrough",
    "reducelogsumexp",
    "reducemax_nan",
    "relu_nan",
    "resize_half_of_odd",
    "resize_nearest_scale_odd",
    "rs_antialias",
    "rs_axes18",
    "rs_nearest_floor",
    "rs_nhwc",
    "scatter_elements_const",
    "sinh",
    "softmax_masked_row",
    "softmax_masked_row_guarded",
    "squeeze_negative_axis",
    "topk",
    "upsample9",
)


def _drawn(port: onnx.ValueInfoProto) -> Array:
    tensor = port.type.tensor_type
    shape = [extent.dim_value for extent in tensor.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    values = numbers(*shape) if dtype.kind == "f" else places(0, 3, *shape)
    return np.asarray(values).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_computed_as_onnx_runtime_computes_it(name: str) -> None:
    model = onnx.load(CASES / f"{name}.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = {port.name: _drawn(port) for port in model.graph.input if port.name not in constants}
    for got, right in zip(compiled_and_run(model, inputs), runtimes_answer(model, inputs), strict=True):
        assert (got.shape, got.dtype) == (right.shape, right.dtype)
        np.testing.assert_allclose(got, right, rtol=2e-5, atol=2e-5)
