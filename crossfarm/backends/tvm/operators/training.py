"""Operators that do something only while a model is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfarm.backends.tvm.operators.emitting import tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.types import RelaxExpr


def _dropout(node: Node) -> RelaxExpr | Sequence[RelaxExpr]:
    """Hand on the input, with a mask that keeps everything."""
    trains = node.optional_constant(2)
    ratio = node.optional_constant(1)
    if trains is not None and bool(trains.reshape(-1)[0]) and (ratio is None or float(ratio.reshape(-1)[0]) > 0):
        raise UnsupportedForm("it drops numbers at random, since training_mode is true")
    if len(node.outputs) < 2:
        return node.input(0)
    # Before operator set 10 the mask has the type of the input.
    kept = np.ones(node.shape(0), np.bool_ if node.opset >= 10 else node.dtype(0))
    return [node.input(0), tensor(kept)]


CONVERTERS: dict[str, Converter] = {"Dropout": _dropout}
"""Operator -> its converter."""
