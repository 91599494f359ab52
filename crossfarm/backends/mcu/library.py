"""Makes a bundle: compiles the C side, archives the library, links the test image, and says what they take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.backends.mcu.memory import HEADER, MEMORY, Memory, read_only_bytes, variable_bytes
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.contents import WEIGHTS, copy_inputs, write_manifest
from crossfarm.bundles.linking.c_compiler import Toolchain, tool_version
from crossfarm.bundles.linking.runner_sources import RUNNER
from crossfarm.bundles.order import BundleOrder
from crossfarm.errors import BundleError, UnfitError

IMAGE = "image.elf"
"""Runs the cases of a bundle in an emulator."""
LIBRARY_SOURCES = ("mcu/library/model.c", "mcu/library/rounding.c", "mcu/library/weights.S")
"""Beside the tables and the object of the model, below runner/."""
IMAGE_SOURCES = ("mcu/image/main.c", "mcu/image/semihosting.c", "mcu/image/start.c")
PUBLIC_HEADER = "mcu/library/model.h"
_SCRIPT = "mcu/image/image.ld"
_HEADERS = (
    PUBLIC_HEADER,
    "library/model_tables.h",
    "library/tvm_abi.h",
    "mcu/image/image.h",
    "mcu/image/semihosting.h",
)
SOURCES = (*LIBRARY_SOURCES, *IMAGE_SOURCES, *_HEADERS, _SCRIPT)
"""All of them, below runner/. No two have the same name, since they are compiled in one folder."""
_WEIGHTS_SECTION = ".rodata.crossfarm_weights"
_TABLES, _OBJECT = "model_tables.c", "model_code.o"


def make_library(order: BundleOrder, *, output: Path) -> None:
    """Write a bundle; see protocol.Backend.bundle."""
    from crossfarm.util.scratch import scratch_folder

    cell = order.cell
    if order.compiler is None:
        raise BundleError(f"{cell.id}: a library is made by a C compiler; declare `compiler` in the toolchain file")
    report = CompileReport.read(order.compiled / "compile.json")
    memory = Memory.read(order.compiled / MEMORY)
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    if any(case.get("continues") for case in document["cases"]):
        raise UnfitError(
            f"{cell.id}: its cases take outputs of the case before, which the test image cannot; choose another target"
        )
    inputs = copy_inputs(report, document, order.reference, output)
    with scratch_folder("link") as folder:
        work = Path(folder)
        _stage(work, order.compiled)
        toolchain = Toolchain(compiler=order.compiler, static=False, folder=work, freestanding=True)
        objects = _build(toolchain, model=cell.model)
        paths = [work / name for name in objects]
        code_bytes = read_only_bytes(paths, without=_WEIGHTS_SECTION)
        memory.check_flash(cell, code_bytes=code_bytes)
        for name in (f"lib{cell.model}.a", Path(PUBLIC_HEADER).name, HEADER, IMAGE):
            shutil.copyfile(work / name, output / name)
        quantities = memory.quantities(code_bytes=code_bytes, static_bytes=variable_bytes(paths))
    AcceleratorReport(quantities=quantities).write(output / ACCELERATOR)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(order.compiler)}
    write_manifest(output, cell=cell, report=report, document=document, inputs=inputs, provenance=provenance)


def _stage(work: Path, compiled: Path) -> None:
    """Bring all sources and objects into one folder, where they have names that are the same everywhere."""
    for name in SOURCES:
        shutil.copyfile(RUNNER / name, work / Path(name).name)
    for name, place in {"tables.c": _TABLES, "model.o": _OBJECT, WEIGHTS: WEIGHTS, HEADER: HEADER}.items():
        shutil.copyfile(compiled / name, work / place)


def _build(toolchain: Toolchain, *, model: str) -> list[str]:
    """Make library and image in the toolchain's folder; return the names of the library's objects."""
    library = [_OBJECT, *(_compiled(toolchain, name) for name in (_TABLES, *LIBRARY_SOURCES))]
    toolchain.archive(library, f"lib{model}.a")
    image = [_compiled(toolchain, name) for name in IMAGE_SOURCES]
    toolchain.link_image([*image, f"lib{model}.a"], IMAGE, script=Path(_SCRIPT).name)
    return library


def _compiled(toolchain: Toolchain, source: str) -> str:
    name = Path(source)
    toolchain.compile(name.name, f"{name.stem}.o")
    return f"{name.stem}.o"
