"""Operators that compute each element by itself, held to LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.stages.prepare.tflite.files import Array, Steps, TfliteFile, check

pytestmark = pytest.mark.integration

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=8)

Low = float
High = float
UNARY: dict[str, tuple[Low, High, str, dict[str, Any]]] = {
    "ABS": (-4, 4, "AbsOptions", {}),
    "CEIL": (-4, 4, "", {}),
    "COS": (-4, 4, "CosOptions", {}),
    "ELU": (-4, 4, "", {}),
    "EXP": (-4, 2, "ExpOptions", {}),
    "FLOOR": (-4, 4, "", {}),
    "GELU": (-4, 4, "GeluOptions", {}),
    "HARD_SWISH": (-5, 5, "HardSwishOptions", {}),
    "LEAKY_RELU": (-4, 4, "LeakyReluOptions", {"alpha": 0.3}),
    "LOG": (0.1, 9, "", {}),
    "LOGISTIC": (-8, 8, "", {}),
    "NEG": (-4, 4, "NegOptions", {}),
    "RELU": (-4, 4, "", {}),
    "RELU6": (-4, 9, "", {}),
    "RELU_0_TO_1": (-4, 4, "", {}),
    "RELU_N1_TO_1": (-4, 4, "", {}),
    "ROUND": (-4, 4, "", {}),
    "RSQRT": (0.1, 9, "", {}),
    "SIGN": (-4, 4, "SignOptions", {}),
    "SIN": (-4, 4, "", {}),
    "SQRT": (0, 9, "", {}),
    "SQUARE": (-4, 4, "SquareOptions", {}),
    "TANH": (-4, 4, "", {}),
}


def _unary(name: str, values: Array, kind: str = "", **options: Any) -> tuple[bytes, dict[int, Array]]:
    file = TfliteFile()
    source, output = (file.tensor(values.shape, values.dtype.name) for _ in range(2))
    file.add(name, [source], [output], kind, **options)
    return file.content([source], [output]), {source: values}


@pytest.mark.parametrize("name", UNARY)
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_function_of_floats(name: str, shape: tuple[int, ...], seed: int) -> None:
    low, high, kind, options = UNARY[name]
    values = np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)
    if name == "ROUND":
        values = np.where(values > 0, np.round(values * 2) / 2, values)
    check(*_unary(name, values, kind, **options))


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_gelu_may_be_approximated(shape: tuple[int, ...], seed: int) -> None:
    values = np.random.default_rng(seed).uniform(-4, 4, shape).astype(np.float32)
    check(*_unary("GELU", values, "GeluOptions", approximate=True))


@pytest.mark.parametrize("name", ["ABS", "NEG", "SIGN"])
def test_a_function_of_integers(name: str) -> None:
    values = np.array([[-3, 0, 7], [1, -1, 2]], np.int32)
    check(*_unary(name, values, UNARY[name][2]))


def _quantised(low: float, high: float, dtype: str) -> Steps:
    bounds = np.iinfo(dtype)
    if dtype == "int16":
        return Steps(scale=max(abs(low), abs(high)) / 32767)
    scale = (high - low) / 255
    return Steps(scale=scale, zero_point=int(np.clip(round(bounds.min - low / scale), bounds.min, bounds.max)))


QUANTISED: dict[str, tuple[tuple[float, float], tuple[float, float] | Steps]] = {
    "ABS": ((-4, 4), (0, 4)),
    "ELU": ((-4, 4), (-1, 4)),
    "EXP": ((-3, 1), (0, 2.8)),
    "GELU": ((-4, 4), (-0.2, 4)),
    "HARD_SWISH": ((-5, 5), (-0.4, 5)),
    "LEAKY_RELU": ((-4, 4), (-1.2, 4)),
    "LOG": ((0.2, 9), (-1.7, 2.2)),
    "RELU": ((-4, 4), (0, 4)),
    "RELU6": ((-4, 9), (0, 6)),
    "RELU_N1_TO_1": ((-4, 4), (-1, 1)),
    "RSQRT": ((0.2, 9), (0.3, 2.3)),
}
FIXED_STEPS = {
    ("LOGISTIC", "int8"): Steps(scale=1 / 256, zero_point=-128),
    ("LOGISTIC", "uint8"): Steps(scale=1 / 256, zero_point=0),
    ("LOGISTIC", "int16"): Steps(scale=1 / 32768),
    ("TANH", "int8"): Steps(scale=1 / 128, zero_point=0),
    ("TANH", "uint8"): Steps(scale=1 / 128, zero_point=128),
    ("TANH", "int16"): Steps(scale=1 / 32768),
}


def _quantised_unary(name: str, dtype: str, seed: int, before: Steps, after: Steps) -> tuple[bytes, dict[int, Array]]:
    _, _, kind, options = UNARY[name]
    bounds = np.iinfo(dtype)
    values = np.random.default_rng(seed).integers(bounds.min, bounds.max + 1, (1, 4, 5, 30)).astype(dtype)
    file = TfliteFile()
    source, output = file.tensor(values.shape, dtype, steps=before), file.tensor(values.shape, dtype, steps=after)
    file.add(name, [source], [output], kind, **options)
    return file.content([source], [output]), {source: values}


@pytest.mark.parametrize("name", QUANTISED)
@settings(max_examples=4)
@given(seed=SEEDS)
def test_a_function_of_int8(name: str, seed: int) -> None:
    read, written = QUANTISED[name]
    assert not isinstance(written, Steps)
    before, after = (_quantised(*bounds, "int8") for bounds in (read, written))
    content, feed = _quantised_unary(name, "int8", seed, before, after)
    if name in ("LOG", "RSQRT"):
        # What lies below the range is no number that these are for.
        feed = {index: np.maximum(values, before.zero_point + 6).astype(np.int8) for index, values in feed.items()}
    # LiteRT rounds the product with a small slope twice: -54.46 becomes -54.5 becomes -55.
    check(content, feed, equal=0.85 if name == "LEAKY_RELU" else 0.9)


@pytest.mark.parametrize("name", ["RELU", "RELU6", "HARD_SWISH", "LEAKY_RELU"])
@settings(max_examples=4)
@given(seed=SEEDS)
def test_a_function_of_uint8(name: str, seed: int) -> None:
    (read, written) = QUANTISED[name]
    assert not isinstance(written, Steps)
    content, feed = _quantised_unary(name, "uint8", seed, _quantised(*read, "uint8"), _quantised(*written, "uint8"))
    check(content, feed, equal=0.85 if name == "LEAKY_RELU" else 0.9)


@pytest.mark.parametrize(("name", "dtype"), FIXED_STEPS)
@settings(max_examples=4)
@given(seed=SEEDS)
def test_a_squashing_function_of_quantised_numbers(name: str, dtype: str, seed: int) -> None:
    before = Steps(scale=2**-12) if dtype == "int16" else _quantised(-8, 8, dtype)
    content, feed = _quantised_unary(name, dtype, seed, before, FIXED_STEPS[name, dtype])
    # LiteRT takes 16-bit values from a table of 256 places with lines in between.
    check(content, feed, steps=24 if dtype == "int16" else 1, equal=0.0 if dtype == "int16" else 0.9)


BINARY = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "POW": "PowOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "FLOOR_DIV": "FloorDivOptions",
    "FLOOR_MOD": "FloorModOptions",
    "ATAN2": "ATan2Options",
    "EQUAL": "EqualOptions",
    "NOT_EQUAL": "NotEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
}
COMPARISONS = tuple(BINARY)[-6:]


@st.composite
def _spread_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of which the second is spread over the first; or the other way round."""
    shape = draw(SHAPES)
    other = tuple(draw(st.sampled_from((1, extent))) for extent in shape)[draw(st.integers(0, len(shape) - 1)) :]
    return (shape, other) if draw(st.booleans()) else (other, shape)


