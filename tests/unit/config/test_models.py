"""What the entries of models.yaml may be, and what must fit together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from crossfarm.config.base import Declared
from crossfarm.config.decoding import Decode
from crossfarm.config.llvm import LlvmCode, McuCode
from crossfarm.config.models import MAX_ELEMENTS, Dataset, Input, Model, Preprocess, Resize
from crossfarm.config.sources import FactorySource, FileSource, PackageSource, Source, UrlSource
from crossfarm.config.targets import target_with
from crossfarm.errors import ConfigError

SHA256 = "0" * 64
MODEL: dict[str, Any] = {
    "name": "digits",
    "licence": "MIT",
    "source": {"file": "digits.onnx"},
    "inputs": [{"name": "image", "shape": [1, 3, 8, 8]}],
}


def told(kind: Any, value: dict[str, Any]) -> str:
    """Return what is told about a value that is refused for one reason."""
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    (detail,) = error.value.errors()
    return detail["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "NHW"}, "layout NHW names 3 axes, but shape has 4"),
        ({"range": [1, 1]}, r"range must rise, got \[1.0, 1.0\]"),
        ({"shape": [2**14, 2**14, 2]}, f"shape has {2**29} elements, more than {MAX_ELEMENTS}"),
        ({"value": 3}, "value bakes in one number, so shape must be"),
        ({"shape": [], "value": 3, "carry_from": "state"}, "value and carry_from exclude each other"),
        ({"carry": "own"}, "carry says how carry_from is carried; add carry_from, or leave carry out"),
        ({"shape": [], "value": 1.5, "dtype": "int64"}, "value 1.5 is no integer, but dtype is int64"),
    ],
)
def test_an_input_whose_parts_disagree_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Input.model_validate({"name": "x", "shape": [1, 3, 8, 8]} | changes)


@pytest.mark.parametrize("changes", [{"variants": ["int8_shift"]}, {"variants": ["float32", "int8_shift"]}])
def test_int8_shift_is_made_from_float32_and_from_data(changes: dict[str, Any]) -> None:
    assert told(Model, MODEL | changes).startswith("int8_shift is made from float32 and data; add both")


@pytest.mark.parametrize("form", [{}, {"size": [1, 1], "fit": [1, 1]}, {"shorter_side": 1, "size": [1, 1]}])
def test_resize_has_exactly_one_form(form: dict[str, Any]) -> None:
    assert told(Resize, form) == "give exactly one of shorter_side, size, fit"


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"mean": [1, 2]}, "mean has 2 numbers for 3 channels; give one number, or 3"),
        ({"channels": "GRAY", "scale": [1, 2, 3]}, "scale has 3 numbers for 1 channels; give one number, or 1"),
        ({"frames": {"size": 8}, "mean": [1, 2]}, "mean has 2 numbers for 1 channels; give one number, or 1"),
        ({"frames": {"size": 8}, "crop": [1, 1]}, "frames is for audio, resize and crop are for images"),
        ({"resize": {"size": [8, 8]}, "crop": [8, 9]}, "crop [8, 9] may be larger than the resized image, [8, 8]"),
        ({"resize": {"shorter_side": 7}, "crop": [8, 7]}, "crop [8, 7] may be larger than the resized image, [7, 7]"),
    ],
)
def test_preprocessing_whose_steps_disagree_is_refused(steps: dict[str, Any], message: str) -> None:
    assert message in told(Preprocess, steps)


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ({"resize": {"size": [8, 9]}}, (3, 8, 9)),
        ({"resize": {"size": [8, 9]}, "crop": [4, 5], "layout": "NHWC"}, (4, 5, 3)),
        ({"resize": {"shorter_side": 8}, "channels": "GRAY"}, (1, None, None)),
        ({"resize": {"fit": [48, 320]}, "channels": "BGR"}, (3, 48, 320)),
        ({"frames": {"size": 512, "context": 64}}, (576,)),
    ],
)
def test_preprocessing_knows_the_shape_that_it_makes(steps: dict[str, Any], shape: tuple[int | None, ...]) -> None:
    assert Preprocess.model_validate(steps).shape() == shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "torch"}, "format torch goes with a source that has a factory"),
        ({"source": {"factory": "a:b"}}, "format torch goes with a source that has a factory"),
        ({"inputs": [{"name": "x", "shape": [1]}] * 2}, "names of inputs must differ, 'x' is given twice"),
        ({"variants": ["int8", "int8"]}, "variants must differ, 'int8' is given twice"),
        ({"skip": [{"target": "a", "reason": "slow"}] * 2}, "targets in skip must differ, 'a' is given twice"),
        ({"data": ["d"]}, "data needs preprocess"),
        ({"data": ["d", "d"], "preprocess": {}}, "names in data must differ, 'd' is given twice"),
        ({"inputs": [{"name": "x", "shape": [], "value": 1}]}, "every input has a value, so nothing is left to run on"),
        (
            {"preprocess": {"crop": [8, 9]}},
            r"preprocess gives \[3, 8, 9\], but the input 'image' has shape \[1, 3, 8, 8\]",
        ),
        ({"preprocess": {"layout": "NHWC"}}, r"preprocess gives \[\?, \?, 3\], but the input 'image' has shape"),
        ({"preprocess": {"frames": {"size": 9}}}, r"preprocess gives \[9\], but the input 'image' has shape"),
        ({"inputs": [{"name": "x", "shape": [2, 3, 8, 8]}], "preprocess": {}}, "preprocess gives"),
        ({"inputs": [{"name": "x", "shape": [8, 8]}], "preprocess": {}}, "preprocess gives"),
        ({"checks": {"top1": 0.5}}, "checks.top1 needs data, and decode of kind classify or threshold"),
        (
            {"checks": {"text": 0.5}, "data": ["d"], "preprocess": {}, "decode": {"kind": "classify"}},
            "checks.text needs data, and decode of kind ctc_text",
        ),
    ],
)
def test_a_model_whose_parts_disagree_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Model.model_validate(MODEL | changes)


def test_a_baked_input_before_the_first_real_one_does_not_take_the_data() -> None:
    inputs = [{"name": "rate", "shape": [], "dtype": "int64", "value": 16000}, *MODEL["inputs"]]
    assert Model.model_validate(MODEL | {"inputs": inputs, "preprocess": {"crop": [8, 8]}}).preprocess is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "_[0-9]+"}, "'_[0-9]+' has no group; put the label in parentheses"),
        ({"label": "(_[0-9"}, "'(_[0-9' is no regular expression: "),
        ({"label": "(a)", "fixed_label": 1}, "label, fixed_label and several rotations each give the label"),
        ({"rotations": [0, 90], "fixed_label": 1}, "label, fixed_label and several rotations each give the label"),
        ({"rotations": [90, 90]}, "rotations must differ, 90 is given twice"),
        ({"glob": "../*.png"}, "'../*.png' may lead out of its folder"),
        ({"glob": "/etc/*"}, "'/etc/*' may lead out of its folder"),
        ({"glob": "a\\..\\b"}, "may lead out of its folder"),
    ],
)
def test_images_whose_parts_disagree_are_refused(changes: dict[str, Any], message: str) -> None:
    images = {"kind": "images", "name": "photographs", "source": {"file": "photographs"}, "glob": "*.png"}
    assert message in told(Dataset, images | changes)


@pytest.mark.parametrize("speech", [[[2, 1]], [[-1, 1]], [[1, 1]]])
def test_speech_that_ends_before_it_begins_is_refused(speech: list[list[float]]) -> None:
    audio = {"kind": "audio", "name": "talk", "source": {"file": "a.wav"}, "speech": speech}
    assert "must begin at 0 or later and end after it begins" in told(Dataset, audio)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"file": "a/b.onnx"}, FileSource),
        ({"url": "https://example.org/a.onnx", "sha256": SHA256}, UrlSource),
        ({"package": "a==1", "sha256": SHA256, "path": "a/b.onnx"}, PackageSource),
        ({"factory": "a.b:C.d"}, FactorySource),
    ],
)
def test_the_form_of_a_source_follows_from_its_key_and_survives_json(value: dict[str, Any], kind: type[object]) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(Source)
    source = adapter.validate_python(value)
    assert isinstance(source, kind)
    assert adapter.validate_json(adapter.dump_json(source)) == source
    assert adapter.validate_python(source) == source


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "https:///a",
        "https://example.org/a b",
        "https://example.org/a\n",
        "http://localhost.evil.org/a",
        "http://localhost@evil.org/a",
        "http://127.0.0.1.evil.org/a",
    ],
)
def test_only_https_and_this_machine_are_fetched_from(url: str) -> None:
    with pytest.raises(ValidationError):
        UrlSource.model_validate({"url": url, "sha256": SHA256})


@pytest.mark.parametrize("file", ["/etc/passwd", "../a", "a/../../b", "a\\..\\..\\b", "a\0b", "", "a\nb"])
def test_a_declared_file_cannot_leave_the_folder(file: str) -> None:
    with pytest.raises(ValidationError):
        FileSource.model_validate({"file": file})


@given(st.text(max_size=70))
def test_a_name_holds_nothing_that_a_path_or_a_shell_reads(name: str) -> None:
    try:
        Model.model_validate(MODEL | {"name": name})
    except ValidationError:
        return
    assert name.isascii()
    assert name.replace("_", "").isalnum() or set(name[1:]) == {"_"}
    assert name == name.lower()
    assert 1 <= len(name) <= 64


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "y"}, {"name": "y"}], "names of outputs must differ, 'y' is given twice"),
        ([{"name": "y", "tolerance": -1e-9}], "greater than or equal to 0"),
        ([{"name": "y", "scale": 0}], "greater than 0"),
        ([{"name": "y", "scale": [1.0, -1.0]}], "greater than 0"),
        ([{"name": "y", "scale": []}], "at least 1 item"),
        ([{"name": "y", "axis": 8}], "less than or equal to 7"),
        ([{"name": "y", "axle": 1}], "Extra inputs"),
    ],
)
def test_a_declaration_of_outputs_that_makes_no_sense_is_refused(outputs: Any, message: str) -> None:
    for checks in ({"checks": {"outputs": outputs}}, {"quantisation": {"checks": {"outputs": outputs}}}):
        with pytest.raises(ValidationError, match=message):
            Model.model_validate(MODEL | checks)


def test_a_model_survives_json() -> None:
    model = Model.model_validate(MODEL | {"preprocess": {"mean": [1, 2, 3], "crop": [8, 8]}, "seed": 3})
    assert Model.model_validate_json(model.model_dump_json()) == model
    assert Model.model_validate(model.model_dump(mode="json")) == model


TARGET: dict[str, Any] = {
    "name": "armv7",
    "machine": ["armv7l"],
    "code": {"triple": "armv7l-linux-gnueabihf", "cpu": "cortex-a53", "float_abi": "hard"},
    "compiler": {"kind": "zig", "target": "arm-linux-gnueabihf.2.17"},
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": {"triple": "armv7l-linux-gnueabihf", "cpu": "generic"}}, "float_abi is required for 32-bit ARM"),
        ({"code": {"triple": "aarch64-linux-gnu", "cpu": "generic", "float_abi": "hard"}}, "makes no sense elsewhere"),
        ({"code": {"triple": "a b", "cpu": "a"}}, "should match pattern"),
        ({"code": {"triple": "aarch64-linux-gnu", "cpu": "a; b"}}, "should match pattern"),
        ({"compiler": {"kind": "zig", "target": "arm-linux-gnueabihf.2.17 -o x"}}, "should match pattern"),
        (
            {"compiler": {"kind": "zig", "target": "arm-linux-gnueabihf", "program_target": "arm-linux-gnueabihf"}},
            "linux-musl",
        ),
        ({"compiler": {"kind": "command", "command": []}}, "at least 1 item"),
        ({"linkage": "static"}, "zig links statically against musl alone"),
    ],
)
def test_a_target_whose_parts_disagree_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        target_with(LlvmCode).model_validate(TARGET | changes)


FIRMWARE: dict[str, Any] = {
    "name": "cortex_m7",
    "machine": ["thumbv7em"],
    "code": {
        "triple": "thumbv7em-none-eabihf",
        "cpu": "cortex-m7",
        "float_abi": "hard",
        "flash_bytes": 1 << 20,
        "ram_bytes": 1 << 18,
    },
    "compiler": {"kind": "zig", "target": "thumb-freestanding-eabihf", "flags": ["-mcpu=cortex_m7+vfp4d16sp"]},
}


def test_a_target_without_an_operating_system_tells_boards_its_instructions_alone() -> None:
    target = target_with(McuCode).model_validate(FIRMWARE)
    assert target.is_freestanding
    assert target.instructions == LlvmCode(triple="thumbv7em-none-eabihf", cpu="cortex-m7", float_abi="hard")
    assert not target_with(LlvmCode).model_validate(TARGET).is_freestanding


@pytest.mark.parametrize(
    ("section", "declared", "changes", "message"),
    [
        (McuCode, FIRMWARE, {"compiler": TARGET["compiler"]}, "for no operating system; give compiler.target one of"),
        (LlvmCode, TARGET, {"compiler": FIRMWARE["compiler"]}, "for an operating system; give compiler.target none of"),
        (McuCode, FIRMWARE, {"code": {**FIRMWARE["code"], "ram_bytes": 12}}, "ram_bytes\n  Input should be greater"),
        (McuCode, FIRMWARE, {"code": {**FIRMWARE["code"], "float_abi": None}}, "float_abi is required for 32-bit ARM"),
        (LlvmCode, TARGET, {"code": {**TARGET["code"], "ram_bytes": 1 << 18}}, "Extra inputs are not permitted"),
    ],
)
def test_a_target_and_its_operating_system_agree(
    section: type[LlvmCode], declared: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        target_with(section).model_validate(declared | changes)


class _Array(Declared):
    """The `code:` section of a backend that makes no programs of a processor."""

    lanes: int


def test_a_target_of_a_processor_needs_a_c_compiler_and_another_does_not() -> None:
    without = {name: value for name, value in TARGET.items() if name != "compiler"}
    with pytest.raises(ValidationError, match="compiler\n  Field required"):
        target_with(LlvmCode).model_validate(without)
    target = target_with(_Array).model_validate(without | {"code": {"lanes": 4}})
    assert target.compiler is None
    with pytest.raises(ConfigError, match=r"toolchains/armv7\.yaml declares no `compiler`, and this needs one"):
        _ = target.c_compiler
    linked = target_with(_Array).model_validate(TARGET | {"code": {"lanes": 4}})
    assert linked.c_compiler == linked.compiler


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "boxes"}, "give exactly one of anchors, map"),
        (
            {"kind": "boxes", "map": {}, "anchors": {"boxes": "b", "scores": "s", "grids": [{"stride": 8}]}},
            "give exactly",
        ),
        ({"kind": "classify", "classes": {"names": ["a"], "key": "k"}}, "key says where in a file the names stand"),
    ],
)
def test_a_decoder_whose_parts_disagree_is_refused(value: dict[str, Any], message: str) -> None:
    assert told(Decode, value).startswith(message)


@pytest.mark.parametrize(
    ("check", "kind"), [("map50", "boxes"), ("rank1", "embeddings"), ("text", "ctc_text"), ("top5", "classify")]
)
def test_a_limit_needs_the_decoder_that_it_is_about(check: str, kind: str) -> None:
    assert told(Model, MODEL | {"checks": {check: 1.0}}) == (
        f"checks.{check} needs data, and decode of kind {kind}; add them"
    )


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"bytes": {"head": 1, "tail": 1}, "crop": [1, 1]}, "bytes is for files, resize and crop are for images"),
        ({"tokens": {"length": 4}, "frames": {"size": 4}}, "frames and tokens are for different data"),
    ],
)
def test_preprocessing_is_for_one_kind_of_data(steps: dict[str, Any], message: str) -> None:
    assert told(Preprocess, steps).startswith(message)


def test_files_and_tokens_become_rows_of_numbers() -> None:
    assert Preprocess.model_validate({"bytes": {"head": 3, "tail": 2}}).shape() == (5,)
    assert Preprocess.model_validate({"tokens": {"length": 7}}).shape() == (7,)
