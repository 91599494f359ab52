"""Calls the C compiler of a toolchain file: compile, archive, link. The same sources give the same bytes, anywhere.

Everything happens in one working folder with relative names, so that no path of this machine gets into an output; no
debug information, build ids or time stamps are written, and programs and libraries are stripped.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from crossfarm.bundles.linking import c_library
from crossfarm.config.targets import CommandCompiler, ZigCompiler
from crossfarm.errors import ConfigError, ToolError
from crossfarm.util.processes import run_tool

_COMPILE_FLAGS = (
    "-std=c17",
    "-O2",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-sanitize=undefined",  # zig cc turns it on when nobody speaks of it, and its runtime is not on a board
    "-Wall",
    "-Wextra",
    "-Werror",
)
_FREESTANDING_FLAGS = ("-ffreestanding", "-fno-pic")
"""Behind the others, for a processor without an operating system."""
_LINK_FLAGS = ("-s", "-Wl,--gc-sections", "-Wl,--build-id=none")
_LIBRARIES = ("-lm", "-pthread")
_PROCESSOR_SECONDS = 1800
"""What one call may compute; a link takes seconds."""
_C_LIBRARY_PROCESSOR_SECONDS = 7200
"""What zig may compute for a target's C library, all threads together; musl takes two minutes."""
_LEAST_FREE_BYTES = 1 << 20
"""With less room than this, a tool that failed is taken to have failed for want of it."""
_LOG_LINES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A C compiler at work in one folder.

    Attributes:
        compiler: as declared in the toolchain file.
        static: link programs statically.
        folder: where sources lie and outputs go; every name below is relative to it.
        freestanding: for a processor without an operating system.
    """

    compiler: ZigCompiler | CommandCompiler
    static: bool
    folder: Path
    freestanding: bool = False

    def __post_init__(self) -> None:
        if self.static and isinstance(self.compiler, ZigCompiler) and "-musl" not in self.compiler.target:
            raise ConfigError(
                f"toolchain: linkage static needs a musl target, but compiler.target is {self.compiler.target}; "
                "choose linkage dynamic, or a target like aarch64-linux-musl"
            )

    def for_programs(self) -> Toolchain:
        """Return what programs are made with: this very toolchain, unless its file gives them a target of their own.

        A static program brings the few pages of the C library that it needs, where a shared one takes 1.5 MB.
        """
        compiler = self.compiler
        if not isinstance(compiler, ZigCompiler) or compiler.program_target is None:
            return self
        own = compiler.model_copy(update={"target": compiler.program_target, "program_target": None})
        return Toolchain(compiler=own, static=True, folder=self.folder)

    def compile(self, source: str, output: str) -> None:
        """Compile a C file, or one of assembly, to an object; warnings are errors.

        Raises:
            ToolError: the compiler is missing or fails.
        """
        flags = (*_COMPILE_FLAGS, *_FREESTANDING_FLAGS) if self.freestanding else _COMPILE_FLAGS
        self._run([*self._driver(), *flags, "-c", source, "-o", output])

    def archive(self, objects: Sequence[str], output: str) -> None:
        """Put objects into a static library.

        Raises:
            ToolError: the archiver is missing or fails.
        """
        archiver = _zig("ar") if isinstance(self.compiler, ZigCompiler) else list(self.compiler.archiver)
        self._run([*archiver, "rcsD", output, *objects])

    def link_program(self, objects: Sequence[str], output: str) -> None:
        """Link a program.

        Raises:
            ToolError: the linker is missing or fails.
        """
        self._need_c_library()
        self._run(self._program_link(objects, output))

    def link_image(self, objects: Sequence[str], output: str, *, script: str) -> None:
        """Link a program for a processor without an operating system, with what the compiler itself brings.

        Args:
            objects: what goes into it.
            output: its file name.
            script: the linker script.

        Raises:
            ToolError: the linker is missing or fails.
        """
        alone = ["-static", f"-Wl,-T,{script}"]
        # zig needs no word to leave out a C library that it has not, and leaves out its own functions for -nostdlib.
        others = [] if isinstance(self.compiler, ZigCompiler) else ["-nostdlib"]
        libraries = ["-lgcc"] if others else []
        self._run([*self._driver(), *_LINK_FLAGS, *others, *alone, *objects, *libraries, "-o", output])

    def link_library(self, objects: Sequence[str], output: str, *, exports: str) -> None:
        """Link a shared library.

        Args:
            objects: what goes into it.
            output: its file name, which becomes its soname.
            exports: version script that lists what it shows.

        Raises:
            ToolError: the linker is missing or fails.
        """
        self._need_c_library()
        shared = ["-shared", f"-Wl,-soname,{output}", f"-Wl,--version-script={exports}"]
        self._run([*self._driver(), *_LINK_FLAGS, *shared, *objects, *_LIBRARIES, "-o", output])

    def _program_link(self, objects: Sequence[str], output: str) -> list[str]:
        static = ["-static"] if self.static else []
        return [*self._driver(), *_LINK_FLAGS, *static, *objects, *_LIBRARIES, "-o", output]

    def build_c_libraries(self) -> list[str]:
        """Have zig build what this toolchain and that of its programs link with; return the zig targets, none for gcc.

        Raises:
            ToolError: the compiler is missing or fails.
        """
        built = []
        for toolchain in dict.fromkeys((self, self.for_programs())):
            if isinstance(toolchain.compiler, ZigCompiler):
                toolchain._need_c_library()
                built.append(toolchain.compiler.target)
        return built

    def _need_c_library(self) -> None:
        """Have zig build the target's C library, once for all jobs, and say so in the job's log."""
        if not isinstance(self.compiler, ZigCompiler):
            return
        with c_library.building(self.compiler, static=self.static, log=sys.stderr) as is_wanted:
            if not is_wanted:
                return
            started = time.monotonic()
            _tell(f"building the C library of {self.compiler.target}, once (minutes on a busy machine)")
            with tempfile.TemporaryDirectory(prefix="c-library-", dir=self.folder) as name:
                inside = dataclasses.replace(self, folder=Path(name))
                (inside.folder / "program.c").write_text(c_library.PROGRAM)
                inside.compile("program.c", "program.o")
                limit = _C_LIBRARY_PROCESSOR_SECONDS
                inside._run(inside._program_link(["program.o"], "program"), processor_seconds=limit)
                if not self.static:
                    shared = [*self._driver(), *_LINK_FLAGS, "-shared", "program.o", *_LIBRARIES, "-o", "library.so"]
                    inside._run(shared, processor_seconds=limit)
            _tell(f"built the C library of {self.compiler.target} in {time.monotonic() - started:.1f} s")

    def _driver(self) -> list[str]:
        if isinstance(self.compiler, ZigCompiler):
            return [*_zig("cc"), "-target", self.compiler.target, *self.compiler.flags]
        return [*self.compiler.command, *self.compiler.flags]

    def _run(self, command: Sequence[str], *, processor_seconds: int = _PROCESSOR_SECONDS) -> None:
        if shutil.which(command[0]) is None:
            raise ToolError(
                f"{command[0]} is not installed, but the toolchain's compiler needs it; install it, or declare "
                "another compiler in the toolchain file"
            )
        done = run_tool(command, folder=self.folder, processor_seconds=processor_seconds)
        if done.returncode != 0:
            self._blame_a_full_disk(command)
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LOG_LINES:])
            raise ToolError(
                f"{' '.join(command)} ended with {done.returncode}:\n{said}\n\n"
                "Check compiler and flags in the toolchain file."
            )

    def _blame_a_full_disk(self, command: Sequence[str]) -> None:
        """Say so where a tool may have failed for want of room: LLVM aborts then without a word."""
        for folder in (self.folder, c_library.cache_folder()):
            if folder.is_dir() and (left := shutil.disk_usage(folder).free) < _LEAST_FREE_BYTES:
                raise ToolError(
                    f"the disk is full: {left} bytes are left in {folder}, where {command[0]} failed; make room, or "
                    "see ./inv clean, and run the same command again"
                )


def tool_version(compiler: ZigCompiler | CommandCompiler) -> str:
    """Return what names the compiler in a bundle's provenance: `zig cc 0.17.0`.

    Raises:
        ToolError: the compiler is missing or fails.
    """
    command = _zig("version") if isinstance(compiler, ZigCompiler) else [*compiler.command, "--version"]
    if shutil.which(command[0]) is None:
        raise ToolError(f"{command[0]} is not installed; install it")
    done = run_tool(command, folder=Path.cwd(), processor_seconds=_PROCESSOR_SECONDS)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(command)} ended with {done.returncode}; see that it is installed as it should be")
    first = done.stdout.partition("\n")[0].strip()
    return f"zig cc {first}" if isinstance(compiler, ZigCompiler) else first


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _zig(command: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", command]
