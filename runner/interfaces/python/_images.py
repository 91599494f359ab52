"""From an image to an input, as models.yaml declares it. Needs Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

import numpy

from ._description import MODEL

if TYPE_CHECKING:
    Array = numpy.ndarray[Any, Any]


def image_tensor(image: Any) -> Array:
    """Return an image as the input that it is for, `MODEL.image_input`.

    The order is: orientation of the EXIF tag, colour mode, resize, centre crop, channel order, (x - mean) * scale,
    layout, type; integers are rounded to the nearest and saturated.

    Args:
        image: path of an image file, or a PIL.Image.Image.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: the model takes no images, or this one is too small.
    """
    steps, port = MODEL.preprocess, MODEL.inputs[MODEL.image_input]
    if steps is None:
        raise ValueError(f"{MODEL.name} takes no images; give arrays to predict")
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("images need Pillow; install it, or give arrays to predict") from error
    opened = image if isinstance(image, Image.Image) else Image.open(image)
    upright = ImageOps.exif_transpose(opened).convert("L" if steps["channels"] == "GRAY" else "RGB")
    pixels = _cropped(_resized(upright, steps["resize"]), steps["crop"])
    if steps["channels"] == "BGR":
        pixels = pixels[:, :, ::-1]
    values = (pixels - numpy.asarray(steps["mean"], numpy.float32)) * numpy.asarray(steps["scale"], numpy.float32)
    if steps["layout"] == "NCHW":
        values = values.transpose(2, 0, 1)
    kind = numpy.dtype(port.dtype)
    if kind.kind in "iu":
        limits = numpy.iinfo(kind)
        values = numpy.clip(numpy.rint(values), limits.min, limits.max)
    if values.size != int(numpy.prod(port.shape)):
        raise ValueError(f"the image gives shape {list(values.shape)}, but {port} is wanted")
    return numpy.ascontiguousarray(values, dtype=kind).reshape(port.shape)


def _resized(image: Any, form: Mapping[str, Any] | None) -> Array:
    """Return (height, width, channels) float32, 0 to 255."""
    from PIL import Image

    if form is None:
        return _pixels(image)
    width, height = image.size
    if form["size"] is not None:
        height, width = form["size"]
    elif form["fit"] is not None:
        height, width = form["fit"][0], max(1, round(width * form["fit"][0] / height))
    else:
        share = form["shorter_side"] / min(width, height)
        width, height = round(width * share), round(height * share)
    # Older versions of Pillow have the filters in the module itself.
    chosen = getattr(getattr(Image, "Resampling", Image), form["interpolation"].upper())
    pixels = _pixels(image.resize((width, height), chosen))
    if form["fit"] is None:
        return pixels
    wanted = form["fit"][1]
    missing = max(0, wanted - pixels.shape[1])
    return numpy.pad(
        pixels[:, :wanted], ((0, 0), (0, missing), (0, 0)), mode="constant", constant_values=form["pad_value"]
    )


def _pixels(image: Any) -> Array:
    pixels = numpy.asarray(image, dtype=numpy.float32)
    return pixels[:, :, numpy.newaxis] if pixels.ndim == 2 else pixels


def _cropped(pixels: Array, crop: Any) -> Array:
    if crop is None:
        return pixels
    height, width = crop
    rows, columns = pixels.shape[:2]
    if height > rows or width > columns:
        raise ValueError("the image has {} x {} pixels after resizing, less than {} x {}".format(rows, columns, *crop))
    top, left = (rows - height) // 2, (columns - width) // 2
    return pixels[top : top + height, left : left + width]
