"""From a raw image or raw audio to the numbers of the first input, as `preprocess` of models.yaml declares it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crossfarm.config.models import Box, Framing, Preprocess, Resize
from crossfarm.errors import ConfigError

Floats = NDArray[np.float32]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def image_tensor(image: Image.Image, steps: Preprocess) -> Floats:
    """Turn an image into the tensor that the model takes.

    The order is: orientation of the EXIF tag, colour mode, resize, centre crop, channel order, (x - mean) * scale,
    layout.

    Args:
        image: of any mode and size.
        steps: what models.yaml declares; mean and scale are in the order of `steps.channels`.

    Returns:
        float32 of shape (C, H, W) or (H, W, C).

    Raises:
        ConfigError: the crop is larger than the image, or mean or scale have another number of channels.
    """
    upright = ImageOps.exif_transpose(image)
    pixels = _pixels(_resized(upright.convert("L" if steps.channels == "GRAY" else "RGB"), steps.resize))
    if steps.resize is not None and steps.resize.fit is not None:
        pixels = _fitted(pixels, width=steps.resize.fit[1], pad_value=steps.resize.pad_value)
    if steps.crop is not None:
        pixels = centre_crop(pixels, height=steps.crop[0], width=steps.crop[1])
    if steps.channels == "BGR":
        pixels = pixels[:, :, ::-1]
    normalised = normalise(pixels, mean=steps.mean, scale=steps.scale)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1) if steps.layout == "NCHW" else normalised)


def boxes_in_input(boxes: Sequence[Box], *, width: int, height: int, steps: Preprocess) -> tuple[Box, ...]:
    """Return where boxes of an upright image stand in the input that is made of it, cut at its edges.

    Args:
        boxes: left, top, right and bottom in pixels of the image; those that are cut away are left out.
        width: of the image.
        height: of the image.
        steps: what models.yaml declares.
    """
    new_width, new_height = _new_size(width, height, steps.resize)
    across, down = new_width / width, new_height / height
    if steps.resize is not None and steps.resize.fit is not None:
        new_width = steps.resize.fit[1]
    left = top = 0
    if steps.crop is not None:
        left, top = (new_width - steps.crop[1]) // 2, (new_height - steps.crop[0]) // 2
        new_height, new_width = steps.crop
    found = []
    for box in boxes:
        x = [min(max(place * across - left, 0.0), float(new_width)) for place in (box[0], box[2])]
        y = [min(max(place * down - top, 0.0), float(new_height)) for place in (box[1], box[3])]
        if x[0] < x[1] and y[0] < y[1]:
            found.append((x[0], y[0], x[1], y[1]))
    return tuple(found)


def normalise(pixels: Floats, *, mean: float | tuple[float, ...], scale: float | tuple[float, ...]) -> Floats:
    """Return (pixels - mean) * scale in float32; a tuple is one number per channel, the last axis.

    Raises:
        ConfigError: a tuple has another length than there are channels.
    """
    for name, value in (("mean", mean), ("scale", scale)):
        if isinstance(value, tuple) and len(value) != pixels.shape[-1]:
            raise ConfigError(
                f"preprocess.{name} has {len(value)} numbers, but the data has {pixels.shape[-1]} channels; "
                "give one number, or one per channel"
            )
    return (pixels - np.asarray(mean, np.float32)) * np.asarray(scale, np.float32)


def centre_crop(pixels: Floats, *, height: int, width: int) -> Floats:
    """Cut height x width pixels out of the middle of an (H, W, C) array; an odd remainder stays below and on the right.

    Raises:
        ConfigError: the image is smaller than that.
    """
    rows, columns = pixels.shape[:2]
    if height > rows or width > columns:
        raise ConfigError(
            f"preprocess.crop [{height}, {width}] is larger than the image, which has {rows} x {columns} pixels after "
            "preprocess.resize; resize to more, or crop less"
        )
    top, left = (rows - height) // 2, (columns - width) // 2
    return pixels[top : top + height, left : left + width]


def frame_audio(samples: Floats, framing: Framing) -> Floats:
    """Cut audio into frames, each preceded by the samples before it; silence stands before the first. A last, short
    frame is dropped.

    Args:
        samples: shape (n,), -1 to 1.
        framing: size and context in samples.

    Returns:
        float32 of shape (n // size, context + size).
    """
    count = len(samples) // framing.size
    padded = np.concatenate([np.zeros(framing.context, np.float32), samples.astype(np.float32)])
    frames = [padded[i * framing.size : i * framing.size + framing.context + framing.size] for i in range(count)]
    return np.stack(frames) if frames else np.zeros((0, framing.context + framing.size), np.float32)


def to_input(values: Floats, *, shape: tuple[int, ...], dtype: str, where: str) -> NDArray[Any]:
    """Give preprocessed values the shape and dtype of the model's input.

    Args:
        values: what the preprocessing made: (C, H, W), (H, W, C), or (samples,).
        shape: the input's static shape; leading extents of 1 (the batch) are added.
        dtype: one of config.models.DType; integers are rounded to the nearest and saturated.
        where: what the message names: `model mnist_cnn, data mnist`.

    Raises:
        ConfigError: the shapes do not agree.
    """
    leading = len(shape) - values.ndim
    if leading < 0 or shape[leading:] != values.shape or any(extent != 1 for extent in shape[:leading]):
        raise ConfigError(
            f"{where}: preprocess gives {list(values.shape)}, but the input has shape {list(shape)}; "
            "change preprocess (resize, crop, channels, layout, frames) or the input's shape"
        )
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(kind).reshape(shape)


def _pixels(image: Image.Image) -> Floats:
    """Return (H, W, C) float32, 0 to 255."""
    pixels = np.asarray(image, dtype=np.float32)
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def _resized(image: Image.Image, form: Resize | None) -> Image.Image:
    """Resize an image; for `fit` only the scaling to the height."""
    if form is None:
        return image
    return image.resize(_new_size(*image.size, form), _RESAMPLING[form.interpolation])


def _new_size(width: int, height: int, form: Resize | None) -> tuple[int, int]:
    """Return width and height of an image behind `resize`; for `fit` before it is cut or padded."""
    if form is None:
        return width, height
    if form.size is not None:
        return form.size[1], form.size[0]
    if form.fit is not None:
        return max(1, round(width * form.fit[0] / height)), form.fit[0]
    share = (form.shorter_side or 1) / min(width, height)
    return round(width * share), round(height * share)


def _fitted(pixels: Floats, *, width: int, pad_value: float) -> Floats:
    """Cut or pad (H, W, C) on the right to `width`."""
    missing = max(0, width - pixels.shape[1])
    return np.pad(pixels[:, :width], ((0, 0), (0, missing), (0, 0)), constant_values=pad_value)
