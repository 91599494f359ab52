"""A tensor of stored integers times one stored number for each channel, as squeeze-and-excitation has it, in 16 bits.

What a product needs of a gate, scales and all, is one 16-bit integer for each channel, made once for an image. Then
16-bit vectors do what floats do in twice as many vectors with a conversion at either end; see `integer.Gating`.

Vectors run over the channels of neighbouring pixels, which follow each other in memory. The gates are repeated until
they fill whole vectors.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from tvm import te, tirx

from crossfarm.backends.tvm.int8.numpy_reference import Gating, Steps, gating
from crossfarm.backends.tvm.int8.rounding import Storing
from crossfarm.backends.tvm.int8.values import Stored, Walk
from crossfarm.backends.tvm.int8.windows import vector_of_bytes
from crossfarm.backends.tvm.passes.relax_utils import static_shape
from crossfarm.backends.tvm.schedules.primitives import (
    block_names,
    blocks,
    extent,
    function_of,
    fuse,
    schedule_of,
    schedule_spatial,
    total,
    vectorise,
)
from crossfarm.backends.tvm.schedules.processor import PARALLEL_ELEMENTS, Processor

BLOCK, GATES = "crossfarm_int8_gated", "crossfarm_int8_gates"
_REPEATED = "crossfarm.pixels"
MAX_REPEATED = 8


def gated(walk: Walk, image: Stored, gate: Stored, steps: Steps) -> Stored | None:
    """Emit the stored integers of a product; None where it is no product with gates, or its numbers are too large.

    Args:
        walk: through the graph.
        image: [n, height, width, channels].
        gate: [n, 1, 1, channels].
        steps: of the result.
    """
    how = gating(image.steps, gate.steps, steps, dtype=walk.unit.activation)
    if how is None or not is_gate(image, gate):
        return None
    _, _, width, channels = static_shape(image.tensor) or ()
    storing = Storing(low=-32767.0, high=32767.0, zero=0, dtype="int16", converts=walk.unit.converts, is_bounded=True)
    compute = functools.partial(
        _compute,
        how=how,
        dtype=walk.unit.activation,
        storing=storing,
        pixels=_repeated(width, channels, lanes=4 * walk.unit.lanes[0]),
    )
    return Stored(tensor=walk.call(compute, image.tensor, gate.tensor, name="gate_int8"), steps=steps)


def is_gate(image: Stored, gate: Stored) -> bool:
    """Say whether one tensor has one number for each channel of the other, an image of several pixels."""
    shape, other = static_shape(image.tensor) or (), static_shape(gate.tensor) or ()
    return len(shape) == len(other) == 4 and shape[1] * shape[2] > 1 and other == (shape[0], 1, 1, shape[3])


def _repeated(width: int, channels: int, *, lanes: int) -> int:
    """Return how many pixels of a row have channels that fill vectors, the widest that can be filled."""
    while lanes > 1:
        for pixels in range(1, MAX_REPEATED + 1):
            if width % pixels == 0 and pixels * channels % lanes == 0:
                return pixels
        lanes //= 2
    return 1


def _compute(image: Any, gate: Any, *, how: Gating, dtype: str, storing: Storing, pixels: int) -> Any:
    batch, _, _, channels = (int(each) for each in image.shape)
    by = tirx.const(how.factor, "float32")

    def one(n: Any, _pixel: Any, c: Any) -> Any:
        return storing.of((gate[n, 0, 0, c].astype("int32") - how.zeros[1]).astype("float32") * by)

    gates = te.compute((batch, pixels, channels), one, name=GATES)
    information = np.iinfo(dtype)
    least, most = (tirx.const(int(bound), "int16") for bound in (information.min, information.max))

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        centred = image[n, y, x, c].astype("int16") - tirx.const(how.zeros[0], "int16")
        wide = tirx.shift_left(centred, tirx.const(7, "int16")).astype("int32")
        product = wide * gates[n, tirx.floormod(x, pixels), c].astype("int32")
        high = tirx.shift_right(product, tirx.const(16, "int32")).astype("int16")
        result = tirx.shift_right(high + tirx.const(how.offset, "int16"), tirx.const(how.fraction, "int16"))
        return tirx.max(tirx.min(result, most), least).astype(dtype)

    return te.compute(image.shape, element, name=BLOCK, attrs={_REPEATED: pixels})


def matches(function: Any) -> bool:
    """Say whether a PrimFunc is a product of this module."""
    return BLOCK in block_names(function)


def schedule(function: Any, processor: Processor) -> Any:
    """Make the gates of an image first, then gate as many pixels at once as fill vectors.

    Raises:
        s_tir.ScheduleError: the function has another form; it is then left to the default.
    """
    schedule = schedule_of(function)
    block = schedule.get_sblock(BLOCK)
    pixels = int(schedule.get(block).annotations[_REPEATED])
    n, y, x, c = schedule.get_loops(block)
    size = total(schedule, [n, y, x, c])
    x, pixel = schedule.split(x, [None, pixels])
    run = schedule.fuse(pixel, c)
    lanes = min(vector_of_bytes(extent(schedule, run)), 4 * processor.widest)
    run, lane = schedule.split(run, [None, lanes])
    vectorise(schedule, lane)
    # Bytes, of which four take as long as a float.
    if size > 4 * PARALLEL_ELEMENTS:
        schedule.parallel(fuse(schedule, [n, y]))
    for other in blocks(schedule):
        if schedule.get(other).name_hint != BLOCK:
            schedule_spatial(schedule, other, processor)
    return function_of(schedule)
