"""Parses the facts that remote.sh prints about a board, and detects from two readings whether it slowed down.

The board is not trusted: a number out of range is taken as missing, and text is cleaned and cut to one short line.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

from crossfarm.boards.protocol import BoardState
from crossfarm.boards.transports.virtualisation import Signs, Virtualisation, recognise
from crossfarm.errors import BoardError
from crossfarm.util.text import one_line

_LONGEST_VALUE = 20_000
"""Characters of one value: a processor's features take 2,000, an auxiliary vector 1,000."""
_LONGEST_NAME = 200
_MOST_VALUES = 64
"""Of one fact, such as thermal zones and loaders."""
_MOST_FEATURES = 2000
_MOST_PROCESSORS = 1 << 16
_COLDEST, _HOTTEST = -273.15, 1000.0
"""Degrees Celsius; a sensor that says something else is broken."""

_AT_HWCAP, _AT_HWCAP2 = 16, 26
"""Types of the auxiliary vector, from Linux' include/uapi/linux/auxvec.h."""

_ARM: Mapping[int, str] = {
    1: "half", 2: "thumb", 6: "vfp", 7: "edsp", 12: "neon", 13: "vfpv3", 14: "vfpv3d16", 16: "vfpv4",
    17: "idiva", 18: "idivt", 19: "vfpd32", 22: "fphp", 23: "asimdhp", 24: "asimddp", 27: "i8mm",
}  # fmt: skip
"""Bits of AT_HWCAP from arch/arm/include/uapi/asm/hwcap.h."""

_ARM64: Mapping[int, str] = {
    0: "fp", 1: "asimd", 3: "aes", 4: "pmull", 5: "sha1", 6: "sha2", 7: "crc32", 8: "atomics", 9: "fphp",
    10: "asimdhp", 12: "asimdrdm", 13: "jscvt", 14: "fcma", 15: "lrcpc", 17: "sha3", 20: "asimddp", 21: "sha512",
    22: "sve", 23: "asimdfhm",
}  # fmt: skip
"""Bits of AT_HWCAP from arch/arm64/include/uapi/asm/hwcap.h."""

