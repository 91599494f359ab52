"""Programs that a search runs: linked as in a bundle, without what users need, over a runner compiled once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.bundles.linking.runner_sources import HEADERS, LIBRARY_SOURCES, PROGRAM_SOURCES, copy_sources
from crossfarm.bundles.make import PROGRAM, WEIGHTS, copy_inputs, write_manifest
from crossfarm.config.cell import Cell
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.util.scratch import scratch_folder

_TABLES, _CODE = "model_tables", "model_code.o"


def prepare_runner(folder: Path, *, compiler: ZigCompiler | CommandCompiler, static: bool, runner: Path) -> None:
    """Compile the runner into a new folder, for all programs of a search.

    Args:
        folder: to make; `link_program` needs it.
        compiler: as declared in the toolchain file.
        static: link programs statically.
        runner: folder of the C sources.

    Raises:
        ToolError: the compiler is missing or fails.
    """
    folder.mkdir(parents=True)
    copy_sources(runner, folder)
    toolchain = Toolchain(compiler=compiler, static=static, folder=folder).for_programs()
    for name in (*LIBRARY_SOURCES, *PROGRAM_SOURCES):
        toolchain.compile(name, f"{Path(name).stem}.o")


def link_program(
    prepared: Path,
    output: Path,
    *,
    cell: Cell,
    compiler: ZigCompiler | CommandCompiler,
    static: bool,
    compiled: Path,
    reference: Path,
) -> None:
    """Make a folder that runs like a bundle.

    Args:
        prepared: as `prepare_runner` left it.
        output: to make.
        cell: names of what is built.
        compiler: as declared in the toolchain file.
        static: link statically.
        compiled: what the backend made.
        reference: artifact of the stage `reference`, whose inputs the program runs.

    Raises:
        ToolError: the compiler is missing or fails.
        BundleError: the two artifacts do not belong together.
    """
    report = CompileReport.read(compiled / "compile.json")
    document: Any = json.loads((reference / "reference.json").read_text(encoding="utf-8"))
    output.mkdir()
    inputs = copy_inputs(report, document, reference, output)
    with scratch_folder("link") as folder:
        work = Path(folder)
        objects = [f"{Path(name).stem}.o" for name in (*PROGRAM_SOURCES, *LIBRARY_SOURCES)]
        for name in (*objects, *HEADERS):
            (work / name).symlink_to(prepared / name)
        shutil.copyfile(compiled / "tables.c", work / f"{_TABLES}.c")
        shutil.copyfile(compiled / "model.o", work / _CODE)
        toolchain = Toolchain(compiler=compiler, static=static, folder=work).for_programs()
        toolchain.compile(f"{_TABLES}.c", f"{_TABLES}.o")
        toolchain.link_program([*objects, f"{_TABLES}.o", _CODE], PROGRAM)
        shutil.copyfile(work / PROGRAM, output / PROGRAM)
    (output / PROGRAM).chmod(0o755)
    shutil.copyfile(compiled / "compile.json", output / "compile.json")
    shutil.copyfile(compiled / WEIGHTS, output / WEIGHTS)
    write_manifest(output, cell=cell, report=report, document=document, inputs=inputs, provenance=report.tools)
