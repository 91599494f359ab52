"""An epilogue without constants of its channels runs over strips of results, in vectors across pixels.

Register tiles store int16 numbers into a strip of neighbouring pixels, which stays in the first-level cache. The
epilogue takes them as one run of numbers: all its vectors are full and as wide as the processor has them, whatever the
number of channels is, and none of them waits for a narrower one. With C = 12, tiles of 2 pixels and vectors of 16:

    register tiles   |pixels 0 and 1         |pixels 2 and 3         |     int32 accumulators -> int16
    strip, int16     |pixel 0    |pixel 1    |pixel 2    |pixel 3    |     4 * 12 = 48 neighbouring numbers
    epilogue         [      16      ][      16      ][      16      ]      3 full vectors -> uint8 or int8

TVM's schedules do not move a block behind vectors that overlap (overlapping_vectors.py). So the last block is taken
away before a function is scheduled, and put back behind the loops that have been marked for it.
"""

from __future__ import annotations

import dataclasses

import tvm_ffi
from tvm import s_tir, tirx

from crossfarm.backends.tvm.int8.arithmetic import INT16_BLOCK
from crossfarm.backends.tvm.int8.windows import vector_of_bytes
from crossfarm.backends.tvm.schedules.primitives import block_names, function_of, schedule_of
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor
from crossfarm.backends.tvm.types import Buffer, For, LoopRV, PrimExpr, PrimFunc, SBlockRealize, Schedule, Stmt, Var

LONGEST = 8192
"""Numbers of a strip at most: 16 KB, half of a first-level cache, and little for a stack of 128 KB."""
_MARK = "crossfarm.strip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StripEpilogue:
    """The last block of a function, which has been taken away.

    Attributes:
        realize: the block.
        source: the int16 buffer that it reads, [N, H, W, C].
        params: parameters of the whole function.
        lanes: elements of the processor's widest vector of bytes.
    """

    realize: SBlockRealize
    source: Buffer
    params: tuple[Var, ...]
    lanes: int

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return int(self.source.shape[3])

    def vector(self, pixels: int) -> int:
        """Return the elements of the widest vectors that the numbers of so many pixels fill."""
        return min(vector_of_bytes(pixels * self.channels), self.lanes)

    def fits(self, pixels: int) -> bool:
        """Say whether a strip of so many pixels stays in the cache, and has wider vectors than accumulators have."""
        return pixels * self.channels <= LONGEST and self.vector(pixels) > self.lanes // 4


def detach_epilogue(function: PrimFunc, processor: Processor, *, last: str) -> tuple[PrimFunc, StripEpilogue | None]:
    """Return a function without its last block, and the block; the function as it is when that is another one.

    Args:
        function: PrimFunc that is not scheduled.
        processor: what for.
        last: name of the block, which reads the int16 numbers of the block `INT16_BLOCK`, each by itself.
    """
    # Without vectors, and without wider ones than accumulators have, inlining saves storing and loading int16 numbers.
    if processor.widest == 1 or block_names(function)[-2:] != [INT16_BLOCK, last]:
        return function, None
    root = function.body.block
    *rest, nest = list(root.body.seq)
    realize = _realize(nest)
    source, result = (region.source for region in (realize.block.reads[0], realize.block.writes[0]))
    epilogue = StripEpilogue(realize=realize, source=source, params=tuple(function.params), lanes=4 * processor.widest)
    if len(source.shape) != 4 or epilogue.vector(int(source.shape[2])) <= processor.widest:
        return function, None
    inner_buffers = [each for each in root.alloc_buffers if not each.same_as(source)]
    block = s_tir.SBlock([], [], [], "root", tirx.SeqStmt(rest), None, inner_buffers, [], root.annotations)
    inner = tirx.PrimFunc(
        [source if each.same_as(result) else each for each in epilogue.params],
        s_tir.SBlockRealize([], tirx.const(True, "bool"), block),
        function.ret_type,
        function.attrs,
    )
    return inner, epilogue


