"""What a function computes: operations, counted before it is scheduled, and the layer that it was made of."""

from __future__ import annotations

from collections.abc import Iterable

import tvm
from tvm import tirx
from tvm.s_tir.analysis import estimate_tir_flops

from crossfarm.backends.tvm.schedules.choices import LAYER
from crossfarm.backends.tvm.schedules.primitives import blocks, is_of_blocks, schedule_of
from crossfarm.backends.tvm.types import IRModule, PrimFunc

_MOST = 1 << 60
"""More than a layer can take; the estimate gives such numbers for loops whose length is computed."""
_OPERATIONS, _LAYER = "crossfarm.operations", "crossfarm.function_layer"


def annotate(module: IRModule) -> IRModule:
    """Return the module with the number of its operations, and the key of its layer, noted in every PrimFunc.

    A multiplication and an addition are two operations. Channels that a weight was padded with count like others.
    """
    for variable, function in list(module.functions.items()):
        if isinstance(function, tirx.PrimFunc):
            noted = function.with_attr(_OPERATIONS, tirx.IntImm("int64", _count(function)))
            layer = _layer_of(function)
            module.update_func(variable, noted if layer is None else noted.with_attr(_LAYER, layer))
    return module


def operations(module: IRModule, functions: Iterable[str]) -> dict[str, int]:
    """Return function -> operations of one call, 0 where none were noted."""
    return {name: int((module[name].attrs or {}).get(_OPERATIONS) or 0) for name in functions}


def layers(module: IRModule, functions: Iterable[str]) -> dict[str, str | None]:
    """Return function -> key of the layer that it computes; None for what is no layer of a rule that chooses."""
    found = {name: (module[name].attrs or {}).get(_LAYER) for name in functions}
    return {name: None if key is None else str(key) for name, key in found.items()}


def _layer_of(function: PrimFunc) -> str | None:
    if not is_of_blocks(function):
        return None
    schedule = schedule_of(function)
    annotations = [schedule.get(block).annotations for block in blocks(schedule)]
    return next((str(found[LAYER]) for found in annotations if LAYER in found), None)


def _count(function: PrimFunc) -> int:
    try:
        count = int(estimate_tir_flops(tvm.IRModule({"main": function.with_attr("global_symbol", "main")})))
    except Exception:
        # The estimate knows no loops whose length is computed; a number in a report is not worth a model.
        return 0
    return count if 0 <= count < _MOST else 0
