"""Dot-product instructions of processors: 8-bit or 16-bit integers into int32 accumulators, and how TVM uses them.

Signed 16-bit products (vpmaddubsw) saturate, so they are not used anywhere: every instruction here gives the exact sum.

TVM notes the lines of these functions in an object's .debug_line: where they move, objects differ, but no code does.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tvm import s_tir
from tvm.script import tirx as T  # noqa: N812
from tvm.target import codegen

from crossfarm.backends.tvm.types import PrimFunc, Target

IntegerType = Literal["uint8", "int8", "int16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dot:
    """One dot-product instruction: adds products to a vector of int32 accumulators.

    accumulator[lane] += left[0] * right[lane, 0] + ... + left[depth - 1] * right[lane, depth - 1]

    Attributes:
        name: of it.
        lanes: accumulators in the vector.
        depth: products that are added to an accumulator at once.
        left: dtype of the activations, of which `depth` neighbours are broadcast to all lanes.
        right: dtype of the weights, [lanes, depth] of them side by side.
        intrinsic: LLVM's name; empty when LLVM makes the code from plain vector operations.
        accumulates: the instruction adds to the accumulators itself.
    """

    name: str
    lanes: int
    depth: int
    left: IntegerType
    right: IntegerType
    intrinsic: str = ""
    accumulates: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerUnit:
    """What of a processor the integer kernels depend on.

    Attributes:
        activation: dtype of all quantised activations.
        dots: dot-product instructions, widest first.
        registers: vector registers that a tile may take.
        loads_aside: loads are issued beside multiplications, or are a part of them, and do not take their place.
        converts: floats become the nearest integers in one instruction, and vectors are narrowed with saturation.
    """

    activation: Literal["uint8", "int8"]
    dots: tuple[Dot, ...]
    registers: int
    loads_aside: bool = True
    converts: bool = False

    @property
    def lanes(self) -> tuple[int, ...]:
        """Lanes of 32-bit vectors, widest first."""
        return tuple(dot.lanes for dot in self.dots)


def _vnni(lanes: int) -> Dot:
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    return Dot(name=f"vnni{lanes}", lanes=lanes, depth=4, left="uint8", right="int8", intrinsic=name)


def _pairs(lanes: int, intrinsic: str) -> Dot:
    return Dot(
        name=f"pairs{lanes}", lanes=lanes, depth=2, left="int16", right="int16", intrinsic=intrinsic, accumulates=False
    )


def _plain(lanes: int) -> Dot:
    return Dot(name=f"plain{lanes}", lanes=lanes, depth=1, left="int16", right="int16")


_VNNI = (_vnni(16), _vnni(8), _vnni(4))
_PAIRS = (
    _pairs(16, "llvm.x86.avx512.pmaddw.d.512"),
    _pairs(8, "llvm.x86.avx2.pmadd.wd"),
    _pairs(4, "llvm.x86.sse2.pmadd.wd"),
)
_SDOT = Dot(name="sdot4", lanes=4, depth=4, left="int8", right="int8", intrinsic="llvm.aarch64.neon.sdot.v4i32.v16i8")
_PLAIN, BYTES = (_plain(4), _plain(1)), Dot(name="bytes1", lanes=1, depth=1, left="int8", right="int8")

DOTS = {dot.name: dot for dot in (*_VNNI, *_PAIRS, _SDOT, *_PLAIN, BYTES)}
"""Every instruction by name; BYTES stands for those of a plain processor, for weights that stay bytes."""


def integer_unit(target: Target) -> IntegerUnit:
    """Return the integer instructions of a tvm.target.Target, by the features that LLVM knows of it.

    x86: vpdpbusd (unsigned by signed) with AVX-512 VNNI, else vpmaddwd over 16-bit values. AArch64: SDOT (signed by
    signed) with the dot-product extension, else widening multiplies, as on 32-bit NEON (VMLAL). Elsewhere scalars.
    NEON's registers are fewer than there are, as in processor.py: LLVM begins loads early.
    """
    triple = str(target.attrs["mtriple"])
    if triple.startswith(("x86_64", "i686")):
        if _has("avx512vnni", target) and _has("avx512vl", target):
            return IntegerUnit(activation="uint8", dots=_VNNI, registers=32, converts=True)
        if _has("avx512bw", target):
            return IntegerUnit(activation="uint8", dots=_PAIRS, registers=32, converts=True)
        pairs = _PAIRS[1 if _has("avx2", target) else 2 :]
        return IntegerUnit(activation="uint8", dots=pairs, registers=16, converts=True)
    if triple.startswith("aarch64"):
        dots = (_SDOT,) if _has("dotprod", target) else _PLAIN[:1]
        return IntegerUnit(activation="int8", dots=dots, registers=26, loads_aside=False)
    if triple.startswith("arm") and _has("neon", target):
        return IntegerUnit(activation="int8", dots=_PLAIN[:1], registers=13, loads_aside=False)
    return IntegerUnit(activation="int8", dots=_PLAIN[1:], registers=16)


def _has(feature: str, target: Target) -> bool:
    return bool(codegen.llvm_cpu_has_features(feature, target))


def tensor_intrinsic(dot: Dot) -> str:
    """Register what TVM needs to use the instruction, and return the name under which it stands.

    The accumulators must be in the scope `local`.
    """
    name = f"crossfarm_dot_{dot.name}"
    if s_tir.TensorIntrin.get(name, allow_missing=True) is None:
        s_tir.TensorIntrin.register(name, _description(dot), _implementation(dot), override=True)
    return name


def _description(dot: Dot) -> PrimFunc:
    lanes, depth, left, right = dot.lanes, dot.depth, dot.left, dot.right

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(
        A: T.Buffer((depth,), left, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        B: T.Buffer((lanes, depth), right, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), "int32", offset_factor=1, scope="local"),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:depth], B[0:lanes, 0:depth])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                for k in T.serial(0, depth):
                    with T.sblock("update"):
                        vi, vk = T.axis.remap("SR", [i, k])
                        C[vi] = C[vi] + T.cast(A[vk], "int32") * T.cast(B[vi, vk], "int32")

    return description


def _implementation(dot: Dot) -> PrimFunc:
    lanes, depth, left, right = dot.lanes, dot.depth, dot.left, dot.right
    identifier = codegen.llvm_lookup_intrinsic_id(dot.intrinsic)
    few, many, both, sums = f"{left}x{depth}", f"{left}x{lanes * depth}", f"{right}x{lanes * depth}", f"int32x{lanes}"
    if dot.accumulates:

        @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
        def accumulating(
            A: T.Buffer((depth,), left, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
            B: T.Buffer((lanes, depth), right, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
            C: T.Buffer((lanes,), "int32", offset_factor=1, scope="local"),  # type: ignore[valid-type]  # noqa: N803
        ) -> None:
            with T.sblock("root"):
                T.reads(C[0:lanes], A[0:depth], B[0:lanes, 0:depth])
                T.writes(C[0:lanes])
                C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                    T.uint32(identifier),
                    C.vload([0], dtype=sums),
                    T.reinterpret(T.broadcast(T.reinterpret(A.vload([0], few), dtype="int32"), lanes), dtype=many),
                    B.vload([0, 0], dtype=both),
                    dtype=sums,
                )

        return accumulating

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def adding(
        A: T.Buffer((depth,), left, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        B: T.Buffer((lanes, depth), right, offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), "int32", offset_factor=1, scope="local"),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:depth], B[0:lanes, 0:depth])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = C.vload([0], dtype=sums) + T.call_llvm_pure_intrin(
                T.uint32(identifier),
                T.reinterpret(T.broadcast(T.reinterpret(A.vload([0], few), dtype="int32"), lanes), dtype=many),
                B.vload([0, 0], dtype=both),
                dtype=sums,
            )

    return adding


def column_intrinsic(dot: Dot) -> str:
    """As `tensor_intrinsic`, for activations of which every lane has four of its own in one 32-bit number."""
    name = f"crossfarm_columns_{dot.name}"
    if s_tir.TensorIntrin.get(name, allow_missing=True) is None:
        s_tir.TensorIntrin.register(name, _column_description(dot), _column_implementation(dot), override=True)
    return name


def _column_description(dot: Dot) -> PrimFunc:
    lanes, depth = dot.lanes, dot.depth

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def description(
        A: T.Buffer((lanes,), "int32", offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        B: T.Buffer((lanes, depth), "int8", offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), "int32", offset_factor=1, scope="local"),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:lanes], B[0:lanes, 0:depth])
            T.writes(C[0:lanes])
            for i in T.serial(0, lanes):
                with T.sblock("update"):
                    vi = T.axis.spatial(lanes, i)
                    C[vi] = C[vi] + (
                        T.bitwise_and(T.shift_right(A[vi], 0), 255) * T.cast(B[vi, 0], "int32")
                        + T.bitwise_and(T.shift_right(A[vi], 8), 255) * T.cast(B[vi, 1], "int32")
                        + T.bitwise_and(T.shift_right(A[vi], 16), 255) * T.cast(B[vi, 2], "int32")
                        + T.bitwise_and(T.shift_right(A[vi], 24), 255) * T.cast(B[vi, 3], "int32")
                    )

    return description


def _column_implementation(dot: Dot) -> PrimFunc:
    lanes, depth = dot.lanes, dot.depth
    identifier = codegen.llvm_lookup_intrinsic_id(dot.intrinsic)
    many, both, sums = f"{dot.left}x{lanes * depth}", f"{dot.right}x{lanes * depth}", f"int32x{lanes}"

    @T.prim_func(s_tir=True)  # type: ignore[untyped-decorator]
    def implementation(
        A: T.Buffer((lanes,), "int32", offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        B: T.Buffer((lanes, depth), "int8", offset_factor=1),  # type: ignore[valid-type]  # noqa: N803
        C: T.Buffer((lanes,), "int32", offset_factor=1, scope="local"),  # type: ignore[valid-type]  # noqa: N803
    ) -> None:
        with T.sblock("root"):
            T.reads(C[0:lanes], A[0:lanes], B[0:lanes, 0:depth])
            T.writes(C[0:lanes])
            C[T.ramp(T.int32(0), 1, lanes)] = T.call_llvm_pure_intrin(
                T.uint32(identifier),
                C.vload([0], dtype=sums),
                T.reinterpret(A.vload([0], sums), dtype=many),
                B.vload([0, 0], dtype=both),
                dtype=sums,
            )

    return implementation