def pixels_of_strip(epilogue: StripEpilogue | None, *, across: int, step: int) -> int:
    """Return the pixels of a strip: the fewest whose numbers fill vectors, or as many as may be.

    Args:
        epilogue: what runs over strips; None when nothing does.
        across: pixels of a row.
        step: pixels of a tile, which divide a row.
    """
    if epilogue is None:
        return step
    strips = [step * tiles for tiles in range(1, across // step + 1) if across // step % tiles == 0]
    fitting = [pixels for pixels in strips if epilogue.fits(pixels)] or strips[:1]
    return max(fitting, key=lambda pixels: (epilogue.vector(pixels), -pixels))


def mark_strip(schedule: Schedule, loop: LoopRV, *, pixels: int) -> None:
    """Mark a loop each of whose trips completes so many neighbouring pixels of a row, which `fits` allows."""
    schedule.annotate(loop, _MARK, pixels)


def attach_strips(function: PrimFunc, epilogue: StripEpilogue | None) -> PrimFunc:
    """Return a scheduled function with what was taken away: in the marked loop, or as a pass over all numbers.

    Args:
        function: from `detach_epilogue`, scheduled.
        epilogue: likewise; None when nothing was taken away.
    """
    if epilogue is None:
        return function
    marked: list[For] = []

    def follow(loop: For) -> For:
        if _MARK not in loop.annotations:
            return loop
        marked.append(loop)
        rest = {key: value for key, value in loop.annotations.items() if key != _MARK}
        body = tirx.SeqStmt([loop.body, _strip(loop.body, epilogue, pixels=int(loop.annotations[_MARK]))])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest)

    realize = tvm_ffi.structural_map(function.body, (tirx.For, follow))
    root = realize.block
    body = root.body if marked else tirx.SeqStmt([root.body, _pass(epilogue)])
    block = s_tir.SBlock([], [], [], "root", body, None, [*root.alloc_buffers, epilogue.source], [], root.annotations)
    whole = tirx.PrimFunc(
        list(epilogue.params),
        s_tir.SBlockRealize([], tirx.const(True, "bool"), block),
        function.ret_type,
        function.attrs,
    )
    if not marked:
        return whole
    # Variables of the function, as the accumulators are: no heap for a strip (passes/register_allocation.py).
    schedule = schedule_of(whole)
    schedule.set_scope(schedule.get_sblock(INT16_BLOCK), 0, "local")
    return function_of(schedule)


def _strip(body: Stmt, epilogue: StripEpilogue, *, pixels: int) -> For:
    """Return the loops over the numbers that a marked loop's body stores."""
    inner: list[Var] = []
    stored: list[SBlockRealize] = []
    tvm_ffi.structural_walk(body, (tirx.For, lambda loop: inner.append(loop.loop_var)))
    tvm_ffi.structural_walk(
        body,
        (s_tir.SBlockRealize, lambda each: stored.append(each) if str(each.block.name_hint) == INT16_BLOCK else None),
    )

    def first(expression: PrimExpr) -> PrimExpr:
        return tvm_ffi.structural_map(
            expression,
            (tirx.Var, lambda var: tirx.const(0, _dtype(var)) if any(var.same_as(loop) for loop in inner) else var),
        )

    n, y, x = (first(value) for value in stored[0].iter_values[:3])
    return _run(epilogue, pixels, n, y, x)


def _pass(epilogue: StripEpilogue) -> For:
    """Return the loops over all numbers, row by row."""
    batch, height, width, channels = (int(extent) for extent in epilogue.source.shape)
    dtype = _dtype(epilogue.realize.block.iter_vars[0].var)
    row, zero = tirx.Var("row", dtype), tirx.const(0, dtype)
    body = _run(epilogue, width, tirx.floordiv(row, height), tirx.floormod(row, height), zero)
    # Bytes, of which four take as long as a float.
    is_large = batch * height * width * channels > 4 * PARALLEL_ELEMENTS
    kind = tirx.ForKind.PARALLEL if is_large else tirx.ForKind.SERIAL
    return tirx.For(row, zero, tirx.const(batch * height, dtype), kind, body)


def _run(epilogue: StripEpilogue, pixels: int, n: PrimExpr, y: PrimExpr, x: PrimExpr) -> For:
    """Return loops over the numbers of neighbouring pixels of a row, in vectors; `n`, `y` and `x` are the first's."""
    channels = epilogue.channels
    dtype = _dtype(epilogue.realize.block.iter_vars[0].var)
    vector, lane = tirx.Var("vector", dtype), tirx.Var("lane", dtype)
    lanes = epilogue.vector(pixels)
    index = vector * tirx.const(lanes, dtype) + lane
    axes = [n, y, x + tirx.floordiv(index, channels), tirx.floormod(index, channels)]
    block = s_tir.SBlockRealize(axes, epilogue.realize.predicate, epilogue.realize.block)
    zero = tirx.const(0, dtype)
    inner = tirx.For(lane, zero, tirx.const(lanes, dtype), tirx.ForKind.VECTORIZED, block)
    return tirx.For(vector, zero, tirx.const(pixels * channels // lanes, dtype), tirx.ForKind.SERIAL, inner)


def _dtype(variable: Var) -> str:
    return str(variable.ty.dtype)


def _realize(nest: Stmt) -> SBlockRealize:
    """Return the block in the middle of nested loops."""
    while isinstance(nest, tirx.For):
        nest = nest.body
    return nest
