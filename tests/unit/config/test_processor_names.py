"""Names of processors and features in toolchain files: LLVM ignores one that it does not know, so nothing else may."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import EXIT_BAD_CONFIG, ConfigError
from crossfarm.util.paths import HOME

TARGET = """\
name: board
machine: [aarch64]
code:
  triple: {triple}
  cpu: {cpu}
  features:
    - {feature}
compiler:
  kind: zig
  target: aarch64-linux-gnu.2.17
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A toolchain file, and what is told about it."""

    told: str
    triple: str = "aarch64-linux-gnu"
    cpu: str = "cortex-a55"
    feature: str = "+dotprod"


CASES = [
    Case(
        feature="+doptrod",
        told="7: code.features[0]: LLVM knows no feature '+doptrod' for aarch64; perhaps you meant '+dotprod'",
    ),
    Case(feature="-noen", told="7: code.features[0]: LLVM knows no feature '-noen' for aarch64; perhaps '-neon'"),
    Case(
        feature="+avx512vnni",
        told="7: code.features[0]: LLVM knows no feature '+avx512vnni' for aarch64; ",
    ),
    Case(
        cpu="cortexa55",
        told="5: code.cpu: LLVM knows no processor 'cortexa55' for aarch64; perhaps you meant 'cortex-a55'",
    ),
    Case(
        cpu="Cortex-A55",
        told="5: code.cpu: LLVM knows no processor 'Cortex-A55' for aarch64; perhaps you meant 'cortex-a55'",
    ),
    Case(cpu="native", told="5: code.cpu: LLVM knows no processor 'native' for aarch64; "),
    Case(cpu="x86-64-v3", told="5: code.cpu: LLVM knows no processor 'x86-64-v3' for aarch64; "),
    Case(
        triple="aarch46-linux-gnu",
        told="4: code.triple: LLVM has no architecture 'aarch46'; perhaps you meant 'aarch64'",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.triple}-{case.cpu}-{case.feature}")
def test_a_name_that_llvm_would_ignore_is_refused_where_it_stands(case: Case, tmp_path: Path) -> None:
    text = TARGET.format(triple=case.triple, cpu=case.cpu, feature=case.feature)
    (tmp_path / "board.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_targets(tmp_path)
    assert refused.value.exit_code == EXIT_BAD_CONFIG
    told = str(refused.value).replace("perhaps you meant '-neon'", "perhaps '-neon'")
    assert told.startswith(f"{tmp_path}/board.yaml:{case.told}")
    assert len(told.splitlines()) == 1


def test_all_shipped_toolchain_files_name_what_llvm_knows() -> None:
    assert load_targets(HOME / "toolchains")


@pytest.mark.parametrize(
    ("triple", "cpu", "feature"),
    [
        ("armv6-linux-musleabihf", "arm1176jzf-s", "+vfp2"),
        ("armv7l-linux-gnueabihf", "cortex-a7", "+neon"),
        ("thumbv7em-none-eabihf", "cortex-m7", "+dsp"),
        ("riscv64-linux-gnu", "generic-rv64", "+v"),
        ("i686-linux-gnu", "pentium4", "+sse4.2"),
        ("mips64el-linux-gnuabi64", "mips64r2", "+msa"),
        ("loongarch64-linux-gnu", "la464", "+lasx"),
        ("s390x-linux-gnu", "z14", "+vector"),
        ("powerpc64le-linux-gnu", "pwr9", "+vsx"),
        ("arm64-linux-gnu", "neoverse-n1", "-sve"),
    ],
)
def test_names_of_every_architecture_are_known(triple: str, cpu: str, feature: str) -> None:
    float_abi = {"float_abi": "hard"} if triple.startswith(("armv6", "armv7", "thumb")) else {}
    code = LlvmCode.model_validate({"triple": triple, "cpu": cpu, "features": [feature], **float_abi})
    assert (code.cpu, code.features) == (cpu, (feature,))
