"""Models go through the stages `compile` and `bundle`, run as programs, and answer as ONNX Runtime does."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from crossfarm.errors import BundleError, ModelError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
TARGETS = ("x86_64", "aarch64", "armv7", "armv6", "riscv64")
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
CellBuilder = Any
Agree = Callable[..., None]


def model_of(
    nodes: Sequence[NodeProto],
    *,
    inputs: dict[str, tuple[int, Sequence[int | str]]],
    outputs: dict[str, tuple[int, Sequence[int | str]]],
    constants: dict[str, np.ndarray[Any, Any]] | None = None,
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def small_network() -> ModelProto:
    """A convolutional network whose outputs are everything that an output can be."""
    random = np.random.default_rng(1)

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    node = helper.make_node
    return model_of(
        [
            node("Conv", ["image:0", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
            node("Relu", ["c0"], ["r0"]),
            node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p0", "w1"], ["c1"], group=4, pads=[1, 1, 1, 1]),
            node("Sigmoid", ["c1"], ["s1"]),
            node("Reshape", ["s1", "flat"], ["view"]),
            node("Gemm", ["view", "w2", "b2"], ["g"], transB=1),
            node("Softmax", ["g"], ["scores"]),
            node("Greater", ["scores", "threshold"], ["above"]),
            node("ReduceMean", ["g"], ["mean"], keepdims=0),
            node("Add", ["count", "one"], ["next"]),
            node("Not", ["flag"], ["not_flag"]),
            node("Identity", ["image:0"], ["same_image"]),
            node("Identity", ["scores"], ["scores_again"]),
            node("Reshape", ["g", "column"], ["g_column"]),
        ],
        inputs={"image:0": (FLOAT, [1, 3, 8, 8]), "threshold": (FLOAT, []), "count": (INT64, []), "flag": (BOOL, [2])},
        outputs={
            "scores": (FLOAT, [1, 5]),
            "above": (BOOL, [1, 5]),
            "mean": (FLOAT, []),
            "next": (INT64, []),
            "not_flag": (BOOL, [2]),
            "same_image": (FLOAT, [1, 3, 8, 8]),
            "scores_again": (FLOAT, [1, 5]),
            "g_column": (FLOAT, [5, 1]),
            "w2": (FLOAT, [5, 64]),
            'quote "?? \\': (FLOAT, [1, 5]),
        },
        constants={
            "w0": weights(4, 3, 3, 3),
            "b0": weights(4),
            "w1": weights(4, 1, 3, 3),
            "w2": weights(5, 64),
            "b2": weights(5),
            "flat": np.array([1, 64]),
            "column": np.array([5, 1]),
            "one": np.array(1),
        },
    )


def with_odd_name(model: ModelProto) -> ModelProto:
    model.graph.node.append(helper.make_node("Neg", ["g"], ['quote "?? \\']))
    return model


def cases_of_small_network(count: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    random = np.random.default_rng(2)
    return [
        {
            "image:0": random.normal(0, 1, (1, 3, 8, 8)).astype(np.float32),
            "threshold": np.array(0.2, np.float32),
            "count": np.array(2**40 + k),
            "flag": np.array([k % 2 == 0, True]),
        }
        for k in range(count)
    ]


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_with_every_kind_of_output_answers_as_onnx_runtime(
    builder: CellBuilder, agree: Agree, target: str
) -> None:
    agree(builder(target), with_odd_name(small_network()), cases_of_small_network(3))


def test_a_model_that_computes_nothing_gives_its_input_back(builder: CellBuilder, agree: Agree) -> None:
    model = model_of(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])],
        inputs={"x": (FLOAT, [2, 3]), "unused": (FLOAT, [7])},
        outputs={"y": (FLOAT, [2, 3]), "z": (FLOAT, [2, 3])},
    )
    case = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "unused": np.zeros(7, np.float32)}
    agree(builder("x86_64"), model, [case])


def test_a_recurrent_state_can_be_input_and_output(builder: CellBuilder, agree: Agree) -> None:
    model = model_of(
        [
            helper.make_node("MatMul", ["state", "w"], ["m"]),
            helper.make_node("Add", ["m", "x"], ["a"]),
            helper.make_node("Tanh", ["a"], ["new_state"]),
            helper.make_node("Split", ["new_state"], ["left", "right"], axis=1, num_outputs=2),
        ],
        inputs={"x": (FLOAT, [1, 4]), "state": (FLOAT, [1, 4])},
        outputs={"right": (FLOAT, [1, 2]), "new_state": (FLOAT, [1, 4])},
        constants={"w": np.eye(4, dtype=np.float32)[::-1].copy()},
    )
    random = np.random.default_rng(3)
    cases = [{name: random.normal(0, 1, (1, 4)).astype(np.float32) for name in ("x", "state")} for _ in range(2)]
    agree(builder("x86_64"), model, cases)


@pytest.mark.parametrize(
    ("bounds", "dtype"),
    [
        ({"low": 0.0, "high": 6.0}, np.float32),
        ({"low": -0.5}, np.float32),
        ({"high": 0.5}, np.float32),
        ({"low": 2.0, "high": -2.0}, np.float32),
        ({"low": -3, "high": 4}, np.int64),
    ],
)
def test_a_clip_keeps_its_bounds(builder: CellBuilder, agree: Agree, bounds: dict[str, float], dtype: type) -> None:
    """Also with one bound, and with bounds the wrong way round, where ONNX says that the upper one wins."""
    model = model_of(
        [helper.make_node("Clip", ["x", *(name if name in bounds else "" for name in ("low", "high"))], ["y"])],
        inputs={"x": (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [9])},
        outputs={"y": (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [9])},
        constants={name: np.array(value, dtype) for name, value in bounds.items()},
    )
    agree(builder("x86_64"), model, [{"x": np.linspace(-8, 8, 9).astype(dtype)}])


def test_equal_constants_are_stored_once(builder: CellBuilder) -> None:
    same = np.arange(1024, dtype=np.float32).reshape(1, 1024)
    model = model_of(
        [
            helper.make_node("MatMul", ["x", "w0"], ["a"]),
            helper.make_node("MatMul", ["y", "w1"], ["b"]),
        ],
        inputs={"x": (FLOAT, [3, 1]), "y": (FLOAT, [5, 1])},
        outputs={"a": (FLOAT, [3, 1024]), "b": (FLOAT, [5, 1024])},
        constants={"w0": same, "w1": same.copy()},
    )
    compiled = builder("x86_64").compile(model)
    assert (compiled / "weights.bin").stat().st_size == 64 + 4096


@pytest.mark.parametrize("target", ["x86_64", "armv7"])
def test_two_builds_in_two_folders_are_equal_byte_for_byte(builder: CellBuilder, target: str, tmp_path: Path) -> None:
    bundles = [
        builder(target, folder=tmp_path / folder).bundle(with_odd_name(small_network()), cases_of_small_network(1))
        for folder in ("one", "another place")
    ]
    one, other = ({path.name: path.read_bytes() for path in made.rglob("*") if path.is_file()} for made in bundles)
    assert one == other
    assert not [name for name, content in one.items() if str(tmp_path).encode() in content]


def test_the_manifest_describes_every_other_file(builder: CellBuilder) -> None:
    made = builder("x86_64").bundle(with_odd_name(small_network()), cases_of_small_network(2))
    manifest = json.loads((made / "manifest.json").read_text())
    files = {entry["path"]: (entry["bytes"], entry["sha256"]) for entry in manifest["files"]}
    found = {
        path.relative_to(made).as_posix(): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in made.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert files == found
    assert {"program", "weights.bin", "model.h", "libtested.a", "libtested.so", "inputs/0.bin"} <= set(files)
    assert manifest["cell"] == "x86_64-tested-float32"
    assert manifest["cases"] == 2
    assert {"apache-tvm", "compiler", "crossfarm"} <= set(manifest["provenance"])


def test_the_shared_library_shows_the_public_functions_and_needs_an_old_c_library_only(builder: CellBuilder) -> None:
    made = builder("x86_64").bundle(with_odd_name(small_network()), cases_of_small_network(1))
    library = str(made / "libtested.so")
    shown = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    public = set(re.findall(r"\b(crossfarm_model_\w+)\(", (made / "model.h").read_text()))
    assert {line.split()[-1].partition("@")[0] for line in shown.splitlines()} == public
    needed = subprocess.run(["readelf", "-V", library], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", needed)}
    assert versions
    assert max(versions) <= (2, 17)
    segments = subprocess.run(["readelf", "-lW", str(made / "program")], capture_output=True, text=True, check=True)
    assert "LOAD" in segments.stdout and "INTERP" not in segments.stdout, "the program brings its C library along"


def test_a_static_target_gets_no_shared_library(builder: CellBuilder) -> None:
    made = builder("armv6").bundle(with_odd_name(small_network()), cases_of_small_network(1))
    assert not list(made.glob("*.so"))


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "kind"),
    [
        ("NonZero", ["r"], ["y"], (INT64, ["a", "b"])),
        ("RandomNormalLike", ["r"], ["y"], (FLOAT, ["a", "b", "c"])),
    ],
)
def test_what_no_board_can_do_is_refused_with_operator_and_node(
    builder: CellBuilder, operator: str, inputs: list[str], outputs: list[str], kind: tuple[int, list[str]]
) -> None:
    """The shape of NonZero's output is known only at run time; nothing compiles random numbers."""
    model = model_of(
        [
            helper.make_node("Relu", ["x"], ["r"], name="first"),
            helper.make_node(operator, inputs, outputs, name="culprit"),
        ],
        inputs={"x": (FLOAT, [2, 3, 3])},
        outputs={"y": kind},
        constants={"one": np.array([1])},
    )
    with pytest.raises(ModelError, match=rf"operator {operator} \(node 'culprit', number 1\)"):
        builder("x86_64").compile(model)


