"""What the rules must know of a processor, read from the target."""

from __future__ import annotations

import dataclasses

from tvm.target import codegen

from crossfarm.backends.tvm.types import Target

ACCUMULATORS_IN_FLIGHT = 8
"""Independent multiply-adds that keep the pipelines full: a latency of 4 cycles times two units, as on the x86 cores of
the last ten years (Agner Fog's instruction tables); the ARM cores of today's boards need 4 to 8."""
PARALLEL_FLOPS = 400_000
"""Operations below which a layer is not worth handing to other threads: about 20 us of one AVX2 core at half its peak,
several times what a launch costs."""
PARALLEL_ELEMENTS = 32_768
"""The same for work that memory bounds: about 128 KB that are written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processor:
    """A processor as far as schedules depend on it.

    Attributes:
        lanes: float32 lanes of the vectors that may be used, widest first; (1,) without vectors.
        registers: vector registers that a tile may take, or float registers without vectors.
        rows: the most that a tile may have; each needs an address.
        unrolls_depth: several steps of a sum in a row do not make LLVM keep values in memory.
    """

    lanes: tuple[int, ...]
    registers: int
    rows: int = 28
    unrolls_depth: bool = True

    @property
    def widest(self) -> int:
        """Lanes of the widest vector."""
        return self.lanes[0]

    def lanes_for(self, extent: int) -> int:
        """Return the widest lanes that divide an extent; 1 when none does."""
        return next((lanes for lanes in self.lanes if extent % lanes == 0), 1)


def processor_of(target: Target) -> Processor:
    """Return the processor of a tvm.target.Target, by the features that LLVM knows of its `mcpu` and `mattr`.

    Registers: 32 with AVX-512, 16 with AVX. NEON has 32 on AArch64 and 16 on ARMv7, but its multiply-adds take nothing
    from memory, so LLVM begins the loads of the next step early, each into a register of its own. What is left without
    an accumulator in memory was found by counting accesses to the stack in compiled loops (docs/performance.md).
    RISC-V's vectors have no fixed width, so there, and on ARMv6, scalars are tiled over registers instead.
    """
    triple = str(target.attrs["mtriple"])
    if triple.startswith(("x86_64", "i686")):
        if _has("avx512f", target):
            return Processor(lanes=(16, 8, 4), registers=32)
        if _has("avx", target):
            return Processor(lanes=(8, 4), registers=16)
        return Processor(lanes=(4,), registers=16)
    if triple.startswith(("aarch64", "arm")) and _has("neon", target):
        if triple.startswith("aarch64"):
            return Processor(lanes=(4,), registers=26, rows=6)
        return Processor(lanes=(4,), registers=13, rows=5, unrolls_depth=False)
    return Processor(lanes=(1,), registers=32 if triple.startswith("riscv") else 16)


def _has(feature: str, target: Target) -> bool:
    return bool(codegen.llvm_cpu_has_features(feature, target))
