"""All converters of TFLite operators by name, and why the others cannot be converted.

A converter reads its inputs from the emitter and writes its outputs to it.
"""

from __future__ import annotations

from crossfarm.stages.prepare.tflite import (
    convolutions,
    elementwise,
    indexing,
    movement,
    recurrent,
    reductions,
    spatial,
    states,
)
from crossfarm.stages.prepare.tflite.common import Converter

CONVERTERS: dict[str, Converter] = {
    **convolutions.CONVERTERS,
    **elementwise.CONVERTERS,
    **indexing.CONVERTERS,
    **movement.CONVERTERS,
    **recurrent.CONVERTERS,
    **reductions.CONVERTERS,
    **spatial.CONVERTERS,
    **states.CONVERTERS,
}
SHAPE_ONLY = ("RANK", "SHAPE")
"""Operators about the shape of a tensor alone: they are constants."""
INLINED = ("CALL", "STABLEHLO_COMPOSITE")
"""Operators in whose place the subgraph that they call is put."""
STATEFUL = ("ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE")

_COUNTS = "how many results it has depends on the data, and compiled code has fixed shapes"
_TEXT = "it is about texts or tables of them"
_FLOW = "which part runs depends on the data; export the model without control flow"
_RANDOM = "its results are random, so that no two runs could be compared"
_COMPLEX = "complex numbers cannot be computed with"
_SCATTERED = "it sums over segments that are named by the data; write it as a product with a constant matrix"

REASONS: dict[str, str] = {
    "COMPLEX_ABS": _COMPLEX,
    "CONCAT_EMBEDDINGS": "LiteRT has no kernel for it either",
    "DELEGATE": "the file was prepared for one accelerator; take the file from before that",
    "EMBEDDING_LOOKUP_SPARSE": _COUNTS,
    "HASHTABLE": _TEXT,
    "HASHTABLE_FIND": _TEXT,
    "HASHTABLE_IMPORT": _TEXT,
    "HASHTABLE_LOOKUP": _TEXT,
    "HASHTABLE_SIZE": _TEXT,
    "IF": _FLOW,
    "IMAG": _COMPLEX,
    "LSH_PROJECTION": "it hashes its input",
    "MULTINOMIAL": _RANDOM,
    "NON_MAX_SUPPRESSION_V4": _COUNTS,
    "NON_MAX_SUPPRESSION_V5": _COUNTS,
    "RANDOM_STANDARD_NORMAL": _RANDOM,
    "RANDOM_UNIFORM": _RANDOM,
    "REAL": _COMPLEX,
    "RFFT2D": _COMPLEX,
    "SEGMENT_SUM": _SCATTERED,
    "SKIP_GRAM": _TEXT,
    "UNIQUE": _COUNTS,
    "UNSORTED_SEGMENT_MAX": _SCATTERED,
    "UNSORTED_SEGMENT_MIN": _SCATTERED,
    "UNSORTED_SEGMENT_PROD": _SCATTERED,
    "UNSORTED_SEGMENT_SUM": _SCATTERED,
    "WHERE": _COUNTS,
    "WHILE": _FLOW,
}
"""Why an operator that has no converter cannot have one."""


def reason(name: str) -> str:
    """Return why an operator cannot be converted, as the end of a sentence."""
    if name.startswith("CUSTOM"):
        return "a custom operator's meaning is known to its own library alone"
    if name.startswith("STABLEHLO_"):
        return "StableHLO inside of TFLite cannot be converted; export the model with builtin operators"
    return REASONS.get(name, "no converter is written for it")
