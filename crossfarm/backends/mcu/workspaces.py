"""Counts the temporary memory that compiled functions ask for, while they are compiled.

Where TVM lowers allocations to calls of its runtime, their sizes are constants, and a function releases first what it
took last. So the most that it holds at once is known before it ever runs, and the caller's arena has room for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import tvm
import tvm_ffi

from crossfarm.backends.mcu.memory import ALIGNMENT
from crossfarm.backends.tvm.types import IRModule, PrimFunc, RelaxCall

_LOWERING = "tirx.LowerTVMBuiltin"
"""The pass that makes calls of allocations."""
_TAKE, _RELEASE = "tirx.TVMBackendAllocWorkspace", "tirx.TVMBackendFreeWorkspace"
_PREFIX = "__tvm_ffi_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workspaces:
    """What was counted.

    Attributes:
        peaks: function -> bytes that it holds at most, each piece rounded up as the library does.
    """

    peaks: dict[str, int] = dataclasses.field(default_factory=dict)

    def peak(self, function: str) -> int:
        """Return the bytes that a function holds at most.

        Raises:
            KeyError: it was not compiled while this counted.
        """
        return self.peaks[function]


@contextlib.contextmanager
def counted() -> Iterator[Workspaces]:
    """Count while something is compiled, without what TVM asserts about arguments: the tables give the right ones."""
    found = Workspaces()

    @tvm.instrument.pass_instrument  # type: ignore[untyped-decorator]
    class Counter:
        """Looks at every module behind the pass."""

        def run_after_pass(self, module: IRModule, info: object) -> None:
            """Note the functions of a module in which allocations have become calls."""
            if str(getattr(info, "name", "")) == _LOWERING:
                for name, function in module.functions.items():
                    found.peaks[str(name.name_hint).removeprefix(_PREFIX)] = peak_of(function)

    with tvm.transform.PassContext(config={"tirx.disable_assert": True}, instruments=[Counter()]):
        yield found


def peak_of(function: PrimFunc) -> int:
    """Return the bytes of workspace that a lowered PrimFunc holds at most."""
    held: list[int] = []
    peak = 0

    def note(call: RelaxCall) -> None:
        nonlocal peak
        name = str(getattr(call.op, "name", ""))
        if name == _TAKE:
            held.append(-(-int(call.args[2]) // ALIGNMENT) * ALIGNMENT)
            peak = max(peak, sum(held))
        elif name == _RELEASE and held:
            held.pop()

    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, note))
    return peak