def test_an_attribute_that_cannot_be_imported_is_named_with_its_node(builder: CellBuilder) -> None:
    """The pads of this Pad are computed, which TVM's importer does not take."""
    model = model_of(
        [
            helper.make_node("Relu", ["x"], ["r"], name="first"),
            helper.make_node("Pad", ["r", "pads"], ["y"], name="border"),
        ],
        inputs={"x": (FLOAT, [2, 3]), "pads": (INT64, [4])},
        outputs={"y": (FLOAT, ["a", "b"])},
    )
    with pytest.raises(ModelError, match=r"operator Pad \(node 'border', number 1\)"):
        builder("x86_64").compile(model)


def test_an_open_input_shape_is_refused(builder: CellBuilder) -> None:
    model = model_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        inputs={"x": (FLOAT, ["batch", 3])},
        outputs={"y": (FLOAT, ["batch", 3])},
    )
    with pytest.raises(ModelError, match="input 'x' has an open shape"):
        builder("x86_64").compile(model)


def test_a_reference_of_another_model_is_refused(builder: CellBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    there = builder("x86_64")
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], inputs={"x": (FLOAT, [2])}, outputs={"y": (FLOAT, [2])})
    real = json.dumps

    def renamed(document: Any, **options: Any) -> str:
        if isinstance(document, dict) and "characters" in document:
            document["inputs"][0]["name"] = "other"
        return real(document, **options)

    monkeypatch.setattr(json, "dumps", renamed)
    with pytest.raises(BundleError, match="made from different models"):
        there.bundle(model, [{"x": np.zeros(2, np.float32)}])
