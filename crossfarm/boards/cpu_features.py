"""Compares the instructions that a target's code may use with the CPU features in /proc/cpuinfo."""

from __future__ import annotations

from collections.abc import Collection

from crossfarm.config.llvm import LlvmCode

_V2 = ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_LEVELS = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
"""Levels of the x86-64 psABI, by the names of Linux; `abm` stands for LZCNT."""
_SPELLED = {
    "avx512bf16": "avx512_bf16",
    "avx512bitalg": "avx512_bitalg",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512vnni": "avx512_vnni",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxvnni": "avx_vnni",
    "dotprod": "asimddp",
    "fp16fml": "asimdfhm",
    "fullfp16": "asimdhp",
    "lzcnt": "abm",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
}
"""LLVM's names of features that Linux spells in another way."""
_CHECKED = frozenset(
    (
        "avx",
        "avx2",
        "avx512bw",
        "avx512cd",
        "avx512dq",
        "avx512f",
        "avx512ifma",
        "avx512vbmi",
        "avx512vl",
        "f16c",
        "fma",
    )
)
"""Features that both spell alike. What stands in neither table is not checked: not all are instructions."""


def lacking(code: LlvmCode, flags: Collection[str]) -> tuple[str, ...]:
    """Return what of the code's instructions a CPU lacks, in Linux' names; empty when nothing is known to be missing.

    Args:
        code: whose `cpu` and `features` count; names of single processors (`znver4`) say nothing here.
        flags: of the CPU, as `cpu_flags` returns them; empty when they are not known.
    """
    if not flags:
        return ()
    needed = list(_LEVELS.get(code.cpu, ()))
    for feature in code.features:
        name = feature[1:]
        spelled = _SPELLED.get(name, name if name in _CHECKED else None)
        if spelled is not None and feature.startswith("+"):
            needed.append(spelled)
        elif spelled in needed:
            needed.remove(spelled)
    return tuple(flag for flag in dict.fromkeys(needed) if flag not in flags)


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Return the flags of the first CPU in the text of /proc/cpuinfo: `flags` on x86, `Features` on ARM."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def explained(missing: tuple[str, ...]) -> str:
    """Return the missing features as text for a message: AVX-512 rather than the first of its many parts."""
    if any(flag.startswith("avx512") for flag in missing) and "avx512f" in missing:
        return "AVX-512"
    return ", ".join(missing)
