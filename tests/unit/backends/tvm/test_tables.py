"""What is written for the runner."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.backends.tvm.program import Block, Call, Program, ProgramPort, TensorView
from crossfarm.backends.tvm.tables import lay_out, tables_source, weights_header, write_weights

IDENTITY = "0123456789abcdef" * 4


@pytest.fixture(name="program")
def _program() -> Program:
    return Program(
        blocks=(
            Block(size=24),
            Block(size=100, content=bytes(range(100))),
            Block(size=8),
            Block(size=4, content=b"abcd"),
            Block(size=4, content=b"dead"),
        ),
        tensors=(
            TensorView(block=0, dtype="float32", shape=(2, 3)),
            TensorView(block=1, dtype="uint8", shape=(100,)),
            TensorView(block=2, dtype="int64", shape=()),
            TensorView(block=3, dtype="float32", shape=()),
            TensorView(block=4, dtype="float32", shape=()),
        ),
        calls=(Call(function="count", arguments=(0, 1, 2)),),
        inputs=(ProgramPort(name="x", tensor=0),),
        outputs=(
            ProgramPort(name="n", tensor=2),
            ProgramPort(name="same", tensor=2),
            ProgramPort(name="constant", tensor=3),
        ),
        storage_size=8,
    )


def test_constants_lie_behind_each_other_at_multiples_of_64(program: Program) -> None:
    layout = lay_out(program)
    assert (layout.offsets[1], layout.offsets[3], layout.weights_size) == (0, 128, 192)


def test_a_constant_that_nothing_uses_is_left_out(program: Program) -> None:
    assert 4 not in lay_out(program).offsets


def test_the_weights_file_is_header_and_constants(program: Program, tmp_path: Path) -> None:
    write_weights(tmp_path / "weights.bin", program, lay_out(program), identity=IDENTITY)
    content = (tmp_path / "weights.bin").read_bytes()
    assert content[:8] == b"CFWEIGHT"
    assert struct.unpack("<IIQ", content[8:24]) == (1, 0, 192)
    assert content[24:56].hex() == IDENTITY
    assert content[56:64] == bytes(8)
    assert content[64:164] == bytes(range(100))
    assert content[64 + 128 : 64 + 132] == b"abcd"
    assert len(content) == 64 + 192


def test_the_header_is_64_bytes() -> None:
    assert len(weights_header(size=2**40, identity=IDENTITY)) == 64


def test_the_tables_say_what_the_program_says(program: Program) -> None:
    source = tables_source(program, lay_out(program), model="m", target="t", identity=IDENTITY)
    assert "{shape_2_3, 0u, 24u, 2, CROSSFARM_PLACE_ARENA, 2, 32}" in source
    assert "{shape_100, 0u, 100u, 1, CROSSFARM_PLACE_WEIGHTS, 1, 8}" in source
    assert "{NULL, 64u, 8u, 0, CROSSFARM_PLACE_ARENA, 0, 64}" in source
    assert "{NULL, 128u, 4u, 0, CROSSFARM_PLACE_WEIGHTS, 2, 32}" in source
    assert '{__tvm_ffi_count, "count", 0u, 3u}' in source
    assert '{"n", 2u},\n  {"same", 2u},\n  {"constant", 3u}' in source
    assert f'.identity = "{IDENTITY}"' in source
    assert ".tensor_count = 4u" in source


def test_a_program_without_calls_has_no_empty_arrays(program: Program) -> None:
    """C knows no array without elements."""
    straight = Program(
        blocks=program.blocks[:1],
        tensors=program.tensors[:1],
        calls=(),
        inputs=(ProgramPort(name="x", tensor=0),),
        outputs=(ProgramPort(name="y", tensor=0),),
        storage_size=0,
    )
    source = tables_source(straight, lay_out(straight), model="m", target="t", identity=IDENTITY)
    assert ".calls = NULL" in source
    assert ".arguments = NULL" in source
    assert not re.search(r"\{\s*\};", source)


@given(st.text(min_size=1))
def test_any_name_becomes_a_c_string_that_says_the_same(name: str) -> None:
    try:
        expected = name.encode()
    except UnicodeEncodeError:
        return
    program = Program(
        blocks=(Block(size=4),),
        tensors=(TensorView(block=0, dtype="float32", shape=()),),
        calls=(),
        inputs=(ProgramPort(name=name, tensor=0),),
        outputs=(),
        storage_size=0,
    )
    source = tables_source(program, lay_out(program), model="m", target="t", identity=IDENTITY)
    found = re.search(r'inputs\[\] = \{\n  \{"(.*)", 0u\},', source)
    assert found is not None
    literal = found.group(1)
    assert re.fullmatch(r"(?:[^\\\"?]|\\[0-7]{3})*", literal)
    assert re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match.group(1), 8)]), literal.encode()) == expected
