"""The C++ example of a bundle: built by CMake here and for ARM, it says of each photograph what the reference says."""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crossfarm.config.models import Preprocess, Resize
from crossfarm.stages.data.preprocessing import image_tensor
from crossfarm.util.paths import HOME
from tests.integration.bundles.packages.building import Built

pytestmark = pytest.mark.integration

HERE = Path(__file__).parent
SOURCES = HOME / "runner" / "interfaces" / "example"
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
FORMS: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("BMP", {}), ("PPM", {}), ("PNG", {}), ("JPEG", {})),
    *(("JPEG", {"progressive": True}), ("PNG", {"bits": 8})),
)
PLAIN = Preprocess(mean=(103.53, 116.28, 123.675), scale=0.0171247, layout="NHWC")
NO_STEPS = (0, 0, 0, 0, 0, 0, 0, 0)
"""Arguments of the preprocessor for PLAIN."""
PNG_START = b"\x89PNG\r\n\x1a\n"
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def _needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (./inv setup installs it)")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return the file of an image."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _run(*command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _cmake(bundle: Path, folder: Path, *options: str, flags: Sequence[str] = ()) -> Path:
    """Build the example of a bundle and return it."""
    every = " ".join([*STRICT, *flags])
    _run("cmake", "-S", bundle, "-B", folder, f"-DCMAKE_CXX_FLAGS={every}", *options)
    _run("cmake", "--build", folder, "--parallel", "2")
    return folder / "shapes_example"


def _answers(command: Sequence[object], model: Built, photograph: Path) -> list[tuple[str, float]]:
    """Return names and scores that the example prints."""
    lines = [line.split("  ", 2) for line in _run(*command, model.bundle / "weights.bin", photograph).splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "3", "4", "5"]
    return [(name, float(score)) for _, score, name in lines]


def _agrees(command: Sequence[object], model: Built, folder: Path) -> None:
    """Hold the five best classes of every photograph against the reference's."""
    for number, photograph in enumerate(model.photographs):
        image = folder / f"{photograph.stem}.{('bmp', 'ppm', 'png')[number % 3]}"
        Image.open(photograph).save(image)
        found, expected = _answers(command, model, image), model.expected(photograph)
        assert [name for name, _ in found] == [name for name, _ in expected]
        np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], rtol=2e-4)


