"""What a bundle brings for people says the same in C++, in Python and in models.yaml."""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from crossfarm.bundles.compile_report import CompileReport, PortType
from crossfarm.bundles.interfaces import About, write_interfaces
from crossfarm.config.decoding import Classify, CtcText, Decode, Detect
from crossfarm.config.models import Framing, Preprocess, Resize
from crossfarm.stages.check.decoding import class_name, ctc_text, top_classes
from crossfarm.stages.data.preprocessing import image_tensor
from crossfarm.util.paths import HOME

RUNNER = HOME / "runner"
IDENTITY = "0123456789abcdef" * 4
CLASSES = ("plain", "red, white", 'quo"te \\ ??/', "größe")


def _report() -> CompileReport:
    return CompileReport(
        identity=IDENTITY,
        model="shapes",
        target="armv7",
        variant="float32",
        arena_bytes=1,
        storage_bytes=1,
        weights_bytes=1,
        functions=1,
        calls=1,
        inputs=(
            PortType(name="state", dtype="float32", shape=(1,)),
            PortType(name="image", dtype="float32", shape=(1, 3, 8, 8)),
        ),
        outputs=(PortType(name="scores", dtype="float32", shape=(1, 4)),),
        operators={},
        tools={},
    )


def _write(
    folder: Path,
    *,
    preprocess: Preprocess | None = None,
    decode: Decode | None = None,
    classes: tuple[str, ...] | None = None,
    characters: tuple[str, ...] | None = None,
) -> Path:
    about = About(
        description="Shapes", licence="MIT", inputs=("baked", "image", "state"), preprocess=preprocess, decode=decode
    )
    write_interfaces(
        report=_report(), about=about, classes=classes, characters=characters, runner=RUNNER, output=folder
    )
    return folder


def _document(folder: Path) -> Any:
    return json.loads((folder / "python" / "shapes" / "model.json").read_text())


