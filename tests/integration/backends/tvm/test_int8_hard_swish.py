"""HardSwish behind integer sums: 16-bit integers give the bits of the NumPy reference, in every form of kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.activations import SHIFT_TOLERANCE
from tests.integration.backends.tvm.quantised import (
    HARD_SWISHES,
    TARGETS,
    Case,
    Convolution,
    Tensor,
    any_integers,
    cases,
    first,
    laws,
    node,
)

pytestmark = pytest.mark.integration
forms = st.sampled_from(sorted(HARD_SWISHES))


PARAMS = numpy_reference.QuantParams(scale=2.0**-4, zero=9)
SOME = Case(
    target=sorted(TARGETS)[0],
    source=Tensor(dtype="uint8", params=PARAMS),
    result=Tensor(dtype="uint8", params=PARAMS),
    seed=1,
)


def same(kernel: int) -> tuple[int, int, int, int]:
    """Return the padding with which a result is as large as the image."""
    half = kernel // 2
    return half, half, half, half


def pointwise(
    shape: tuple[int, int, int, int], channels: int, case: Case, behind: Sequence[onnx.NodeProto]
) -> Convolution:
    """Return a convolution of 1x1 over an image of a shape, with nodes behind it."""
    return Convolution(
        image=any_integers(case.seed, shape, case.source.dtype),
        weights=any_integers(case.seed + 1, (1, 1, shape[3], channels), "int8", least=-127),
        source=case.source,
        result=case.result,
        seed=case.seed,
        behind=behind,
    )


@laws
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 24), st.integers(1, 24)),
    st.sampled_from([1, 4, 5, 8, 9, 16, 24, 31, 40, 88, 200]),
    st.sampled_from([1, 1, 3]),
    forms,
    cases,
)
@example(shape=(1, 8, 8, 64), channels=2048, kernel=1, form="HardSwish", case=SOME)
@example(shape=(1, 23, 23, 24), channels=31, kernel=1, form="HardSwish", case=SOME)
@example(shape=(1, 7, 7, 160), channels=960, kernel=1, form="HardSwish", case=SOME)
@example(shape=(1, 2, 2, 640), channels=640, kernel=1, form="HardSwish", case=SOME)
def test_hard_swish_behind_a_convolution_is_that_of_the_reference(
    shape: tuple[int, int, int, int], channels: int, kernel: int, form: str, case: Case
) -> None:
    _, _, _, depth = shape
    _check(
        Convolution(
            image=any_integers(case.seed, shape, case.source.dtype),
            weights=any_integers(case.seed + 1, (kernel, kernel, depth, channels), "int8", least=-127),
            source=case.source,
            result=case.result,
            seed=case.seed,
            pads=same(kernel),
            form=form,
        ),
        case.target,
    )


@laws
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 20), st.sampled_from([2, 8, 17, 24, 32, 88, 200])),
    st.sampled_from([3, 5]),
    forms,
    cases,
)
@example(shape=(1, 5, 300, 64), kernel=3, form="HardSwish", case=SOME)
def test_hard_swish_behind_a_depthwise_layer_is_that_of_the_reference(
    shape: tuple[int, int, int, int], kernel: int, form: str, case: Case
) -> None:
    channels = shape[3]
    _check(
        Convolution(
            image=any_integers(case.seed, shape, case.source.dtype),
            weights=any_integers(case.seed + 1, (kernel, kernel, 1, channels), "int8", least=-127),
            source=case.source,
            result=case.result,
            seed=case.seed,
            pads=same(kernel),
            groups=channels,
            form=form,
        ),
        case.target,
    )


@laws
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 40),
    st.floats(2.0**-5, 1.0, width=32),
    st.floats(-1.0, 1.0, width=32),
    cases,
)
def test_a_hard_sigmoid_behind_a_convolution_is_sums_with_another_bias(
    shape: tuple[int, int, int, int], channels: int, alpha: float, beta: float, case: Case
) -> None:
    behind = [node("HardSigmoid", ["c"], ["a"], alpha=alpha, beta=beta)]
    convolution = pointwise(shape, channels, case, behind)
    found, _ = convolution.run(case.target)
    scale, params = convolution.sums_scale, case.result.params
    offset = np.rint(beta / alpha / scale)
    exact = convolution.exact(np.clip(convolution.real * alpha + beta, 0, 1))
    is_fine = 0.5 * scale.max() * alpha < SHIFT_TOLERANCE and np.abs(offset).max() < 2**30
    assert np.abs(found - exact).max() <= 0.51 + is_fine * SHIFT_TOLERANCE / params.scale
    if not is_fine:
        return
    low, high = params.bounds(case.result.dtype, 0.0, 1.0)
    wanted = numpy_reference.requantise(
        convolution.sums,
        convolution.bias + offset.astype(np.int32),
        numpy_reference.multipliers(scale * alpha, params.scale),
        low=low,
        high=high,
        zero=params.zero,
        dtype=case.result.dtype,
    )
    assert np.array_equal(found, first(wanted))


@laws
@given(st.integers(1, 24), cases)
def test_means_of_a_hard_swish_are_taken_with_channels_last(channels: int, case: Case) -> None:
    behind = [node("HardSwish", ["c"], ["s"]), node("AveragePool", ["s"], ["a"], kernel_shape=(2, 2))]
    convolution = pointwise((1, 4, 4, 5), channels, case, behind)
    found, names = convolution.run(case.target)
    x = convolution.real
    real = x * np.clip(x + 3, 0, 6) / 6
    mean = (real[:, :3, :3] + real[:, 1:, :3] + real[:, :3, 1:] + real[:, 1:, 1:]) / 4
    assert np.abs(found - convolution.exact(mean)).max() <= 0.51
    assert not any("transpose" in name and "quantise" in name for name in names)


NOT_HARD_SWISH = {
    "another lower bound": lambda x: x * np.clip(x + 3, 1, 6) / 6,
    "a falling line": lambda x: x * np.clip(3 - x, 0, 6) / 6,
    "a negative factor": lambda x: x * np.clip(x + 3, 0, 6) / -6,
    "its own square": lambda x: x * x,
}


@laws
@given(st.sampled_from(sorted(NOT_HARD_SWISH)), st.integers(1, 24), cases)
def test_a_product_that_is_no_hard_swish_is_computed_as_it_is_told(name: str, channels: int, case: Case) -> None:
    low = "number_1" if name == "another lower bound" else "number_0"
    line = node("Sub", ["number_3", "c"], ["l"]) if "falling" in name else node("Add", ["c", "number_3"], ["l"])
    divisor = "number_-6" if "negative" in name else "number_6"
    behind = [
        line,
        node("Clip", ["l", low, "number_6"], ["k"]),
        node("Mul", ["c", "k"], ["m"]),
        node("Div", ["m", divisor], ["a"]),
    ]
    if "square" in name:
        behind = [node("Mul", ["c", "c"], ["a"])]
    convolution = pointwise((1, 2, 8, 5), channels, case, behind)
    found, _ = convolution.run(case.target)
    assert np.abs(found - convolution.exact(NOT_HARD_SWISH[name](convolution.real))).max() <= 0.51


def _check(convolution: Convolution, target: str) -> None:
    found, names = convolution.run(target)
    # Where the reference has no integers for it, floats compute it.
    if convolution.how is not None:
        assert any("hard_swish_int8" in name for name in names)
        assert np.array_equal(found, convolution.wanted())
    x, form = convolution.real, HARD_SWISHES[convolution.form]
    exact = convolution.exact(x * np.clip(x + form.shift, 0, form.top) * form.factor)
    assert np.abs(found - exact).max() <= 0.6
