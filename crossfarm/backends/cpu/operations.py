"""How many operations a function computes, counted before it is scheduled, while its loops still say what is meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tvm
from tvm import tirx
from tvm.s_tir.analysis import estimate_tir_flops

_OPERATIONS = "crossfarm.operations"


def annotate(module: Any) -> Any:
    """Return the module with the number of its operations noted in every PrimFunc.

    A multiplication and an addition are two operations. Channels that a weight was padded with count like others.
    """
    for variable, function in list(module.functions.items()):
        if isinstance(function, tirx.PrimFunc):
            module.update_func(variable, function.with_attr(_OPERATIONS, tirx.IntImm("int64", _count(function))))
    return module


def operations(module: Any, functions: Iterable[str]) -> dict[str, int]:
    """Return function -> operations of one call, 0 where none were noted."""
    return {name: int((module[name].attrs or {}).get(_OPERATIONS) or 0) for name in functions}


def _count(function: Any) -> int:
    try:
        return int(estimate_tir_flops(tvm.IRModule({"main": function.with_attr("global_symbol", "main")})))
    except Exception:
        # The estimate knows no loops whose length is computed; a number in a report is not worth a model.
        return 0
