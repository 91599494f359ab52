"""What boards say of themselves, and whether they slowed down."""

from __future__ import annotations

import dataclasses
import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.boards.transports.facts import Facts, ThermalState, slowed_down
from crossfarm.boards.transports.fit import problems_of
from crossfarm.config.boards import Board
from crossfarm.errors import BoardError
from crossfarm.util.text import clean

BOARD = Board(name="here", transport="local", targets=("x86_64",))

RASPBERRY = """\
strays 2
kernel 6.1.21-v7+
machine armv7l
model Raspberry Pi 3 Model B Rev 1.2
cpuinfo model name\t: ARMv7 Processor rev 4 (v7l)
cpuinfo Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32
libc glibc 2.36
loader /lib/ld-linux-armhf.so.3
load 0.42
processors 0-3
free_kib 123456
temperature 48312
temperature 51000
governor ondemand
frequency 600000
highest_frequency 1200000
throttled throttled=0x50000
"""


def test_a_board_is_read_from_what_it_says() -> None:
    facts = Facts.parse(RASPBERRY)
    assert facts.platform == "armv7l Raspberry Pi 3 Model B Rev 1.2"
    assert facts.features is not None and {"neon", "vfpv4"} <= facts.features
    assert (facts.glibc, facts.load, facts.processors, facts.free_kib, facts.strays) == ((2, 36), 0.42, 4, 123456, 2)
    assert facts.thermal == ThermalState(
        temperature=51.0, governor="ondemand", frequency=600000, highest_frequency=1200000, throttled=0x50000
    )
    state = facts.state()
    assert (state.cpu_model, state.governor, state.temperature) == ("ARMv7 Processor rev 4 (v7l)", "ondemand", 51.0)


def _vector(word: str, pairs: dict[int, int]) -> str:
    return " ".join(f"{byte:02x}" for pair in [*pairs.items(), (0, 0)] for byte in struct.pack(f"<2{word}", *pair))


@pytest.mark.parametrize(
    ("machine", "vector", "features"),
    [
        ("armv7l", _vector("I", {3: 9, 16: 1 << 12 | 1 << 16}), {"neon", "vfpv4"}),
        ("armv6l", _vector("I", {16: 1 << 6}), {"vfp"}),
        ("aarch64", _vector("Q", {16: 0b11 | 1 << 8, 26: 1 << 13}), {"fp", "asimd", "atomics", "i8mm"}),
        ("riscv64", _vector("Q", {16: 1 << 0 | 1 << 12 | 1 << 21}), {"a", "m", "v"}),
    ],
)
def test_features_come_from_the_kernels_vector_where_cpuinfo_has_none(
    machine: str, vector: str, features: set[str]
) -> None:
    assert Facts.parse(f"machine {machine}\nfree_kib 1\nauxv {vector}\n").features == features


def test_a_virtual_board_declares_its_processor() -> None:
    facts = Facts.parse("machine armv7l\nfree_kib 1\nprocessor arm1176\nfeatures half vfp\nemulator qemu-arm 7.2\n")
    assert (facts.features, facts.processor, facts.emulator) == ({"half", "vfp"}, "arm1176", "qemu-arm 7.2")


def test_what_is_no_linux_board_is_told() -> None:
    with pytest.raises(BoardError, match=r"not with what a Linux board says \('% Unknown command'\)"):
        Facts.parse("% Unknown command\n")