@pytest.fixture(scope="module")
def checked(built: Callable[[str], Built], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the example for this machine, which checks every access to memory."""
    _needs("cmake", "g++")
    if platform.machine() != "x86_64":
        pytest.skip("the example is built natively on x86_64")
    return _cmake(built("x86_64").bundle, tmp_path_factory.mktemp("native"), flags=SANITIZERS)


def test_the_five_best_classes_are_the_references(checked: Path, built: Callable[[str], Built], tmp_path: Path) -> None:
    _agrees([checked], built("x86_64"), tmp_path)


def test_a_project_links_the_shared_library_as_a_subdirectory(built: Callable[[str], Built], tmp_path: Path) -> None:
    _needs("cmake", "g++")
    if platform.machine() != "x86_64":
        pytest.skip("the project is built natively on x86_64")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(mine C CXX)\n"
        f"set(MODEL_SHARED ON)\nadd_subdirectory({built('x86_64').bundle} shapes)\n"
        "add_executable(mine main.c)\ntarget_link_libraries(mine PRIVATE shapes::shapes)\n"
    )
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "model.h"\nint main(void) { return puts(crossfarm_model_name()) < 0; }\n'
    )
    _run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    _run("cmake", "--build", tmp_path / "build")
    assert _run(tmp_path / "build" / "mine") == "shapes\n"


def test_the_example_takes_raw_inputs(checked: Path, built: Callable[[str], Built], tmp_path: Path) -> None:
    model = built("x86_64")
    (tmp_path / "0.bin").write_bytes(model.inputs[-1].tobytes())
    lines = _run(checked, model.bundle / "weights.bin", "--raw", tmp_path / "0.bin").splitlines()
    assert [line.split("  ", 2)[2] for line in lines] == [name for name, _ in model.expected(model.photographs[-1])]


def test_a_damaged_image_is_refused_in_words(checked: Path, built: Callable[[str], Built], tmp_path: Path) -> None:
    model = built("x86_64")
    whole = Image.open(model.photographs[0])
    whole.save(tmp_path / "good.ppm")
    whole.save(tmp_path / "good.bmp")
    ppm, bmp = (tmp_path / "good.ppm").read_bytes(), (tmp_path / "good.bmp").read_bytes()
    jpeg, png = _saved(whole, "JPEG"), _saved(whole, "PNG")
    deep = _saved(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG")
    wide = b"\0\0\0\x0dIHDR" + (70000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4)
    huge = (2**31 - 1).to_bytes(4, "little")
    spoilt = {
        "truncated": [ppm[:-1], bmp[:-9], ppm[:9], bmp[:20], b"P6 # a comment that never ends"],
        "neither JPEG, PNG, PPM nor BMP": [b"", b"P", b"\x89PNG", b"P3\n1 1\n255\n0 0 0\n"],
        "the image is damaged": [b"\xff\xd8\xff", PNG_START, jpeg[:40], png[:60], PNG_START + wide],
        "8 bits per channel": [deep],
        "only images with 8 bits": [b"P6 2 2 65535\n" + bytes(24)],
        "too large": [b"P6 99999999999 2 255\n"],
        "damaged": [b"P6 2 x 255\n"],
        "pixels": [b"P6 0 2 255\n", b"P6 70000 2 255\n", bmp[:18] + huge + huge + bmp[26:]],
        "24 or 32 bits": [bmp[:28] + b"\x08\0" + bmp[30:], bmp[:30] + b"\x01" + bmp[31:]],
        "cannot be read": [None],
    }
    for words, contents in spoilt.items():
        for content in contents:
            path = tmp_path / "spoilt"
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
            command = [checked, model.bundle / "weights.bin", path]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 1, (content, done.stderr)
            assert words in done.stderr
            assert len(done.stderr.splitlines()) == 1


def test_bytes_that_are_flipped_never_reach_past_memory(
    checked: Path, built: Callable[[str], Built], tmp_path: Path
) -> None:
    model = built("x86_64")
    generator = np.random.default_rng(0)
    small = Image.open(model.photographs[1]).convert("RGB").resize((61, 47))
    for number in range(60):
        path = tmp_path / "flipped"
        form, options = FORMS[number % len(FORMS)]
        content = bytearray(_saved(small, form, **options))
        for place in generator.integers(0, len(content) if form in ("JPEG", "PNG") else 54, 3):
            content[place] = generator.integers(0, 256)
        path.write_bytes(content)
        command = [checked, model.bundle / "weights.bin", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 1), done.stderr


def test_armv7_says_the_same_under_its_emulator(built: Callable[[str], Built], tmp_path: Path) -> None:
    _needs("cmake", "arm-linux-gnueabihf-g++", "qemu-arm-static")
    compilers = [
        f"-DCMAKE_{language}_COMPILER=arm-linux-gnueabihf-{name}" for language, name in (("C", "gcc"), ("CXX", "g++"))
    ]
    model = built("armv7")
    example = _cmake(model.bundle, tmp_path / "build", "-DCMAKE_SYSTEM_NAME=Linux", *compilers)
    _agrees(["qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf", example], model, tmp_path)


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that preprocesses one image, built with sanitizers."""
    _needs("g++")
    made = tmp_path_factory.mktemp("preprocess") / "preprocess"
    sources = [
        HERE / "preprocess_driver.cpp",
        *(SOURCES / f"{name}.cpp" for name in ("preprocess", "image", "compressed")),
    ]
    _run("g++", "-std=c++17", "-O1", "-ffp-contract=off", *STRICT, *SANITIZERS, f"-I{SOURCES}", *sources, "-o", made)
    return made


def _pixels(preprocessor: Path, path: Path) -> Any:
    """Return what the example reads of an image of 61 x 47 pixels, upright or turned, (x - 0) of all three channels."""
    words = [preprocessor, path, *NO_STEPS]
    done = subprocess.run([str(word) for word in words], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_png_of_every_kind_is_read_as_pillow_reads_it(preprocessor: Path, tmp_path: Path, mode: str) -> None:
    raw = np.random.default_rng(3).integers(0, 256, (47, 61, 4), dtype=np.uint8)
    image = Image.fromarray(raw, "RGBA").convert("RGB").convert(mode) if mode in ("P", "1") else None
    image = image or Image.fromarray(raw, "RGBA").convert(mode)
    (tmp_path / "image.png").write_bytes(_saved(image, "PNG"))
    expected = image_tensor(image, PLAIN).reshape(-1)
    np.testing.assert_array_equal(_pixels(preprocessor, tmp_path / "image.png"), expected)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}, {"quality": 30}]
)
def test_a_jpeg_is_read_as_pillow_reads_it_but_for_rounding(
    preprocessor: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    y, x = np.mgrid[0:47, 0:61]
    smooth = np.stack([120 + 90 * np.sin(x / 9), 110 + 60 * np.cos(y / 7), (x + 2 * y) % 256], axis=-1)
    content = _saved(Image.fromarray(smooth.astype(np.uint8)), "JPEG", **options)
    (tmp_path / "image.jpg").write_bytes(content)
    expected = image_tensor(Image.open(io.BytesIO(content)), PLAIN).reshape(-1)
    difference = np.abs(_pixels(preprocessor, tmp_path / "image.jpg") - expected) / np.float32(0.0171247)
    assert difference.max() <= 4
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_jpeg_stands_upright_as_its_tag_says(
    preprocessor: Path, tmp_path: Path, orientation: int, order: str
) -> None:
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (47, 61, 3), dtype=np.uint8)).resize((61, 47))
    tags = Image.Exif()
    tags.endian = order
    tags[0x0112] = orientation
    content = _saved(image, "JPEG", quality=95, subsampling=0, exif=tags)
    (tmp_path / "image.jpg").write_bytes(content)
    expected = image_tensor(Image.open(io.BytesIO(content)), PLAIN).reshape(-1)
    difference = np.abs(_pixels(preprocessor, tmp_path / "image.jpg") - expected) / np.float32(0.0171247)
    assert difference.max() <= 4


