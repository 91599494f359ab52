"""From Relax to TVM's lowered form, and from there to an object file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import relax

from crossfarm.backends.tvm import rule_sets, scheduling
from crossfarm.backends.tvm.int8.float_remainder import left_in_float, noted
from crossfarm.backends.tvm.int8.rewrite import is_quantised, use_integers
from crossfarm.backends.tvm.passes.register_allocation import pipeline
from crossfarm.backends.tvm.schedules.choices import Choose
from crossfarm.backends.tvm.schedules.packing import choose
from crossfarm.backends.tvm.schedules.processor import processor_of
from crossfarm.backends.tvm.types import IRModule, ModulePass, RelaxCall, Target
from crossfarm.backends.tvm.unsupported import UnsupportedError, said_by
from crossfarm.config.llvm import LlvmCode

_OPTIMISATION_LEVEL = 2
"""Of LLVM. Level 3, TVM's default, takes up to seventy times as long for code that is hardly ever faster."""


def tvm_target(code: LlvmCode) -> Target:
    """Return the tvm.target.Target of a toolchain."""
    options: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": code.triple,
        "mcpu": code.cpu,
        "opt-level": _OPTIMISATION_LEVEL,
    }
    if code.features:
        options["mattr"] = list(code.features)
    if code.float_abi is not None:
        options["mfloat-abi"] = code.float_abi
    if code.abi is not None:
        options["mabi"] = code.abi
    if keys := rule_sets.keys_of(code):
        options["keys"] = keys
    return tvm.target.Target(options)


def lower(module: IRModule, target: Target, choose: Choose = choose) -> IRModule:
    """Lower a Relax module to scheduled PrimFuncs and a `main` that calls them: our rules, then TVM's default passes.

    Args:
        module: tvm.IRModule from `onnx_import.import_onnx`.
        target: tvm.target.Target.
        choose: decides how each layer is computed; the rules, unless something knows better.

    Returns:
        tvm.IRModule.

    Raises:
        UnsupportedError: TVM has no code for an operator.
    """
    try:
        with target:
            # What TVM leaves to its runtime becomes a call of it, which is refused later by its name.
            module = relax.backend.DispatchSortScan()(relax.backend.DispatchSampling()(module))
            quantised = is_quantised(module)
            module = use_integers(module, rule_sets.unit_of(target))
            left = left_in_float(module) if quantised else {}
            module = scheduling.schedule_module(module, processor_of(target), choose)
            return noted(tvm.transform.Sequential(passes_to_calls())(module), left)
    except Exception as error:
        # As above: the passes raise errors of any type.
        raise UnsupportedError(what=f"code that TVM cannot make ({said_by(error)})") from error


def passes_to_calls() -> list[ModulePass]:
    """Return the passes of TVM's CPU pipeline behind fusion: to a straight list of calls over planned memory."""
    return [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def check_functions(module: IRModule, functions: Iterable[str]) -> None:
    """Refuse PrimFuncs that call back into TVM's runtime.

    Args:
        module: tvm.IRModule from `lower`.
        functions: names of the PrimFuncs that `main` calls.

    Raises:
        UnsupportedError: one of them does, for example to sort.
    """

    packed: list[str] = []

    def note(call: RelaxCall) -> None:
        # An error that is raised here would lose its type on the way through the FFI.
        if isinstance(call.op, tvm.ir.Op) and "packed" in call.op.name:
            packed.append(str(call.args[0].value))

    for name in functions:
        tvm_ffi.structural_walk(module[name].body, (relax.Call, note))
        if packed:
            raise UnsupportedError(what=f"the function {packed[0]} of TVM's runtime")


def build_object(module: IRModule, functions: Iterable[str], target: Target, path: Path) -> None:
    """Compile PrimFuncs to one relocatable object of position-independent code.

    Each becomes `int __tvm_ffi_NAME(void *, const TVMFFIAny *, int32_t, TVMFFIAny *)`.

    Args:
        module: tvm.IRModule from `lower`.
        functions: names of those to compile.
        target: tvm.target.Target.
        path: the file to create.

    Raises:
        UnsupportedError: LLVM cannot make code for them.
    """
    chosen = tvm.IRModule({module.get_global_var(name): module[name] for name in functions})
    try:
        tvm.tirx.build(chosen, target, pipeline()).write_to_file(str(path), "o")
    except Exception as error:
        raise UnsupportedError(what=f"code that TVM cannot make ({said_by(error)})") from error