@given(st.text(max_size=300))
def test_nothing_that_a_board_says_breaks_the_reader(text: str) -> None:
    facts = Facts.parse(f"machine x\nfree_kib 7\n{text}")
    assert facts.machine == "x"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (ThermalState(), ThermalState(), None),
        (ThermalState(throttled=0x50000), ThermalState(throttled=0x50000), None),
        (ThermalState(throttled=0), ThermalState(throttled=0x40004, temperature=82.0), "throttled at 82 °C"),
        (ThermalState(throttled=0), ThermalState(throttled=0x20000), "frequency capped"),
        (ThermalState(throttle_count=3), ThermalState(throttle_count=5), "slowed down for heat 2 times"),
        (
            ThermalState(),
            ThermalState(governor="performance", frequency=900_000, highest_frequency=1_200_000),
            "900 MHz instead of 1200",
        ),
        (ThermalState(), ThermalState(governor="ondemand", frequency=600_000, highest_frequency=1_200_000), None),
        (ThermalState(), ThermalState(governor="performance", frequency=1_190_000, highest_frequency=1_200_000), None),
    ],
)
def test_slowing_down_is_seen_between_two_looks(before: ThermalState, after: ThermalState, told: str | None) -> None:
    assert slowed_down(before, after) == told


FACTS = ("machine", "kernel", "model", "cpuinfo", "processor", "emulator", "features", "auxv", "libc", "loader", "load")
HEAT = ("temperature", "governor", "frequency", "highest_frequency", "throttle_count", "throttled")
NUMBERS = ["nan", "inf", "1e999", "0x" + "f" * 400, "-0", "1_000", "\uff11", "0-99999999999999999999", "5-3", "1e308"]
WORDS = [
    "glibc 2." + "9" * 400,
    "model name: " + "x" * 70_000,
    "Features\t: " + "a " * 50_000,
    "isa: rv64" + "i" * 999,
    "throttled=0x" + "5" * 99,
    "throttled=",
    "\x1b[2J",
    "\ud800",
    "\0",
]
_values = (
    st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", errors="replace"))
    | st.integers().map(str)
    | st.integers(250, 5000).map(lambda digits: "9" * digits)
    | st.sampled_from([*NUMBERS, *WORDS])
)
_answers = st.lists(
    st.tuples(st.sampled_from([*FACTS, *HEAT, "free_kib", "processors", "strays", "virt"]), _values)
    .map(" ".join)
    .flatmap(lambda line: st.sampled_from([line, line + "\r", line.replace(" ", "\t", 1)])),
    max_size=30,
).map("\n".join)


@given(st.binary(max_size=2000).map(lambda raw: raw.decode("utf-8", errors="replace")) | _answers)
def test_whatever_a_board_answers_is_facts_or_an_error_of_the_board(text: str) -> None:
    for answer in (text, f"machine x86_64\nfree_kib 7\n{text}"):
        try:
            facts = Facts.parse(answer)
        except BoardError as error:
            assert "\x1b" not in str(error)
            continue
        later = ThermalState.parse(text)
        slowed_down(facts.thermal, later)
        slowed_down(later, facts.thermal)
        list(problems_of(BOARD, facts))
        state = facts.state(later)
        numbers = (facts.load, state.temperature, later.temperature)
        assert all(number is None or math.isfinite(number) for number in numbers)
        assert all(len(word) <= 200 and word == clean(word) for word in (state.kernel, state.cpu_model or ""))
        json.dumps(dataclasses.asdict(state), allow_nan=False)


@pytest.mark.parametrize("degrees", ["9" * 300, "-" + "9" * 300, "99999999", "-274000", "0x" + "f" * 300, "nan", ""])
def test_a_temperature_that_no_sensor_can_show_is_taken_as_not_said(degrees: str) -> None:
    facts = Facts.parse(f"machine x\nfree_kib 7\ntemperature {degrees}\ntemperature 41500\n")
    assert facts.thermal.temperature == 41.5
    assert ThermalState.parse(f"temperature {degrees}\n").temperature is None


@pytest.mark.parametrize("machine", ["", "x y", "x" * 65, "\x1b[2J", "$(reboot)", "a/b"])
def test_a_machine_that_no_kernel_names_so_is_no_linux_board(machine: str) -> None:
    with pytest.raises(BoardError, match="not with what a Linux board says"):
        Facts.parse(f"machine {machine}\nfree_kib 7\n")
