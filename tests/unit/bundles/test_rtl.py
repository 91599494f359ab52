"""How a core is spoken to: real numbers, integers, and what lies in its memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.bundles.rtl import CoreTensor, RtlCore, simulator_words

IMAGE = CoreTensor(name="image", shape=(1, 3, 2, 5), order=(0, 2, 3, 1), aligned=(1, 2, 5, 4), address=64, scale=127.0)
LOGITS = CoreTensor(name="logits", shape=(1, 10), order=(0, 1), aligned=(1, 12), address=0, scale=12.5)


def test_reals_become_the_nearest_integers_ties_to_even_and_are_cut_off_symmetrically() -> None:
    reals = np.array([[0.0, 0.5 / 64, 1.5 / 64, 1.0, -1.0, 9.0, -9.0]], np.float32)
    tensor = IMAGE.model_copy(update={"shape": (7,), "order": (0,), "aligned": (8,), "scale": 64.0})
    assert tensor.to_integers(reals, width=8).tolist() == [[0, 0, 2, 64, -64, 127, -127]]
    assert tensor.to_integers(reals, width=16).tolist() == [[0, 0, 2, 64, -64, 576, -576]]


def test_integers_become_float32() -> None:
    assert LOGITS.to_reals(np.array([25, -1])).tolist() == [2.0, np.float32(-0.08)]
    assert LOGITS.to_reals(np.array([25])).dtype == np.float32


def test_memory_has_the_cores_order_and_zeros_behind_the_last_axis() -> None:
    integers = np.arange(30, dtype=np.int32).reshape(1, 1, 3, 2, 5)
    content = np.frombuffer(IMAGE.to_memory(integers, width=8), np.int8).reshape(2, 5, 4)
    assert content[1, 2].tolist() == [7, 17, 27, 0]


@given(st.sampled_from([8, 16]), st.sampled_from([IMAGE, LOGITS]), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_what_lies_in_memory_reads_back_as_it_was_written(
    width: int, tensor: CoreTensor, cases: int, seed: int
) -> None:
    most = 2 ** (width - 1) - 1
    integers = np.random.default_rng(seed).integers(-most, most + 1, (cases, *tensor.shape), np.int32)
    content = tensor.to_memory(integers, width=width)
    assert len(content) == cases * tensor.memory_bytes(width=width)
    found = tensor.from_memory(content, width=width)
    assert found.dtype == np.int32
    assert np.array_equal(found, integers)


def test_the_simulator_is_told_where_everything_lies() -> None:
    core = RtlCore(
        width=16,
        parallelism=1,
        bus=32,
        megahertz=100,
        most_cycles=7,
        inputs=(IMAGE,),
        outputs=(LOGITS,),
        parameters_address=192,
        memory_bytes=8192,
        state="ab" * 32,
    )
    words = simulator_words(core, cases=2, folder="/in", output="/out")
    assert words == [
        *("8192", "10", "7", "2", "/out/cycles.txt"),
        *("parameters", "192", "0", "/in/parameters.bin"),
        *("input", "64", "80", "/in/input0.bin"),
        *("output", "0", "24", "/out/output0.bin"),
    ]


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        CoreTensor.model_validate({**IMAGE.model_dump(), "scale": scale})
