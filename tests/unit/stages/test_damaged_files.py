"""Damaged and hostile archives, tables and sounds: only errors of our own come out, and nothing is written outside."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import random
import re
import shutil
import wave
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from crossfarm.config.models import Csv, Images
from crossfarm.errors import ConfigError, CrossfarmError, FetchError
from crossfarm.stages.data.audio import samples
from crossfarm.stages.data.datasets import csv_rows, image_files
from crossfarm.stages.fetch import archives
from crossfarm.stages.fetch.archives import extract_tree, list_files, read_member

DAMAGED = Path(__file__).parents[1] / "data"
MUTANTS = 80
DATASET = {"name": "data", "source": {"file": "data"}}
FOLDER = Images.model_validate(DATASET | {"kind": "images", "glob": "*"})
TABLE = Csv.model_validate(DATASET | {"kind": "csv", "height": 2, "width": 2})


def _zip(files: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _mutant(content: bytes, rng: random.Random) -> bytes:
    """Return a copy of which some bytes are others, or the end is missing; most of a zip's structure is at its end."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        place = (
            rng.randrange(len(changed))
            if rng.random() < 0.5
            else len(changed) - 1 - rng.randrange(min(120, len(changed)))
        )
        changed[place] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
    return bytes(changed[: rng.randrange(1, len(changed))]) if rng.random() < 0.1 else bytes(changed)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_gives_errors_of_our_own_alone(compression: int, tmp_path: Path) -> None:
    rng = random.Random(compression)
    whole = _zip(
        {"a/net.onnx": b"graph" * 40, "a/b/c.txt": b"text", "inner.zip": _zip({"x": b"1"})}, compression=compression
    )
    path, out = tmp_path / "thing.whl", tmp_path / "out"
    refused = 0
    for _ in range(MUTANTS):
        path.write_bytes(_mutant(whole, rng))
        out.mkdir()
        for use in (
            lambda: read_member(path, "a/net.onnx"),
            lambda: read_member(path, "inner.zip!x"),
            lambda: list_files(path),
            lambda: extract_tree(path, out),
        ):
            try:
                use()
            except CrossfarmError:
                refused += 1
        shutil.rmtree(out)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["thing.whl"]
    assert refused > MUTANTS


@pytest.mark.parametrize("name", ["nameless.whl", "deflate.whl"])
def test_a_wheel_that_was_damaged_on_its_way_is_told_as_such(name: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is a damaged archive"):
        extract_tree(DAMAGED / name, tmp_path)


def _named(name: str) -> bytes:
    """Return an archive with one file, whose name no writer would write."""
    stand_in = "z" * len(name.encode())
    return _zip({stand_in: b"content"}).replace(stand_in.encode(), name.encode())


@pytest.mark.parametrize("name", ["a\0b", "../out", "/out", "a\\b", "n" * 300, "a/" * 100 + "b", "p/" * 600 + "b"])
def test_names_that_no_folder_should_hold_are_never_written(name: str, tmp_path: Path) -> None:
    path, out = tmp_path / "a.zip", tmp_path / "out"
    path.write_bytes(_named(name))
    out.mkdir()
    with contextlib.suppress(CrossfarmError):  # Python itself cuts a name at a NUL
        extract_tree(path, out)
    assert [found.name for found in out.rglob("*")] in ([], ["a"])
    with pytest.raises(ConfigError, match=r"leads out of the archive|longer than"):
        read_member(path, name)


def test_a_name_with_an_escape_sequence_does_not_reach_the_message(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"\x1b[2Jnet.onnx": b"x" * 99}))
    with pytest.raises(FetchError) as refused:
        extract_tree(path, tmp_path, limit=10)
    assert "\x1b" not in str(refused.value)


def test_a_path_that_is_a_file_and_a_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"x": b"1", "x/y": b"2"}))
    with pytest.raises(FetchError, match="as a file and as a folder"):
        extract_tree(path, tmp_path)


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FILES_LIMIT", 3)
    path = tmp_path / "a.zip"
    path.write_bytes(_zip({str(number): b"" for number in range(4)}))
    with pytest.raises(FetchError, match="has 4 files"):
        list_files(path)


def test_a_full_disk_is_not_told_as_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.zip"
    path.write_bytes(_zip({"x": b"1"}))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        extract_tree(path, tmp_path)


def _image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(buffer, "PNG")
    return buffer.getvalue()


def _sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(400))
    return buffer.getvalue()


def _read_image(content: bytes, folder: Path) -> object:
    (folder / "image.png").write_bytes(content)
    return list(image_files(FOLDER, folder))


ROWS = b"1,2,3,4,5\n9,8,7,6,5\n" * 20


@pytest.mark.parametrize(
    ("whole", "read"),
    [
        (gzip.compress(ROWS), lambda content, _: list(csv_rows(TABLE, content))),
        (ROWS, lambda content, _: list(csv_rows(TABLE, content))),
        (_sound(), lambda content, _: samples("data", content, rate=16000)),
        (_image(), _read_image),
    ],
    ids=["gzip", "csv", "wav", "png"],
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it finds odd; a warning is no error of ours
def test_damaged_data_gives_errors_of_our_own_alone(
    whole: bytes, read: Callable[[bytes, Path], object], tmp_path: Path
) -> None:
    rng = random.Random(len(whole))
    for _ in range(MUTANTS):
        with contextlib.suppress(CrossfarmError):
            read(_mutant(whole, rng), tmp_path)


def test_a_small_gzip_file_that_holds_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfarm.stages.data.datasets._LARGEST_CSV", 1000)
    with pytest.raises(ConfigError, match="more than 1000 bytes when unpacked"):
        list(csv_rows(TABLE, gzip.compress(b"1," * 5000)))


def test_a_csv_file_with_what_python_cannot_read_is_told() -> None:
    with pytest.raises(ConfigError, match=re.escape("neither CSV nor gzipped CSV")):
        list(csv_rows(TABLE, b'"' + b"1" * 200_000 + b'",2,3,4,5'))
