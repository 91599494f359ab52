"""What boards say of themselves, and whether they slowed down."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.boards.facts import Facts, Heat, slowed_down
from crossfarm.errors import BoardError

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
    assert facts.heat == Heat(
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
        (Heat(), Heat(), None),
        (Heat(throttled=0x50000), Heat(throttled=0x50000), None),
        (Heat(throttled=0), Heat(throttled=0x40004, temperature=82.0), "throttled at 82 °C"),
        (Heat(throttled=0), Heat(throttled=0x20000), "frequency capped"),
        (Heat(throttle_count=3), Heat(throttle_count=5), "slowed down for heat 2 times"),
        (
            Heat(),
            Heat(governor="performance", frequency=900_000, highest_frequency=1_200_000),
            "900 MHz instead of 1200",
        ),
        (Heat(), Heat(governor="ondemand", frequency=600_000, highest_frequency=1_200_000), None),
        (Heat(), Heat(governor="performance", frequency=1_190_000, highest_frequency=1_200_000), None),
    ],
)
def test_slowing_down_is_seen_between_two_looks(before: Heat, after: Heat, told: str | None) -> None:
    assert slowed_down(before, after) == told
