from __future__ import annotations

import pytest
import yaml

from crossfarm.backends.tvm.lowering import tvm_target
from crossfarm.backends.tvm.schedules.processor import Processor, processor_of
from crossfarm.config.llvm import LlvmCode
from crossfarm.config.targets import target_with
from crossfarm.util.paths import HOME

TOOLCHAINS = HOME / "toolchains"


@pytest.mark.parametrize(
    ("name", "lanes", "registers"),
    [
        ("x86_64", (8, 4), 16),
        ("aarch64", (4,), 26),
        ("armv7", (4,), 13),
        ("armv6", (1,), 16),
        ("riscv64", (1,), 32),
    ],
)
def test_every_toolchain_has_the_vectors_of_its_processor(name: str, lanes: tuple[int, ...], registers: int) -> None:
    target = target_with(LlvmCode).model_validate(yaml.safe_load((TOOLCHAINS / f"{name}.yaml").read_text()))
    processor = processor_of(tvm_target(target.code))
    assert (processor.lanes, processor.registers) == (lanes, registers)


@pytest.mark.parametrize(
    ("cpu", "lanes", "registers"),
    [("x86-64-v4", (16, 8, 4), 32), ("znver4", (16, 8, 4), 32), ("x86-64-v2", (4,), 16), ("haswell", (8, 4), 16)],
)
def test_features_follow_from_the_name_of_the_cpu(cpu: str, lanes: tuple[int, ...], registers: int) -> None:
    code = LlvmCode(triple="x86_64-linux-gnu", cpu=cpu)
    assert processor_of(tvm_target(code)) == Processor(lanes=lanes, registers=registers)


def test_a_feature_that_is_switched_off_is_not_used() -> None:
    code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v4", features=("-avx512f",))
    assert processor_of(tvm_target(code)).widest == 8
