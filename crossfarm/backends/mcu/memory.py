"""How much memory a model takes: what the arena is made of, and whether it and the code fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.bundles.accelerator import Quantity
from crossfarm.bundles.compile_report import Document
from crossfarm.config.cell import Cell
from crossfarm.errors import UnfitError

if TYPE_CHECKING:
    from elftools.elf.sections import Section

MEMORY = "memory.json"
HEADER = "model_sizes.h"
ALIGNMENT = 64
"""Of the arena and of each workspace in it."""
HANDLE_BYTES = 64
"""Of the handle at the start of an arena; the C side asserts that it is no larger."""
_ALLOCATED, _WRITABLE = 0x2, 0x1
"""SHF_ALLOC and SHF_WRITE of an ELF section."""
_RELOCATED = ".data.rel.ro"
"""Begins the names of sections that a linker may put into flash although they say that they are written."""


class Memory(Document):
    """memory.json: what the compiler counted, beside what the toolchain file allows."""

    flash_bytes: int
    ram_bytes: int
    tensor_bytes: int
    """Of inputs, outputs and everything between them."""
    workspace_bytes: int
    """The most that the temporary memory of one function takes."""
    weights_bytes: int
    most_arguments: int
    """Of a call."""

    @property
    def arena_bytes(self) -> int:
        """Bytes that a caller gives: the handle, tensors and workspaces."""
        return HANDLE_BYTES + self.tensor_bytes + self.workspace_bytes

    def header(self) -> str:
        """Return model_sizes.h."""
        lines = [
            ("ARENA_BYTES", self.arena_bytes, "what crossfarm_model_open wants: the three below"),
            ("HANDLE_BYTES", HANDLE_BYTES, "the handle"),
            ("TENSOR_BYTES", self.tensor_bytes, "inputs, outputs and everything between them"),
            ("WORKSPACE_BYTES", self.workspace_bytes, "temporary memory of the compiled code"),
            ("WEIGHTS_BYTES", self.weights_bytes, "constants, in flash"),
            ("MOST_ARGUMENTS", self.most_arguments, "of a call"),
        ]
        return (
            "/* What the model takes, in bytes. */\n"
            "#ifndef CROSSFARM_MODEL_SIZES_H\n#define CROSSFARM_MODEL_SIZES_H\n\n"
            + "".join(f"#define CROSSFARM_MODEL_{name} {value}u /* {words} */\n" for name, value, words in lines)
            + "\n#endif\n"
        )

    def check_ram(self, cell: Cell) -> None:
        """Refuse an arena that is larger than the RAM.

        Raises:
            UnfitError: it is; the message has both numbers.
        """
        if self.arena_bytes > self.ram_bytes:
            raise UnfitError(
                f"{cell.id}: a run takes an arena of {self.arena_bytes:,} bytes ({self.tensor_bytes:,} of tensors, "
                f"{self.workspace_bytes:,} of workspace), but ram_bytes of toolchains/{cell.target}.yaml is "
                f"{self.ram_bytes:,}; choose a smaller model or a larger processor"
            )

    def check_flash(self, cell: Cell, *, code_bytes: int) -> None:
        """Refuse code and weights that are larger than the flash.

        Args:
            cell: for the message.
            code_bytes: of code and constants beside the weights.

        Raises:
            UnfitError: they are; the message has all numbers.
        """
        taken = self.weights_bytes + code_bytes
        if taken > self.flash_bytes:
            raise UnfitError(
                f"{cell.id}: the model takes {taken:,} bytes of flash ({self.weights_bytes:,} of weights, "
                f"{code_bytes:,} of code), but flash_bytes of toolchains/{cell.target}.yaml is {self.flash_bytes:,}; "
                "choose a smaller model or a larger processor"
            )

    def quantities(self, *, code_bytes: int, static_bytes: int) -> tuple[Quantity, ...]:
        """Return the numbers that reports show.

        Args:
            code_bytes: of code and constants beside the weights, in flash.
            static_bytes: of variables of the library itself, in RAM.
        """
        numbers = {
            "flash_weights": self.weights_bytes,
            "flash_code": code_bytes,
            "ram_arena": self.arena_bytes,
            "ram_tensors": self.tensor_bytes,
            "ram_workspace": self.workspace_bytes,
            "ram_static": static_bytes,
        }
        return tuple(Quantity(name=name, value=value, unit="bytes") for name, value in numbers.items())


def read_only_bytes(objects: Iterable[Path], *, without: str | None = None) -> int:
    """Return how many bytes of objects a firmware has in its flash.

    Args:
        objects: relocatable ELF files.
        without: a section that is not counted.
    """
    return sum(
        int(section["sh_size"])
        for section in _allocated(objects)
        if not _is_variable(section) and section.name != without
    )


def variable_bytes(objects: Iterable[Path]) -> int:
    """Return how many bytes of objects a firmware has in its RAM."""
    return sum(int(section["sh_size"]) for section in _allocated(objects) if _is_variable(section))


def _is_variable(section: Section) -> bool:
    return bool(section["sh_flags"] & _WRITABLE) and not str(section.name).startswith(_RELOCATED)


def _allocated(objects: Iterable[Path]) -> Iterator[Section]:
    from elftools.elf.elffile import ELFFile

    for path in objects:
        with path.open("rb") as stream:
            yield from (section for section in ELFFile(stream).iter_sections() if section["sh_flags"] & _ALLOCATED)
