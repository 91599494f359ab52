"""The stage `reference` on small models that are made here and run by the real ONNX Runtime."""

from __future__ import annotations

import io
import json
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from crossfarm.config.models import Input, ModelsFile
from crossfarm.config.pipelines import Pipeline
from crossfarm.errors import ConfigError, ModelError, StoreError
from crossfarm.stages.data.tensors import read_stacked
from crossfarm.stages.fetch.artifact import content_folder, write_description
from crossfarm.stages.job import Job
from crossfarm.stages.protocol import Subject
from crossfarm.stages.reference import stage as reference
from crossfarm.stages.reference.answers import carried_by_runs, parse_class_names
from crossfarm.stages.reference.artifact import Reference
from crossfarm.stages.reference.cases import random_tensor, spread

WHEEL = {"package": "data==1.0", "sha256": "0" * 64}


def _graph(nodes: list[onnx.NodeProto], inputs: Any, outputs: Any, constants: dict[str, Any] | None = None) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _mean_of_channels() -> bytes:
    """Scores = mean of each of three channels of a 1,3,4,4 image."""
    node = helper.make_node("ReduceMean", ["x", "axes"], ["scores"], keepdims=0)
    return _graph(
        [node],
        [("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [("scores", TensorProto.FLOAT, [1, 3])],
        {"axes": np.array([2, 3])},
    )


def _counter() -> bytes:
    """A sequence model: state + sum of the frame is its answer and its next state."""
    nodes = [
        helper.make_node("ReduceSum", ["frame", "axes"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "state"], ["answer"]),
        helper.make_node("Identity", ["answer"], ["next"]),
    ]
    return _graph(
        nodes,
        [("frame", TensorProto.FLOAT, [1, 4]), ("state", TensorProto.FLOAT, [1, 1])],
        [("answer", TensorProto.FLOAT, [1, 1]), ("next", TensorProto.FLOAT, [1, 1])],
        {"axes": np.array([1])},
    )


def _fetched(folder: Path, name: str, content: bytes) -> Path:
    content_folder(folder).mkdir(parents=True)
    (content_folder(folder) / name).write_bytes(content)
    write_description(folder, name=name, size=len(content), sha256="0" * 64)
    return folder


def _wheel(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _run(
    tmp_path: Path,
    onnx_file: bytes,
    model: dict[str, Any],
    *,
    datasets: tuple[dict[str, Any], ...] = (),
    fetched: dict[str, tuple[str, bytes]] | None = None,
    data_limit: int | None = None,
) -> Path:
    """Run the stage as a plan would have it, and return its artifact."""
    entry = {"name": "m", "source": {"file": "m.onnx"}, "licence": "MIT", **model}
    declared = ModelsFile.model_validate({"models": [entry], "datasets": datasets})
    pipeline = Pipeline.model_validate({"name": "p", "targets": ["t"], "measure": {"data_limit": data_limit}})
    needs = reference.needs(Subject(pipeline=pipeline, model=declared.models[0], datasets=declared.datasets))
    prepared = tmp_path / "prepare"
    prepared.mkdir()
    (prepared / "model.onnx").write_bytes(onnx_file)
    folders = {"prepare": prepared}
    for role, (name, content) in (fetched or {}).items():
        folders[role] = _fetched(tmp_path / role, name, content)
    assert set(folders) == set(needs.inputs)
    output = tmp_path / "out"
    output.mkdir()
    parameters = json.loads(json.dumps(needs.parameters, allow_nan=False))
    reference.run(
        Job(
            id="reference:m",
            stage="reference",
            key="0" * 64,
            parameters=parameters,
            inputs=folders,
            output=output,
            root=tmp_path,
        )
    )
    return output


IMAGE_INPUTS = [{"name": "x", "shape": [1, 3, 4, 4]}]


def _coloured_wheel() -> bytes:
    from PIL import Image

    files = {}
    for number, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        stream = io.BytesIO()
        Image.new("RGB", (8, 4), colour).save(stream, "PNG")
        files[f"d/{number}_{number}.png"] = stream.getvalue()
    return _wheel(files)


PICTURES = {"kind": "images", "name": "pictures", "source": WHEEL, "glob": "d/*.png", "label": r"_(\d+)\.png"}


def test_random_cases_come_first_and_the_data_after_them(tmp_path: Path) -> None:
    model = {
        "inputs": IMAGE_INPUTS,
        "preprocess": {"resize": {"size": [4, 4]}, "scale": 0.5},
        "data": ["pictures"],
        "decode": {"kind": "classify", "classes": {"source": {**WHEEL, "path": "names.json"}}},
        "random_cases": 3,
    }
    names = _wheel({"names.json": json.dumps({"0": "red", "1": "green", "2": "blue"}).encode()})
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel()), "classes": ("n.whl", names)}
    folder = _run(tmp_path, _mean_of_channels(), model, datasets=(PICTURES,), fetched=fetched)
    found = Reference.read(folder)
    assert [case.kind for case in found.cases] == ["random"] * 3 + ["data"] * 3
    assert [case.label for case in found.cases] == [None] * 3 + [0, 1, 2]
    assert len({case.name for case in found.cases}) == 6
    assert found.classes == ("red", "green", "blue")
    x = read_stacked(folder / "inputs/0.bin", dtype="float32", shape=(1, 3, 4, 4), cases=6)
    scores = read_stacked(folder / "outputs/0.bin", dtype="float32", shape=(1, 3), cases=6)
    np.testing.assert_allclose(scores, x.mean(axis=(3, 4)), rtol=1e-6)
    assert scores[3:, 0].tolist() == [[100, 0, 0], [0, 100, 0], [0, 0, 100]]
    assert np.all(np.abs(x[:3]) <= 1) and len({case.tobytes() for case in x}) == 6


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folders.append(_run(tmp_path / name, _mean_of_channels(), {"inputs": IMAGE_INPUTS}))
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) for folder in folders]
    assert [str(path) for path in files[0]] == ["inputs/0.bin", "outputs/0.bin", "reference.json"]
    assert files[0] == files[1]
    assert all((folders[0] / path).read_bytes() == (folders[1] / path).read_bytes() for path in files[0])


