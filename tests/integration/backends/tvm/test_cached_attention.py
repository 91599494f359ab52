"""GroupQueryAttention against ONNX Runtime: prompts, single steps, caches of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.integration.backends.tvm.onnx_graphs import Array, assert_right, numbers

pytestmark = pytest.mark.integration

few = settings(max_examples=12, deadline=None)
HEADS, SHARED, SIZE = 4, 2, 16


def _cosines(length: int) -> dict[str, Array]:
    angles = np.arange(length)[:, None] / 100 ** (np.arange(SIZE // 2) / (SIZE // 2))
    return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def _compare(
    *, fresh: int, past: int, batch: int, lengths: list[int], packed: bool, rotary: bool, **attributes: Any
) -> None:
    total = max(lengths) + 1
    if packed:
        inputs = {"q": numbers(batch, fresh, (HEADS + 2 * SHARED) * SIZE)}
    else:
        inputs = {"q": numbers(batch, fresh, HEADS * SIZE)}
        inputs |= {name: numbers(batch, fresh, SHARED * SIZE) for name in ("k", "v")}
    names = ["q", "", ""] if packed else ["q", "k", "v"]
    if past:
        inputs |= {name: numbers(batch, SHARED, past, SIZE) for name in ("pk", "pv")}
    names += ["pk", "pv"] if past else ["", ""]
    inputs["n"] = np.array(lengths, np.int32)
    constants = {"t": np.array(total, np.int32)}
    if rotary:
        constants |= _cosines(32)
    node = helper.make_node(
        "GroupQueryAttention",
        [*names, "n", "t", *(["cos", "sin"] if rotary else [])],
        ["y", "a", "b"],
        domain="com.microsoft",
        num_heads=HEADS,
        kv_num_heads=SHARED,
        do_rotary=int(rotary),
        **attributes,
    )
    assert_right(node, inputs, constants, outputs=("y", "a", "b"), opset=17, tolerance=1e-4)


@few
@given(
    fresh=st.integers(2, 6),
    batch=st.integers(1, 2),
    packed=st.booleans(),
    rotary=st.booleans(),
    window=st.sampled_from([-1, 2, 3]),
    cap=st.sampled_from([0.0, 2.0]),
)
def test_a_prompt(*, fresh: int, batch: int, packed: bool, rotary: bool, window: int, cap: float) -> None:
    lengths = [fresh - 1] * batch
    _compare(
        fresh=fresh,
        past=0,
        batch=batch,
        lengths=lengths,
        packed=packed,
        rotary=rotary,
        local_window_size=window,
        softcap=cap,
    )


@few
@given(
    past=st.integers(1, 6),
    shorter=st.integers(0, 3),
    batch=st.integers(1, 2),
    packed=st.booleans(),
    rotary=st.booleans(),
    window=st.sampled_from([-1, 2]),
    interleaved=st.integers(0, 1),
)
def test_a_step(
    *, past: int, shorter: int, batch: int, packed: bool, rotary: bool, window: int, interleaved: int
) -> None:
    lengths = [past, max(1, past - shorter)][:batch]
    _compare(
        fresh=1,
        past=past,
        batch=batch,
        lengths=lengths,
        packed=packed,
        rotary=rotary,
        local_window_size=window,
        rotary_interleaved=interleaved,
    )


def test_a_prompt_behind_a_cache() -> None:
    _compare(fresh=3, past=4, batch=1, lengths=[6], packed=False, rotary=True)
