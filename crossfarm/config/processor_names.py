"""LLVM's names of processors and features: it ignores one that it does not know, and compiles for any processor.

The names stand in processor_names.json, which crossfarm/backends/tvm/processor_names.py writes from the pinned TVM.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

from crossfarm.errors import nearest

TABLE = Path(__file__).with_suffix(".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """Architectures that share LLVM's names.

    Attributes:
        architectures: matches the first part of their triples.
        triple: of one of them.
    """

    architectures: re.Pattern[str]
    triple: str


FAMILIES: Mapping[str, Family] = {
    "aarch64": Family(architectures=re.compile(r"aarch64(_be)?|arm64"), triple="aarch64-linux-gnu"),
    "arm": Family(architectures=re.compile(r"(arm|thumb)(eb|v[4-9][a-z0-9]{0,6})?"), triple="armv7l-linux-gnueabihf"),
    "loongarch": Family(architectures=re.compile(r"loongarch(32|64)"), triple="loongarch64-linux-gnu"),
    "mips": Family(architectures=re.compile(r"mips(64)?(r6)?(el)?"), triple="mips64-linux-gnuabi64"),
    "powerpc": Family(architectures=re.compile(r"(powerpc|ppc)(64)?(le)?"), triple="powerpc64le-linux-gnu"),
    "riscv": Family(architectures=re.compile(r"riscv(32|64)"), triple="riscv64-linux-gnu"),
    "s390x": Family(architectures=re.compile(r"s390x"), triple="s390x-linux-gnu"),
    "x86": Family(architectures=re.compile(r"x86_64|amd64|i[3-6]86"), triple="x86_64-linux-gnu"),
}
_EXAMPLES = (
    "aarch64",
    "armv6",
    "armv7l",
    "i686",
    "loongarch64",
    "mips64el",
    "powerpc64le",
    "riscv64",
    "s390x",
    "x86_64",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Names:
    cpus: frozenset[str]
    features: frozenset[str]


def check_architecture(triple: str) -> str:
    """Return the triple when its architecture is a known one.

    Raises:
        ValueError: it is not.
    """
    architecture = triple.partition("-")[0]
    if _family(triple) is None:
        hint = nearest(architecture, _EXAMPLES) or f"; known are {', '.join(_EXAMPLES)}"
        raise ValueError(f"LLVM has no architecture {architecture!r}{hint}")
    return triple


def check_cpu(cpu: str, *, triple: str) -> str:
    """Return LLVM's name of a processor when LLVM knows it for the triple's architecture.

    Raises:
        ValueError: it does not; the nearest name is told.
    """
    family = _family(triple)
    if family is not None and cpu not in _names()[family].cpus:
        hint = nearest(cpu, sorted(_names()[family].cpus)) or "; docs/toolchains.md says where the names stand"
        raise ValueError(f"LLVM knows no processor {cpu!r} for {triple.partition('-')[0]}{hint}")
    return cpu


def check_feature(feature: str, *, triple: str) -> str:
    """Return a feature with its sign when LLVM knows it for the triple's architecture.

    Raises:
        ValueError: it does not; the nearest name is told.
    """
    family = _family(triple)
    if family is not None and feature[1:] not in _names()[family].features:
        known = sorted(f"{feature[0]}{name}" for name in _names()[family].features)
        hint = nearest(feature, known) or "; docs/toolchains.md says where the names stand"
        raise ValueError(f"LLVM knows no feature {feature!r} for {triple.partition('-')[0]}{hint}")
    return feature


def _family(triple: str) -> str | None:
    architecture = triple.partition("-")[0]
    return next((name for name, family in FAMILIES.items() if family.architectures.fullmatch(architecture)), None)


@functools.cache
def _names() -> Mapping[str, _Names]:
    table = json.loads(TABLE.read_text(encoding="ascii"))
    return {
        family: _Names(cpus=frozenset(names["cpus"]), features=frozenset(names["features"]))
        for family, names in table.items()
    }