def test_a_limit_of_the_pipeline_takes_so_many_cases_of_each_data_set(tmp_path: Path) -> None:
    model = {"inputs": IMAGE_INPUTS, "preprocess": {"crop": [4, 4]}, "data": ["pictures"]}
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    folder = _run(tmp_path, _mean_of_channels(), model, datasets=(PICTURES,), fetched=fetched, data_limit=2)
    assert [case.label for case in Reference.read(folder).cases] == [None, None, 0, 1]


def test_a_limit_takes_as_many_of_each_label_and_not_the_first_ones() -> None:
    labels = [0] * 90 + [1] * 10
    assert [labels[place] for place in spread(range(100), 4, label=labels.__getitem__)] == [0, 0, 1, 1]
    assert spread(range(100), 4, label=labels.__getitem__) == [0, 45, 90, 95]


def test_a_limit_below_the_number_of_labels_takes_labels_at_even_distances() -> None:
    assert spread(range(8), 4, label=lambda number: f"text {number}") == [0, 2, 4, 6]


@given(st.lists(st.integers(0, 4)), st.integers(1, 12))
def test_a_spread_is_as_large_as_it_may_be_in_order_and_without_repetition(labels: list[int], limit: int) -> None:
    taken = spread(range(len(labels)), limit, label=labels.__getitem__)
    assert taken == sorted(set(taken))
    assert len(taken) == min(limit, len(labels)) or limit < len(set(labels))
    assert len({labels[place] for place in taken}) == min(limit, len(set(labels)))


def test_every_frame_of_a_sequence_carries_the_state_of_the_one_before(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.arange(12, dtype="<i2").tobytes())
    model = {
        "inputs": [{"name": "frame", "shape": [1, 4]}, {"name": "state", "shape": [1, 1], "carry_from": "next"}],
        "preprocess": {"frames": {"size": 4}, "scale": 32768},
        "data": ["talk"],
        "random_cases": 1,
    }
    talk = {"kind": "audio", "name": "talk", "source": {**WHEEL, "path": "t.wav"}}
    folder = _run(
        tmp_path,
        _counter(),
        model,
        datasets=(talk,),
        fetched={"dataset talk": ("t.whl", _wheel({"t.wav": stream.getvalue()}))},
        data_limit=1,  # which does not cut a sequence
    )
    state = read_stacked(folder / "inputs/1.bin", dtype="float32", shape=(1, 1), cases=4)
    answer = read_stacked(folder / "outputs/0.bin", dtype="float32", shape=(1, 1), cases=4)
    assert state.ravel()[1:].tolist() == [0, 6, 28]
    assert answer.ravel()[1:].tolist() == [6, 28, 66]
    assert state.ravel()[0] != 0
    reference = Reference.read(folder)
    assert [case.continues for case in reference.cases] == [False, False, True, True]
    assert [port.carry_from for port in reference.inputs] == [None, "next"]


