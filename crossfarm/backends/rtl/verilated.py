"""Makes a core into programs: Verilator's simulator, a cross-check by Icarus Verilog."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.bundles.rtl import MEMORY_LATENCY, PARAMETERS, SIMULATOR, VERILOG, CoreTensor, RtlCore
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, ToolError, ToolMissingError
from crossfarm.util.paths import HOME
from crossfarm.util.processes import failure
from crossfarm.util.tool_sandbox import run_sandboxed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

_SOURCES = HOME / "crossfarm" / "backends" / "rtl"
_INSTALL = "apt-get install verilator g++ make, or ./inv setup"
_OPTIMISATION = "OPT_FAST=-O0 OPT_SLOW=-O0"
"""A C++ compiler takes ten times as long to optimise a core as such a short simulation would save."""
_BUILD_SECONDS = 1200
_CHECK_SECONDS = 300


def build_simulator(folder: Path, *, cell: Cell) -> None:
    """Translate dut.v of a folder with Verilator and compile it, with simulator.cpp, to a static program `simulator`.

    Raises:
        ToolError: Verilator or the C++ compiler is missing, or fails.
    """
    for tool in ("verilator", "g++", "make"):
        if shutil.which(tool) is None:
            raise ToolMissingError(f"{cell.id}: {tool} is not installed, so the core cannot be simulated; {_INSTALL}")
    done = run_sandboxed(
        [
            *(
                "verilator",
                "--cc",
                "--exe",
                "--build",
                "-j",
                "2",
                "--no-timing",
                "--noassert",
                "-Wno-fatal",
                "-Wno-lint",
            ),
            *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--top-module", "dut", "--Mdir", "verilated"),
            *("-CFLAGS", "-std=c++17", "-MAKEFLAGS", _OPTIMISATION, "-LDFLAGS", "-static", "-o", f"../{SIMULATOR}"),
            *(VERILOG, str(_SOURCES / "simulator.cpp")),
        ],
        folder=folder,
        reads=(_SOURCES / "simulator.cpp",),
        processor_seconds=_BUILD_SECONDS,
        missing=_INSTALL,
    )
    if done.returncode or not (folder / SIMULATOR).exists():
        raise ToolError(f"{cell.id}: Verilator makes no simulator: {failure(done)}")


def cross_check(
    folder: Path, core: RtlCore, integers: Mapping[str, Array], answers: Mapping[str, Array], *, cell: Cell
) -> int | None:
    """Run one image through the core in Icarus Verilog, which shares nothing with Verilator.

    Args:
        folder: with dut.v and parameters.bin.
        core: the core.
        integers: input -> its integers, shape (1, ...).
        answers: output -> what the functional model answers.
        cell: for messages.

    Returns:
        The cycles that it took; None where Icarus Verilog is not installed or takes too long.

    Raises:
        ModelError: it answers otherwise than the functional model.
    """
    if shutil.which("iverilog") is None:
        return None
    memory = bytearray(core.memory_bytes)
    parameters = (folder / PARAMETERS).read_bytes()
    memory[core.parameters_address : core.parameters_address + len(parameters)] = parameters
    for tensor in core.inputs:
        content = tensor.to_memory(integers[tensor.name], width=core.width)
        memory[tensor.address : tensor.address + len(content)] = content
    (folder / "memory.hex").write_text("\n".join(f"{byte:02x}" for byte in memory) + "\n", encoding="ascii")
    ends = [tensor.address + tensor.memory_bytes(width=core.width) for tensor in core.outputs]
    first, last = min(tensor.address for tensor in core.outputs), max(ends) - 1
    numbers = {
        "BUS": core.bus,
        "BYTES": core.memory_bytes,
        "LATENCY": MEMORY_LATENCY,
        "MOST_CYCLES": core.most_cycles,
        "OUTPUT_FIRST": first,
        "OUTPUT_LAST": last,
    }
    words = [word for name, value in numbers.items() for word in ("-P", f"bench.{name}={value}")]
    bench = ["iverilog", "-g2005", "-s", "bench", *words, "-o", "bench.vvp", str(_SOURCES / "bench.v"), VERILOG]
    for command in (bench, ["vvp", "-n", "bench.vvp"]):
        try:
            reads = (_SOURCES / "bench.v",)
            done = run_sandboxed(command, folder=folder, reads=reads, processor_seconds=_CHECK_SECONDS)
        except ToolError:
            return None
        if done.returncode:
            raise ModelError(f"{cell.id}: Icarus Verilog does not run the core: {failure(done)}")
    cycles = re.search(r"^cycles (\d+)$", done.stdout, re.MULTILINE)
    if cycles is None:
        raise ModelError(f"{cell.id}: in Icarus Verilog the core does not end: {failure(done)}")
    found = list(written_bytes((folder / "output.hex").read_text(encoding="ascii")))
    for tensor in core.outputs:
        start = tensor.address - first
        here = found[start : start + tensor.memory_bytes(width=core.width)]
        if not is_as_expected(here, tensor, answers[tensor.name], width=core.width):
            raise ModelError(
                f"{cell.id}: the RTL is wrong: in Icarus Verilog output {tensor.name} differs from NNgen's own "
                "evaluation of the model; leave the cell out with `skip` in models.yaml"
            )
    return int(cycles[1])


def is_as_expected(memory: Sequence[int | None], tensor: CoreTensor, answers: Array, *, width: int) -> bool:
    """Return whether a memory holds what is expected; padding does not count, unknown bits (None) are never right."""
    if len(memory) != tensor.memory_bytes(width=width):
        return False
    known = tensor.from_memory(bytes(byte or 0 for byte in memory), width=width)
    unknown = tensor.from_memory(bytes(byte is None for byte in memory), width=width)
    return bool((known == answers).all()) and not unknown.any()


def written_bytes(text: str) -> Iterator[int | None]:
    """Yield the bytes of a file that $writememh wrote; None for one with unknown bits."""
    for line in text.splitlines():
        if not line.startswith(("//", "@")):
            for word in line.split():
                yield None if re.search(r"[^0-9a-fA-F]", word) else int(word, 16)
