"""Maxima and minima of floats keep NaN, whatever form the target's instructions ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from crossfarm.backends.project_files import load_targets
from crossfarm.backends.tvm import lowering
from crossfarm.backends.tvm.passes.register_allocation import pipeline
from crossfarm.util.paths import HOME

LENGTH = 19
"""Two vectors of eight, and three numbers in a loop of their own."""
_HOST = {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"}


def _bound(value: float) -> Any:
    return tirx.const(value, "float32")


FORMS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "maximum of two": (tirx.max, np.maximum),
    "minimum of two": (tirx.min, np.minimum),
    "above a bound": (lambda x, _: tirx.max(x, _bound(0)), lambda x, _: np.maximum(x, 0)),
    "bound first": (lambda x, _: tirx.max(_bound(0), x), lambda x, _: np.maximum(x, 0)),
    "between bounds": (
        lambda x, _: tirx.max(tirx.min(x, _bound(6)), _bound(0)),
        lambda x, _: np.clip(x, 0, 6),
    ),
}


def _function(form: Callable[[Any, Any], Any]) -> Any:
    x, z = (te.placeholder((LENGTH,), "float32", name) for name in "xz")
    y = te.compute((LENGTH,), lambda i: form(x[i], z[i]), "y")
    schedule = s_tir.Schedule(te.create_prim_func([x, z, y]).with_attr("global_symbol", "main"))
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    _, lane = schedule.split(loop, [None, 8])
    schedule.vectorize(lane)
    return schedule.mod


@pytest.mark.parametrize("name", list(FORMS))
def test_nan_on_either_side_is_kept(name: str) -> None:
    form, reference = FORMS[name]
    built = tvm.tirx.build(_function(form), tvm.target.Target(_HOST), pipeline())
    for shift in range(LENGTH):
        x = np.roll(np.resize(np.array([np.nan, np.inf, -np.inf, 1, -1, 9], np.float32), LENGTH), shift)
        z = np.resize(np.array([0, 2, np.nan, -np.inf, np.inf, np.nan, np.nan], np.float32), LENGTH)
        result = tvm.runtime.tensor(np.zeros(LENGTH, np.float32))
        built["main"](tvm.runtime.tensor(x), tvm.runtime.tensor(z), result)
        np.testing.assert_array_equal(result.numpy(), reference(x, z))


@pytest.mark.parametrize(
    ("target", "intrinsic"),
    [("aarch64", True), ("armv7", True), ("riscv64", True), ("armv6", False), ("x86_64", False)],
)
def test_a_target_with_an_instruction_that_keeps_nan_takes_it(target: str, intrinsic: bool) -> None:
    code = load_targets(HOME / "toolchains")[target].code
    built = tvm.tirx.build(_function(tirx.max), lowering.tvm_target(code), pipeline())
    assert ("llvm.maximum" in built.inspect_source("ll")) == intrinsic
