"""What a toolchain file of the array may say, and what becomes of it."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from crossfarm.backends.dpu.array import PARALLELISM, RATE_ONE, DpuCode, array_of
from crossfarm.config.targets import Target, target_with
from crossfarm.util.paths import HOME

FILES = ("dpu_zcu104", "dpu_zcu102", "dpu_u200")


def _document(name: str) -> dict:
    return yaml.safe_load((HOME / "toolchains" / f"{name}.yaml").read_text())


def _target(document: dict) -> Target:
    return target_with(DpuCode).model_validate(document)


@pytest.mark.parametrize("name", FILES)
def test_the_toolchain_files_are_good_and_take_int8_shift_alone(name: str) -> None:
    target = _target(_document(name))
    assert target.variants == ("int8_shift",)
    assert (HOME / "toolchains" / f"{target.code.cpu}.yaml").exists()


def test_an_array_that_there_is_not_is_refused() -> None:
    document = _document("dpu_zcu104")
    document["code"]["parallelism"] = "B9999"
    with pytest.raises(ValidationError, match="'B2304', 'B3136' or 'B4096'"):
        _target(document)


def test_a_variant_that_the_array_cannot_compute_is_refused() -> None:
    with pytest.raises(ValidationError, match="its backend takes int8_shift, not float32; remove that"):
        _target({**_document("dpu_zcu104"), "variants": ["float32"]})


@pytest.mark.parametrize("name", PARALLELISM)
def test_the_number_of_a_name_is_its_operations_a_cycle(name: str) -> None:
    code = _target(_document("dpu_zcu104")).code.model_copy(update={"parallelism": name})
    assert array_of(code).operations == pytest.approx(int(name[1:]), rel=0.01)


def test_bandwidth_becomes_words_a_cycle_and_times_become_cycles() -> None:
    code = DpuCode(
        parallelism="B4096",
        megahertz=300,
        memory_gigabytes_per_second=4.8,
        layer_microseconds=2.0,
        run_microseconds=10.0,
        cpu="x86_64",
    )
    array = array_of(code)
    assert array.rate == RATE_ONE
    assert (array.layer_cycles, array.run_cycles) == (600, 3000)
    assert (array.feature_words, array.weight_lines) == (2 * 8 * 2048, 2048)
