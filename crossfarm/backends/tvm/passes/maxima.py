"""Maxima and minima of floats keep NaN and infinities, in the instructions that cost least on the target.

TVM's own maximum is `left > right ? left : right`: a NaN on the left becomes the right one. ONNX wants NaN where either
is NaN. Which form of it is cheap is a matter of the processor:

- Against a constant, one order of the operands keeps NaN: `constant > value ? constant : value`. That is one
  instruction of x86 (MAXPS returns its second operand when either is NaN), and a comparison with a select elsewhere.
- NEON has an instruction that returns NaN when either operand is NaN (FMAX), which `llvm.maximum` becomes. RISC-V's
  FMAX drops NaN; there the same intrinsic adds a test and a branch that is predicted well, where a select would be a
  branch on the data.
- Everywhere else a maximum of two values takes the order that keeps a NaN of the accumulated one, and tests the other.

What wants a NaN to become a bound says so by a tirx.Select, which this leaves alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

from crossfarm.backends.tvm.types import (
    Buffer,
    DataType,
    IRModule,
    ModulePass,
    PassContext,
    PrimExpr,
    PrimFunc,
    Stmt,
    Target,
)

_INTRINSICS = ((tirx.Max, "llvm.maximum"), (tirx.Min, "llvm.minimum"))


def keeping_nan() -> ModulePass:
    """Return the pass that rewrites tirx.Max and tirx.Min of floats in PrimFuncs that have their target.

    It comes behind all that simplifies: TVM takes constants to the right, and `x != x` for false.
    """

    @tirx.transform.prim_func_pass(opt_level=0)  # type: ignore[untyped-decorator]
    def keep(function: PrimFunc, _module: IRModule, _context: PassContext) -> PrimFunc:
        target = function.attrs["target"]

        def rewriting(kind: type[PrimExpr], intrinsic: str) -> tuple[type[PrimExpr], Callable[[PrimExpr], PrimExpr]]:
            return kind, lambda node: _keeping(node, kind, intrinsic, target)

        rules = tuple(rewriting(kind, intrinsic) for kind, intrinsic in _INTRINSICS)
        return function.with_body(tvm_ffi.structural_map(_from_infinity(function.body), rules))

    return keep


def _from_infinity(body: Stmt) -> Stmt:
    """Begin maxima with -infinity and minima with infinity; TVM begins with the largest finite numbers."""
    accumulated: list[Buffer] = []

    def note(store: Stmt) -> None:
        if isinstance(store.value, (tirx.Max, tirx.Min)) and _is_float(store.value):
            operands = (store.value.a, store.value.b)
            if any(isinstance(each, TensorLoad) and each.source.same_as(store.buffer) for each in operands):
                accumulated.append(store.buffer)

    def begin(store: Stmt) -> Stmt:
        number = _number(store.value)
        if number is None or not any(store.buffer.same_as(buffer) for buffer in accumulated):
            return store
        largest = float(tirx.max_value(str(tvm.DataType(str(store.value.ty.dtype)).with_lanes(1))).value)
        if abs(number) != largest:
            return store
        return tirx.BufferStore(store.buffer, _filled(math.copysign(math.inf, number), store.value), store.indices)

    tvm_ffi.structural_walk(body, (tirx.BufferStore, note))
    return tvm_ffi.structural_map(body, (tirx.BufferStore, begin)) if accumulated else body


def _keeping(node: PrimExpr, kind: type[PrimExpr], intrinsic: str, target: Target) -> PrimExpr:
    if not _is_float(node):
        return node
    dtype = tvm.DataType(str(node.ty.dtype))
    left, right = (node.b, node.a) if _is_constant(node.b) else (node.a, node.b)
    if _has_instruction(target, dtype, with_constant=_is_constant(left)):
        return tirx.call_llvm_pure_intrin(str(dtype), intrinsic, left, right)
    if _is_constant(left):
        return kind(left, right)
    # What is accumulated stands on the left: the test of the other one waits for nothing.
    value = tirx.Var("value", str(dtype))
    largest, is_nan = kind(value, left), tirx.isnan(value)
    return tirx.Let(value, right, _masked(largest, is_nan) if _is_x86(target) else tirx.Select(is_nan, value, largest))


def _masked(value: PrimExpr, is_nan: PrimExpr) -> PrimExpr:
    """Return a value with all bits set, which is a NaN, where a condition holds.

    LLVM would merge a select with that of the maximum, into two comparisons and a blend.
    """
    dtype = str(value.ty.dtype)
    bits = dtype.replace("float", "int")
    ones, zeros = (_filled(number, tirx.reinterpret(bits, value)) for number in (-1, 0))
    mask = tirx.Select(is_nan, ones, zeros)
    return tirx.reinterpret(dtype, tirx.bitwise_or(tirx.reinterpret(bits, value), mask))


def _is_float(expression: PrimExpr) -> bool:
    return str(expression.ty.dtype).startswith("float")


def _number(expression: PrimExpr) -> float | None:
    """Return the number that an expression is in every lane; None when it is no float constant."""
    if isinstance(expression, tirx.Broadcast):
        expression = expression.value
    return float(expression.value) if isinstance(expression, tirx.FloatImm) else None


def _is_constant(expression: PrimExpr) -> bool:
    number = _number(expression)
    return number is not None and not math.isnan(number)


def _filled(number: float, like: PrimExpr) -> PrimExpr:
    """Return a constant of the type of an expression."""
    dtype = tvm.DataType(str(like.ty.dtype))
    scalar = tirx.const(number, str(dtype.with_lanes(1)))
    return scalar if dtype.lanes == 1 else tirx.Broadcast(scalar, dtype.lanes)


def _is_x86(target: Target) -> bool:
    return str(target.attrs["mtriple"]).startswith(("x86_64", "i686"))


def _has_instruction(target: Target, dtype: DataType, *, with_constant: bool) -> bool:
    """Say whether the intrinsic is the cheapest form.

    On ARMv7 it is not for single numbers against a constant: LLVM makes no vectors of a loop with it.
    """
    if dtype.bits != 32:
        return False
    triple = str(target.attrs["mtriple"])
    if triple.startswith(("aarch64", "riscv")):
        return True
    is_neon = triple.startswith("arm") and bool(tvm.target.codegen.llvm_cpu_has_features("neon", target))
    return is_neon and not (with_constant and dtype.lanes == 1)
