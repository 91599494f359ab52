"""Attention, normalisations and their functions, written as exports write them, agree with ONNX Runtime and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks._transformers import Shape, model
from crossfarm.backends.tvm.schedules.processor import Processor
from tests.integration.backends.tvm.not_numbers import Array, node
from tests.integration.backends.tvm.running import PROCESSORS, Outcome, run_both

pytestmark = pytest.mark.integration

small = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
processors = st.sampled_from(list(PROCESSORS.values()))


def random(*shape: int, seed: int = 0) -> Array:
    """Return float32 numbers that depend on the shape."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def attention(
    *, heads: int, queries: int, keys: int, depth: int, columns: int, mask: Array | None, processor: Processor,
    batch: int = 1, scale: float = 0.3, values: Array | None = None,
) -> Outcome:  # fmt: skip
    """Run an attention from [batch, length, heads, size] to [batch, queries, heads * columns]."""
    nodes = [
        node("Transpose", ["q"], ["qt"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 3, 1]),
        node("Transpose", ["v"], ["vt"], perm=[0, 2, 1, 3]),
        node("MatMul", ["qt", "kt"], ["product"]),
        node("Mul", ["product", "scale"], ["scaled"]),
        *([node("Add", ["scaled", "mask"], ["scores"])] if mask is not None else []),
        node("Softmax", ["scaled" if mask is None else "scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "vt"], ["result"]),
        node("Transpose", ["result"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "shape"], ["y"]),
    ]
    inputs = {
        "q": random(batch, queries, heads, depth),
        "k": random(batch, keys, heads, depth, seed=1),
        "v": random(batch, keys, heads, columns, seed=2) if values is None else values,
    } | ({} if mask is None else {"mask": mask})
    constants = {"scale": np.array(scale, np.float32), "shape": np.array([batch, queries, heads * columns])}
    return run_both(nodes, inputs, constants, processor=processor)


@small
@given(st.data(), processors)
def test_an_attention_is_right_for_any_shape(data: st.DataObject, processor: Processor) -> None:
    batch, heads = data.draw(st.integers(1, 2), label="batch"), data.draw(st.integers(1, 3), label="heads")
    queries, keys = data.draw(st.integers(1, 40), label="queries"), data.draw(st.integers(1, 70), label="keys")
    depth, columns = data.draw(st.integers(1, 20), label="depth"), data.draw(st.integers(1, 40), label="columns")
    shape = [data.draw(st.sampled_from([1, extent])) for extent in (batch, heads, queries, keys)]
    mask = random(*shape) if data.draw(st.booleans(), label="mask") else None
    outcome = attention(
        batch=batch, heads=heads, queries=queries, keys=keys, depth=depth, columns=columns, mask=mask,
        processor=processor,
    )  # fmt: skip
    outcome.assert_close()
    assert not outcome.unscheduled


@pytest.mark.parametrize("processor", [PROCESSORS["AVX-512"], PROCESSORS["AVX2"], PROCESSORS["NEON of 32 bits"]])
@pytest.mark.parametrize("keys", [32, 37])
def test_an_attention_is_one_kernel_that_reads_and_writes_through_transposes(processor: Processor, keys: int) -> None:
    outcome = attention(heads=2, queries=33, keys=keys, depth=16, columns=24, mask=None, processor=processor)
    outcome.assert_close()
    assert [name for name in outcome.functions if "reshape" not in name] == ["attention1"], "reshapes are views"


@pytest.mark.parametrize("processor", [PROCESSORS["AVX2"], PROCESSORS["none"]], ids=["AVX2", "no vectors"])
def test_rows_that_are_masked_or_hold_no_numbers_give_what_onnx_runtime_gives(processor: Processor) -> None:
    mask = np.zeros((12, 21), np.float32)
    mask[0] = -np.inf
    mask[1, :20] = -np.inf
    mask[2, 3] = np.nan
    mask[3, 20] = np.inf
    mask[4] = 3e38
    mask[5, ::2] = -3e38
    mask[6, 5] = 200.0
    outcome = attention(heads=2, queries=12, keys=21, depth=8, columns=8, mask=mask, processor=processor)
    np.testing.assert_allclose(outcome.scheduled[0], outcome.expected[0], rtol=2e-5, atol=2e-5)
    assert np.isnan(outcome.scheduled[0][0, [0, 2, 3]]).all()


def test_large_values_are_shared_and_not_summed_first() -> None:
    values = np.full((1, 16, 1, 8), 3e38, np.float32)
    outcome = attention(
        heads=1, queries=8, keys=16, depth=8, columns=8, mask=None, values=values, processor=PROCESSORS["AVX2"]
    )
    np.testing.assert_allclose(outcome.scheduled[0], outcome.expected[0], rtol=1e-5)
    assert np.isfinite(outcome.scheduled[0]).all()


@small
@given(processors, st.lists(st.integers(1, 7), min_size=1, max_size=2), st.integers(1, 150), st.booleans())
def test_a_layer_norm_is_right_in_both_forms(
    processor: Processor, leading: list[int], length: int, is_whole: bool
) -> None:
    nodes = [node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1, epsilon=1e-5)]
    if not is_whole:
        nodes = [
            node("ReduceMean", ["x"], ["mean"], axes=[-1]),
            node("Sub", ["x", "mean"], ["centred"]),
            node("Pow", ["centred", "two"], ["square"]),
            node("ReduceMean", ["square"], ["variance"], axes=[-1]),
            node("Add", ["variance", "epsilon"], ["sum"]),
            node("Sqrt", ["sum"], ["root"]),
            node("Div", ["centred", "root"], ["normal"]),
            node("Mul", ["normal", "scale"], ["scaled"]),
            node("Add", ["scaled", "bias"], ["y"]),
        ]
    constants = {
        "scale": random(length),
        "bias": random(length, seed=1),
        "two": np.array(2, np.float32),
        "epsilon": np.array(1e-5, np.float32),
    }
    used = {name for each in nodes for name in each.input}
    constants = {name: array for name, array in constants.items() if name in used}
    values = 3 * random(*leading, length) + 10
    outcome = run_both(nodes, {"x": values}, constants, processor=processor)
    centred = values.astype(np.float64) - values.mean(axis=-1, keepdims=True, dtype=np.float64)
    normal = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    expected = normal * constants["scale"] + constants["bias"]
    assert np.abs(outcome.scheduled[0] - expected).max() <= 2e-4 * max(1.0, np.abs(expected).max())
    if processor.widest > 1 and length >= processor.widest:
        assert [name for name in outcome.functions if "reshape" not in name] == ["layer_norm"], "reshapes are views"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_layer_norm_of_a_row_without_numbers_is_nan_in_that_row_alone(value: float) -> None:
    values = random(4, 40)
    values[1, 33] = value
    nodes = [node("LayerNormalization", ["x", "scale", "bias"], ["y"], axis=-1)]
    outcome = run_both(
        nodes, {"x": values}, {"scale": random(40), "bias": random(40)}, processor=PROCESSORS["AVX2"]
    )  # fmt: skip
    assert np.isfinite(outcome.scheduled[0][[0, 2, 3]]).all()
    assert np.isnan(outcome.scheduled[0][1]).all() == (not np.isfinite(value))


_EXACT: dict[str, Callable[[Array], Array]] = {
    "Exp": np.exp,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Erf": lambda x: np.array([math.erf(each) for each in x]),
}


@pytest.mark.parametrize(
    ("operator", "tolerance"), [("Exp", 3e-7), ("Sigmoid", 2e-7), ("Tanh", 5e-7), ("Erf", 5e-7)]
)  # fmt: skip
@pytest.mark.parametrize("processor", [PROCESSORS["AVX2"], PROCESSORS["NEON of 64 bits"]], ids=["AVX2", "NEON"])
def test_functions_are_exact_to_a_few_units_everywhere(operator: str, tolerance: float, processor: Processor) -> None:
    values = np.concatenate(
        [np.linspace(-110, 110, 40001), np.linspace(-5, 5, 40001), np.linspace(-0.01, 0.01, 2001), [0.0, -0.0, 1e-30]]
    ).astype(np.float32)
    (got,) = run_both([node(operator, ["x"], ["y"])], {"x": values}, {}, processor=processor).scheduled
    wide = values.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = _EXACT[operator](wide)
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    assert np.array_equal(got[~finite], rounded[~finite])
    scale = np.maximum(np.abs(exact), 1e-37) if operator == "Exp" else 1.0
    assert (np.abs(got - exact) / scale)[finite].max() <= tolerance
    if operator != "Exp":
        assert np.abs(got).max() <= 1.0 + 1e-6


@pytest.mark.parametrize("shape", [
    Shape(layers=1, width=32, heads=2, tokens=19),
    Shape(layers=1, width=32, heads=4, tokens=3, is_image=True),
    Shape(layers=1, width=48, heads=3, tokens=16, is_causal=True),
], ids=["encoder", "vit", "decoder"])  # fmt: skip
def test_a_transformer_agrees_with_onnx_runtime(shape: Shape) -> None:
    made = model(shape)
    port = made.graph.input[0].type.tensor_type.shape.dim
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    inputs = {"x": random(*(extent.dim_value for extent in port))}
    outcome = run_both(list(made.graph.node), inputs, constants, processor=PROCESSORS["AVX2"])
    outcome.assert_close()
    assert not outcome.partly
    attentions = [name for name in outcome.functions if "attention" in name]
    assert len(attentions) == 1
    assert not any("softmax" in name or "transpose" in name for name in outcome.functions if shape.is_image is False)
