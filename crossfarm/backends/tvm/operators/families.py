"""All converters, family by family; the first family that has an operator is asked."""

from __future__ import annotations

from crossfarm.backends.tvm.operators import (
    attention,
    bounded,
    cached_attention,
    contrib,
    convolution,
    determinant,
    elementwise,
    features,
    few_bits,
    gathering,
    integer_products,
    normalisation,
    ordering,
    pooling,
    qoperators,
    recurrent,
    reductions,
    resize,
    sampling,
    scattering,
    shapes,
    spectrum,
    trees,
    unique,
)
from crossfarm.backends.tvm.operators.graph_rewriting import Rewrite
from crossfarm.backends.tvm.operators.node import Converter

FAMILIES = (
    bounded,
    determinant,
    few_bits,
    convolution,
    elementwise,
    features,
    gathering,
    integer_products,
    normalisation,
    ordering,
    pooling,
    recurrent,
    reductions,
    resize,
    sampling,
    scattering,
    shapes,
    spectrum,
    trees,
    unique,
)
"""Modules that declare CONVERTERS, each for a family of operators."""

CONVERTERS: dict[str, Converter] = {
    operator: converter for family in reversed(FAMILIES) for operator, converter in family.CONVERTERS.items()
}
"""Operator -> its converter; one of another domain than ONNX's is `domain.operator`."""

REWRITES: dict[str, Rewrite] = {
    operator: rewrite
    for family in (attention, cached_attention, contrib, few_bits, qoperators)
    for operator, rewrite in family.REWRITES.items()
}
"""Operator -> what replaces it by nodes of simpler operators before the graph is imported."""
