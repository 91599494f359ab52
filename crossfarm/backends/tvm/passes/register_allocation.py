"""Keeps the accumulators of register tiles in registers.

TVM allocates what is larger than 1 KiB on a heap, for every tile again, and what is there LLVM must store. A tile of
16-lane vectors is larger than that. So allocations in the scope `local`, which the schedules use for accumulators
alone, are exempt: they become variables of the function, which LLVM puts into registers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx

from crossfarm.backends.tvm.passes.maxima import keeping_nan
from crossfarm.backends.tvm.types import Buffer, IRModule, ModulePass, PassContext, PrimFunc, Stmt

PIPELINE = "crossfarm"
LARGEST_ON_STACK = 1024
"""Bytes from which on TVM takes the heap (kMaxStackAlloca)."""
_WITHOUT_HEAP = "mcu"
"""Rule set (rule_sets.py) of targets on which such variables stay in the function whatever their size."""
_EXEMPT = "disable_lower_builtin"
"""TVM's annotation of an allocation that LowerTVMBuiltin leaves as it is (kDisableLowerTVMBuiltin)."""


def pipeline() -> str:
    """Return the name under which `tvm.tirx.build` finds its default pipeline with this step in it."""
    tvm.tirx.register_tir_pipeline(PIPELINE, _passes)
    return PIPELINE


def _passes() -> tuple[ModulePass, Callable[[], ModulePass], ModulePass]:
    common, host, device = tvm.tirx.get_tir_pipeline("s_tir")

    def finalise_host() -> ModulePass:
        return tvm.transform.Sequential([_exempted(), keeping_nan(), host()])

    return common, finalise_host, device


def _exempted() -> ModulePass:
    @tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
    def keep(function: PrimFunc, _module: IRModule, _context: PassContext) -> PrimFunc:
        smallest = 0 if _WITHOUT_HEAP in function.attrs["target"].keys else LARGEST_ON_STACK
        exempt = functools.partial(_exempt, smallest=smallest)
        return function.with_body(tvm_ffi.structural_map(function.body, (tirx.AllocBuffer, exempt)))

    return keep


def _exempt(allocation: Stmt, *, smallest: int) -> Stmt:
    buffer = allocation.buffer
    if str(buffer.scope()) != "local" or _bytes(buffer) < smallest:
        return allocation
    return tirx.AllocBuffer(allocation.buffer, {**dict(allocation.annotations), _EXEMPT: tirx.const(True)})


def _bytes(buffer: Buffer) -> int:
    dtype = tvm.DataType(str(buffer.dtype))
    return math.prod(int(extent) for extent in buffer.shape) * int(dtype.bits) * int(dtype.lanes) // 8
