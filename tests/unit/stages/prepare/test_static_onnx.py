"""Making ONNX models static: small real graphs, run before and after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from crossfarm.errors import ModelError
from crossfarm.stages.prepare import static_onnx
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise, signature

X = StaticInput(name="x", shape=(1, 3, 8, 8), dtype="float32")


def _model(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[tuple[str, int, Sequence[int | str] | None]] = (("x", TensorProto.FLOAT, ["n", 3, "h", "w"]),),
    initialisers: dict[str, NDArray[Any]] | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 17),),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializer=[onnx.numpy_helper.from_array(values, name) for name, values in (initialisers or {}).items()],
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _flatten_by_shape() -> onnx.ModelProto:
    """Return what exporters write for `x.view(x.size(0), -1)`: Shape, Gather, Concat, Reshape."""
    return _model(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["batch"]),
            helper.make_node("Concat", ["batch", "rest"], ["target"], axis=0),
            helper.make_node("Reshape", ["x", "target"], ["flat"]),
            helper.make_node("Relu", ["flat"], ["y"], name="last"),
        ],
        initialisers={"zero": np.array([0], np.int64), "rest": np.array([-1], np.int64)},
    )


def _run(model: onnx.ModelProto, **feeds: NDArray[Any]) -> NDArray[Any]:
    session = onnxruntime.InferenceSession(serialise(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


def test_computed_shapes_become_constants_and_the_numbers_stay() -> None:
    before = _flatten_by_shape()
    after = make_static(serialise(before), [X])
    assert [node.op_type for node in after.graph.node] == ["Reshape", "Relu"]
    values = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    np.testing.assert_array_equal(_run(after, x=values), _run(before, x=values))


def test_the_signature_names_inputs_outputs_and_sizes() -> None:
    weights = np.ones((4, 3, 3, 3), np.float32)
    model = make_static(
        serialise(_model([helper.make_node("Conv", ["x", "w"], ["y"])], initialisers={"w": weights})), [X]
    )
    assert signature(model) == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 4, 6, 6]}],
        "parameters": 4 * 3 * 3 * 3,
        "nodes": 1,
        "opset": 17,
    }


@given(st.tuples(*(st.integers(1, 6) for _ in range(2))))
def test_every_static_shape_gives_a_static_model_whose_second_preparation_changes_nothing(
    size: tuple[int, int],
) -> None:
    fixed = StaticInput(name="x", shape=(1, 3, *size), dtype="float32")
    once = make_static(serialise(_flatten_by_shape()), [fixed])
    assert signature(once)["outputs"][0]["shape"] == [1, 3 * size[0] * size[1]]
    assert signature(make_static(serialise(once), [fixed])) == signature(once)
    assert serialise(make_static(serialise(_flatten_by_shape()), [fixed])) == serialise(once)


def test_a_baked_scalar_disappears_from_the_inputs() -> None:
    model = _model(
        [
            helper.make_node("Cast", ["rate"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
        ],
        inputs=[("x", TensorProto.FLOAT, ["n", 3, "h", "w"]), ("rate", TensorProto.INT64, [])],
    )
    baked = StaticInput(name="rate", shape=(), dtype="int64", value=3)
    after = make_static(serialise(model), [X, baked])
    assert [value.name for value in after.graph.input] == ["x"]
    values = np.ones(X.shape, np.float32)
    np.testing.assert_array_equal(_run(after, x=values), values * 3)


def test_a_baked_condition_removes_the_other_branch() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["x"], [operator])],
            operator,
            [],
            [helper.make_tensor_value_info(operator, TensorProto.FLOAT, None)],
        )
        for operator in ("Relu", "Sigmoid")
    ]
    model = _model(
        [helper.make_node("If", ["flag"], ["y"], then_branch=branches[0], else_branch=branches[1])],
        inputs=[("x", TensorProto.FLOAT, ["n", 3, "h", "w"]), ("flag", TensorProto.BOOL, [])],
    )
    after = make_static(serialise(model), [X, StaticInput(name="flag", shape=(), dtype="bool", value=0)])
    assert [node.op_type for node in after.graph.node] == ["Sigmoid"]


@pytest.mark.parametrize("terms", [1, 2, 3, 5])
def test_a_sum_becomes_additions(terms: int) -> None:
    names = [f"c{index}" for index in range(terms - 1)]
    constants = {name: np.full((1, 3, 8, 8), index + 1, np.float32) for index, name in enumerate(names)}
    before = _model([helper.make_node("Sum", ["x", *names], ["y"], name="sum")], initialisers=constants)
    after = make_static(serialise(before), [X])
    assert {node.op_type for node in after.graph.node} <= {"Add", "Identity"}
    values = np.ones(X.shape, np.float32)
    np.testing.assert_array_equal(_run(after, x=values), _run(before, x=values))


def test_metadata_of_the_model_stays_and_traces_of_the_export_go() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"], doc_string="File /home/someone/net.py, line 3")])
    model.metadata_props.add(key="character", value="a\nb")
    model.metadata_props.add(key="author", value="someone")
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/someone/net.py")
    model.graph.doc_string = "exported in /home/someone"
    after = make_static(serialise(model), [X])
    assert [(entry.key, entry.value) for entry in after.metadata_props] == [
        ("author", "someone"),
        ("character", "a\nb"),
    ]
    assert b"/home/someone" not in serialise(after)


def test_opsets_of_domains_that_nothing_uses_go() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])], opsets=[("", 17), ("ai.onnx.ml", 3), ("com.microsoft", 1)])
    after = make_static(serialise(model), [X])
    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", 17)]


def test_an_initialiser_among_the_inputs_needs_no_declaration() -> None:
    model = _model(
        [helper.make_node("Add", ["x", "c"], ["y"])],
        inputs=[("x", TensorProto.FLOAT, ["n", 3, "h", "w"]), ("c", TensorProto.FLOAT, [1])],
        initialisers={"c": np.ones(1, np.float32)},
    )
    assert [value.name for value in make_static(serialise(model), [X]).graph.input] == ["x"]


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x01", bytes(range(256)) * 4, b"TFL2" * 40])
def test_bytes_that_are_not_onnx_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"the file is not an ONNX model .*give an ONNX file"):
        make_static(content, [X])


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_model_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        make_static(content, [X])


def test_a_truncated_model_is_refused() -> None:
    content = serialise(
        _model([helper.make_node("Add", ["x", "c"], ["y"])], initialisers={"c": np.ones(99, np.float32)})
    )
    with pytest.raises(ModelError, match="not an ONNX model"):
        make_static(content[:-50], [X])


def test_a_shape_that_depends_on_data_is_refused_with_tensor_and_node() -> None:
    model = _model(
        [
            helper.make_node("NonZero", ["x"], ["places"], name="find"),
            helper.make_node("Cast", ["places"], ["y"], to=TensorProto.FLOAT, name="cast"),
        ]
    )
    told = r"tensor 'places' keeps the dynamic shape \[4, .*operator NonZero \(node 'find'"
    with pytest.raises(ModelError, match=told):
        make_static(serialise(model), [X])


def test_an_unknown_operator_is_refused_with_its_name() -> None:
    model = _model([helper.make_node("Frobnicate", ["x"], ["y"], name="odd")])
    with pytest.raises(ModelError, match=r"ONNX Runtime refuses operator Frobnicate \(node 'odd'"):
        make_static(serialise(model), [X])


def test_an_output_that_depends_on_nothing_is_kept_as_a_constant() -> None:
    model = _model(
        [helper.make_node("Relu", ["c"], ["y"]), helper.make_node("Relu", ["x"], ["z"])],
        initialisers={"c": np.ones(3, np.float32)},
    )
    graph = make_static(serialise(model), [X]).graph
    assert [output.name for output in graph.output] == ["y"]
    assert "x" not in {name for node in graph.node if "y" in node.output for name in node.input}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (StaticInput(name="xx", shape=(1, 3, 8, 8), dtype="float32"), r"no input 'xx'; perhaps you meant 'x'"),
        (StaticInput(name="x", shape=(1, 4, 8, 8), dtype="float32"), r"\[n, 3, h, w\] in the model.*\[1, 4, 8, 8\]"),
        (StaticInput(name="x", shape=(1, 3, 8), dtype="float32"), r"\[n, 3, h, w\] in the model.*\[1, 3, 8\]"),
        (StaticInput(name="x", shape=(1, 3, 8, 8), dtype="int8"), r"float32 in the model, declared as int8"),
    ],
    ids=["name", "extent", "rank", "dtype"],
)
def test_a_declaration_that_contradicts_the_model_is_refused(declared: StaticInput, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_static(serialise(_flatten_by_shape()), [declared])


def test_an_input_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ModelError, match="input 'x' is not declared; add it to `inputs`"):
        make_static(serialise(_flatten_by_shape()), [])


def _sparse_model(location: str) -> bytes:
    """Return a model whose constant is sparse, with its values in another file."""
    values = onnx.TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    values.external_data.add(key="location", value=location)
    indices = onnx.numpy_helper.from_array(np.arange(4, dtype=np.int64), "i")
    sparse = onnx.SparseTensorProto(values=values, indices=indices, dims=[1, 4])
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.append(helper.make_attribute("sparse_value", sparse))
    return serialise(
        _model([constant, helper.make_node("Add", ["x", "w"], ["y"])], inputs=[("x", TensorProto.FLOAT, [1, 4])])
    )


def test_data_of_a_sparse_constant_is_not_read_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.bin").write_bytes(np.full(4, 7, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"'w\.bin', which is not there"):
        make_static(_sparse_model("w.bin"), [StaticInput(name="x", shape=(1, 4), dtype="float32")])


def test_onnx_runtime_itself_finds_nothing_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.bin").write_bytes(np.full(4, 7, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(static_onnx, "inline_external_data", lambda model, read: None)
    with pytest.raises(
        ModelError, match=r"ONNX Runtime refuses operator Constant \(the node that gives 'w', number 0\).*External data"
    ):
        make_static(_sparse_model("w.bin"), [StaticInput(name="x", shape=(1, 4), dtype="float32")])
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    "said",
    [
        "a/onnxruntime/" * 70_000,
        "a/onnxruntime/b:1 " * 60_000,
        "/onnxruntime/" + "x:1" * 330_000,
        "[ONNXRuntimeError] : " + "1" * 1_000_000,
        "(" * 1_000_000,
        " ".join(["/onnxruntime/x:1", "f(" * 5] * 70_000),
    ],
)
def test_a_message_of_a_megabyte_is_read_in_no_time(said: str) -> None:
    started = time.process_time()
    static_onnx._runtime_text(RuntimeError(said))
    assert time.process_time() - started < 1


def test_places_in_onnx_runtime_are_left_out_of_its_message() -> None:
    said = (
        "[ONNXRuntimeError] : 1 : FAIL : Node (n) Op (Gemm) /build/onnxruntime/core/graph/graph.cc:42 "
        "void onnxruntime::Graph::Check(const Node&, int) status failed: shapes differ (3 and 4)"
    )
    assert static_onnx._runtime_text(RuntimeError(said)) == "Node (n) Op (Gemm) status failed: shapes differ (3 and 4)"


def test_a_sum_of_nothing_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="Sum"):
        make_static(serialise(_model([helper.make_node("Sum", [], ["y"])])), [X])


def test_quantised_weights_do_not_make_the_model_be_folded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = []
    fold = static_onnx._fold
    monkeypatch.setattr(static_onnx, "_fold", lambda model: folded.append(len(model.graph.node)) or fold(model))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["v"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    constants = {
        "s": np.array(0.5, np.float32),
        "z": np.array(3, np.int8),
        "w": np.ones((4, 3, 3, 3), np.int8),
    }
    made = make_static(serialise(_model(nodes, initialisers=constants)), [X])
    assert sorted(node.op_type for node in made.graph.node) == sorted(node.op_type for node in nodes)
    assert folded == [4]
    assert serialise(make_static(serialise(made), [X])) == serialise(made)
