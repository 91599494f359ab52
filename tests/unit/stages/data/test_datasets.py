"""Labelled data: files of a wheel or folder, rows of a CSV, rendered text, audio."""

from __future__ import annotations

import gzip
import io
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crossfarm.config.models import Audio, Csv, Framing, Images, RenderedText
from crossfarm.config.sources import FileSource
from crossfarm.errors import ConfigError
from crossfarm.stages.data import audio
from crossfarm.stages.data.datasets import csv_rows, image_files, rendered_lines

SOURCE = FileSource(file="data")


def _png(colour: int, size: tuple[int, int] = (3, 2)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, colour).save(stream, "PNG")
    return stream.getvalue()


def _archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _images(**fields: object) -> Images:
    return Images.model_validate({"kind": "images", "name": "pictures", "source": {"file": "data"}, **fields})


def test_images_of_an_archive_come_sorted_with_the_label_of_their_path(tmp_path: Path) -> None:
    files = {"a/x_01_7.png": _png(2), "a/x_00_243.png": _png(1), "a/notes.txt": b"", "b/x_02_1.png": _png(3)}
    archive = _archive(tmp_path / "data.whl", files)
    found = list(image_files(_images(glob="a/x_*.png", label=r"_(\d+)\.png$"), archive))
    assert [(sample.name, sample.label) for sample in found] == [("x_00_243", "243"), ("x_01_7", "7")]
    assert [sample.image.getpixel((0, 0)) for sample in found] == [1, 2]


def test_images_of_a_folder_are_those_of_an_archive(tmp_path: Path) -> None:
    files = {"a/1.png": _png(1), "a/b/2.png": _png(2)}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    dataset = _images(glob="a/*.png", fixed_label=4)
    from_archive = image_files(dataset, _archive(tmp_path / "data.zip", files))
    from_folder = image_files(dataset, tmp_path / "folder")
    seen = [
        [(sample.name, sample.label, sample.image.tobytes()) for sample in each] for each in (from_archive, from_folder)
    ]
    assert seen[0] == seen[1]
    assert [(name, label) for name, label, _ in seen[0]] == [("1", 4), ("2", 4)]


def test_files_of_one_name_in_two_folders_keep_their_path(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "data.zip", {"a/p.png": _png(1), "b/p.png": _png(2), "b/q.png": _png(3)})
    found = [sample.name for sample in image_files(_images(glob="*.png"), archive)]
    assert found == ["a/p.png", "b/p.png", "q"]


def test_a_limit_takes_images_at_even_distances(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "data.zip", {f"{number}.png": _png(number) for number in range(9)})
    assert [sample.name for sample in image_files(_images(glob="*.png", limit=3), archive)] == ["0", "3", "6"]


def test_rotations_turn_counter_clockwise_and_label_by_place(tmp_path: Path) -> None:
    image = Image.new("L", (2, 1))
    image.putpixel((1, 0), 200)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    archive = _archive(tmp_path / "data.zip", {"p.png": stream.getvalue()})
    found = list(image_files(_images(glob="*", rotations=[0, 90, 180]), archive))
    assert [sample.label for sample in found] == [0, 1, 2]
    assert [np.asarray(sample.image).tolist() for sample in found] == [[[0, 200]], [[200], [0]], [[200, 0]]]
    assert len({sample.name for sample in found}) == 3


def test_a_glob_that_matches_nothing_is_told(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "data.zip", {"p.png": _png(1)})
    with pytest.raises(ConfigError, match=r"dataset pictures: no file of data.zip matches glob '\*.jpg'"):
        list(image_files(_images(glob="*.jpg"), archive))


def test_a_path_without_label_and_a_file_that_is_no_image_are_told(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "data.zip", {"p.png": b"\x89PNG\r\n\x1a\nrubbish", "q.png": _png(1)})
    with pytest.raises(ConfigError, match=r"p.png is not an image"):
        list(image_files(_images(glob="p.png"), archive))
    with pytest.raises(ConfigError, match=r"finds no label \(group 1\) in q.png"):
        list(image_files(_images(glob="q.png", label=r"_(\d+)"), archive))


@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_archive_are_a_config_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("data") / "data.zip"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        list(image_files(_images(glob="*"), path))


def _csv(**fields: object) -> Csv:
    return Csv.model_validate(
        {"kind": "csv", "name": "rows", "source": {"file": "x"}, "height": 1, "width": 2, **fields}
    )


