"""Calls the C compiler of a toolchain file: compile, archive, link. The same sources give the same bytes, anywhere.

Everything happens in one working folder with relative names, so that no path of this machine gets into an output; no
debug information, build ids or time stamps are written, and programs and libraries are stripped.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import ConfigError, ToolError
from crossfarm.spec.targets import CommandCompiler, ZigCompiler

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
_LINK_FLAGS = ("-s", "-Wl,--gc-sections", "-Wl,--build-id=none")
_LIBRARIES = ("-lm", "-pthread")
_TIME_LIMIT = 600
"""Seconds; the first use of zig for a target builds its C library, which takes up to a minute."""
_LOG_LINES = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toolchain:
    """A C compiler at work in one folder.

    Attributes:
        compiler: as declared in the toolchain file.
        static: link programs statically.
        folder: where sources lie and outputs go; every name below is relative to it.
    """

    compiler: ZigCompiler | CommandCompiler
    static: bool
    folder: Path

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
        """Compile a C file to an object; warnings are errors.

        Raises:
            ToolError: the compiler is missing or fails.
        """
        self._run([*self._driver(), *_COMPILE_FLAGS, "-c", source, "-o", output])

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
        static = ["-static"] if self.static else []
        self._run([*self._driver(), *_LINK_FLAGS, *static, *objects, *_LIBRARIES, "-o", output])

    def link_library(self, objects: Sequence[str], output: str, *, exports: str) -> None:
        """Link a shared library.

        Args:
            objects: what goes into it.
            output: its file name, which becomes its soname.
            exports: version script that lists what it shows.

        Raises:
            ToolError: the linker is missing or fails.
        """
        shared = ["-shared", f"-Wl,-soname,{output}", f"-Wl,--version-script={exports}"]
        self._run([*self._driver(), *_LINK_FLAGS, *shared, *objects, *_LIBRARIES, "-o", output])

    def _driver(self) -> list[str]:
        if isinstance(self.compiler, ZigCompiler):
            return [*_zig("cc"), "-target", self.compiler.target, *self.compiler.flags]
        return [*self.compiler.command, *self.compiler.flags]

    def _run(self, command: Sequence[str]) -> None:
        if shutil.which(command[0]) is None:
            raise ToolError(
                f"{command[0]} is not installed, but the toolchain's compiler needs it; install it, or declare "
                "another compiler in the toolchain file"
            )
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_TIME_LIMIT,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"{' '.join(command)} did not end within {_TIME_LIMIT} s; run it again") from error
        if done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LOG_LINES:])
            raise ToolError(
                f"{' '.join(command)} ended with {done.returncode}:\n{said}\n\n"
                "Check compiler and flags in the toolchain file."
            )


def tool_version(compiler: ZigCompiler | CommandCompiler) -> str:
    """Return what names the compiler in a bundle's provenance: `zig cc 0.17.0`.

    Raises:
        ToolError: the compiler is missing or fails.
    """
    command = _zig("version") if isinstance(compiler, ZigCompiler) else [*compiler.command, "--version"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=_TIME_LIMIT
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(f"{' '.join(command)} cannot be run: {error}; install it") from error
    first = done.stdout.partition("\n")[0].strip()
    return f"zig cc {first}" if isinstance(compiler, ZigCompiler) else first


def _zig(command: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", command]
