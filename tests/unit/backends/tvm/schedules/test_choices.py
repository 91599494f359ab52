from __future__ import annotations

import dataclasses

from crossfarm.backends.tvm.schedules.choices import (
    CHOICE,
    LAYER,
    DepthwiseChoice,
    Layer,
    ProductChoice,
    as_attributes,
    depthwise_choice,
    plain,
    product_choice,
)
from crossfarm.backends.tvm.schedules.packing import choose
from crossfarm.backends.tvm.schedules.processor import Processor
from crossfarm.backends.tvm.schedules.recorded_choices import choice_for, recorded

AVX2 = Processor(lanes=(8, 4), registers=16)


def test_a_choice_comes_back_out_of_the_annotations_of_a_block() -> None:
    layer = Layer(kind="convolution", image=(1, 14, 14, 64), channels=64, kernel=(3, 3), padding=(1, 1, 1, 1))
    choice = choose(layer, AVX2)
    assert isinstance(choice, ProductChoice)
    assert product_choice(as_attributes(layer, choice)) == choice
    deep = Layer(kind="depthwise", image=(1, 14, 14, 64), channels=64, kernel=(3, 3), groups=64)
    other = choose(deep, AVX2)
    assert isinstance(other, DepthwiseChoice)
    assert depthwise_choice(as_attributes(deep, other)) == other


def test_channels_are_cut_into_parts_where_their_frame_is_large_or_threads_would_have_few() -> None:
    def parts(*, columns: int, channels: int, padding: int) -> int:
        layer = Layer(
            kind="depthwise",
            image=(1, 12, columns, channels),
            channels=channels,
            kernel=(5, 5),
            padding=(padding,) * 4,
            groups=channels,
        )
        choice = choose(layer, AVX2)
        assert isinstance(choice, DepthwiseChoice)
        return choice.parts

    assert parts(columns=14, channels=32, padding=2) == 1  # a small layer, in strips of 6 rows: 10 x 18 x 32 x 4 bytes
    assert parts(columns=14, channels=64, padding=2) == 2  # a larger one: 2 strips, and 4 of its 8 vectors in a part
    assert parts(columns=80, channels=480, padding=0) == 2  # no frame at all, but 8 strips of one row
    assert parts(columns=80, channels=480, padding=2) == 15  # 10 x 84 x 480 x 4 bytes, and 60 vectors of channels


def test_the_key_of_a_layer_names_all_that_it_computes() -> None:
    layer = Layer(kind="convolution", image=(1, 28, 30, 64), channels=128, kernel=(3, 1), groups=2, strides=(2, 1))
    choice = choose(layer, AVX2)
    assert choice is not None
    attributes = as_attributes(layer, choice)
    assert attributes[LAYER] == "convolution n1 28x30x64 to 128 k3x1 s2x1 p0x0x0x0 d1x1 g2"
    assert '"rows"' in attributes[CHOICE]


def test_operations_are_counted_as_two_for_each_multiply_and_add() -> None:
    layer = Layer(
        kind="convolution", image=(2, 9, 9, 8), channels=16, kernel=(3, 3), strides=(2, 2), padding=(1, 1, 1, 1)
    )
    assert layer.output == (5, 5)
    assert layer.flops == 2 * (2 * 5 * 5) * 16 * (3 * 3 * 8)


def test_a_record_from_before_there_were_blocks_and_patches_says_the_same_choice_in_the_same_words() -> None:
    layer = Layer(kind="convolution", image=(1, 14, 14, 64), channels=64, kernel=(3, 3), padding=(1, 1, 1, 1))
    choice = choose(layer, AVX2)
    assert isinstance(choice, ProductChoice)
    written = {name: value for name, value in dataclasses.asdict(choice).items() if name not in NEW}
    assert choice_for(layer, written, AVX2) == choice
    assert plain(choice) == written
    blocked = dataclasses.replace(choice, depth_block=16)
    assert plain(blocked) == written | {"depth_block": 16}


NEW = ("depth_block", "gathered_rows")


def test_a_record_that_would_lay_out_an_image_wrongly_is_not_used() -> None:
    layer = Layer(kind="convolution", image=(1, 14, 14, 64), channels=64, kernel=(3, 3), padding=(1, 1, 1, 1))
    choice = choose(layer, AVX2)
    assert isinstance(choice, ProductChoice)
    for change in ({"depth_block": 48}, {"gathered_rows": 4}, {"gathered_rows": 7, "depth_block": 16}):
        assert choice_for(layer, plain(choice) | change, AVX2) is None
    grouped = dataclasses.replace(layer, groups=2)
    ruled = choose(grouped, AVX2)
    assert ruled is not None
    assert choice_for(grouped, plain(ruled), AVX2) == ruled
    for change in ({"depth_block": 16}, {"gathered_rows": 7}):
        assert choice_for(grouped, plain(ruled) | change, AVX2) is None


def test_a_record_of_a_depthwise_layer_is_shared_between_threads_as_the_rule_says() -> None:
    layer = Layer(kind="depthwise", image=(1, 7, 7, 512), channels=512, kernel=(5, 5), padding=(2,) * 4, groups=512)
    known = {"strip": 7, "pixels": 7, "lanes": 8, "unroll_kernel": True, "is_shared": False}
    choice = recorded({layer.key: known})(layer, AVX2)
    assert choice == DepthwiseChoice(strip=7, pixels=7, lanes=8, unroll_kernel=True, is_shared=True, parts=16)
