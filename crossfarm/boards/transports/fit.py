"""Checks whether a program can run on a board, and whether the board is healthy, before anything is sent."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crossfarm.boards.cpu_features import lacking
from crossfarm.boards.transports.facts import Facts
from crossfarm.config.boards import Board
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import BoardError, BundleError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_MACHINES: Mapping[str, str] = {
    "EM_ARM": r"arm.*|aarch64",
    "EM_AARCH64": "aarch64",
    "EM_X86_64": "x86_64",
    "EM_RISCV": "riscv64",
}
"""ELF's name of a machine -> what `uname -m` says on machines that run it; 64-bit ARM runs 32-bit programs too."""

_HARD_FLOAT, _SOFT_FLOAT = 0x400, 0x200
"""EF_ARM_ABI_FLOAT_HARD and EF_ARM_ABI_FLOAT_SOFT of the ELF for the Arm Architecture (Arm IHI 0044)."""

_ARM_VERSIONS: Mapping[int, int] = {6: 6, 7: 6, 8: 6, 9: 6, 10: 7, 14: 7}
"""Tag_CPU_arch of the Arm ABI's addenda -> version that a board must at least have; older ones run everywhere. ARMv8
asks for no more than ARMv7, because under a 32-bit kernel such a processor is called armv7l too."""

_WORDS: Mapping[str, Mapping[str, str]] = {
    "arm": {
        "neon": "neon", "vfp2": "vfp", "vfp3": "vfpv3", "vfp4": "vfpv4", "fp16": "half",
        "hwdiv": "idivt", "hwdiv-arm": "idiva", "dotprod": "asimddp",
    },
    "aarch64": {
        "neon": "asimd", "fp-armv8": "fp", "aes": "aes", "crc": "crc32", "lse": "atomics", "fullfp16": "asimdhp",
        "dotprod": "asimddp", "rdm": "asimdrdm", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
    },
    "riscv64": {"m": "m", "a": "a", "f": "f", "d": "d", "c": "c", "v": "v"},
}  # fmt: skip
"""Architecture -> LLVM's name of a feature -> the kernel's."""

_A55 = ("neon", "crc", "lse", "rdm", "fullfp16", "dotprod")
_PROCESSORS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("aarch64", "cortex-a53"): ("neon", "crc"),
    ("aarch64", "cortex-a72"): ("neon", "crc"),
    ("aarch64", "cortex-a55"): _A55,
    ("aarch64", "cortex-a76"): _A55,
}
"""Architecture and LLVM's name of a processor -> features that it brings, where a board may lack them, from Arm's
reference manuals; processors that are not listed bring none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElfProgram:
    """What an ELF program needs of a machine.

    Attributes:
        machine: `EM_ARM`, `EM_AARCH64`, ...
        float_abi: of 32-bit ARM.
        interpreter: path of the dynamic loader; None for a static program.
        glibc: highest version of the GNU C library that a symbol asks for.
        arm_version: of the architecture, for 32-bit ARM.
        has_neon: 32-bit ARM code that uses NEON.
    """

    machine: str
    float_abi: str | None
    interpreter: str | None
    glibc: tuple[int, ...] | None
    arm_version: int | None
    has_neon: bool


def read_program(path: Path) -> ElfProgram:
    """Read what a program needs.

    Raises:
        BundleError: it is no ELF file.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            file = ELFFile(stream)
            attributes = dict(_attributes(file))
            return ElfProgram(
                machine=str(file["e_machine"]),
                float_abi=_float_abi(file),
                interpreter=next((part.get_interp_name() for part in file.iter_segments("PT_INTERP")), None),
                glibc=max(_glibc_versions(file), default=None),
                arm_version=_ARM_VERSIONS.get(attributes.get("TAG_CPU_ARCH", 0)),
                has_neon=attributes.get("TAG_ADVANCED_SIMD_ARCH", 0) > 0,
            )
    except (ELFError, OSError) as error:
        raise BundleError(f"{path.name} is no program for Linux ({error}); make the bundle again") from error


def check_fit(program: ElfProgram, facts: Facts, code: LlvmCode, *, board: str, target: str) -> None:
    """Make sure that a board runs a program.

    Raises:
        BundleError: it does not; the message names all that is in the way.
    """
    problems = list(misfits(program, facts, code))
    if problems:
        raise BundleError(
            f"code for {target} does not run on board {board}: {'; '.join(problems)}. Nothing was sent; take "
            f"{target} out of the board's targets, or change toolchains/{target}.yaml"
        )


