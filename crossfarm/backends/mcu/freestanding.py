"""Which functions compiled code may call: a freestanding C library has next to none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.config.cell import Cell
from crossfarm.config.llvm import McuCode
from crossfarm.errors import UnfitError

if TYPE_CHECKING:
    from onnx import ModelProto

    from crossfarm.backends.tvm.unsupported import UnsupportedError

FUNCTIONS = frozenset({"memcpy", "memmove", "memset", "memcmp"})
"""What every compiler expects of any C library, freestanding ones too."""
ROUNDING = frozenset({"floorf", "ceilf", "truncf", "roundf", "rintf", "nearbyintf", "roundevenf"})
"""What the library brings itself (runner/mcu/library/rounding.c), for processors without such instructions."""
_COMPILER = "__"
"""Begins the names of what compilers bring themselves, such as `__aeabi_ldivmod`, and of TVM's pointers."""
_RAISE = "TVMFFIErrorSetRaised"
"""Begins the names of the functions that raise an error; the library has them."""


def check(object_file: Path, *, model: Path, cell: Cell, code: McuCode) -> None:
    """Refuse code that calls functions which a freestanding C library lacks, such as `expf`.

    Args:
        object_file: relocatable ELF file.
        model: the ONNX file that it was compiled from, to find the operator that is to blame.
        cell: for the message.
        code: what it was compiled for.

    Raises:
        UnfitError: it does; the message names the function, operator and node.
    """
    missing = foreign_functions(object_file)
    if not missing:
        return
    from crossfarm.backends.tvm import backend, lowering, unsupported

    target = lowering.tvm_target(code)

    def attempt(alone: ModelProto) -> None:
        module, program = backend.translate(alone, target)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "alone.o")
            lowering.build_object(module, program.functions, target, made)
            if missing[0] in foreign_functions(made):
                raise _error(missing[0])

    blamed = unsupported.blame(backend.load_model(model), _error(missing[0]), attempt)
    raise UnfitError(f"model {cell.model}, target {cell.target}: {blamed}")


def foreign_functions(object_file: Path) -> list[str]:
    """Return the functions that an object calls and that a freestanding C library lacks, sorted."""
    from elftools.elf.elffile import ELFFile

    with object_file.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        undefined = {str(symbol.name) for symbol in table.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"}
    return sorted(
        name
        for name in undefined - FUNCTIONS - ROUNDING
        if name and not name.startswith(_COMPILER) and not name.startswith(_RAISE)
    )


def _error(function: str) -> UnsupportedError:
    from crossfarm.backends.tvm.unsupported import UnsupportedError

    return UnsupportedError(what=f"the function {function}, which a freestanding C library lacks")
