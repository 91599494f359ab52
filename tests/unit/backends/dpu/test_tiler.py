"""Command lists: what is loaded once and what as tiles, how much, and what is refused."""

from __future__ import annotations

import itertools

import pytest

from crossfarm.backends.dpu.array import RATE_ONE, Array
from crossfarm.backends.dpu.commands import Op, read_commands
from crossfarm.backends.dpu.layers import Layer, Network, Tensor
from crossfarm.backends.dpu.tiler import tile
from crossfarm.errors import BundleError, UnfitError


def _array(feature_words: int = 4096, *, layer_cycles: int = 0) -> Array:
    return Array(
        pixels=8,
        channels=16,
        alu_pixels=4,
        feature_words=feature_words,
        weight_words=2 * (64 * 16 + 1024),
        weight_lines=64,
        rate=RATE_ONE,
        layer_cycles=layer_cycles,
        run_cycles=0,
    )


def _chain(count: int = 2, *, channels: int = 32, extent: int = 16) -> Network:
    names = ["x", *(f"t{number}" for number in range(count))]
    layers = tuple(
        Layer(name=f"l{number}", kind="conv", inputs=(one,), output=other, kernel=(3, 3), padding=(1, 1))
        for number, (one, other) in enumerate(itertools.pairwise(names))
    )
    tensor = Tensor(channels=channels, height=extent, width=extent)
    return Network(tensors=dict.fromkeys(names, tensor), layers=layers, inputs=("x",), outputs=(names[-1],))


def _words(network: Network, array: Array, op: Op) -> int:
    return sum(command.words for command in tile(network, array).commands if command.op == op)


def test_what_fits_into_the_banks_is_loaded_once_and_saved_once() -> None:
    assert _words(_chain(4), _array(), Op.LOAD) == 16 * 16 * 2
    assert _words(_chain(4), _array(), Op.SAVE) == 16 * 16 * 2


def test_what_does_not_fit_goes_through_memory_as_tiles_with_the_rows_that_two_share() -> None:
    network, array = _chain(1), _array(700)
    program = tile(network, array)
    convolutions = [command for command in program.commands if command.op == Op.CONV]
    assert len({command.out_rows for command in convolutions}) >= 1
    assert sum(command.out_rows for command in convolutions) == 2 * 16, "each row once for each group"
    assert _words(network, array, Op.SAVE) == 16 * 16 * 2
    assert _words(network, array, Op.LOAD) > 16 * 16 * 2, "rows around a tile are loaded with it"
    for command in program.commands:
        assert command.in_address + command.in_rows * command.in_width * command.in_words <= 700


def test_every_address_lies_in_the_banks_and_every_wait_is_for_a_command_before() -> None:
    for words in (400, 700, 1100, 4096):
        program = tile(_chain(3), _array(words))
        issued = {True: 0, False: 0}
        for command in program.commands:
            assert command.wait <= issued[not command.is_memory]
            issued[command.is_memory] += 1
            if command.op in (Op.LOAD, Op.SAVE):
                assert command.bank + command.words <= words
                assert command.memory + command.words <= program.memory_words


def test_weights_of_a_layer_are_loaded_again_only_where_the_banks_do_not_hold_all_of_them() -> None:
    assert _words(_chain(1), _array(700), Op.WEIGHTS) == 2 * (3 * 3 * 2 * 16 + 4), "two groups, whatever the tiles"
    wide, all_groups = _chain(1, channels=128, extent=4), 8 * (3 * 3 * 8 * 16 + 4)
    assert _words(wide, _array(), Op.WEIGHTS) == all_groups
    assert _words(wide, _array(150), Op.WEIGHTS) > all_groups, "the banks hold three of eight groups"


def test_an_input_of_few_channels_is_laid_out_by_the_rows_of_the_kernel() -> None:
    tensors = {"x": Tensor(channels=3, height=9, width=9), "y": Tensor(channels=16, height=5, width=5)}
    layer = Layer(name="l", kind="conv", inputs=("x",), output="y", kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    program = tile(Network(tensors=tensors, layers=(layer,), inputs=("x",), outputs=("y",)), _array())
    (convolution,) = [command for command in program.commands if command.op == Op.CONV]
    assert (convolution.kernel_y, convolution.kernel_x, convolution.in_words, convolution.stride_x) == (3, 1, 1, 1)
    (port,) = program.inputs
    assert port.packing is not None
    assert (port.packing.kernel, port.packing.stride, port.packing.left, port.width) == (3, 2, 1, 5)


def test_a_row_that_no_bank_holds_twice_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        UnfitError, match=r"layer l0: a tile of one row needs 128 words .*\(32 for the result and 96 .* which hold 100"
    ):
        tile(_chain(1), _array(100))


def test_a_layer_begins_when_the_one_before_has_ended_and_sums_take_no_time_beside_the_arrays() -> None:
    program = tile(_chain(3), _array(layer_cycles=50))
    assert [command.cycles for command in program.commands if command.op == Op.LAYER] == [50, 50, 50]


def test_a_file_gives_the_commands_again_and_a_damaged_one_is_refused() -> None:
    program = tile(_chain(2), _array())
    content = program.to_bytes()
    assert list(read_commands(content)) == [command.numbers() for command in program.commands]
    for at in (0, 20, len(content) - 1):
        damaged = bytearray(content)
        damaged[at] ^= 4
        with pytest.raises(BundleError, match="damaged"):
            read_commands(bytes(damaged))
    with pytest.raises(BundleError, match="damaged"):
        read_commands(content[:-4])
