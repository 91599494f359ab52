"""HardSwish behind integer sums: 16-bit integers give the bits of the NumPy reference, in every form of kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.backends.cpu.quantised import SWISHES, Case, Convolution, any_integers, cases, laws

pytestmark = pytest.mark.integration
swishes = st.sampled_from(sorted(SWISHES))


@laws
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 24), st.integers(1, 24)),
    st.sampled_from([1, 4, 5, 8, 9, 16, 24, 31, 40, 88, 200]),
    st.sampled_from([1, 1, 3]),
    swishes,
    cases,
)
def test_hard_swish_behind_a_convolution_is_that_of_the_reference(
    shape: tuple[int, int, int, int], channels: int, kernel: int, swish: str, case: Case
) -> None:
    _, _, _, depth = shape
    _check(
        Convolution(
            image=any_integers(case.seed, shape, case.source.dtype),
            weights=any_integers(case.seed + 1, (kernel, kernel, depth, channels), "int8", least=-127),
            source=case.source,
            result=case.result,
            seed=case.seed,
            pads=(kernel // 2,) * 4,  # type: ignore[arg-type]
            swish=swish,
        ),
        case.target,
    )


@laws
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 20), st.sampled_from([2, 8, 17, 24, 32, 88, 200])),
    st.sampled_from([3, 5]),
    swishes,
    cases,
)
def test_hard_swish_behind_a_depthwise_layer_is_that_of_the_reference(
    shape: tuple[int, int, int, int], kernel: int, swish: str, case: Case
) -> None:
    channels = shape[3]
    _check(
        Convolution(
            image=any_integers(case.seed, shape, case.source.dtype),
            weights=any_integers(case.seed + 1, (kernel, kernel, 1, channels), "int8", least=-127),
            source=case.source,
            result=case.result,
            seed=case.seed,
            pads=(kernel // 2,) * 4,  # type: ignore[arg-type]
            groups=channels,
            swish=swish,
        ),
        case.target,
    )


def _check(convolution: Convolution, target: str) -> None:
    found, names = convolution.run(target)
    info = np.iinfo(convolution.result.dtype)
    # Where the reference has no integers for it, floats compute it.
    if convolution.how is not None:
        assert any("hard_swish_int8" in name for name in names)
        assert np.array_equal(found, convolution.wanted())
    assert np.abs(found - np.clip(convolution.exact(), info.min, info.max)).max() <= 0.6