def test_with_carry_reference_every_run_is_given_the_reference_s_states() -> None:
    declared = Input.model_validate({"name": "state", "shape": [1], "carry_from": "next", "carry": "reference"})
    other = Input.model_validate({"name": "more", "shape": [1], "carry_from": "next"})
    assert carried_by_runs([declared, other]) == {"more": "next"}


def test_data_feeds_the_input_that_is_declared_first(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["bias", "image"], ["y"])
    shape = [1, 3, 4, 4]
    ports = [(name, TensorProto.FLOAT, shape) for name in ("bias", "image", "y")]
    model = _graph([node], ports[:2], ports[2:])
    entry = {
        "inputs": [{"name": "image", "shape": shape}, {"name": "bias", "shape": shape}],
        "preprocess": {"crop": [4, 4]},
        "data": ["pictures"],
        "random_cases": 1,
    }
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    folder = _run(tmp_path, model, entry, datasets=(PICTURES,), fetched=fetched)
    assert [port.name for port in Reference.read(folder).inputs] == ["bias", "image"]
    bias, image = (read_stacked(folder / f"inputs/{k}.bin", dtype="float32", shape=(3, 16), cases=4) for k in (0, 1))
    assert np.all(np.abs(bias) <= 1)
    assert image[1:].max(axis=(1, 2)).tolist() == [200, 200, 200]


def test_rendered_text_needs_nothing_fetched(tmp_path: Path) -> None:
    model = {"inputs": IMAGE_INPUTS, "preprocess": {"resize": {"size": [4, 4]}}, "data": ["lines"]}
    lines = {"kind": "rendered_text", "name": "lines", "texts": ["12"]}
    folder = _run(tmp_path, _mean_of_channels(), model, datasets=(lines,))
    assert Reference.read(folder).cases[-1].name == "lines text 0"


def test_characters_are_blank_then_the_metadata_then_a_space(tmp_path: Path) -> None:
    model = onnx.load_from_string(_mean_of_channels())
    helper.set_model_props(model, {"character": "a"})
    entry = {"inputs": IMAGE_INPUTS, "decode": {"kind": "ctc_text"}}
    folder = _run(tmp_path, model.SerializeToString(), entry)
    assert Reference.read(folder).characters == ("", "a", " ")


def test_texts_of_digits_stay_texts_where_texts_are_read(tmp_path: Path) -> None:
    model = onnx.load_from_string(_mean_of_channels())
    helper.set_model_props(model, {"character": "a"})
    lines = {"kind": "rendered_text", "name": "lines", "texts": ["007"]}
    entry = {"inputs": IMAGE_INPUTS, "preprocess": {"resize": {"size": [4, 4]}}, "data": ["lines"]}
    folders = []
    for name, decode in (("text", {"kind": "ctc_text"}), ("number", None)):
        (tmp_path / name).mkdir()
        fields = {**entry, "decode": decode}
        folders.append(_run(tmp_path / name, model.SerializeToString(), fields, datasets=(lines,)))
    assert [Reference.read(folder).cases[-1].label for folder in folders] == ["007", 7]


def test_missing_metadata_names_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model m: its metadata has no 'character'"):
        _run(tmp_path, _mean_of_channels(), {"inputs": IMAGE_INPUTS, "decode": {"kind": "ctc_text"}})


def test_names_of_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    decode = {"kind": "classify", "classes": {"names": ["only one"]}}
    with pytest.raises(ConfigError, match="there are 1 names of classes, but output scores has 3 scores"):
        _run(tmp_path, _mean_of_channels(), {"inputs": IMAGE_INPUTS, "decode": decode})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"case pictures 2_2: the label 7 is none of the 3 labels from 0 to 2"),
        ([1, 0], r"case pictures 2_2: the label 7 is none of the 2 labels from 0 to 1"),
    ],
)
def test_a_label_that_is_no_class_is_told(tmp_path: Path, labels: Any, message: str) -> None:
    fields = {"label": None, "fixed_label": 7, "glob": "d/2*"}
    model = {
        "inputs": IMAGE_INPUTS,
        "preprocess": {"crop": [4, 4]},
        "data": ["pictures"],
        "decode": {"kind": "classify", "labels": labels},
    }
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    with pytest.raises(ConfigError, match=message):
        _run(tmp_path, _mean_of_channels(), model, datasets=({**PICTURES, **fields},), fetched=fetched)