def _binary(name: str, left: Array, right: Array, dtype: str, **options: Any) -> tuple[bytes, dict[int, Array]]:
    file = TfliteFile()
    inputs = [file.tensor(values.shape, values.dtype.name) for values in (left, right)]
    output = file.tensor(np.broadcast_shapes(left.shape, right.shape), dtype)
    file.add(name, inputs, [output], BINARY[name], **options)
    return file.content(inputs, [output]), dict(zip(inputs, (left, right), strict=True))


@pytest.mark.parametrize("name", BINARY)
@FEW
@given(shapes=_spread_shapes(), seed=SEEDS)
def test_an_operation_of_floats(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> None:
    random = np.random.default_rng(seed)
    if name == "ATAN2":  # LiteRT's kernel takes operands of one shape alone.
        shapes = (shapes[0], shapes[0])
    low = 0.5 if name == "POW" else -4
    left, right = (random.uniform(low, 4, shape).astype(np.float32) for shape in shapes)
    if name in COMPARISONS:
        left, right = np.round(left), np.round(right)
    if name in ("DIV", "FLOOR_DIV", "FLOOR_MOD"):
        right = np.where(np.abs(right) < 0.2, np.float32(0.7), right)
    check(*_binary(name, left, right, "bool" if name in COMPARISONS else "float32"))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("name", [name for name in BINARY if name != "ATAN2"])
@settings(max_examples=4)
@given(shapes=_spread_shapes(), seed=SEEDS)
def test_an_operation_of_integers(
    name: str, dtype: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    if (name, dtype) in (("POW", "int64"), ("DIV", "int64"), ("FLOOR_DIV", "int64"), ("SQUARED_DIFFERENCE", "int64")):
        return  # LiteRT has no such kernel
    random = np.random.default_rng(seed)
    left, right = (random.integers(-9, 10, shape).astype(dtype) for shape in shapes)
    if name in ("DIV", "FLOOR_DIV", "FLOOR_MOD"):
        right = np.where(right == 0, 3, right).astype(dtype)
    if name == "POW":
        right = np.abs(right) % 4
    check(*_binary(name, left, right.astype(dtype), "bool" if name in COMPARISONS else dtype))


@pytest.mark.parametrize("activation", [0, 1, 2, 3], ids=["none", "relu", "n1_to_1", "relu6"])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "DIV"])
def test_an_operation_with_a_fused_activation(name: str, activation: int) -> None:
    random = np.random.default_rng(5)
    left, right = (random.uniform(-4, 4, (2, 3, 4)).astype(np.float32) for _ in range(2))
    check(*_binary(name, left, right, "float32", fusedActivationFunction=activation))