def misfits(program: ElfProgram, facts: Facts, code: LlvmCode) -> Iterator[str]:
    """Yield what keeps a program from running on a board, in words of the form `needs X, the board has Y`.

    Args:
        program: what it needs.
        facts: what the board says.
        code: what the target's code was generated for.
    """
    machines = _MACHINES.get(program.machine)
    if machines is not None and not re.fullmatch(machines, facts.machine):
        yield f"needs {program.machine.removeprefix('EM_').lower()}, the board is {facts.machine}"
        return
    version = re.match(r"armv(\d)", facts.machine)
    if program.arm_version and version and int(version[1]) < program.arm_version:
        yield f"needs ARMv{program.arm_version}, the board is {facts.machine}"
    yield from _loader_misfit(program, facts)
    if program.glibc and facts.glibc and program.glibc > facts.glibc:
        yield f"needs glibc {_dotted(program.glibc)}, the board has {_dotted(facts.glibc)}"
    missing = _missing_features(program, facts, code)
    if missing:
        yield f"needs {', '.join(word.upper() for word in missing)}, the board's CPU has none"


def _loader_misfit(program: ElfProgram, facts: Facts) -> Iterator[str]:
    if program.interpreter is None or not facts.loaders or program.interpreter in facts.loaders:
        return
    hard = any("armhf" in loader for loader in facts.loaders)
    if program.float_abi and program.float_abi != ("hard" if hard else "soft") and facts.machine.startswith("arm"):
        yield f"needs the {program.float_abi}-float ABI, the board has the {'hard' if hard else 'soft'}-float one"
    else:
        yield f"needs the loader {program.interpreter}, the board has {', '.join(facts.loaders)}"


def _missing_features(program: ElfProgram, facts: Facts, code: LlvmCode) -> list[str]:
    """Return the features that the code needs and the CPU lacks, in the kernel's words, as far as both are known."""
    if facts.features is None:
        return []
    architecture = {"EM_ARM": "arm", "EM_RISCV": "riscv64"}.get(program.machine, program.machine[3:].lower())
    if architecture == "x86_64":
        return list(lacking(code, facts.features))
    if architecture == "arm" and not facts.machine.startswith("arm"):
        # A 64-bit kernel lists the features of 64-bit programs; every such CPU has those of ARMv7.
        return []
    words = _WORDS.get(architecture, {})
    named = {feature[1:] for feature in code.features if feature.startswith("+")}
    named.update(_PROCESSORS.get((architecture, code.cpu), ()))
    named -= {feature[1:] for feature in code.features if feature.startswith("-")}
    needed = {words[name] for name in named if name in words} | ({"neon"} if program.has_neon else set())
    return sorted(needed - facts.features)


def _float_abi(file: ELFFile) -> str | None:
    if file["e_machine"] != "EM_ARM":
        return None
    flags = file["e_flags"]
    return "hard" if flags & _HARD_FLOAT else "soft" if flags & _SOFT_FLOAT else None


def _glibc_versions(file: ELFFile) -> Iterator[tuple[int, ...]]:
    from elftools.elf.gnuversions import GNUVerNeedSection

    for section in file.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, needed in section.iter_versions():
                for symbol in needed:
                    match = re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", symbol.name)
                    if match:
                        yield tuple(int(part) for part in match[1].split("."))


def _attributes(file: ELFFile) -> Iterator[tuple[str, int]]:
    """Yield the build attributes of 32-bit ARM that are numbers."""
    section = file.get_section_by_name(".ARM.attributes")
    if section is None:
        return
    for vendor in section.iter_subsections():
        for part in vendor.iter_subsubsections():
            yield from ((item.tag, item.value) for item in part.iter_attributes() if isinstance(item.value, int))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def check_health(board: Board, facts: Facts) -> None:
    """Make sure that a board is fit for a measurement.

    Raises:
        BoardError: it is not; the message names all that is wrong.
    """
    problems = list(problems_of(board, facts))
    if problems:
        raise BoardError(f"board {board.name} is not fit for use: {'; '.join(problems)}")


def problems_of(board: Board, facts: Facts) -> Iterator[str]:
    """Yield what is wrong with a board, each with what to do about it."""
    if not fnmatch.fnmatchcase(facts.platform, board.platform) and not fnmatch.fnmatchcase(
        facts.machine, board.platform
    ):
        yield (
            f"it says that it is {facts.platform!r}, boards.yaml says platform {board.platform!r}: it is the wrong "
            "machine; correct its address or its platform"
        )
    free = facts.free_kib // 1024
    if free < board.limits.free_disk:
        yield (
            f"{free} MiB are free in {board.folder}, limits.free_disk is {board.limits.free_disk}; make room there, or "
            "lower the limit"
        )
    heat = facts.thermal.temperature
    if heat is not None and heat > board.limits.temperature:
        yield f"it is {heat:g} °C hot, limits.temperature is {board.limits.temperature:g}; let it cool, or fan it"
    most = board.limits.load * (facts.processors or 1)
    # A virtual board shows the load of its host, whose clock counts for nothing anyway.
    if board.transport != "virtual" and facts.load is not None and facts.load > most:
        yield (
            f"its load is {facts.load:g} on {facts.processors or 1} CPUs, limits.load is {board.limits.load:g} for "
            "each; end what else runs there, or raise the limit"
        )
