"""The runner's objects: compiled once for a target, and linked into every bundle of it.

They are the same bytes on every host: sources have the same relative names in a folder of their own. No source of the
runner depends on the model; the tables that do are compiled for each bundle.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.bundles.linking.runner_sources import LIBRARY_SOURCES, PROGRAM_SOURCES, SERVER_SOURCES, copy_sources
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.util.scratch import scratch_folder

OWN = "program_"
"""Begins the names of objects of the library that programs are linked with, where they are for another zig target."""


def object_names(sources: Iterable[str], prefix: str = "") -> list[str]:
    """Return the names of the objects of C files."""
    return [f"{prefix}{Path(source).stem}.o" for source in sources]


def compile_all(toolchain: Toolchain, sources: Iterable[str], prefix: str = "") -> list[str]:
    """Compile C files in the toolchain's folder, and return the names of their objects.

    Raises:
        ToolError: the C compiler is missing or fails.
    """
    sources = tuple(sources)
    names = object_names(sources, prefix)
    for source, name in zip(sources, names, strict=True):
        toolchain.compile(source, name)
    return names


def compile_runner(compiler: ZigCompiler | CommandCompiler, *, static: bool, sources: Path, output: Path) -> None:
    """Compile the sources of library and programs.

    Args:
        compiler: the C compiler.
        static: programs are linked statically, and the one that stands in for a shared library is among them.
        sources: folder of the runner's sources.
        output: an empty folder, which gets the objects.

    Raises:
        ToolError: the C compiler is missing or fails.
    """
    with scratch_folder("link") as folder:
        work = Path(folder)
        copy_sources(sources, work)
        toolchain = Toolchain(compiler=compiler, static=static, folder=work)
        linker = toolchain.for_programs()
        names = compile_all(toolchain, LIBRARY_SOURCES)
        if linker is not toolchain:
            names += compile_all(linker, LIBRARY_SOURCES, OWN)
        names += compile_all(linker, (*PROGRAM_SOURCES, *(SERVER_SOURCES if static else ())))
        for name in names:
            shutil.copyfile(work / name, output / name)
