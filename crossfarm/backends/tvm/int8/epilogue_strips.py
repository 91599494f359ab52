"""What follows sums without constants of their channels runs over strips of results, in vectors across pixels.

Tiles of sums store 16-bit integers into a strip of neighbouring pixels, which stays in the first-level cache. What is
behind takes them as one run of numbers: all its vectors are full and as wide as the processor has them, whatever the
number of channels is, and none of them waits for a narrower one.

TVM's schedules do not move a block behind tiles that overlap (int8_overlapping.py). So the last block is taken away
before a function is scheduled, and put back behind the loops that have been marked for it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tvm_ffi
from tvm import s_tir, tirx

from crossfarm.backends.tvm.int8.arithmetic import HALVES
from crossfarm.backends.tvm.int8.windows import vector_of_bytes
from crossfarm.backends.tvm.schedules.primitives import block_names, function_of, schedule_of
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor

LONGEST = 8192
"""Numbers of a strip at most: 16 KB, half of a first-level cache, and little for a stack of 128 KB."""
_MARK = "crossfarm.strip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Behind:
    """The last block of a function, which has been taken away.

    Attributes:
        realize: the block.
        halves: the buffer that it reads.
        params: of the function before.
        lanes: elements of the processor's widest vector of bytes.
    """

    realize: Any
    halves: Any
    params: tuple[Any, ...]
    lanes: int

    @property
    def channels(self) -> int:
        """Numbers of a pixel."""
        return int(self.halves.shape[3])

    def vector(self, pixels: int) -> int:
        """Return the elements of the widest vectors that the numbers of so many pixels fill."""
        return min(vector_of_bytes(pixels * self.channels), self.lanes)

    def fits(self, pixels: int) -> bool:
        """Say whether a strip of so many pixels stays in the cache, and has wider vectors than sums have."""
        return pixels * self.channels <= LONGEST and self.vector(pixels) > self.lanes // 4


def detached(function: Any, processor: Processor, *, last: str) -> tuple[Any, Behind | None]:
    """Return a function without its last block, and the block; the function as it is when that is another one.

    Args:
        function: PrimFunc that is not scheduled.
        processor: what for.
        last: name of the block, which reads 16-bit integers of the block `HALVES`, number by number.
    """
    # Without vectors, and without wider ones than sums have, what is inlined saves storing and loading the halves.
    if processor.widest == 1 or block_names(function)[-2:] != [HALVES, last]:
        return function, None
    root = function.body.block
    *rest, nest = list(root.body.seq)
    realize = _realize(nest)
    halves, result = (region.source for region in (realize.block.reads[0], realize.block.writes[0]))
    behind = Behind(realize=realize, halves=halves, params=tuple(function.params), lanes=4 * processor.widest)
    if len(halves.shape) != 4 or behind.vector(int(halves.shape[2])) <= processor.widest:
        return function, None
    inner_buffers = [each for each in root.alloc_buffers if not each.same_as(halves)]
    block = s_tir.SBlock([], [], [], "root", tirx.SeqStmt(rest), None, inner_buffers, [], root.annotations)
    inner = tirx.PrimFunc(
        [halves if each.same_as(result) else each for each in behind.params],
        s_tir.SBlockRealize([], tirx.const(True, "bool"), block),
        function.ret_type,
        function.attrs,
    )
    return inner, behind


def pixels_of_strip(behind: Behind | None, *, across: int, step: int) -> int:
    """Return the pixels of a strip: the fewest whose numbers fill vectors, or as many as may be.

    Args:
        behind: what follows the sums; None when nothing does.
        across: pixels of a row.
        step: pixels of a tile, which divide a row.
    """
    if behind is None:
        return step
    strips = [step * tiles for tiles in range(1, across // step + 1) if across // step % tiles == 0]
    fitting = [pixels for pixels in strips if behind.fits(pixels)] or strips[:1]
    return max(fitting, key=lambda pixels: (behind.vector(pixels), -pixels))


def mark(schedule: Any, loop: Any, *, pixels: int) -> None:
    """Mark a loop each of whose trips completes so many neighbouring pixels of a row, which `fits` allows."""
    schedule.annotate(loop, _MARK, pixels)


def attached(function: Any, behind: Behind | None) -> Any:
    """Return a scheduled function with what was taken away: in the marked loop, or as a pass over all numbers.

    Args:
        function: from `detached`, scheduled.
        behind: likewise; None when nothing was taken away.
    """
    if behind is None:
        return function
    marked: list[Any] = []

    def follow(loop: Any) -> Any:
        if _MARK not in loop.annotations:
            return loop
        marked.append(loop)
        rest = {key: value for key, value in loop.annotations.items() if key != _MARK}
        body = tirx.SeqStmt([loop.body, _strip(loop.body, behind, pixels=int(loop.annotations[_MARK]))])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, rest)

    realize = tvm_ffi.structural_map(function.body, (tirx.For, follow))
    root = realize.block
    body = root.body if marked else tirx.SeqStmt([root.body, _pass(behind)])
    block = s_tir.SBlock([], [], [], "root", body, None, [*root.alloc_buffers, behind.halves], [], root.annotations)
    whole = tirx.PrimFunc(
        list(behind.params), s_tir.SBlockRealize([], tirx.const(True, "bool"), block), function.ret_type, function.attrs
    )
    if not marked:
        return whole
    # Variables of the function, as the sums are: no heap for a strip (accumulators.py).
    schedule = schedule_of(whole)
    schedule.set_scope(schedule.get_sblock(HALVES), 0, "local")
    return function_of(schedule)


def _strip(body: Any, behind: Behind, *, pixels: int) -> Any:
    """Return the loops over the numbers that a marked loop's body stores."""
    inner: list[Any] = []
    stored: list[Any] = []
    tvm_ffi.structural_walk(body, (tirx.For, lambda loop: inner.append(loop.loop_var)))
    tvm_ffi.structural_walk(
        body, (s_tir.SBlockRealize, lambda each: stored.append(each) if str(each.block.name_hint) == HALVES else None)
    )

    def first(expression: Any) -> Any:
        return tvm_ffi.structural_map(
            expression,
            (tirx.Var, lambda var: tirx.const(0, _dtype(var)) if any(var.same_as(loop) for loop in inner) else var),
        )

    n, y, x = (first(value) for value in stored[0].iter_values[:3])
    return _run(behind, pixels, n, y, x)