def test_nan_in_the_reference_is_the_models_fault(tmp_path: Path) -> None:
    node = helper.make_node("Log", ["x"], ["y"])
    model = _graph([node], [("x", TensorProto.FLOAT, [2])], [("y", TensorProto.FLOAT, [2])])
    entry = {"inputs": [{"name": "x", "shape": [2], "range": [-2, -1]}]}
    with pytest.raises(ModelError, match="model m, case random 0: 2 of 2 elements of output y are NaN or infinite"):
        _run(tmp_path, model, entry)


def test_bytes_that_are_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model m: ONNX Runtime cannot load it"):
        _run(tmp_path, b"not a model", {"inputs": IMAGE_INPUTS})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([{"name": "y", "shape": [1, 3, 4, 4]}], r"its input 'x' is not declared"),
        ([{"name": "x", "shape": [1, 3, 8, 8]}], r"declared as float32 \[1, 3, 8, 8\], but the model takes float32"),
        ([{"name": "x", "shape": [1, 3, 4, 4], "carry_from": "score"}], r"carry_from names 'score'.*meant 'scores'"),
    ],
)
def test_inputs_that_do_not_agree_with_the_model_are_told(tmp_path: Path, inputs: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _run(tmp_path, _mean_of_channels(), {"inputs": inputs})


def test_images_for_a_model_that_takes_audio_are_refused(tmp_path: Path) -> None:
    inputs = [{"name": "frame", "shape": [1, 4]}, {"name": "state", "shape": [1, 1], "carry_from": "next"}]
    entry = {"inputs": inputs, "preprocess": {"frames": {"size": 4}}, "data": ["pictures"]}
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    with pytest.raises(ConfigError, match=r"model m, data pictures: preprocess\.frames goes with audio"):
        _run(tmp_path, _counter(), entry, datasets=(PICTURES,), fetched=fetched)


@given(
    st.sampled_from(["float32", "float16", "int8", "uint8", "int32", "int64", "bool"]),
    st.integers(0, 2**31),
    st.integers(0, 63),
)
def test_random_tensors_stay_in_range_and_come_again(dtype: Any, seed: int, case: int) -> None:
    tensor = Input(name="x", shape=(3, 5), dtype=dtype, range=(-2.5, 100.0))
    one, other = (random_tensor(tensor, seed=seed, case=case) for _ in range(2))
    assert one.dtype == np.dtype(dtype) and one.shape == (3, 5)
    assert np.array_equal(one, other)
    assert one.astype(float).min() >= (-2.5 if dtype.startswith("float") else -2)
    assert one.astype(float).max() <= 100


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_another_seed_case_or_name_gives_other_numbers(seed: int, case: int) -> None:
    tensor = Input(name="x", shape=(8,))
    base = random_tensor(tensor, seed=seed, case=case)
    for other in (
        random_tensor(tensor, seed=seed + 1, case=case),
        random_tensor(tensor, seed=seed, case=case + 1),
        random_tensor(tensor.model_copy(update={"name": "y"}), seed=seed, case=case),
    ):
        assert not np.array_equal(base, other)


def test_random_numbers_are_pinned_for_ever() -> None:
    numbers = random_tensor(Input(name="x", shape=(3,)), seed=0, case=0)
    assert numbers.tolist() == pytest.approx([-0.696, 0.229801, -0.492782], abs=1e-6)


def test_integers_without_room_in_the_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"range \[0.2, 0.8\] holds no int8"):
        random_tensor(Input(name="x", shape=(1,), dtype="int8", range=(0.2, 0.8)), seed=0, case=0)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[1]", b'{"1": "a"}', b'{"0": 1}', b'"abc"', b"\xff"])
def test_class_names_of_another_form_are_told(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"model m: decode.classes.source is neither"):
        parse_class_names(content, model="m")


