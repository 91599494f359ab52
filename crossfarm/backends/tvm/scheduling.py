"""From a Relax module to scheduled PrimFuncs: the one entry point of the rules."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import Protocol

import tvm
from tvm import relax, s_tir, tirx

from crossfarm.backends.tvm.int8 import channel_scale, depthwise_dot4
from crossfarm.backends.tvm.int8 import convolution as int8_convolution
from crossfarm.backends.tvm.int8 import depthwise as int8_depthwise
from crossfarm.backends.tvm.int8 import winograd as int8_winograd
from crossfarm.backends.tvm.passes.constant_folding import fold_constants
from crossfarm.backends.tvm.passes.layer_norms import whole_layer_norms
from crossfarm.backends.tvm.passes.layout import FreeTransposes, to_channels_last
from crossfarm.backends.tvm.passes.relax_utils import rewrite_functions
from crossfarm.backends.tvm.passes.transposed_convolution import gather_transposed
from crossfarm.backends.tvm.schedules import (
    convolution,
    dense,
    depthwise,
    elementwise,
    matmul,
    operation_count,
    reduction,
    softmax,
    winograd,
)
from crossfarm.backends.tvm.schedules.attention_graph import fuse_attention
from crossfarm.backends.tvm.schedules.choices import Choose
from crossfarm.backends.tvm.schedules.loops import is_written
from crossfarm.backends.tvm.schedules.packing import choose, pack
from crossfarm.backends.tvm.schedules.primitives import LEFT, is_of_blocks
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.vector_math import with_polynomials
from crossfarm.backends.tvm.types import IRModule, PrimFunc

_LOG = logging.getLogger(__name__)
_SCHEDULED = "tirx.is_scheduled"


class Rule(Protocol):
    """A family of operators: a module with these two functions."""

    def matches(self, function: PrimFunc) -> bool:
        """Say whether the rule knows the form of a PrimFunc."""

    def schedule(self, function: PrimFunc, processor: Processor) -> PrimFunc:
        """Return the scheduled PrimFunc; raises s_tir.ScheduleError or ValueError when it cannot."""


RULES: tuple[Rule, ...] = (
    int8_convolution,
    int8_winograd,
    depthwise_dot4,
    int8_depthwise,
    channel_scale,
    convolution,
    winograd,
    depthwise,
    dense,
    matmul,
    softmax,
    elementwise,
    reduction,
)
"""The first that matches is taken."""


def schedule_module(module: IRModule, processor: Processor, choose: Choose = choose) -> IRModule:
    """Return a module of fused and scheduled PrimFuncs and a Relax `main` that calls them.

    Args:
        module: tvm.IRModule of Relax functions with static shapes and constant weights.
        processor: what for; the target itself must be the current one.
        choose: decides how each layer is computed; the rules, unless something knows better.
    """
    module = relax.transform.CanonicalizeBindings()(relax.transform.DecomposeOpsForInference()(module))
    module = gather_transposed(fold_constants(module))
    module = whole_layer_norms(to_channels_last(module))
    module = fuse_attention(module, processor)
    module = pack(module, processor, choose)
    module = rewrite_functions(module, FreeTransposes)
    return schedule_functions(fuse_module(module), processor)


def fuse_module(module: IRModule) -> IRModule:
    """Return a module of fused PrimFuncs, none of them scheduled, and a Relax `main` that calls them.

    Args:
        module: as for `schedule_module`.
    """
    fuse = tvm.transform.Sequential(
        [
            relax.transform.LegalizeOps(),
            # A variable that only renames another one hides from fusion that both are one value.
            relax.transform.CanonicalizeBindings(),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
            # Finds reshapes by the form of their PrimFuncs, which a schedule changes.
            relax.transform.RewriteDataflowReshape(),
        ]
    )
    return operation_count.annotate(fuse(module))


def schedule_functions(module: IRModule, processor: Processor) -> IRModule:
    """Return the module with every PrimFunc scheduled that a rule covers."""
    for variable, function in list(module.functions.items()):
        if isinstance(function, tirx.PrimFunc):
            scheduled = schedule_function(function, processor, name=str(variable.name_hint))
            if scheduled is not None:
                module.update_func(variable, scheduled)
    return module


def schedule_function(function: PrimFunc, processor: Processor, *, name: str) -> PrimFunc | None:
    """Return the scheduled PrimFunc under its old symbol; None when no rule covers it.

    Args:
        function: a PrimFunc that is not scheduled.
        processor: what for.
        name: of the function, for the log.
    """
    if is_written(function):
        scheduled = function
    else:
        rule = next((rule for rule in RULES if is_of_blocks(function) and rule.matches(function)), None)
        if rule is None:
            return None
        try:
            scheduled = rule.schedule(function, processor)
        except (s_tir.ScheduleError, ValueError) as error:
            _LOG.info("%s is left to the default: %s", name, str(error).strip().splitlines()[-1:])
            return None
    symbol = function.attrs.get("global_symbol") if function.attrs is not None else None
    if processor.widest > 1:
        scheduled = with_polynomials(scheduled)
    scheduled = scheduled.without_attr("global_symbol")
    if symbol is not None:
        scheduled = scheduled.with_attr("global_symbol", symbol)
    return scheduled.with_attr(_SCHEDULED, True)


def unscheduled(module: IRModule, functions: Collection[str]) -> tuple[str, ...]:
    """Return the names of the functions that no rule covered, or of which a rule left a part as it is, sorted."""
    partly = {name for name in functions if (module[name].attrs or {}).get(LEFT)}
    return tuple(sorted(partly | set(uncovered(module, functions))))


def uncovered(module: IRModule, functions: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the functions that no rule covered, sorted."""
    return tuple(sorted(name for name in functions if not (module[name].attrs or {}).get(_SCHEDULED)))
