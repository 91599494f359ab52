"""From raw images and audio to the numbers that a model takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crossfarm.config.models import Framing, Preprocess, Resize
from crossfarm.errors import ConfigError
from crossfarm.stages.data.preprocessing import (
    boxes_in_input,
    centre_crop,
    frame_audio,
    image_tensor,
    normalise,
    to_input,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _image(width: int, height: int, colour: tuple[int, int, int] = RED) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_channels_come_in_the_declared_order() -> None:
    rgb = image_tensor(_image(2, 1), Preprocess())
    bgr = image_tensor(_image(2, 1), Preprocess(channels="BGR"))
    grey = image_tensor(_image(2, 1), Preprocess(channels="GRAY"))
    assert rgb.shape == bgr.shape == (3, 1, 2)
    assert rgb[:, 0, 0].tolist() == [255, 0, 0]
    assert bgr[:, 0, 0].tolist() == [0, 0, 255]
    assert grey.shape == (1, 1, 2)
    assert grey[0, 0, 0] == 76


def test_the_layout_puts_channels_first_or_last() -> None:
    assert image_tensor(_image(5, 4), Preprocess(layout="NHWC")).shape == (4, 5, 3)
    assert image_tensor(_image(5, 4), Preprocess(layout="NCHW")).shape == (3, 4, 5)


def test_mean_and_scale_are_in_the_order_of_the_declared_channels() -> None:
    steps = Preprocess(channels="BGR", mean=(1.0, 2.0, 3.0), scale=(1.0, 10.0, 100.0))
    assert image_tensor(_image(1, 1), steps)[:, 0, 0].tolist() == [-1.0, -20.0, 25200.0]


def test_the_shorter_side_is_resized_and_the_aspect_kept() -> None:
    steps = Preprocess(resize=Resize(shorter_side=10))
    assert image_tensor(_image(40, 20), steps).shape == (3, 10, 20)
    assert image_tensor(_image(20, 50), steps).shape == (3, 25, 10)


def test_a_size_does_not_keep_the_aspect() -> None:
    assert image_tensor(_image(40, 20), Preprocess(resize=Resize(size=(7, 9)))).shape == (3, 7, 9)


def test_fit_pads_a_short_line_on_the_right_with_the_raw_value() -> None:
    steps = Preprocess(resize=Resize(fit=(10, 30), pad_value=127.5), mean=127.5)
    tensor = image_tensor(_image(40, 20, (255, 255, 255)), steps)
    assert tensor.shape == (3, 10, 30)
    assert np.all(tensor[:, :, :20] == 127.5)
    assert np.all(tensor[:, :, 20:] == 0)


def test_fit_cuts_a_long_line_on_the_right() -> None:
    image = _image(100, 10)
    image.paste(BLUE, (50, 0, 100, 10))
    tensor = image_tensor(image, Preprocess(resize=Resize(fit=(10, 40))))
    assert tensor.shape == (3, 10, 40)
    assert np.all(tensor[2] == 0)


def test_the_middle_is_cropped() -> None:
    pixels = np.arange(5 * 4, dtype=np.float32).reshape(5, 4, 1)
    assert centre_crop(pixels, height=3, width=2)[:, :, 0].tolist() == [[5, 6], [9, 10], [13, 14]]


def test_a_crop_larger_than_the_image_says_both_sizes() -> None:
    with pytest.raises(ConfigError, match=r"crop \[8, 8\] is larger than the image, which has 4 x 5 pixels"):
        image_tensor(_image(5, 4), Preprocess(crop=(8, 8)))


def test_a_mean_for_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"preprocess.mean has 2 numbers, but the data has 3 channels"):
        normalise(np.zeros((1, 1, 3), np.float32), mean=(1.0, 2.0), scale=1.0)


def test_the_exif_tag_turns_an_image_upright() -> None:
    image = _image(4, 2)
    image.getexif()[0x0112] = 6
    assert image_tensor(image, Preprocess()).shape == (3, 4, 2)


def test_palettes_and_transparency_become_plain_colours() -> None:
    for mode in ("P", "RGBA", "LA", "1", "I;16", "CMYK"):
        tensor = image_tensor(Image.new(mode, (3, 2)), Preprocess())
        assert tensor.shape == (3, 2, 3)
        assert tensor.dtype == np.float32


@given(st.integers(1, 40), st.integers(0, 20), st.integers(0, 200))
def test_frames_laid_side_by_side_are_the_audio(size: int, context: int, count: int) -> None:
    samples = np.arange(1, count + 1, dtype=np.float32)
    frames = frame_audio(samples, Framing(size=size, context=context))
    assert frames.shape == (count // size, context + size)
    assert np.array_equal(frames[:, context:].reshape(-1), samples[: count // size * size])
    for number, frame in enumerate(frames):
        before = samples[max(0, number * size - context) : number * size]
        expected = np.concatenate([np.zeros(context - len(before), np.float32), before])
        assert np.array_equal(frame[:context], expected)


def test_the_batch_is_added_and_floats_stay_as_they_are() -> None:
    values = np.array([[[0.25]]], np.float32)
    tensor = to_input(values, shape=(1, 1, 1, 1), dtype="float32", where="model m")
    assert tensor.shape == (1, 1, 1, 1)
    assert tensor[0, 0, 0, 0] == np.float32(0.25)


def test_integer_inputs_are_rounded_and_saturated() -> None:
    values = np.array([-300.0, -0.6, 0.4, 127.5, 300.0], np.float32)
    assert to_input(values, shape=(1, 5), dtype="int8", where="").tolist() == [[-128, -1, 0, 127, 127]]
    assert to_input(values, shape=(5,), dtype="uint8", where="").tolist() == [0, 0, 0, 128, 255]


def test_a_shape_that_does_not_fit_names_both() -> None:
    with pytest.raises(ConfigError, match=r"model m, data d: preprocess gives \[3, 2, 2\].*shape \[1, 3, 4, 4\]"):
        to_input(np.zeros((3, 2, 2), np.float32), shape=(1, 3, 4, 4), dtype="float32", where="model m, data d")


@given(
    st.sampled_from([{}, {"shorter_side": 40}, {"size": [50, 36]}, {"fit": [44, 90]}, {"fit": [44, 30]}]),
    st.sampled_from([None, (24, 28)]),
    st.integers(41, 80),
    st.integers(41, 80),
)
def test_a_box_follows_what_it_is_around(form: dict[str, object], crop: object, width: int, height: int) -> None:
    image = _image(width, height, (0, 0, 0))
    left, top, right, bottom = width // 3, height // 4, width * 2 // 3, height * 3 // 4
    image.paste((255, 255, 255), (left, top, right, bottom))
    steps = Preprocess.model_validate({"resize": form or None, "crop": crop, "channels": "GRAY"})
    lit = image_tensor(image, steps)[0] > 127
    boxes = boxes_in_input([(left, top, right, bottom)], width=width, height=height, steps=steps)
    if not lit.any():  # it was cut away
        assert all(box[2] - box[0] < 1 for box in boxes)
        return
    (box,) = boxes
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    seen = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert max(abs(a - b) for a, b in zip(box, seen, strict=True)) <= 1


def test_a_box_that_is_cut_away_is_left_out() -> None:
    steps = Preprocess.model_validate({"crop": [10, 10]})
    boxes = [(0.0, 0.0, 4.0, 4.0), (0.0, 0.0, 20.0, 20.0)]
    assert boxes_in_input(boxes, width=20, height=20, steps=steps) == ((0.0, 0.0, 10.0, 10.0),)