def test_a_torn_reference_is_told(tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text('{"cases": [')
    with pytest.raises(StoreError, match=r"reference\.json is damaged"):
        Reference.read(tmp_path)


def test_a_wheel_is_fetched_once_whichever_of_its_files_are_wanted() -> None:
    entry = {
        "name": "m",
        "source": {"file": "m.onnx"},
        "licence": "MIT",
        "inputs": IMAGE_INPUTS,
        "preprocess": {},
        "data": ["talk", "pictures"],
    }
    talk = {"kind": "audio", "name": "talk", "source": {**WHEEL, "path": "t.wav"}}
    declared = ModelsFile.model_validate({"models": [entry], "datasets": [talk, PICTURES]})
    pipeline = Pipeline.model_validate({"name": "p", "targets": ["t"]})
    inputs = reference.needs(Subject(pipeline=pipeline, model=declared.models[0], datasets=declared.datasets)).inputs
    assert inputs["dataset talk"] == inputs["dataset pictures"]


def test_a_label_that_is_the_name_of_a_class_is_that_class(tmp_path: Path) -> None:
    model = {
        "inputs": IMAGE_INPUTS,
        "preprocess": {"resize": {"size": [4, 4]}},
        "data": ["pictures"],
        "decode": {"kind": "classify", "classes": {"source": {**WHEEL, "path": "about.json"}, "key": "labels"}},
    }
    names = _wheel({"about.json": json.dumps({"size": 3, "labels": ["red", "green", "blue"]}).encode()})
    pictures = _wheel({f"d/0_{name}.png": content for name, content in (("blue", _png()), ("red", _png()))})
    declared = {**PICTURES, "label": r"_([a-z]+)\.png"}
    fetched = {"dataset pictures": ("d.whl", pictures), "classes": ("n.whl", names)}
    found = Reference.read(_run(tmp_path, _mean_of_channels(), model, datasets=(declared,), fetched=fetched))
    assert [case.label for case in found.cases if case.kind == "data"] == [2, 0]


def _png() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, "PNG")
    return stream.getvalue()


def test_boxes_stand_in_pixels_of_the_input(tmp_path: Path) -> None:
    model = {
        "inputs": IMAGE_INPUTS,
        "preprocess": {"resize": {"size": [4, 4]}},
        "data": ["pictures"],
        "decode": {"kind": "boxes", "map": {}},
    }
    declared = {key: value for key, value in PICTURES.items() if key != "label"} | {"boxes": {"0_0": [[2, 1, 6, 3]]}}
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    found = Reference.read(_run(tmp_path, _mean_of_channels(), model, datasets=(declared,), fetched=fetched))
    assert [case.boxes for case in found.cases] == [None, None, ((1, 1, 3, 3),), (), ()]


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ({"tokens": {"length": 48}}, "preprocess.tokens goes with data of kind tokens, and only with it"),
        ({"frames": {"size": 48}}, "preprocess.frames goes with audio, and only with it"),
    ],
)
def test_preprocessing_for_other_data_is_refused(tmp_path: Path, preprocess: dict[str, Any], message: str) -> None:
    model = {"inputs": [{"name": "x", "shape": [48]}], "preprocess": preprocess, "data": ["pictures"]}
    fetched = {"dataset pictures": ("d.whl", _coloured_wheel())}
    onnx_file = _graph([helper.make_node("Neg", ["x"], ["y"])], [("x", 1, [48])], [("y", 1, [48])], {})
    with pytest.raises(ConfigError, match=message):
        _run(tmp_path, onnx_file, model, datasets=(PICTURES,), fetched=fetched)


def test_tokens_need_no_source(tmp_path: Path) -> None:
    model = {
        "inputs": [{"name": "x", "shape": [1, 4], "dtype": "int64", "range": [0, 9]}],
        "preprocess": {"tokens": {"length": 4}},
        "data": ["words"],
    }
    rows = [{"text": "a b", "tokens": [3, 4], "label": 1}, {"text": "c", "tokens": [5, 6, 7, 8, 9]}]
    onnx_file = _graph([helper.make_node("Neg", ["x"], ["y"])], [("x", 7, [1, 4])], [("y", 7, [1, 4])], {})
    folder = _run(tmp_path, onnx_file, model, datasets=({"kind": "tokens", "name": "words", "rows": rows},))
    found = Reference.read(folder)
    assert [(case.name, case.label) for case in found.cases[2:]] == [("words a b", 1), ("words c", None)]
    tokens = read_stacked(folder / "inputs/0.bin", dtype="int64", shape=(1, 4), cases=4)
    assert tokens[2:, 0].tolist() == [[3, 4, 0, 0], [5, 6, 7, 8]]
