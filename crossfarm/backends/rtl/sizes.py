"""What a core takes of an FPGA: yosys maps it where it is given the time, else its words are counted."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.bundles.accelerator import Quantity
from crossfarm.bundles.rtl import VERILOG
from crossfarm.errors import ToolError
from crossfarm.util.tool_sandbox import run_sandboxed

COUNTING_SECONDS = 300
"""Processor time for counting; the digits CNN takes 15 s, and its mapping did not end in many minutes."""
_CELLS: Mapping[str, tuple[str, ...]] = {
    "lut": ("LUT1", "LUT2", "LUT3", "LUT4", "LUT5", "LUT6"),
    "ff": ("FDRE", "FDSE", "FDCE", "FDPE"),
    "dsp": ("DSP48E2",),
    "bram": ("RAMB18E2", "RAMB36E2"),
}
"""Quantity -> yosys' names of what is counted."""
_NOTHING = "LUT, FF, DSP and BRAM are not estimated"
_MAPPED = "LUT, FF, DSP and BRAM as yosys maps it to UltraScale+, before place and route"
_COUNTED = (
    "LUT, FF, DSP and BRAM are counted from registers, operators and memories as they are written, before a synthesis "
    "optimises them: a rough upper figure"
)
_WORD = re.compile(r"^\$(?P<kind>[a-z_]+?)(?:_v2)?_(?P<bits>\d+)$")
"""What yosys calls cells when it tells their widths: `$mux_32`."""
_LUTS: Mapping[str, float] = {
    **dict.fromkeys(("add", "sub", "neg", "alu", "macc"), 1.0),
    **dict.fromkeys(("lt", "le", "gt", "ge"), 1.0),
    **dict.fromkeys(("eq", "ne"), 1 / 3),
    **dict.fromkeys(("mux", "and", "or", "xor", "xnor"), 0.5),
    "pmux": 1.0,
    **dict.fromkeys(("reduce_or", "reduce_and", "reduce_bool", "logic_not", "logic_and", "logic_or"), 1 / 6),
}
"""Kind of a cell -> LUTs of six inputs for each of its bits: two 2:1 multiplexers share one, a sum takes one a bit."""
_SHIFTS = ("shl", "shr", "sshl", "sshr", "shift", "shiftx")
_DSP_BITS = (26, 17)
"""Of the two factors of a DSP48E2, without their signs."""
_SMALLEST_PRODUCT = 9
"""Bits of a result from which a product takes a DSP."""
_BRAM_BITS = 16 << 10
"""Of a RAMB18 whose words have no parity."""


def resources(folder: Path, *, seconds: int) -> tuple[tuple[Quantity, ...], str]:
    """Return what dut.v of a folder takes of an UltraScale+ device, and a note about how that is known.

    Args:
        folder: with dut.v.
        seconds: of processor time that yosys may take to map it; 0 has it counted at once.
    """
    if shutil.which("yosys") is None:
        return (), f"{_NOTHING}: yosys is not installed"
    why = ""
    if seconds:
        script = f"read_verilog {VERILOG}; synth_xilinx -family xcup -top dut; tee -q -o stat.json stat -json"
        cells, why = _cells(folder, script, seconds)
        if cells is not None:
            return counted(cells["num_cells_by_type"]), _MAPPED
    script = "hierarchy -top dut; proc; flatten; opt_expr; opt_clean; tee -q -o stat.json stat -width -json"
    cells, why_none = _cells(folder, f"read_verilog {VERILOG}; {script}", COUNTING_SECONDS)
    if cells is None:
        return (), f"{_NOTHING}: {why_none}"
    late = f"; it is not mapped: {why} (code.synthesis_seconds is {seconds})" if seconds else ""
    return words_counted(cells["num_cells_by_type"], memory_bits=int(cells["num_memory_bits"])), f"{_COUNTED}{late}"


def _cells(folder: Path, script: str, seconds: int) -> tuple[Any, str]:
    """Return yosys' table of the whole design, or None and why there is none."""
    table = folder / "stat.json"
    table.unlink(missing_ok=True)
    try:
        run_sandboxed(["yosys", "-q", "-p", script], folder=folder, processor_seconds=seconds)
        design = json.loads(table.read_text(encoding="utf-8"))["design"]
        return ({**design, "num_cells_by_type": dict(design["num_cells_by_type"])}, "")
    except ToolError as error:
        return None, str(error)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"yosys gave no numbers ({error})"


def counted(cells: Mapping[str, int]) -> tuple[Quantity, ...]:
    """Return the quantities of yosys' table of mapped cells."""
    return tuple(
        Quantity(name=name, value=float(sum(cells.get(kind, 0) for kind in kinds)), unit="count")
        for name, kinds in _CELLS.items()
    )


def words_counted(cells: Mapping[str, int], *, memory_bits: int) -> tuple[Quantity, ...]:
    """Return the quantities of yosys' table of cells that are not mapped, with their widths.

    Args:
        cells: `$mux_32` and so on -> how many there are.
        memory_bits: of all memories.
    """
    found = dict.fromkeys(_CELLS, 0.0)
    for name, count in cells.items():
        match = _WORD.match(name)
        if match is None:
            continue
        kind, bits = match["kind"], int(match["bits"])
        if "dff" in kind:
            found["ff"] += count * bits
        elif kind == "mul" and bits >= _SMALLEST_PRODUCT:
            found["dsp"] += count * math.prod(math.ceil(bits / 2 / most) for most in _DSP_BITS)
        elif kind in _SHIFTS:
            found["lut"] += count * bits * math.ceil(math.log2(max(bits, 2))) / 2
        else:
            found["lut"] += count * bits * _LUTS.get(kind, 0.0)
    found["bram"] = memory_bits / _BRAM_BITS
    return tuple(Quantity(name=name, value=float(math.ceil(value)), unit="count") for name, value in found.items())
