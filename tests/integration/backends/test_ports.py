"""What compile lowered has the names, dtypes and shapes of the prepared graph, or is refused before it is run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from crossfarm.backends.tvm import lowering
from crossfarm.backends.tvm.backend import translate
from crossfarm.backends.tvm.operators.families import CONVERTERS
from crossfarm.backends.tvm.unsupported import check_ports
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import EXIT_CHECK_FAILED, ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static

pytestmark = pytest.mark.integration

CASES = Path(__file__).parent / "cases"
CODE = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v3")


def _prepared(name: str) -> onnx.ModelProto:
    content = (CASES / f"{name}.onnx").read_bytes()
    inputs = [
        StaticInput(
            name=port.name,
            shape=tuple(extent.dim_value for extent in port.type.tensor_type.shape.dim),
            dtype=str(helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type).name),
        )
        for port in onnx.load_model_from_string(content).graph.input
    ]
    return make_static(content, inputs)


@pytest.mark.parametrize(
    ("name", "operator", "right"),
    [
        ("maxpool_samel", "MaxPool", r"float32 \[1, 3, 4, 4\]"),
        ("rs_nhwc", "Resize", r"float32 \[1, 12, 12, 2\]"),
    ],
)
def test_an_output_of_another_shape_or_dtype_is_refused_with_its_node(
    name: str, operator: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(CONVERTERS, operator)  # TVM's own importer gives another shape
    with pytest.raises(ModelError, match=rf"TVM computes the output .*in place of '\w+' as {right}.*") as refused:
        translate(_prepared(name), lowering.tvm_target(CODE))
    assert refused.value.exit_code == EXIT_CHECK_FAILED
    assert f"operator {operator} (" in str(refused.value)
    assert "this is a limitation of the compiler, not a fault of the model" in str(refused.value)


def test_a_transposed_convolution_that_states_its_output_shape_is_refused_where_that_is_not_heeded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(CONVERTERS, "ConvTranspose")
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[3, 2], output_shape=[10, 8], name="up")
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 10, 8])],
        initializer=[helper.make_tensor("w", TensorProto.FLOAT, [1, 2, 3, 3], [1.0] * 18)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(
        ModelError, match=r"TVM computes the output 'y' as .* in place of 'y' as float32 \[1, 2, 10, 8\]"
    ):
        translate(model, lowering.tvm_target(CODE))


def test_a_wrong_shape_in_the_middle_of_a_model_is_blamed_on_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CONVERTERS, "Resize")
    model = onnx.load_model_from_string((CASES / "rs_nhwc.onnx").read_bytes())
    output = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Relu", [output], ["last"], name="behind"))
    model.graph.output[0].name = "last"
    with pytest.raises(ModelError, match=r"TVM computes the output 'last' as .*because operator Resize"):
        translate(onnx.shape_inference.infer_shapes(model), lowering.tvm_target(CODE))


def test_a_model_whose_ports_are_right_is_compiled() -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _, program = translate(model, lowering.tvm_target(CODE))
    assert [port.name for port in program.outputs] == ["y"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ([("z", "float32", (1, 8))], [("y", "float32", (1, 8))], "the input 'z' as float32"),
        ([("x", "float16", (1, 8))], [("y", "float32", (1, 8))], r"the input 'x' as float16 \[1, 8\] in place of"),
        ([("x", "float32", (1, 8))], [("y", "float32", (8, 1))], r"the output 'y' as float32 \[8, 1\] in place of"),
        ([("x", "float32", (1, 8))], [], "the output 0 outputs in place of 1"),
    ],
)
def test_name_dtype_shape_and_number_are_compared(inputs: list, outputs: list, told: str) -> None:  # type: ignore[type-arg]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", ports[:1], ports[1:])
    with pytest.raises(ModelError, match=told):
        check_ports(helper.make_model(graph), inputs=inputs, outputs=outputs)
