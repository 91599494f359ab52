"""Lifetimes of the blocks of a program."""

from __future__ import annotations

import pytest

from crossfarm.backends.tvm.arena import Lifetime
from crossfarm.backends.tvm.program import DTYPES, Block, Call, Program, ProgramPort, TensorView, tensor_size


def _program(*, outputs: tuple[int, ...]) -> Program:
    """x -> relu -> y, y seen as (6,) -> add constant -> z."""
    return Program(
        blocks=(Block(size=24), Block(size=24), Block(size=24, content=bytes(24)), Block(size=24), Block(size=8)),
        tensors=(
            TensorView(block=0, dtype="float32", shape=(2, 3)),
            TensorView(block=1, dtype="float32", shape=(2, 3)),
            TensorView(block=1, dtype="float32", shape=(6,)),
            TensorView(block=2, dtype="float32", shape=(6,)),
            TensorView(block=3, dtype="float32", shape=(6,)),
        ),
        calls=(Call(function="relu", arguments=(0, 1)), Call(function="add", arguments=(2, 3, 4))),
        inputs=(ProgramPort(name="x", tensor=0),),
        outputs=tuple(ProgramPort(name=f"out{tensor}", tensor=tensor) for tensor in outputs),
        storage_size=48,
    )


def test_a_value_lives_from_its_writer_to_its_last_reader() -> None:
    assert _program(outputs=(4,)).lifetimes() == {
        0: Lifetime(size=24, first=-1, last=0),
        1: Lifetime(size=24, first=0, last=1),
        3: Lifetime(size=24, first=1, last=2),
    }


def test_an_output_lives_to_the_end_through_any_of_its_views() -> None:
    assert _program(outputs=(1, 4)).lifetimes()[1] == Lifetime(size=24, first=0, last=2)


def test_an_input_that_is_an_output_lives_from_start_to_end() -> None:
    assert _program(outputs=(0, 4)).lifetimes()[0] == Lifetime(size=24, first=-1, last=2)


def test_a_constant_needs_no_place_even_as_an_output() -> None:
    assert 2 not in _program(outputs=(3,)).lifetimes()


def test_functions_are_named_once_and_sorted() -> None:
    assert _program(outputs=(4,)).functions == ("add", "relu")


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_a_scalar_has_the_size_of_its_type(dtype: str) -> None:
    assert tensor_size(dtype, ()) * 8 == DTYPES[dtype][1]


def test_a_tensor_without_elements_has_no_size() -> None:
    assert tensor_size("float32", (4, 0)) == 0
