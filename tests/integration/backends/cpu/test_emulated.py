"""The rules' code for ARM, run under qemu-user: examples of every family, in one program, agree with NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from crossfarm.spec.targets import Target
from tests.integration.backends.conftest import Road, load_target, prefix
from tests.integration.backends.cpu.examples import FLOATS, Draw, Example, draw_examples, model_of
from tests.integration.backends.cpu.integer_examples import INTEGERS

pytestmark = pytest.mark.integration

AARCH64 = load_target("aarch64")
SDOT = AARCH64.model_copy(update={"code": AARCH64.code.model_copy(update={"features": ("+dotprod",)})})
TARGETS = {
    "aarch64": (AARCH64, (*FLOATS, *INTEGERS)),
    "aarch64 with SDOT": (SDOT, INTEGERS),
    "armv7": (load_target("armv7"), (*FLOATS, *INTEGERS)),
}


@pytest.mark.parametrize(("target", "families"), list(TARGETS.values()), ids=list(TARGETS))
def test_code_for_arm_agrees_with_numpy(
    target: Target, families: Sequence[Callable[[Draw], Example]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix(target)
    examples = draw_examples(families, count=10, seed=len(target.name) + len(families))
    road = Road(target=target, name="examples", folder=tmp_path_factory.mktemp("road"))
    inputs = {name: array for example in examples.values() for name, array in example.inputs.items()}
    made = road.bundle(model_of(list(examples.values())), [inputs])
    made_of = json.loads((road.folder / "compile" / "compile.json").read_text())["costs"]
    multiplies_bytes = "+dotprod" in target.code.features
    assert any("winograd_int8" in function["name"] for function in made_of) != multiplies_bytes
    outputs = [port["name"] for port in json.loads((made / "manifest.json").read_text())["outputs"]]
    found = dict(zip(outputs, road.run(made), strict=True))
    for name, example in examples.items():
        answer = found[example.output][0]
        assert answer.shape == example.expected.shape, (name, example.words)
        if answer.dtype == np.uint8:
            assert np.array_equal(answer, example.expected), (name, example.words)
        else:
            scale = max(1.0, float(np.abs(example.expected).max()))
            assert np.abs(answer - example.expected).max() <= 2e-5 * scale, (name, example.words)