def test_images_become_the_same_numbers_as_in_the_reference(preprocessor: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    filters = ("nearest", "bilinear", "bicubic", "lanczos")
    for number in range(48):
        height, width = (int(extent) for extent in generator.integers(20, 60, 2))
        raw = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        raw.save(tmp_path / "image.ppm")
        kind, chosen = number % 4, number // 4 % 4
        rows, columns = (int(extent) for extent in generator.integers(12, 90, 2))
        form: dict[str, Any] = [{}, {"shorter_side": rows}, {"size": (rows, columns)}, {"fit": (rows, columns)}][kind]
        resize = Resize(interpolation=filters[chosen], pad_value=127.5, **form) if form else None
        crop = (11, 9) if number % 3 else None
        channels = ("RGB", "BGR", "GRAY")[number % 3]
        steps = Preprocess(
            resize=resize,
            crop=crop,
            channels=channels,
            mean=33.3285 if channels == "GRAY" else (103.53, 116.28, 123.675),
            scale=0.0171247,
            layout="NCHW" if number % 2 else "NHWC",
        )
        words = [kind, rows, rows if kind == 1 else columns, chosen, *(crop or (0, 0)), number % 3, number % 2]
        command = [preprocessor, tmp_path / "image.ppm", *words]
        done = subprocess.run([str(word) for word in command], capture_output=True, check=True)
        expected = image_tensor(raw, steps)
        np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), expected.reshape(-1), err_msg=str(steps))
