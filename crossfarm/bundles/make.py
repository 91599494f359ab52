"""Makes the bundle of a program: links the compiled model with the runner, and puts all that a run needs beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import crossfarm
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.contents import WEIGHTS, copy_inputs, write_manifest
from crossfarm.bundles.linking.c_compiler import Toolchain, tool_version
from crossfarm.bundles.linking.runner_objects import OWN, compile_all, object_names
from crossfarm.bundles.linking.runner_sources import (
    EXPORTS,
    LIBRARY_SOURCES,
    PROGRAM_SOURCES,
    PUBLIC_HEADER,
    SERVER_SOURCES,
    copy_sources,
)
from crossfarm.bundles.order import BundleOrder, Linking
from crossfarm.errors import BundleError
from crossfarm.util.scratch import scratch_folder

PROGRAM = "program"
SERVER = "server"
"""In place of the shared library where linkage is static."""
_TABLES = "model_tables.c"
_OBJECT = "model_code.o"


def make_bundle(order: BundleOrder, *, output: Path) -> None:
    """Write a bundle; see protocol.Backend.bundle."""
    cell, linking = order.cell, order.linking
    if linking is None:
        raise BundleError(f"{cell.id}: a program is linked by a C compiler; declare `compiler` in the toolchain file")
    report = CompileReport.read(order.compiled / "compile.json")
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    inputs = copy_inputs(report, document, order.reference, output)
    with scratch_folder("link") as folder:
        work = Path(folder)
        _stage(work, order.compiled, linking)
        toolchain = Toolchain(compiler=linking.compiler, static=linking.static, folder=work)
        names = _build(toolchain, model=cell.model)
        for name in (*names, PUBLIC_HEADER):
            shutil.copyfile(work / name, output / name)
    for name in {PROGRAM, SERVER} & set(names):
        (output / name).chmod(0o755)
    shutil.copyfile(order.compiled / WEIGHTS, output / WEIGHTS)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(linking.compiler)}
    write_manifest(output, cell=cell, report=report, document=document, inputs=inputs, provenance=provenance)


def _stage(work: Path, compiled: Path, linking: Linking) -> None:
    """Bring all sources and objects into one folder, where they have names that are the same everywhere."""
    copy_sources(linking.runner, work)
    for path in linking.objects.iterdir():
        shutil.copyfile(path, work / path.name)
    shutil.copyfile(compiled / "tables.c", work / _TABLES)
    shutil.copyfile(compiled / "model.o", work / _OBJECT)


def _build(toolchain: Toolchain, *, model: str) -> list[str]:
    """Compile the tables and link in the toolchain's folder; return the names of what goes into the bundle."""
    programs = {PROGRAM: PROGRAM_SOURCES, **({SERVER: SERVER_SOURCES} if toolchain.static else {})}
    library = [_OBJECT, *compile_all(toolchain, [_TABLES]), *object_names(LIBRARY_SOURCES)]
    linker = toolchain.for_programs()
    shared = library
    if linker is not toolchain:
        shared = [_OBJECT, *compile_all(linker, [_TABLES], OWN), *object_names(LIBRARY_SOURCES, OWN)]
    for program, names in programs.items():
        linker.link_program([*object_names(names), *shared], program)
    made = [*programs, f"lib{model}.a"]
    toolchain.archive(library, f"lib{model}.a")
    if not toolchain.static:
        toolchain.link_library(library, f"lib{model}.so", exports=EXPORTS)
        made.append(f"lib{model}.so")
    return made