@pytest.mark.parametrize("activation", [1, 2, 3], ids=["relu", "n1_to_1", "relu6"])
def test_an_operation_of_integers_with_a_fused_activation(activation: int) -> None:
    random = np.random.default_rng(5)
    left, right = (random.integers(-6, 9, (2, 3, 4)).astype(np.int32) for _ in range(2))
    check(*_binary("ADD", left, right, "int32", fusedActivationFunction=activation))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("activation", [0, 1], ids=["none", "relu"])
@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
@settings(max_examples=4)
@given(shapes=_spread_shapes(), seed=SEEDS)
def test_an_operation_of_quantised_numbers(
    name: str, activation: int, dtype: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    random = np.random.default_rng(seed)
    bounds = np.iinfo(dtype)
    wide = dtype == "int16"
    file = TfliteFile()
    steps = [
        Steps(scale=scale / (256 if wide else 1), zero_point=0 if wide else bounds.max - 100) for scale in (0.03, 0.02)
    ]
    inputs = [file.tensor(shape, dtype, steps=step) for shape, step in zip(shapes, steps, strict=True)]
    written = Steps(scale=0.05 / (256 if wide else 1), zero_point=0 if wide else bounds.max - 130)
    output = file.tensor(np.broadcast_shapes(*shapes), dtype, steps=written)
    file.add(name, inputs, [output], BINARY[name], fusedActivationFunction=activation)
    values = [random.integers(bounds.min, bounds.max + 1, shape).astype(dtype) for shape in shapes]
    check(file.content(inputs, [output]), dict(zip(inputs, values, strict=True)), equal=0.7)


@pytest.mark.parametrize("name", ["MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", *COMPARISONS])
def test_other_operations_of_int8(name: str) -> None:
    random = np.random.default_rng(3)
    steps = Steps(scale=0.05, zero_point=3)
    file = TfliteFile()
    inputs = [file.tensor((2, 3, 40), "int8", steps=steps) for _ in range(2)]
    written = Steps(scale=0.7, zero_point=-128) if name == "SQUARED_DIFFERENCE" else steps
    output = file.tensor((2, 3, 40), "bool") if name in COMPARISONS else file.tensor((2, 3, 40), "int8", steps=written)
    file.add(name, inputs, [output], BINARY[name])
    values = [random.integers(-128, 128, (2, 3, 40)).astype(np.int8) for _ in range(2)]
    check(file.content(inputs, [output]), dict(zip(inputs, values, strict=True)))


@pytest.mark.parametrize("name", ["LOGICAL_AND", "LOGICAL_OR"])
def test_an_operation_of_booleans(name: str) -> None:
    file = TfliteFile()
    inputs, output = [file.tensor((2, 2), "bool") for _ in range(2)], file.tensor((2, 2), "bool")
    file.add(name, inputs, [output], f"{name.title().replace('_', '')}Options")
    feed = dict(zip(inputs, (np.array([[0, 1], [0, 1]], bool), np.array([[0, 0], [1, 1]], bool)), strict=True))
    check(file.content(inputs, [output]), feed)


def test_exclusive_or() -> None:
    values = np.random.default_rng(1).integers(-99, 99, (2, 7)).astype(np.int32)
    file = TfliteFile()
    left, right, output = (file.tensor((7,), "int32") for _ in range(3))
    file.add("BITWISE_XOR", [left, right], [output], "BitwiseXorOptions")
    check(file.content([left, right], [output]), {left: values[0], right: values[1]})


def test_not() -> None:
    file = TfliteFile()
    left, right, middle, output = (file.tensor((4,), "bool") for _ in range(4))
    file.add("LOGICAL_NOT", [left], [middle], "LogicalNotOptions")
    file.add("LOGICAL_OR", [middle, right], [output], "LogicalOrOptions")
    check(
        file.content([left, right], [output]), {left: np.array([0, 1, 0, 1], bool), right: np.array([0, 0, 1, 1], bool)}
    )


@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_slope_for_negative_numbers(shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.uniform(-4, 4, (1, *shape)).astype(np.float32)
    file = TfliteFile()
    source, output = file.tensor(values.shape), file.tensor(values.shape)
    slope = file.tensor(data=random.uniform(-1, 1, shape[-1:]).astype(np.float32))
    file.add("PRELU", [source, slope], [output])
    check(file.content([source], [output]), {source: values})


def test_a_slope_for_negative_int8() -> None:
    random = np.random.default_rng(4)
    values = random.integers(-128, 128, (1, 5, 6, 8)).astype(np.int8)
    file = TfliteFile()
    source = file.tensor(values.shape, "int8", steps=Steps(scale=0.05, zero_point=-3))
    slope = file.tensor(
        data=random.integers(-128, 128, (1, 1, 8)).astype(np.int8), steps=Steps(scale=0.004, zero_point=5)
    )
    output = file.tensor(values.shape, "int8", steps=Steps(scale=0.06, zero_point=2))
    file.add("PRELU", [source, slope], [output])
    check(file.content([source], [output]), {source: values})


@pytest.mark.parametrize("name", ["SELECT", "SELECT_V2"])
@FEW
@given(shape=SHAPES, seed=SEEDS)
def test_a_choice(name: str, shape: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    condition = random.random(shape) < 0.5
    left, right = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    file = TfliteFile()
    inputs = [file.tensor(shape, "bool"), file.tensor(shape), file.tensor(shape)]
    output = file.tensor(shape)
    file.add(name, inputs, [output], "SelectOptions" if name == "SELECT" else "SelectV2Options")
    check(file.content(inputs, [output]), dict(zip(inputs, (condition, left, right), strict=True)))


def test_a_choice_of_rows() -> None:
    random = np.random.default_rng(1)
    file = TfliteFile()
    inputs, output = [file.tensor((3,), "bool"), file.tensor((3, 4)), file.tensor((3, 4))], file.tensor((3, 4))
    file.add("SELECT", inputs, [output], "SelectOptions")
    values = [np.array([1, 0, 1], bool), *(random.normal(size=(3, 4)).astype(np.float32) for _ in range(2))]
    check(file.content(inputs, [output]), dict(zip(inputs, values, strict=True)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("float32", "int32"),
        ("float32", "int64"),
        ("float32", "bool"),
        ("float32", "uint8"),
        ("int32", "float32"),
        ("int64", "int32"),
        ("int32", "int8"),
        ("bool", "float32"),
        ("bool", "int32"),
        ("uint8", "float32"),
    ],
)
def test_a_cast(before: str, after: str) -> None:
    values = np.array([0.0, 1.7, 2.2, 100.9] if after == "uint8" else [0.0, -1.7, 2.2, 100.9])
    content = np.abs(values).astype(before) if before == "uint8" else values.astype(before)
    file = TfliteFile()
    source, output = file.tensor((4,), before), file.tensor((4,), after)
    file.add("CAST", [source], [output], "CastOptions")
    check(file.content([source], [output]), {source: content})


@pytest.mark.parametrize("before", ["int8", "uint8", "int16", "float32"])
@pytest.mark.parametrize("after", ["int8", "uint8", "int16", "float32"])
def test_a_change_of_steps(before: str, after: str) -> None:
    if before == after == "float32" or (before, after) == ("uint8", "int16") or (before, after) == ("int16", "uint8"):
        return  # LiteRT has no such kernel
    steps = {
        "int8": Steps(scale=0.05, zero_point=3),
        "uint8": Steps(scale=0.03, zero_point=100),
        "int16": Steps(scale=0.001),
    }
    random = np.random.default_rng(8)
    if before == "float32":
        values: Array = random.uniform(-5, 5, (200,)).astype(np.float32)
    else:
        values = random.integers(np.iinfo(before).min, np.iinfo(before).max + 1, 200).astype(before)
    file = TfliteFile()
    source, output = (
        file.tensor((200,), before, steps=steps.get(before)),
        file.tensor((200,), after, steps=steps.get(after)),
    )
    file.add("DEQUANTIZE" if after == "float32" else "QUANTIZE", [source], [output])
    check(file.content([source], [output]), {source: values})


def test_add_n() -> None:
    random = np.random.default_rng(2)
    file = TfliteFile()
    inputs, output = [file.tensor((3, 4)) for _ in range(3)], file.tensor((3, 4))
    file.add("ADD_N", inputs, [output], "AddNOptions")
    check(file.content(inputs, [output]), {index: random.normal(size=(3, 4)).astype(np.float32) for index in inputs})


def test_a_rounding_that_training_left_behind() -> None:
    values = np.random.default_rng(2).uniform(-3, 5, (200,)).astype(np.float32)
    check(*_unary("FAKE_QUANT", values, "FakeQuantOptions", min=-1.3, max=3.7, numBits=8))
