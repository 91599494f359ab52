"""Which platform tag a wheel gets: what the compiled code needs, read from the code itself.

The tags are those of https://packaging.python.org/specifications/platform-compatibility-tags and PEP 600.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from crossfarm.errors import BundleError

_OLDEST_GLIBC = (2, 17)
"""Older than any board; pip knows no older manylinux tags for ARM."""
_ARCHITECTURES = {
    "EM_X86_64": ("x86_64",),
    "EM_AARCH64": ("aarch64",),
    "EM_RISCV": ("riscv64",),
    "EM_ARM": ("armv6l", "armv7l"),
}
"""ELF machine -> architectures of Python's tags. Python calls a 32-bit process on a newer kernel (armv8l) armv7l."""
_WITHOUT_MANYLINUX = ("armv6l",)


def platform_tags(code: Path, machines: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of a wheel that holds a library or a program.

    A library needs a glibc at least as new as its newest symbol version: `manylinux_2_17_aarch64`. A static program
    needs a kernel alone: `linux_armv6l`, `linux_armv7l`.

    Args:
        code: an ELF file.
        machines: what `uname -m` says on boards that run it, as in the toolchain file.

    Raises:
        BundleError: it is no ELF file, or was made for none of the machines.
    """
    machine, versions = _read(code)
    fitting = [name for name in _ARCHITECTURES.get(machine, ()) if name in machines]
    if not fitting:
        raise BundleError(
            f"{code.name} is code for {machine}, but the toolchain file names the machines {', '.join(machines)}; "
            "correct machine or compiler in the toolchain file"
        )
    if versions is None:
        return tuple(f"linux_{name}" for name in fitting)
    major, minor = max([_OLDEST_GLIBC, *versions])
    return tuple(
        f"linux_{name}" if name in _WITHOUT_MANYLINUX else f"manylinux_{major}_{minor}_{name}" for name in fitting
    )


def _read(code: Path) -> tuple[str, list[tuple[int, int]] | None]:
    """Return the ELF machine and the glibc versions that the code asks for; None when it is not linked dynamically."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerNeedSection

    try:
        with code.open("rb") as stream:
            elf = ELFFile(stream)
            machine = str(elf["e_machine"])
            if elf.get_section_by_name(".dynamic") is None:
                return machine, None
            sections = [section for section in elf.iter_sections() if isinstance(section, GNUVerNeedSection)]
            names = [
                auxiliary.name
                for section in sections
                for _, auxiliaries in section.iter_versions()
                for auxiliary in auxiliaries
            ]
    except (OSError, ELFError) as error:
        raise BundleError(f"{code.name} cannot be read: {error}; make the bundle again") from error
    found = [re.fullmatch(r"GLIBC_(\d+)\.(\d+)(\.\d+)?", str(name)) for name in names]
    return machine, [(int(match[1]), int(match[2])) for match in found if match]
