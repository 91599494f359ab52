"""The most that one core computes: a kernel of multiply-adds, compiled by the target's toolchain and run like its code.

The compiler is told the processor that code is made for: a peak of x86-64-v3 is one of AVX2, whatever the machine has.
The program is our own and knows nothing of a model, so it is not sandboxed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from crossfarm.boards.transports import programs
from crossfarm.bundles.linking.c_compiler import Toolchain
from crossfarm.config.targets import Target, ZigCompiler
from crossfarm.errors import BoardError
from crossfarm.util.scratch import scratch_folder

_SOURCE = Path(__file__).with_name("peak.c")
_FLAGS = ("-O3", "-ffp-contract=fast")
_TIME_LIMIT = 1800
_ATTEMPTS = 3


def measured_peak(target: Target, *, prefix: Sequence[str] = ()) -> float:
    """Return the float32 operations a second that one core reaches, the best of three runs.

    Args:
        target: whose code and compiler.
        prefix: emulator and its arguments; empty where the code runs natively.

    Raises:
        ToolError: the compiler fails.
        BoardError: the kernel does not run.
    """
    flags = (*target.c_compiler.flags, *_FLAGS, *processor_flags(target))
    compiler = target.c_compiler.model_copy(update={"flags": flags})
    with scratch_folder("peak") as folder:
        work = Path(folder)
        shutil.copyfile(_SOURCE, work / "peak.c")
        toolchain = Toolchain(compiler=compiler, static=target.linkage == "static", folder=work)
        toolchain.compile("peak.c", "peak.o")
        toolchain.link_program(["peak.o"], "peak")
        return max(_run([*prefix, str(work / "peak")]) for _ in range(_ATTEMPTS))


def processor_flags(target: Target) -> tuple[str, ...]:
    """Return what tells the C compiler for which processor the target's code is made.

    zig spells LLVM's names with underscores; GCC wants -march on x86 and -mcpu elsewhere. A generic processor is what
    a compiler assumes anyway.
    """
    code = target.instructions
    if code is None:
        return ()
    cpu = code.cpu
    if "generic" in cpu or any(flag.startswith(("-mcpu", "-march")) for flag in target.c_compiler.flags):
        return ()
    if isinstance(target.c_compiler, ZigCompiler):
        return (f"-mcpu={cpu.replace('-', '_')}",)
    return (f"-march={cpu}" if code.triple.startswith("x86_64") else f"-mcpu={cpu}",)


def _run(command: Sequence[str]) -> float:
    ended = programs.run(command, timeout=_TIME_LIMIT)
    try:
        value = float(ended.tail.strip())
    except ValueError:
        value = 0.0
    if ended.code != 0 or value <= 0:
        raise BoardError(f"the kernel that measures the peak ended with {ended.code}; run it again")
    return value
