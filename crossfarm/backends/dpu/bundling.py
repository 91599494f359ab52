"""From parts of the array and of the CPU to a bundle: the functional model as a program, the core as SystemVerilog."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.contents import copy_inputs, write_manifest
from crossfarm.bundles.linking.c_compiler import Toolchain, tool_version
from crossfarm.bundles.linking.runner_objects import compile_all
from crossfarm.bundles.order import BundleOrder
from crossfarm.errors import BundleError
from crossfarm.util.scratch import scratch_folder

PROGRAM = "program"
CORE = "core"
SOURCES = ("program.c", "execute.c", "files.c", "main.c")
HEADERS = ("program.h", "execute.h", "files.h")
CORE_SOURCES = ("program.c", "program.h", "files.c", "files.h", "core_main.cpp")
"""What the core's testbench is built from, beside all of rtl/."""


def bundle_cell(order: BundleOrder, *, output: Path) -> None:
    """Link the functional model, and put it beside parts, core, inputs and manifest; see protocol.Backend.bundle."""
    linking = order.linking
    if linking is None:
        raise BundleError(f"{order.cell.id}: the functional model is linked by a C compiler; declare `compiler`")
    report = CompileReport.read(order.compiled / "compile.json")
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    inputs = copy_inputs(report, document, order.reference, output)
    own = linking.runner / "dpu"
    with scratch_folder("link") as folder:
        for name in (*SOURCES, *HEADERS):
            shutil.copyfile(own / name, folder / name)
        toolchain = Toolchain(compiler=linking.compiler, static=linking.static, folder=folder).for_programs()
        toolchain.link_program(compile_all(toolchain, SOURCES), PROGRAM)
        shutil.copyfile(folder / PROGRAM, output / PROGRAM)
    (output / PROGRAM).chmod(0o755)
    (output / CORE).mkdir()
    for path in (*(own / name for name in CORE_SOURCES), *sorted((own / "rtl").glob("*.sv"))):
        shutil.copyfile(path, output / CORE / path.name)
    for path in order.compiled.iterdir():
        if path.name != "compile.json":
            shutil.copyfile(path, output / path.name)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(linking.compiler)}
    write_manifest(output, cell=order.cell, report=report, document=document, inputs=inputs, provenance=provenance)