def _pass(behind: Behind) -> Any:
    """Return the loops over all numbers, row by row."""
    batch, height, width, channels = (int(extent) for extent in behind.halves.shape)
    dtype = _dtype(behind.realize.block.iter_vars[0].var)
    row, nought = tirx.Var("row", dtype), tirx.const(0, dtype)
    body = _run(behind, width, tirx.floordiv(row, height), tirx.floormod(row, height), nought)
    # Bytes, of which four take as long as a float.
    is_large = batch * height * width * channels > 4 * PARALLEL_ELEMENTS
    kind = tirx.ForKind.PARALLEL if is_large else tirx.ForKind.SERIAL
    return tirx.For(row, nought, tirx.const(batch * height, dtype), kind, body)


def _run(behind: Behind, pixels: int, n: Any, y: Any, x: Any) -> Any:
    """Return loops over the numbers of neighbouring pixels of a row, in vectors; `n`, `y` and `x` are the first's."""
    channels = behind.channels
    dtype = _dtype(behind.realize.block.iter_vars[0].var)
    vector, lane = tirx.Var("vector", dtype), tirx.Var("lane", dtype)
    lanes = behind.vector(pixels)
    place = vector * tirx.const(lanes, dtype) + lane
    axes = [n, y, x + tirx.floordiv(place, channels), tirx.floormod(place, channels)]
    block = s_tir.SBlockRealize(axes, behind.realize.predicate, behind.realize.block)
    nought = tirx.const(0, dtype)
    inner = tirx.For(lane, nought, tirx.const(lanes, dtype), tirx.ForKind.VECTORIZED, block)
    return tirx.For(vector, nought, tirx.const(pixels * channels // lanes, dtype), tirx.ForKind.SERIAL, inner)


def _dtype(variable: Any) -> str:
    return str(variable.ty.dtype)


def _realize(nest: Any) -> Any:
    """Return the block in the middle of nested loops."""
    while isinstance(nest, tirx.For):
        nest = nest.body
    return nest
