"""The estimate against AMD's published latencies: 13 networks on a ZCU104, 8 of them on a ZCU102."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest
import yaml

from crossfarm.backends.dpu.array import DpuCode, array_of
from crossfarm.backends.dpu.latency import NETWORKS, Terms, Timed, accuracy, errors, fit
from crossfarm.backends.dpu.published import PUBLISHED
from crossfarm.backends.dpu.tiler import tile
from crossfarm.backends.dpu.timing import count
from crossfarm.util.paths import HOME

MOST_MEAN, MOST = 0.08, 0.15
ZCU104, ZCU102 = 300.0, 281.0
ON_104 = {each.name: 1000.0 / each.zcu104 for each in PUBLISHED}
ON_102 = {each.name: 1000.0 / each.zcu102 for each in PUBLISHED if each.zcu102}
HALVES = (
    ("resnet50 v1", "vgg16", "mobilenet v1 1.0 224", "mobilenet v2 1.0 224", "inception v1", "mobilenet v1 0.25 128"),
    (
        "resnet50 v1.5",
        "resnet101 v1",
        "resnet18",
        "vgg19",
        "mobilenet v1 0.5 160",
        "mobilenet v2 1.4 224",
        "resnet152 v1",
    ),
)


def _code(target: str) -> DpuCode:
    text = (HOME / "toolchains" / f"{target}.yaml").read_text()
    return DpuCode.model_validate(yaml.safe_load(text)["code"])


def _terms(code: DpuCode) -> Terms:
    return Terms(
        gigabytes_per_second=code.memory_gigabytes_per_second,
        layer_microseconds=code.layer_microseconds,
        run_microseconds=code.run_microseconds,
    )


@pytest.fixture(scope="module")
def programs() -> dict[str, Timed]:
    array = array_of(_code("dpu_zcu104"))
    return {each.name: Timed(tile(each.network(), array)) for each in PUBLISHED}


def _hold(found: Mapping[str, float]) -> None:
    words = ", ".join(f"{name} {error:+.1%}" for name, error in found.items())
    assert sum(map(abs, found.values())) / len(found) <= MOST_MEAN, words
    assert max(map(abs, found.values())) <= MOST, words


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_the_layers_have_as_many_operations_as_amd_says(published) -> None:
    operations = 2 * published.network().total_macs() / 1e9
    decimals = len(published.gop.partition(".")[2])
    step = 0.5 * 10.0**-decimals
    label = float(published.gop)
    assert abs(operations - label) <= max(0.01 * label, step), f"{operations:.4f} of {label}"


def test_the_estimate_of_the_toolchain_file_meets_thirteen_networks(programs: dict[str, Timed]) -> None:
    assert len(ON_104) == NETWORKS == _code("dpu_zcu104").held_against
    _hold(errors(programs, ON_104, _terms(_code("dpu_zcu104")), megahertz=ZCU104))


@pytest.mark.parametrize("seen, unseen", [HALVES, HALVES[::-1]], ids=["first half", "second half"])
def test_a_fit_to_one_half_meets_the_other(
    programs: dict[str, Timed], seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    assert {*seen, *unseen} == set(ON_104)
    terms = fit(programs, {name: ON_104[name] for name in seen}, megahertz=ZCU104)
    _hold(errors(programs, {name: ON_104[name] for name in unseen}, terms, megahertz=ZCU104))


def test_the_terms_of_the_zcu104_meet_eight_networks_of_the_zcu102_unchanged(programs: dict[str, Timed]) -> None:
    assert _terms(_code("dpu_zcu102")) == _terms(_code("dpu_zcu104"))
    assert len(ON_102) == _code("dpu_zcu102").held_against == 8
    _hold(errors(programs, ON_102, _terms(_code("dpu_zcu102")), megahertz=ZCU102))


def test_the_terms_of_the_toolchain_file_are_those_of_the_fit(programs: dict[str, Timed]) -> None:
    best = fit(programs, ON_104, megahertz=ZCU104)
    code = _code("dpu_zcu104")
    assert code.memory_gigabytes_per_second == pytest.approx(best.gigabytes_per_second, abs=0.3)
    assert code.layer_microseconds == pytest.approx(best.layer_microseconds, abs=1.0)
    assert code.run_microseconds == pytest.approx(best.run_microseconds, abs=10.0)


def test_changed_terms_give_what_tiling_again_gives() -> None:
    code = _code("dpu_zcu104")
    changed = code.model_copy(update={"memory_gigabytes_per_second": 4.0})
    network = next(each for each in PUBLISHED if each.name == "mobilenet v1 0.25 128").network()
    timed = Timed(tile(network, array_of(code))).milliseconds(_terms(changed), megahertz=300.0)
    again = count(tile(network, array_of(changed)).commands).cycles / 300.0 / 1000.0
    assert timed == pytest.approx(again, rel=1e-3)


def test_resnet50_is_estimated_in_less_than_a_second_of_processor_time() -> None:
    array = array_of(_code("dpu_zcu104"))
    started = time.process_time()
    count(tile(PUBLISHED[0].network(), array).commands)
    assert time.process_time() - started < 1.0


def test_a_report_says_how_far_an_estimate_may_be_off_or_that_nobody_knows() -> None:
    assert accuracy(13) == "within 15 % of published figures for 13 networks"
    assert "no published figure" in accuracy(_code("dpu_u200").held_against)
