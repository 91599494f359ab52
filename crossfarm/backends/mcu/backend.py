"""Backend mcu: compiles as the backend tvm does, by rules that save flash; a bundle is a library for a firmware.

Nothing of it allocates, opens a file or starts a thread: weights are constants, and the caller gives the memory that a
run takes. A test image, which holds the library and runs the cases in an emulator, stands in the bundle beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.backends.tvm import backend as tvm_backend
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.config.llvm import McuCode

_OWN = "crossfarm/backends/mcu/"

DECLARATION = BackendDeclaration(
    section=McuCode,
    sources={
        "compile": (*tvm_backend.DECLARATION.sources["compile"], _OWN),
        "bundle": (
            _OWN,
            "crossfarm/bundles/accelerator.py",
            "crossfarm/bundles/linking/",
            "runner/mcu/",
            "runner/library/model_tables.h",
            "runner/library/tvm_abi.h",
        ),
        "measure": ("crossfarm/boards/simulators/base.py", "crossfarm/boards/simulators/cortex_m.py"),
    },
    tools={
        "compile": (*tvm_backend.COMPILE_TOOLS, "pyelftools"),
        "bundle": ("ziglang", "pyelftools"),
        "measure": ("numpy",),
    },
    preload=tvm_backend.DECLARATION.preload,
    simulator="crossfarm.boards.simulators.cortex_m",
    packages=("qemu-system-arm",),
)


def compile(
    *, cell: Cell, model: Path, code: McuCode, output: Path, tuned: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Compile a model to model.o, tables.c, model_sizes.h, weights.bin and memory.json; see protocol.Backend.compile.

    Raises:
        ModelError: something of it cannot be compiled, needs more than a freestanding C library has, or does not fit
            into the memory that the toolchain file declares.
    """
    from crossfarm.backends.mcu import freestanding, memory, workspaces

    with workspaces.counted() as counted:
        program, layout = tvm_backend.compile_program(cell=cell, model=model, code=code, output=output, tuned=tuned)
    freestanding.check(output / "model.o", model=model, cell=cell, code=code)
    needs = memory.Memory(
        flash_bytes=code.flash_bytes,
        ram_bytes=code.ram_bytes,
        tensor_bytes=layout.arena_size,
        workspace_bytes=max((counted.peak(name) for name in program.functions), default=0),
        weights_bytes=layout.weights_size,
        most_arguments=max((len(call.arguments) for call in program.calls), default=1),
    )
    needs.check_ram(cell)
    needs.check_flash(cell, code_bytes=memory.read_only_bytes([output / "model.o"]))
    (output / memory.HEADER).write_text(needs.header(), encoding="ascii")
    needs.write(output / memory.MEMORY)


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Make library and test image, and say what they take; see protocol.Backend.bundle."""
    from crossfarm.backends.mcu.library import make_library

    make_library(order, output=output)
