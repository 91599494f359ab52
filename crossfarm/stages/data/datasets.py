"""Labelled images: what models.yaml declares under `datasets`, turned into raw images with what they show."""

from __future__ import annotations

import collections
import csv
import dataclasses
import fnmatch
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossfarm.config.models import Csv, Images, RenderedText
from crossfarm.errors import ConfigError, FetchError
from crossfarm.stages.fetch.archives import list_files, read_member
from crossfarm.stages.fetch.artifact import fetched_bytes, fetched_file

_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
"""Pillow turns counter-clockwise."""
_LARGEST_IMAGE_FILE = 64 << 20
_LARGEST_CSV = 1 << 30
_GZIP_MAGIC = b"\x1f\x8b"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One image of a data set.

    Attributes:
        name: unique in its data set.
        image: raw, of any mode and size.
        label: what it shows: a number in the data set's own numbering, or the text as it was found; None where nobody
            says.
    """

    name: str
    image: Image.Image
    label: int | str | None


def samples(dataset: Images | Csv | RenderedText, folder: Path | None) -> Iterator[Sample]:
    """Yield the samples of a data set in an order that is the same everywhere.

    Args:
        dataset: as declared.
        folder: the artifact of `fetch` for its source; None for rendered text, which has none.

    Raises:
        ConfigError: the data is not what was declared: no file matches, a label is missing, a row is too short.
    """
    match dataset:
        case RenderedText():
            yield from rendered_lines(dataset)
        case Images() if folder is not None:
            yield from image_files(dataset, fetched_file(folder))
        case Csv() if folder is not None:
            yield from csv_rows(dataset, fetched_bytes(dataset.source, folder))
        case _:
            raise ConfigError(f"dataset {dataset.name}: its source was not fetched; run the stage `fetch` first")


def image_files(dataset: Images, location: Path) -> Iterator[Sample]:
    """Yield the images of a wheel, of another zip archive or of a folder whose path matches `glob`, sorted by path.

    With a limit, file i * files // limit is taken for each i < limit.

    Raises:
        ConfigError: nothing matches, a file is no image, or a path gives no label.
    """
    where = f"dataset {dataset.name}"
    files = dict(_folder_files(location) if location.is_dir() else _zip_files(location, where))
    matching = sorted(name for name in files if fnmatch.fnmatchcase(name, dataset.glob))
    count = len(matching) if dataset.limit is None else min(dataset.limit, len(matching))
    names = [matching[taken * len(matching) // count] for taken in range(count)]
    if not names:
        raise ConfigError(f"{where}: no file of {location.name} matches glob {dataset.glob!r}; correct the glob")
    stems = collections.Counter(PurePosixPath(name).stem for name in names)
    for name in names:
        stem = PurePosixPath(name).stem
        image = _decoded(_read(location, name, size=files[name], where=where), f"{where}: {name}")
        label = dataset.fixed_label if dataset.label is None else _label(name, dataset.label, where)
        yield from _turned(stem if stems[stem] == 1 else name, image, label, dataset.rotations)


def csv_rows(dataset: Csv, content: bytes) -> Iterator[Sample]:
    """Yield grey images from a CSV file, gzipped or not: height x width pixels of 0 to 255 row by row, then the label.

    With a limit, row i * rows // limit is taken for each i < limit.

    Raises:
        ConfigError: a row has another number of columns, or something in it is not a number.
    """
    where = f"dataset {dataset.name}"
    try:
        text = (_inflated(content, where) if content.startswith(_GZIP_MAGIC) else content).decode("utf-8")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ConfigError(f"{where}: the file is neither CSV nor gzipped CSV: {error}; correct its source") from error
    if not rows:
        raise ConfigError(f"{where}: the file has no rows; correct its source")
    count = len(rows) if dataset.limit is None else min(dataset.limit, len(rows))
    for taken in range(count):
        number = taken * len(rows) // count
        row = rows[number]
        if len(row) != dataset.height * dataset.width + 1:
            raise ConfigError(
                f"{where}: row {number + 1} has {len(row)} columns, but {dataset.height} x {dataset.width} pixels and "
                f"a label are {dataset.height * dataset.width + 1}; correct height and width"
            )
        try:
            numbers = np.array([float(value) for value in row])
        except ValueError as error:
            raise ConfigError(f"{where}: row {number + 1}: {error}; every column must be a number") from error
        if not (np.all((numbers[:-1] >= 0) & (numbers[:-1] <= 255)) and np.isfinite(numbers[-1])):
            raise ConfigError(f"{where}: row {number + 1} has a pixel outside 0 to 255; raw pixels are wanted")
        pixels = numbers[:-1].astype(np.uint8).reshape(dataset.height, dataset.width)
        yield Sample(name=f"row {number + 1}", image=Image.fromarray(pixels), label=int(numbers[-1]))


def _inflated(content: bytes, where: str) -> bytes:
    """Return what a gzip file holds; small ones may hold more than the memory."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        text = stream.read(_LARGEST_CSV + 1)
    if len(text) > _LARGEST_CSV:
        raise ConfigError(f"{where}: the file has more than {_LARGEST_CSV} bytes when unpacked; give a smaller one")
    return text


def rendered_lines(dataset: RenderedText) -> Iterator[Sample]:
    """Yield each text drawn black on white in Pillow's own font with a margin of a quarter of the font size.

    The pixels depend on the version of Pillow alone, which is part of every key.
    """
    font = ImageFont.load_default(dataset.font_size)
    margin = dataset.font_size // 4
    for number, text in enumerate(dataset.texts):
        left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=font)
        size = (int(right - left) + 2 * margin + 1, int(bottom - top) + 2 * margin + 1)
        image = Image.new("RGB", size, "white")
        ImageDraw.Draw(image).multiline_text((margin - left, margin - top), text, fill="black", font=font)
        yield from _turned(f"text {number}", image, text, dataset.rotations)


def _turned(name: str, image: Image.Image, label: int | str | None, rotations: tuple[int, ...]) -> Iterator[Sample]:
    """Yield an image once per rotation; with one that is no choice, hence none that would change the label."""
    chosen = rotations or (0,)
    for place, angle in enumerate(chosen):
        turned = image.transpose(_TURNS[angle]) if angle else image
        if len(chosen) == 1:
            yield Sample(name=name, image=turned, label=label)
        else:
            yield Sample(name=f"{name} at {angle}", image=turned, label=place)


def _folder_files(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.stat().st_size


def _zip_files(path: Path, where: str) -> list[tuple[str, int]]:
    try:
        return list_files(path)
    except FetchError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read(location: Path, name: str, *, size: int, where: str) -> bytes:
    if size > _LARGEST_IMAGE_FILE:
        raise ConfigError(f"{where}: {name} has {size} bytes, the limit is {_LARGEST_IMAGE_FILE}; leave it out")
    return (location / name).read_bytes() if location.is_dir() else read_member(location, name)


def _decoded(content: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except Exception as error:
        # Pillow's decoders let through errors of any type over damaged bytes: struct, zlib, IndexError, TypeError.
        raise ConfigError(f"{where} is not an image that Pillow can read: {error}; correct the glob") from error
    return image


def _label(name: str, expression: str, where: str) -> str:
    """Return group 1 of the expression in the path."""
    found = re.search(expression, name)
    if found is None or not found.groups() or found.group(1) is None:
        raise ConfigError(f"{where}: the expression {expression!r} finds no label (group 1) in {name}; correct label")
    return found.group(1)