def _info(folder: Path) -> str:
    return (folder / "example" / "model_info.cpp").read_text()


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the module of a bundle that has no code: all but running works."""
    steps = Preprocess(resize=Resize(shorter_side=10), crop=(8, 8), mean=(1.0, 2.0, 3.0), scale=0.5)
    _write(
        tmp_path, preprocess=steps, decode=Classify(kind="classify"), classes=CLASSES, characters=("-", "a", "b", "c")
    )
    monkeypatch.syspath_prepend(str(tmp_path / "python"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("shapes")
    for name in [name for name in sys.modules if name == "shapes" or name.startswith("shapes.")]:
        del sys.modules[name]


def test_the_files_are_those_of_the_runner_and_three_of_the_model(tmp_path: Path) -> None:
    _write(tmp_path)
    sources = RUNNER / "interfaces"
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    copied = {f"example/{path.name}" for path in (sources / "example").glob("*") if path.suffix != ".in"}
    copied |= {f"python/shapes/{path.name}" for path in (sources / "python").glob("*") if path.is_file()}
    assert found == copied | {"CMakeLists.txt", "example/model_info.cpp", "python/shapes/model.json"}
    assert "@" not in (tmp_path / "CMakeLists.txt").read_text()


def test_the_image_is_for_the_first_declared_input_that_is_left(tmp_path: Path) -> None:
    _write(tmp_path, preprocess=Preprocess())
    assert _document(tmp_path)["image_input"] == 1
    assert re.search(r"const Preprocess preprocess = \{\n    true,\n    1,\n", _info(tmp_path))


def test_a_model_of_audio_takes_no_images(tmp_path: Path) -> None:
    _write(tmp_path, preprocess=Preprocess(frames=Framing(size=8)), decode=Detect(kind="threshold", threshold=0.25))
    assert _document(tmp_path)["preprocess"] is None
    assert _document(tmp_path)["threshold"] == 0.25
    assert "const Preprocess preprocess = {\n    false,\n" in _info(tmp_path)
    assert "const double threshold = 0.25;" in _info(tmp_path)


def test_names_reach_c_byte_by_byte(tmp_path: Path) -> None:
    _write(tmp_path, classes=CLASSES, decode=Classify(kind="classify", top=3))
    literals = re.search(r"names = \{\n(.*?)\};", _info(tmp_path), re.DOTALL)
    assert literals
    found = [ast.literal_eval(f"b{line.strip().rstrip(',')}").decode() for line in literals[1].splitlines()]
    assert found == ["plain", "red", 'quo"te \\ ??/', "größe"]
    assert "??" not in literals[1], "no trigraphs"
    assert "const int top = 3;" in _info(tmp_path)


def test_characters_are_whole_and_a_comma_is_one(tmp_path: Path) -> None:
    _write(tmp_path, characters=("blank", ",", " "), decode=CtcText(kind="ctc_text"))
    assert '    ",",\n    " ",\n' in _info(tmp_path)
    assert "Decode::text" in _info(tmp_path)


def test_the_module_describes_the_model(module: ModuleType) -> None:
    model = module.MODEL
    assert (model.name, model.target, model.identity, model.classes) == ("shapes", "armv7", IDENTITY, CLASSES)
    assert [str(port) for port in model.inputs] == ["state: float32 [1]", "image: float32 [1, 3, 8, 8]"]
    assert module.__version__.endswith(f"+{IDENTITY[:12]}")


def test_a_model_without_its_files_is_told_in_words(module: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights\.bin: not found beside .* install or copy the model again"):
        module.predict(np.zeros(1, np.float32), np.zeros((1, 3, 8, 8), np.float32))


def test_best_and_text_decide_as_the_checks_do(module: ModuleType) -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 3, (1, 4)).astype(np.float32)
    assert module.best(scores, 3) == [
        (class_name(index, CLASSES), float(scores[0, index])) for index in top_classes(scores, 3)
    ]
    steps = generator.standard_normal((1, 20, 4)).astype(np.float32)
    assert module.text(steps) == ctc_text(steps, ("-", "a", "b", "c"))


STEPS = st.builds(
    Preprocess,
    resize=st.one_of(
        st.none(),
        st.builds(Resize, size=st.just((8, 8)), interpolation=st.sampled_from(["nearest", "bicubic", "lanczos"])),
        st.builds(Resize, fit=st.just((8, 8)), pad_value=st.sampled_from([0.0, 127.5])),
        st.builds(Resize, shorter_side=st.integers(8, 12)),
    ),
    crop=st.just((8, 8)),
    channels=st.sampled_from(["RGB", "BGR"]),
    mean=st.sampled_from([0.0, 127.5, (103.53, 116.28, 123.675)]),
    scale=st.sampled_from([1.0, 0.0078125, (0.0171, 0.0175, 0.0174)]),
)


def test_images_become_the_same_numbers_as_in_the_reference(module: ModuleType) -> None:
    images = importlib.import_module("shapes._images")
    description = importlib.import_module("shapes._description")

    @given(pixels=arrays.arrays(np.uint8, st.tuples(st.integers(8, 20), st.integers(8, 20), st.just(3))), steps=STEPS)
    def law(pixels: Any, steps: Preprocess) -> None:
        told = {**vars(description.MODEL), "preprocess": steps.model_dump(mode="json")}
        images.MODEL = description.Description(**told)
        image = Image.fromarray(pixels)
        np.testing.assert_array_equal(images.image_tensor(image)[0], image_tensor(image, steps))

    law()


def test_an_image_that_is_too_small_is_told(module: ModuleType) -> None:
    images = importlib.import_module("shapes._images")
    told = {**vars(images.MODEL), "preprocess": {**images.MODEL.preprocess, "resize": None}}
    images.MODEL = importlib.import_module("shapes._description").Description(**told)
    with pytest.raises(ValueError, match="7 x 9 pixels after resizing, less than 8 x 8"):
        images.image_tensor(Image.new("RGB", (9, 7)))


@pytest.mark.parametrize("path", sorted((RUNNER / "interfaces" / "python").glob("*.py")), ids=lambda path: path.name)
def test_the_module_is_written_for_the_oldest_python_that_is_promised(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))