_ARM64_SECOND: Mapping[int, str] = {1: "sve2", 13: "i8mm", 14: "bf16"}
"""Bits of AT_HWCAP2 from the same file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThermalState:
    """What changes while a program runs.

    Attributes:
        temperature: degrees Celsius of the hottest zone.
        governor: of the first CPU.
        frequency: of the first CPU now, in kHz.
        highest_frequency: that it may take, in kHz.
        throttle_count: how often the first CPU was slowed down for heat since it was started, where the kernel counts.
        throttled: flags of a Raspberry Pi's firmware: bits 0 to 3 what is, bits 16 to 19 what was since it was started.
    """

    temperature: float | None = None
    governor: str | None = None
    frequency: int | None = None
    highest_frequency: int | None = None
    throttle_count: int | None = None
    throttled: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the lines of `thermal_state` in remote.sh; what is no number there is taken as not said."""
        said = _lines(text)
        degrees = [value / 1000 for line in said.get("temperature", ()) if (value := _integer(line)) is not None]
        return cls(
            temperature=max((value for value in degrees if _COLDEST <= value <= _HOTTEST), default=None),
            governor=_name(said, "governor"),
            frequency=_integer(_first(said, "frequency")),
            highest_frequency=_integer(_first(said, "highest_frequency")),
            throttle_count=_integer(_first(said, "throttle_count")),
            throttled=_integer((_first(said, "throttled") or "").removeprefix("throttled=")),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """A board as it answers.

    Attributes:
        machine: as `uname -m` says.
        kernel: release of the kernel.
        model: name of the board from its device tree.
        cpu_model: name of the CPU where /proc/cpuinfo has one.
        processor: name under which a virtual board emulates its CPU.
        emulator: name and version of what emulates a virtual board.
        features: of the CPU, in the words of /proc/cpuinfo; None when neither that nor the kernel's vector tells.
        glibc: version of the C library, None where it is another one.
        loaders: dynamic loaders that are there.
        load: of the last minute.
        processors: how many CPUs are on.
        free_kib: free room where bundles are kept, in KiB.
        strays: how many programs of earlier holders were ended just now.
        virtual: what virtual machine or emulator it is, if any.
        thermal: what changes while a program runs.
    """

    machine: str
    kernel: str
    model: str | None
    cpu_model: str | None
    processor: str | None
    emulator: str | None
    features: frozenset[str] | None
    glibc: tuple[int, ...] | None
    loaders: tuple[str, ...]
    load: float | None
    processors: int | None
    free_kib: int
    strays: int
    virtual: Virtualisation
    thermal: ThermalState

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the lines of `facts` in remote.sh.

        Raises:
            BoardError: something is missing that every Linux tells.
        """
        said = _lines(text)
        machine, free = _first(said, "machine"), _integer(_first(said, "free_kib"))
        if machine is None or free is None or free < 0 or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", machine):
            raise BoardError(
                f"the board answers, but not with what a Linux board says ({one_line(text, 80)!r}); it needs a POSIX "
                "shell and the tools of coreutils or busybox, and a login that prints nothing"
            )
        cpuinfo = dict(_cpuinfo(said.get("cpuinfo", ())))
        features = _features(machine, cpuinfo, _first(said, "auxv"), _first(said, "features"))
        libc = re.fullmatch(r"glibc ([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})", _first(said, "libc") or "")
        return cls(
            machine=machine,
            kernel=_name(said, "kernel") or "unknown",
            model=_name(said, "model"),
            cpu_model=one_line(cpuinfo.get("model name", ""), _LONGEST_NAME) or None,
            processor=_name(said, "processor"),
            emulator=_name(said, "emulator"),
            features=features,
            glibc=tuple(int(part) for part in libc[1].split(".")) if libc else None,
            loaders=tuple(said.get("loader", ())),
            load=_float(_first(said, "load")),
            processors=_count(_first(said, "processors")),
            free_kib=free,
            strays=max(0, _integer(_first(said, "strays")) or 0),
            virtual=recognise(_signs(said, machine=machine, cpuinfo=cpuinfo, features=features)),
            thermal=ThermalState.parse(text),
        )

    @property
    def platform(self) -> str:
        """Return `MACHINE MODEL`, which the `platform` of boards.yaml is compared with."""
        return f"{self.machine} {self.model or self.cpu_model or self.processor or ''}".strip()

    def state(self, thermal: ThermalState | None = None) -> BoardState:
        """Return the state of the board, with a later thermal state if one is given."""
        now = thermal or self.thermal
        return BoardState(
            machine=self.machine,
            cpu_model=self.cpu_model or self.model or self.processor,
            kernel=self.kernel,
            governor=now.governor,
            temperature=now.temperature,
            processors=self.processors,
            virtualisation=self.virtual.name,
        )


_FLAGS: Mapping[int, str] = {
    0: "low voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
"""Bits of `vcgencmd get_throttled`, from the documentation of the Raspberry Pi; 16 higher they say that it happened."""


def slowed_down(before: ThermalState, after: ThermalState) -> str | None:
    """Say how a board slowed down between two looks, one before and one after a program ran; None when it did not.

    Flags that were set since the board was started count only where they were not set before.
    """
    signs: list[str] = []
    if after.throttled:
        new = after.throttled & ~(before.throttled or 0)
        signs += [word for bit, word in _FLAGS.items() if after.throttled >> bit & 1 or new >> (bit + 16) & 1]
    if before.throttle_count is not None and after.throttle_count is not None:
        count = after.throttle_count - before.throttle_count
        signs += [f"slowed down for heat {count} times"] if count > 0 else []
    if after.governor == "performance" and after.frequency and after.frequency < 0.95 * (after.highest_frequency or 0):
        # With this governor nothing but heat or power lowers the frequency right after a load.
        signs.append(f"{after.frequency // 1000} MHz instead of {(after.highest_frequency or 0) // 1000}")
    if not signs:
        return None
    degrees = f" at {after.temperature:g} °C" if after.temperature is not None else ""
    return ", ".join(dict.fromkeys(signs)) + degrees


def _lines(text: str) -> dict[str, list[str]]:
    """Return each fact with its values in the order of the lines; what comes after the first 64 of one is left out."""
    said: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        values = said.setdefault(key[:_LONGEST_NAME], [])
        if len(values) < _MOST_VALUES:
            values.append(one_line(value, _LONGEST_VALUE))
    return said


def _first(said: Mapping[str, Sequence[str]], key: str) -> str | None:
    return next(iter(said.get(key, ())), None) or None


def _name(said: Mapping[str, Sequence[str]], key: str) -> str | None:
    return one_line(_first(said, key) or "", _LONGEST_NAME) or None


def _signs(
    said: Mapping[str, Sequence[str]], *, machine: str, cpuinfo: Mapping[str, str], features: frozenset[str] | None
) -> Signs:
    def sign(name: str) -> str:
        return " ".join(said.get(f"sign_{name}", ()))[:_LONGEST_NAME]

    return Signs(
        machine=machine,
        model=_name(said, "model") or "",
        cpu_model=cpuinfo.get("model name", "")[:_LONGEST_NAME],
        implementer=cpuinfo.get("CPU implementer", ""),
        features=features or frozenset(),
        detected=sign("detected"),
        processor=sign("processor"),
        firmware=sign("firmware"),
        hypervisor=sign("hypervisor"),
        clocks=sign("clocks"),
    )


def _integer(text: str | None) -> int | None:
    """Return a decimal or hexadecimal number of at most 63 bits."""
    if text is None or not re.fullmatch(r"-?(?:[0-9]{1,19}|0[xX][0-9A-Fa-f]{1,16})", text):
        return None
    value = int(text, 16 if "x" in text.lower() else 10)
    return value if abs(value) < 1 << 63 else None


def _float(text: str | None) -> float | None:
    try:
        value = float((text or "")[:_LONGEST_NAME])
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _count(ranges: str | None) -> int | None:
    """Return how many numbers the kernel's `0-3,6` names."""
    if ranges is None or not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", ranges):
        return None
    ends = [[int(end) for end in part.split("-")] for part in ranges.split(",")]
    count = sum(part[-1] - part[0] + 1 for part in ends)
    return count if 1 <= count <= _MOST_PROCESSORS else None


def _cpuinfo(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()


def _features(
    machine: str, cpuinfo: Mapping[str, str], auxv: str | None, declared: str | None
) -> frozenset[str] | None:
    """Return the features of the CPU from what a virtual board declares, /proc/cpuinfo or the auxiliary vector."""
    listed = declared or cpuinfo.get("Features") or cpuinfo.get("flags")
    if listed:
        return frozenset(listed.split()[:_MOST_FEATURES])
    isa = cpuinfo.get("isa")
    if isa:
        return frozenset([*re.sub(r"^rv\d+", "", isa.split("_")[0]), *isa.split("_")[1:]])
    word = 8 if machine in ("aarch64", "x86_64", "riscv64") else 4
    vector = _vector(auxv or "", word)
    if machine.startswith("arm"):
        return frozenset(_bits(vector.get(_AT_HWCAP), _ARM)) or None
    if machine == "aarch64":
        second = _bits(vector.get(_AT_HWCAP2), _ARM64_SECOND)
        return frozenset([*_bits(vector.get(_AT_HWCAP), _ARM64), *second]) or None
    if machine.startswith("riscv"):
        letters = {number: chr(ord("a") + number) for number in range(26)}
        return frozenset(_bits(vector.get(_AT_HWCAP), letters)) or None
    return None


def _vector(text: str, word: int) -> dict[int, int]:
    """Return the auxiliary vector, type -> value, from its bytes in hexadecimal, words of `word` bytes."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return {}
    words = [int.from_bytes(raw[place : place + word], "little") for place in range(0, len(raw) - word + 1, word)]
    return dict(zip(words[::2], words[1::2], strict=False))


def _bits(value: int | None, names: Mapping[int, str]) -> list[str]:
    return [name for bit, name in names.items() if (value or 0) >> bit & 1]
