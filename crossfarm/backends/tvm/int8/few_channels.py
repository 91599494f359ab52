"""Kernels over images of so few channels that an instruction wants more neighbours than a pixel has.

In memory the channels of the pixels of a row follow each other. So a row of the kernel is one sum over neighbouring
numbers, width times channels of them, and only their end is filled up with weights of 0: 9 numbers become 12, where 3
channels of 3 pixels would become 12 as well but each pixel had to be copied to 4 numbers first; 3 pixels of 1 channel
become 4 instead of 12.

The frame of a line is as wide as whole vectors, so that copying an image into it is copying vectors.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tvm import te, tirx

from crossfarm.backends.tvm.int8.dot_instructions import Dot
from crossfarm.backends.tvm.int8.windows import FRAME, Window, vector_of_bytes
from crossfarm.backends.tvm.schedules.hoisting import mark_copy
from crossfarm.backends.tvm.schedules.primitives import vectorise

LINE_AXES = 3
"""Axes of a frame of lines: images, rows, numbers of a row."""
_VECTOR = "crossfarm.vector"
"""Annotation of a frame of lines: numbers that are all of the image, or all of the frame."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """A row of an image in its frame.

    Attributes:
        vector: numbers that are copied at once.
        left: numbers of the frame before the image, whole vectors.
        size: numbers of a row of the image, whole vectors.
        right: numbers of the frame behind it, whole vectors.
        first: where the kernel's first place begins.
        stride: numbers from one place to the next.
    """

    vector: int
    left: int
    size: int
    right: int
    first: int
    stride: int

    def framed(self, image: Any, window: Window, *, zero: int, dtype: str) -> Any:
        """Return the te.Tensor [n, rows, numbers] of an image [n, height, width, channels] framed by zero points."""
        batch, height, _, channels = (int(each) for each in image.shape)
        top, _, bottom, _ = window.padding
        fill = tirx.const(zero, dtype)

        def element(n: Any, y: Any, i: Any) -> Any:
            place = i - self.left
            value = image[n, y - top, tirx.floordiv(place, channels), tirx.floormod(place, channels)].astype(dtype)
            vector = tirx.floordiv(i, self.vector)
            inside = [vector >= self.left // self.vector, vector < (self.left + self.size) // self.vector]
            inside += [y >= top, y < height + top] if top or bottom else []
            return tirx.if_then_else(tirx.all(*inside), value, fill)

        shape = (batch, height + top + bottom, self.left + self.size + self.right)
        return te.compute(shape, element, name=FRAME, attrs={_VECTOR: self.vector})


def line_of(window: Window, *, width: int, depth: int, dot: Dot) -> Line | None:
    """Return the line for an image of so many channels; None when pixels have as many as the instruction wants.

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
    return Line(
        vector=vector,
        left=before,
        size=size,
        right=-(-(right * depth + filled) // vector) * vector,
        first=before - left * depth,
        stride=window.strides[1] * depth,
    )


def schedule_lines(schedule: Any, block: Any) -> None:
    """Copy an image into its frame vector by vector."""
    *_, numbers = schedule.get_loops(block)
    vectors, lane = schedule.split(numbers, [None, int(schedule.get(block).annotations[_VECTOR])])
    mark_copy(schedule, vectors)
    vectorise(schedule, lane)
