"""From scores to what people read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from ._description import MODEL

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]


def best(scores: Array, count: int = 5) -> list[tuple[str, float]]:
    """Return names and scores of the best classes, the best first; of equal scores the smaller class first.

    Args:
        scores: one score per class, of any shape.
        count: how many; fewer come back when there are fewer classes.

    Returns:
        The first of a class's names (ImageNet has `tench, Tinca tinca`), or `class 3` where none is known.
    """
    flat = numpy.asarray(scores).reshape(-1)
    order = numpy.argsort(-flat.astype(numpy.float64), kind="stable")[:count]
    return [(_name(int(index)), float(flat[index])) for index in order]


def text(scores: Array) -> str:
    """Read a text by greedy CTC: the best of each time step, repeats merged, blanks (0) dropped.

    Args:
        scores: shape (..., time, characters).

    Raises:
        ValueError: the model does not read texts.
    """
    if MODEL.characters is None:
        raise ValueError(f"{MODEL.name} does not read texts")
    steps = numpy.argmax(scores.reshape(-1, scores.shape[-1]), axis=-1)
    before = numpy.concatenate([[0], steps[:-1]])
    return "".join(MODEL.characters[int(index)] for index in steps[(steps != before) & (steps != 0)])


def _name(index: int) -> str:
    names = MODEL.classes
    return f"class {index}" if names is None or index >= len(names) else names[index].partition(",")[0].strip()
