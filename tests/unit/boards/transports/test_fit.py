"""Whether programs fit boards."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from crossfarm.boards.transports.facts import Facts
from crossfarm.boards.transports.fit import ElfProgram, check_fit, misfits, read_program
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import BundleError

CODE = LlvmCode(triple="armv7l-linux-gnueabihf", cpu="cortex-a53", features=("+neon", "+vfp4"), float_abi="hard")
PROGRAM = ElfProgram(
    machine="EM_ARM",
    float_abi="hard",
    interpreter="/lib/ld-linux-armhf.so.3",
    glibc=(2, 17),
    arm_version=7,
    has_neon=True,
)
BOARD = Facts.parse(
    "machine armv7l\nfree_kib 1\nlibc glibc 2.36\nloader /lib/ld-linux-armhf.so.3\n"
    "cpuinfo Features: half thumb vfp neon vfpv3 vfpv4\n"
)


def test_a_program_fits_the_board_it_was_made_for() -> None:
    assert list(misfits(PROGRAM, BOARD, CODE)) == []
    check_fit(PROGRAM, BOARD, CODE, board="pi", target="armv7")


def test_a_board_without_neon_is_told_clearly() -> None:
    without = dataclasses.replace(BOARD, features=frozenset({"half", "thumb", "vfp"}))
    with pytest.raises(BundleError) as told:
        check_fit(PROGRAM, without, CODE, board="pi", target="armv7")
    assert str(told.value) == (
        "code for armv7 does not run on board pi: needs NEON, VFPV4, the board's CPU has none. Nothing was sent; take "
        "armv7 out of the board's targets, or change toolchains/armv7.yaml"
    )


@pytest.mark.parametrize(
    ("program", "board", "told"),
    [
        ({"machine": "EM_AARCH64"}, {}, "needs aarch64, the board is armv7l"),
        ({}, {"machine": "x86_64"}, "needs arm, the board is x86_64"),
        ({}, {"machine": "armv6l"}, "needs ARMv7, the board is armv6l"),
        ({}, {"glibc": (2, 13)}, "needs glibc 2.17, the board has 2.13"),
        ({"glibc": (2, 9)}, {"glibc": (2, 13)}, None),
        ({}, {"loaders": ("/lib/ld-linux.so.3",)}, "needs the hard-float ABI, the board has the soft-float one"),
        ({"float_abi": None}, {"loaders": ("/lib/ld-musl-armhf.so.1",)}, "needs the loader /lib/ld-linux-armhf.so.3, "),
        ({"interpreter": None, "glibc": None}, {"loaders": (), "glibc": None}, None),
        ({}, {"features": None}, None),
        ({}, {"machine": "aarch64", "features": frozenset({"asimd"})}, None),
    ],
)
def test_each_thing_in_the_way_is_named(program: dict[str, object], board: dict[str, object], told: str | None) -> None:
    found = list(misfits(dataclasses.replace(PROGRAM, **program), dataclasses.replace(BOARD, **board), CODE))  # type: ignore[arg-type]
    if told is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith(told)


def test_a_level_of_x86_brings_its_features() -> None:
    program = dataclasses.replace(PROGRAM, machine="EM_X86_64", interpreter=None, has_neon=False, arm_version=None)
    board = dataclasses.replace(BOARD, machine="x86_64", features=frozenset({"sse4_2"}))
    code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v3")
    assert "AVX2, " in next(misfits(program, board, code))


def test_a_processor_brings_its_features_and_a_minus_takes_one_away() -> None:
    program = dataclasses.replace(PROGRAM, machine="EM_AARCH64", interpreter=None, has_neon=False, arm_version=None)
    board = dataclasses.replace(BOARD, machine="aarch64", features=frozenset({"asimd"}))
    plain = LlvmCode(triple="aarch64-linux-gnu", cpu="cortex-a53")
    assert list(misfits(program, board, plain)) == ["needs CRC32, the board's CPU has none"]
    less = LlvmCode(triple="aarch64-linux-gnu", cpu="cortex-a53", features=("-crc", "+dotprod"))
    assert list(misfits(program, board, less)) == ["needs ASIMDDP, the board's CPU has none"]


def test_what_a_program_needs_stands_in_its_file(tmp_path: Path) -> None:
    program = read_program(Path(sys.executable).resolve())
    assert program.machine.startswith("EM_") and program.interpreter is not None
    assert program.glibc is None or program.glibc > (2, 0)
    (tmp_path / "program").write_text("#!/bin/sh\n")
    with pytest.raises(BundleError, match="program is no program for Linux"):
        read_program(tmp_path / "program")
