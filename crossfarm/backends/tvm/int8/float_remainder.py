"""Operators of a quantised graph without an integer kernel: computed in float32 between two quantised tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import tvm_ffi
from tvm import relax

from crossfarm.backends.tvm.passes.relax_utils import dtype_of, operator_name
from crossfarm.backends.tvm.types import IRModule, RelaxExpr, RelaxVar

_ATTRIBUTE = "crossfarm.left_in_float"
_QUANTISED = ("int8", "uint8")
_NOT_COMPUTED = frozenset(
    {
        "relax.dequantize",
        "relax.quantize",
        "relax.astype",
        "relax.call_tir",
        "relax.expand_dims",
        "relax.permute_dims",
        "relax.reshape",
        "relax.squeeze",
    }
)
"""What turns integers into floats and back, what calls a kernel of ours, and what only moves numbers."""


def left_in_float(module: IRModule) -> dict[str, int]:
    """Return operator -> how many are computed in float32 from integers, with a result that becomes integers again.

    Args:
        module: tvm.IRModule from `rewrite.use_integers`.
    """
    bindings = [binding for block in module["main"].body.blocks for binding in block.bindings]
    arguments = {binding.var: _arguments(binding.value) for binding in bindings}
    derived: set[RelaxVar] = set()
    for binding in bindings:
        if _is_float(binding.var) and any(
            argument in derived or _is_integer(argument) for argument in arguments[binding.var]
        ):
            derived.add(binding.var)
    wanted: set[RelaxVar] = set()
    for binding in reversed(bindings):
        if binding.var in wanted or dtype_of(binding.var) in _QUANTISED:
            wanted.update(argument for argument in arguments[binding.var] if argument in derived)
    names = [operator_name(binding.value) for binding in bindings if binding.var in derived and binding.var in wanted]
    counts = Counter(name.rpartition(".")[2] for name in names if name and name not in _NOT_COMPUTED)
    return dict(sorted(counts.items()))


def noted(module: IRModule, left: Mapping[str, int]) -> IRModule:
    """Return a module with these counts in its attributes."""
    return module.with_attr(_ATTRIBUTE, dict(left))


def counted(module: IRModule) -> dict[str, int]:
    """Return the counts that `noted` put into a module's attributes."""
    found = (module.attrs or {}).get(_ATTRIBUTE) or {}
    return {str(name): int(count) for name, count in found.items()}


def _arguments(value: RelaxExpr) -> list[RelaxVar]:
    """Return the variables that an expression reads."""
    found: list[RelaxVar] = []
    tvm_ffi.structural_walk(value, (relax.Var, found.append))
    return found


def _is_float(variable: RelaxVar) -> bool:
    return dtype_of(variable) == "float32" or isinstance(getattr(variable, "ty", None), relax.TupleType)


def _is_integer(variable: RelaxVar) -> bool:
    return dtype_of(variable) in (*_QUANTISED, "int32")
