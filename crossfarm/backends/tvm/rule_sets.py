"""The sets of rules by which kernels are chosen: for speed, or for a processor whose weights stay in its flash.

The set `mcu` packs the weights of quantised layers in bytes, as many as the model has: no kernel widens them to 16 bits
or to floats, and none transforms them (Winograd). It follows from the one instruction that its unit has
(int8/dot_instructions.py: BYTES). A target carries the name of its set among its keys.
"""

from __future__ import annotations

from crossfarm.backends.tvm.int8.dot_instructions import BYTES, IntegerUnit, integer_unit
from crossfarm.backends.tvm.types import Target
from crossfarm.config.llvm import LlvmCode, RuleSet

_MCU: RuleSet = "mcu"
_MCU_REGISTERS = 10
"""Of the 13 that a Cortex-M has, those that hold no address of a tile."""


def keys_of(code: LlvmCode) -> list[str]:
    """Return the keys of a target that is compiled by another set of rules than that for speed; else none."""
    return [code.RULES, "cpu"] if code.RULES == _MCU else []


def unit_of(target: Target) -> IntegerUnit:
    """Return the integer instructions by which the kernels of a tvm.target.Target are chosen."""
    if _MCU in target.keys:
        return IntegerUnit(activation="int8", dots=(BYTES,), registers=_MCU_REGISTERS, loads_aside=False)
    return integer_unit(target)
