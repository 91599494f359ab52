"""Profiles: times by layer out of a runner's file, the table, the picture."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.project_files import load_project
from crossfarm.bundles.compile_report import CompileReport, FunctionCost
from crossfarm.cli.show_profile import show_profile
from crossfarm.config.cell import Cell
from crossfarm.config.targets import Target
from crossfarm.errors import ConfigError
from crossfarm.tuning.layer_times import Run, layer_times, summarised
from crossfarm.tuning.peak import processor_flags
from crossfarm.tuning.profile_table import NOT_SILICON, plot, svg, table
from crossfarm.util.paths import HOME

REPORT = CompileReport(
    identity="0" * 64,
    model="m",
    target="t",
    variant="float32",
    arena_bytes=0,
    storage_bytes=0,
    weights_bytes=0,
    functions=2,
    calls=3,
    inputs=(),
    outputs=(),
    operators={},
    unscheduled=("sort<it>",),
    costs=(
        FunctionCost(name="convolve", operations=1000, scheduled=True),
        FunctionCost(name="sort<it>", operations=0, scheduled=False),
    ),
    tools={},
)
RUN = Run(
    latency=(900, 1000, 5000),
    calls=(("convolve", (100, 110, 400)), ("sort<it>", (300, 310, 700)), ("convolve", (500, 490, 900))),
)


def profile(*, timing: str = "silicon", peak: float | None = 4e9, threads: int = 1):  # type: ignore[no-untyped-def]
    return summarised(RUN, REPORT, threads=threads, timing=timing, peak=peak)  # type: ignore[arg-type]


def test_calls_of_one_function_are_one_layer_and_the_slowest_stands_first() -> None:
    found = profile()
    assert [(layer.name, layer.calls, layer.nanoseconds) for layer in found.layers] == [
        ("convolve", 2, 600.0),
        ("sort<it>", 1, 310.0),
    ]
    assert found.latency == 1000
    assert found.layers[0].rate == pytest.approx(2000 / 600e-9)
    assert found.unscheduled_share == pytest.approx(310 / 910)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 10**9), min_size=3, max_size=3)), max_size=9))
def test_no_time_is_lost_between_calls_and_layers(calls: list[tuple[str, list[int]]]) -> None:
    run = Run(latency=(1, 1, 1), calls=tuple((name, tuple(samples)) for name, samples in calls))
    by_layer = layer_times(run)
    for number in range(3):
        assert sum(samples[number] for samples in by_layer.values()) == sum(s[number] for _, s in calls)
    assert set(by_layer) == {name for name, _ in calls}


def test_the_table_says_time_share_rate_and_peak_and_marks_what_no_rule_covered() -> None:
    lines = table("t-m-float32", profile()).splitlines()
    assert lines[1].split() == ["ms", "share", "calls", "GFLOP/s", "of", "peak", "layer"]
    assert lines[2].split() == ["0.001", "65.9%", "2", "3.3", "83%", "convolve"]
    assert lines[3].split() == ["0.000", "34.1%", "1", "sort<it>", "(unscheduled)"]
    assert lines[-1] == "no rule covered functions that take 34.1% of the time"
    assert NOT_SILICON not in lines


def test_two_threads_have_twice_the_peak() -> None:
    assert "42%" in table("t-m-float32", profile(threads=2)).splitlines()[2]


def test_emulated_times_are_marked_in_table_and_picture() -> None:
    found = profile(timing="emulated", peak=None)
    told = table("t-m-float32", found).splitlines()
    assert any(line.split()[:2] == ["ms", "(emulated)"] for line in told)
    assert any(" ms (emulated) in " in line and line.endswith(" ms (emulated)") for line in told)
    assert "emulated" not in table("t-m-float32", profile())
    assert table("t-m-float32", found).splitlines()[1] == NOT_SILICON
    assert "not measured on silicon" in svg("t-m-float32", found)


@pytest.mark.parametrize("name", ["p.svg", "p.html"])
def test_the_picture_stands_alone_and_is_well_formed(name: str, tmp_path: Path) -> None:
    plot("t-m-float32", profile(), tmp_path / name)
    text = (tmp_path / name).read_text()
    root = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])  # noqa: S314 (our own)
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 2
    assert text.replace("http://www.w3.org/2000/svg", "").count("http") == 0


@pytest.mark.parametrize("threads, picture", [(0, None), (1, Path("picture.png"))])
def test_what_cannot_be_profiled_or_drawn_is_refused_before_anything_runs(threads: int, picture: Path | None) -> None:
    with pytest.raises(ConfigError, match="give"):
        show_profile(
            Cell.parse("x-m-float32"),
            target=_target("x86_64"),
            store=Path("nowhere"),
            artifacts={},
            threads=threads,
            repeat=1,
            picture=picture,
            stream=io.StringIO(),
        )


def test_the_kernel_of_the_peak_is_compiled_for_the_target_s_processor() -> None:
    assert processor_flags(_target("x86_64")) == ("-mcpu=x86_64_v3",)
    assert processor_flags(_target("aarch64")) == ("-mcpu=cortex_a53",)
    assert processor_flags(_target("armv6")) == ()  # its flags say it
    assert processor_flags(_target("riscv64")) == ()


def _target(name: str) -> Target:
    project = load_project(
        models=HOME / "models.yaml", toolchains=HOME / "toolchains", pipeline=HOME / "pipelines/default.yaml"
    )
    return project.targets[name]
