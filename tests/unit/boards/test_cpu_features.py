from __future__ import annotations

import pytest

from crossfarm.boards.cpu_features import cpu_flags, explained, lacking
from crossfarm.boards.transports import local
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import BoardError

HASWELL = frozenset(
    "abm avx avx2 bmi1 bmi2 cx16 f16c fma lahf_lm movbe popcnt sse4_1 sse4_2 ssse3 xsave".split()  # noqa: SIM905
)


def code(cpu: str, *features: str) -> LlvmCode:
    return LlvmCode(triple="x86_64-linux-gnu", cpu=cpu, features=features)


def test_a_cpu_with_avx2_lacks_nothing_of_the_third_level_and_avx512_of_the_fourth() -> None:
    assert lacking(code("x86-64-v3"), HASWELL) == ()
    missing = lacking(code("x86-64-v4", "+avx512vnni"), HASWELL)
    assert "avx512f" in missing and "avx512_vnni" in missing
    assert explained(missing) == "AVX-512"


def test_a_feature_that_is_switched_off_is_not_asked_for_and_one_that_is_switched_on_is() -> None:
    assert lacking(code("x86-64-v3", "-fma"), HASWELL - {"fma"}) == ()
    assert lacking(code("x86-64", "+avx512vnni"), HASWELL) == ("avx512_vnni",)
    arm = LlvmCode(triple="aarch64-linux-gnu", cpu="cortex-a76", features=("+dotprod",))
    assert lacking(arm, {"asimd"}) == ("asimddp",)
    assert lacking(arm, {"asimd", "asimddp"}) == ()


def test_what_is_not_known_is_not_missing() -> None:
    assert lacking(code("x86-64-v4"), frozenset()) == ()
    assert lacking(code("znver4"), HASWELL) == ()


@pytest.mark.parametrize("line", ["flags\t\t: fma avx2", "Features : fma avx2"])
def test_flags_are_read_as_x86_and_arm_tell_them(line: str) -> None:
    assert cpu_flags(f"processor : 0\n{line}\n\nprocessor : 1\nflags : none\n") == {"fma", "avx2"}


def test_code_for_instructions_that_this_cpu_has_not_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_cpuinfo", lambda: "model name : Old One\nflags : " + " ".join(HASWELL) + "\n")
    monkeypatch.setattr(local.platform, "machine", lambda: "x86_64")
    local.execution_mode(machines=("x86_64",), emulator=None, code=code("x86-64-v3"))
    with pytest.raises(BoardError, match=r"needs AVX-512, which this CPU .* has not"):
        local.execution_mode(machines=("x86_64",), emulator=None, code=code("x86-64-v4"))
