"""What tools say of a core: what is missing is named, unknown bits are never right, cells are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossfarm.backends.rtl.sizes import counted, resources, words_counted
from crossfarm.backends.rtl.verilated import build_simulator, is_as_expected, written_bytes
from crossfarm.bundles.rtl import CoreTensor
from crossfarm.config.cell import Cell
from crossfarm.errors import ToolMissingError

CELL = Cell(model="m", target="rtl_int8", variant="float32")
TENSOR = CoreTensor(name="y", shape=(1, 3), order=(0, 1), aligned=(1, 4), address=0, scale=1.0)


def test_without_verilator_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"verilator is not installed.*apt-get install verilator"):
        build_simulator(tmp_path, cell=CELL)


def test_without_yosys_or_time_for_it_a_note_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = "LUT, FF, DSP and BRAM are not estimated"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert resources(tmp_path, seconds=9) == ((), f"{nothing}: yosys is not installed")


def test_words_are_counted_by_kind_and_width() -> None:
    """By hand: 2 x 8 + 1 bits of registers, one DSP for 8 x 8 and four for 32 x 32, 8 + 32 / 2 LUTs, two RAMB18."""
    cells = {"$dff_8": 2, "$sdffe_1": 1, "$mul_16": 1, "$mul_64": 1, "$add_8": 1, "$mux_32": 1, "$memrd": 3}
    found = {item.name: item.value for item in words_counted(cells, memory_bits=17 << 10)}
    assert found == {"lut": 24, "ff": 17, "dsp": 5, "bram": 2}


def test_cells_are_counted_by_kind() -> None:
    found = counted({"LUT1": 2, "LUT6": 5, "FDRE": 7, "DSP48E2": 3, "RAMB18E2": 1, "CARRY8": 9})
    assert {item.name: item.value for item in found} == {"lut": 7, "ff": 7, "dsp": 3, "bram": 1}


def test_a_written_memory_is_read_with_its_unknown_bits() -> None:
    assert list(written_bytes("// 0x0\n@00000004\n0a ff\nxx 1x\n")) == [10, 255, None, None]


@pytest.mark.parametrize(
    ("memory", "is_right"),
    [
        ([1, 2, 3, 0], True),
        ([1, 2, 3, 99], True),
        ([1, 2, 3, None], True),
        ([1, 2, 4, 0], False),
        ([1, None, 3, 0], False),
        ([1, 2, 3], False),
    ],
)
def test_padding_does_not_count_and_unknown_bits_are_never_right(memory: list[int | None], is_right: bool) -> None:
    answers = np.array([[[1, 2, 3]]])
    assert is_as_expected(memory, TENSOR, answers, width=8) is is_right


def test_an_unknown_zero_is_not_taken_for_a_zero() -> None:
    assert not is_as_expected([None, 2, 3, 0], TENSOR, np.array([[[0, 2, 3]]]), width=8)
