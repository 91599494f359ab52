"""Runs Vela in its own Python environment and reads the summary that it writes."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.bundles.accelerator import AcceleratorReport, Estimate, LeftOver, Quantity
from crossfarm.bundles.ethos_u import CLOCK, ENVIRONMENT
from crossfarm.config.cell import Cell
from crossfarm.errors import ModelError, ToolError, ToolMissingError
from crossfarm.util.processes import failure
from crossfarm.util.scratch import scratch_folder
from crossfarm.util.text import one_line
from crossfarm.util.tool_sandbox import run_sandboxed

if TYPE_CHECKING:
    from crossfarm.backends.ethos_u.backend import EthosUCode

PROCESSOR_SECONDS = 600
_GIVEN = "model.tflite"
CONTAINS = "the accelerator's operators and its memory traffic by Vela's model; not those left to the CPU"
ACCURACY = "by Vela's performance model, which Arm does not call cycle-accurate"
_QUANTITIES = (
    ("sram", "sram_memory_used", 1024.0, "bytes"),
    ("flash", "off_chip_flash_memory_used", 1024.0, "bytes"),
    ("dram", "dram_memory_used", 1024.0, "bytes"),
    ("macs", "nn_macs", 1.0, "count"),
)
"""Our name, the column of Vela's summary, the factor to our unit (Vela counts memory in KiB), and the unit."""
_ON_CPU = re.compile(r"operator: (?P<operator>[A-Z0-9_]+), ofm: '(?P<node>[^']*)'\s+Reason: (?P<reason>[^\n]*)")


def run_vela(original: Path, *, code: EthosUCode, cell: Cell, output: Path) -> AcceleratorReport:
    """Compile a TFLite file in a sandbox and return what Vela says of it.

    Args:
        original: the file.
        code: accelerator, system and memory mode.
        cell: for messages.
        output: gets the file that Vela writes, with the accelerator's command stream.

    Raises:
        ModelError: Vela refuses the model; its own words are in the message.
        ToolError: Vela is not there, or does not end.
    """
    python = ENVIRONMENT.interpreter()
    if python is None:
        raise ToolMissingError(f"{cell.id}: {ENVIRONMENT.missing()}")
    with scratch_folder("vela") as name:
        folder = Path(name) / "work"
        folder.mkdir()
        shutil.copyfile(original, folder / _GIVEN)
        done = run_sandboxed(
            [
                *(str(python), "-I", "-m", "ethosu.vela", _GIVEN),
                *("--accelerator-config", code.accelerator),
                *("--config", "Arm/vela.ini", "--system-config", code.system, "--memory-mode", code.memory_mode),
                *("--output-dir", "made"),
            ],
            folder=folder,
            reads=ENVIRONMENT.folders(),
            processor_seconds=PROCESSOR_SECONDS,
        )
        summaries = sorted(folder.glob("made/*_summary_*.csv"))
        compiled = sorted(folder.glob("made/*_vela.tflite"))
        if done.returncode or not summaries or not compiled:
            raise ModelError(f"{cell.id}: Vela does not compile it: {failure(done)}")
        shutil.copyfile(compiled[0], output)
        return read_summary(summaries[0].read_text(encoding="utf-8"), said=done.stdout, megahertz=code.megahertz)


def read_summary(text: str, *, said: str, megahertz: int) -> AcceleratorReport:
    """Return what Vela's summary and its output say.

    Args:
        text: the summary, one row of CSV below its heads.
        said: what Vela wrote to the terminal: which operators stay on the CPU.
        megahertz: clock that the toolchain file declares; Vela's own must be the same.

    Raises:
        ToolError: it is not what this version of Vela writes, or its clock is another.
    """
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        raise ToolError("Vela's summary is empty; see that the locked version of ethos-u-vela is the one that ran")
    row = rows[0]
    clock = _number(row, "core_clock") / 1e6
    if round(clock) != megahertz:
        raise ToolError(
            f"the toolchain file says {megahertz} MHz, but Vela's system configuration {clock:g}; make both the same"
        )
    left = tuple(_left_over(said))
    return AcceleratorReport(
        estimate=Estimate(cycles=round(_number(row, "cycles_total")), contains=CONTAINS, accuracy=ACCURACY),
        quantities=(
            *(
                Quantity(name=name, value=_number(row, column) * factor, unit=unit)
                for name, column, factor, unit in _QUANTITIES
                if row.get(column)
            ),
            Quantity(name=CLOCK, value=clock, unit="MHz"),
            Quantity(name="operators_on_cpu", value=float(len(left)), unit="count"),
        ),
        notes=tuple(f"on the CPU: {item.operator} {item.node} ({item.rule})" for item in left),
    )


def _number(row: Mapping[str, str], column: str) -> float:
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        raise ToolError(
            f"Vela's summary has no number {column}; see that the locked version of ethos-u-vela is the one that ran"
        ) from None


def _left_over(said: str) -> Iterator[LeftOver]:
    for found in _ON_CPU.finditer(said):
        yield LeftOver(operator=found["operator"], node=found["node"], rule=one_line(found["reason"]))
