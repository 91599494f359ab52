"""From the scores of a model to what people read: classes, texts, decisions. Pure functions over NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfarm.stages.data.tensors import Array

CTC_BLANK = 0


def top_classes(scores: Array, count: int) -> list[int]:
    """Return the classes of the `count` largest scores, the largest first; of equal scores the smaller class first.

    Args:
        scores: one score per class, of any shape (it is flattened).
        count: how many; fewer come back when there are fewer classes.
    """
    flat = np.asarray(scores).reshape(-1).astype(np.float64)
    return [int(index) for index in np.argsort(-flat, kind="stable")[:count]]


def class_name(index: int, names: Sequence[str] | None) -> str:
    """Return the first of a class's names (ImageNet's are `tench, Tinca tinca`), or `class 3` where none is known."""
    if names is None or not 0 <= index < len(names):
        return f"class {index}"
    return names[index].partition(",")[0].strip()


def ctc_text(scores: Array, characters: Sequence[str]) -> str:
    """Read a text by greedy (best path) CTC decoding: the best of each time step, repeats merged, blanks dropped.

    Graves et al., Connectionist Temporal Classification, ICML 2006, section 3.2.

    Args:
        scores: shape (..., time, characters); leading extents are 1.
        characters: what each index stands for; index 0 is the blank.

    Raises:
        ValueError: there are more scores than characters.
    """
    best = np.argmax(np.asarray(scores).reshape(-1, scores.shape[-1]), axis=-1)
    if scores.shape[-1] > len(characters):
        raise ValueError(f"{scores.shape[-1]} scores, but {len(characters)} characters")
    before = np.concatenate([[CTC_BLANK], best[:-1]])
    return "".join(characters[index] for index in best[(best != before) & (best != CTC_BLANK)])


def decisions(scores: Array, threshold: float) -> list[int]:
    """Return 1 for every score above the threshold, else 0 (NaN is 0), flattened."""
    return [int(score > threshold) for score in np.asarray(scores).reshape(-1)]
