"""Kernels over images of so few channels that an instruction wants more neighbours than a pixel has.

In memory the channels of the pixels of a row follow each other. So the axes W and C are merged, and a row of the kernel
is one sum over neighbouring numbers, kernel width times channels of them. Only their end is filled up with weights of
0. A kernel 3 pixels wide over 3 channels, for an instruction that takes 4 numbers:

    merged row   r0 g0 b0 r1 g1 b1 r2 g2 b2 r3 g3 b3 r4 g4 b4 ...
    pixel 0      [  step 0  ][  step 1  ][  step 2  ]            9 numbers become 12: the last 3 weights are 0
    pixel 1               [  step 0  ][  step 1  ][  step 2  ]   starts `stride` = 3 numbers later

Three pixels of one channel become 4 numbers instead of 12.

The padding of a merged row is as wide as whole vectors, so that copying an image into it is copying vectors.
"""

from __future__ import annotations

import dataclasses

from tvm import te, tirx

from crossfarm.backends.tvm.int8.dot_instructions import Dot
from crossfarm.backends.tvm.int8.windows import PADDED, Window, vector_of_bytes
from crossfarm.backends.tvm.schedules.hoisting import mark_copy
from crossfarm.backends.tvm.schedules.primitives import vectorise
from crossfarm.backends.tvm.types import BlockRV, PrimExpr, Schedule, Tensor, Var

MERGED_AXES = 3
"""Axes of a padded image of merged rows: images, rows, numbers of a row."""
_VECTOR = "crossfarm.vector"
"""Annotation of such an image: how many neighbouring numbers are all of the image, or all of the padding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergedRow:
    """A padded row of an image whose axes W and C are one.

    Attributes:
        vector: numbers that are copied at once.
        left: numbers of padding before the image, whole vectors.
        size: numbers of a row of the image, whole vectors.
        right: numbers of padding behind it, whole vectors.
        first: where the window of the first pixel begins.
        stride: numbers from the window of a pixel to that of the next.
    """

    vector: int
    left: int
    size: int
    right: int
    first: int
    stride: int

    def padded(self, image: Tensor, window: Window, *, zero: int, dtype: str) -> Tensor:
        """Return an image [N, H, W, C] padded with its zero point, as [N, H + padding, numbers of a row]."""
        batch, height, _, channels = (int(each) for each in image.shape)
        top, _, bottom, _ = window.padding
        fill = tirx.const(zero, dtype)

        def element(n: Var, y: Var, i: Var) -> PrimExpr:
            index = i - self.left
            value = image[n, y - top, tirx.floordiv(index, channels), tirx.floormod(index, channels)].astype(dtype)
            vector = tirx.floordiv(i, self.vector)
            inside = [vector >= self.left // self.vector, vector < (self.left + self.size) // self.vector]
            inside += [y >= top, y < height + top] if top or bottom else []
            return tirx.if_then_else(tirx.all(*inside), value, fill)

        shape = (batch, height + top + bottom, self.left + self.size + self.right)
        return te.compute(shape, element, name=PADDED, attrs={_VECTOR: self.vector})


def merged_row(window: Window, *, width: int, depth: int, dot: Dot) -> MergedRow | None:
    """Return the merged row of an image; None when pixels have as many channels as the instruction wants.

    Args:
        window: how the kernel slides.
        width: pixels of a row of the image.
        depth: channels.
        dot: the instruction.
    """
    size = width * depth
    vector = vector_of_bytes(size)
    if depth % dot.depth == 0 or window.kernel[1] == 1 or window.dilation[1] != 1 or vector == 1:
        return None
    _, left, _, right = window.padding
    filled = -(-window.kernel[1] * depth // dot.depth) * dot.depth - window.kernel[1] * depth
    before = -(-left * depth // vector) * vector
    return MergedRow(
        vector=vector,
        left=before,
        size=size,
        right=-(-(right * depth + filled) // vector) * vector,
        first=before - left * depth,
        stride=window.strides[1] * depth,
    )


def schedule_merged_rows(schedule: Schedule, block: BlockRV) -> None:
    """Copy an image into its padding vector by vector."""
    *_, numbers = schedule.get_loops(block)
    vectors, lane = schedule.split(numbers, [None, int(schedule.get(block).annotations[_VECTOR])])
    mark_copy(schedule, vectors)
    vectorise(schedule, lane)