def test_rows_are_taken_evenly_from_plain_and_gzipped_files() -> None:
    content = "".join(f"{number},255,{number % 10}\n" for number in range(100)).encode()
    plain = list(csv_rows(_csv(limit=10), content))
    zipped = list(csv_rows(_csv(limit=10), gzip.compress(content)))
    assert [sample.name for sample in plain] == [f"row {number}" for number in range(1, 100, 10)]
    assert [np.asarray(sample.image).tolist() for sample in plain] == [[[number, 255]] for number in range(0, 100, 10)]
    assert [sample.image.tobytes() for sample in plain] == [sample.image.tobytes() for sample in zipped]
    assert {sample.label for sample in plain} == {0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n\n", r"dataset rows: the file has no rows"),
        (b"1,2\n", r"row 1 has 2 columns, but 1 x 2 pixels and a label are 3"),
        (b"1,2,3\n1,x,3\n", r"row 2: could not convert string to float"),
        (b"1,256,3\n", r"row 1 has a pixel outside 0 to 255"),
        (b"1,nan,3\n", r"row 1 has a pixel outside 0 to 255"),
        (b"\x1f\x8bnot gzip", r"neither CSV nor gzipped CSV"),
        (b"\xff\xfe", r"neither CSV nor gzipped CSV"),
    ],
)
def test_a_csv_file_that_is_something_else_is_told(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(csv_rows(_csv(), content))


def test_rendered_text_is_black_on_white_and_the_same_each_time() -> None:
    dataset = RenderedText(kind="rendered_text", name="lines", texts=("4096", "two\nlines"), font_size=20)
    one, other = list(rendered_lines(dataset)), list(rendered_lines(dataset))
    assert [sample.label for sample in one] == ["4096", "two\nlines"]
    assert [sample.image.tobytes() for sample in one] == [sample.image.tobytes() for sample in other]
    pixels = np.asarray(one[0].image)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.all(pixels[:4] == 255) and np.all(pixels[-4:] == 255)
    assert np.all(pixels[:, :4] == 255) and np.all(pixels[:, -4:] == 255)
    assert one[1].image.height > 1.5 * one[0].image.height


def test_turned_text_is_labelled_by_its_rotation() -> None:
    dataset = RenderedText(kind="rendered_text", name="lines", texts=("up", "down"), rotations=(0, 180))
    found = list(rendered_lines(dataset))
    assert [sample.label for sample in found] == [0, 1, 0, 1]
    assert np.array_equal(np.asarray(found[1].image), np.asarray(found[0].image)[::-1, ::-1])


def _wav(samples: list[int], *, rate: int = 16000, channels: int = 1, width: int = 2) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.array(samples, "<i2" if width == 2 else "u1").tobytes())
    return stream.getvalue()


def _audio(**fields: object) -> Audio:
    return Audio.model_validate({"kind": "audio", "name": "talk", "source": {"file": "x"}, **fields})


def test_audio_is_scaled_framed_and_labelled_by_the_middle_of_each_frame() -> None:
    framing = Framing(rate=10, size=2, context=1)
    dataset = _audio(speech=[[0.25, 0.5]], limit=3)
    cut, labels = audio.frames(dataset, _wav([0, 1, 2, 3, -32768, 5, 6, 7], rate=10), framing)
    assert (cut * 32768).tolist() == [[0, 0, 1], [1, 2, 3], [3, -32768, 5]]
    assert labels == [0, 1, 0]


def test_audio_without_intervals_has_no_labels() -> None:
    _, labels = audio.frames(_audio(), _wav([0] * 8), Framing(size=4))
    assert labels == [None, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF", "not a WAV file"),
        (_wav([0] * 8, rate=8000), "1 channels of 16 bits at 8000 Hz"),
        (_wav([0] * 8, channels=2), "2 channels of 16 bits"),
        (_wav([0] * 8, width=1), "1 channels of 8 bits"),
        (_wav([0] * 3), "shorter than one frame of 4 samples"),
    ],
)
def test_audio_of_another_form_is_told(content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        audio.frames(_audio(), content, Framing(size=4))


def test_lines_of_rendered_text_have_boxes_around_their_ink() -> None:
    dataset = RenderedText.model_validate({"kind": "rendered_text", "name": "t", "texts": ["III\nI"], "font_size": 40})
    (sample,) = rendered_lines(dataset)
    assert sample.boxes is not None
    first, second = sample.boxes
    assert first[2] - first[0] > 2 * (second[2] - second[0])
    assert first[3] < second[1]
    ink = np.asarray(sample.image.convert("L")) < 128
    for left, top, right, bottom in (tuple(map(int, box)) for box in sample.boxes):
        ink[top:bottom, left:right] = False
    assert not ink.any()


def test_turned_text_has_no_boxes() -> None:
    dataset = RenderedText.model_validate({"kind": "rendered_text", "name": "t", "texts": ["a"], "rotations": [0, 90]})
    assert [sample.boxes for sample in rendered_lines(dataset)] == [None, None]


def test_images_have_the_boxes_that_are_declared_and_others_none(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "data.whl", {"a.png": _png(1), "b.png": _png(2)})
    found = list(image_files(_images(glob="*.png", boxes={"a": [[0, 0, 2, 1]]}), archive))
    assert [sample.boxes for sample in found] == [((0, 0, 2, 1),), ()]
    assert [sample.boxes for sample in image_files(_images(glob="*.png"), archive)] == [None, None]
