"""The rules' code for ARM, run under qemu-user: examples of every family, in one program, agree with NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from crossfarm.config.targets import Target
from tests.integration.backends.conftest import CellBuilder, load_target, prefix
from tests.integration.backends.tvm.examples import FLOATS, Draw, Example, draw_examples, model_of
from tests.integration.backends.tvm.integer_examples import INTEGERS
from tests.integration.backends.tvm.not_numbers import ELEMENTWISE, Array, everywhere, node, one_each

pytestmark = pytest.mark.integration

AARCH64 = load_target("aarch64")
SDOT = AARCH64.model_copy(update={"code": AARCH64.code.model_copy(update={"features": ("+dotprod",)})})
TARGETS = {
    "aarch64": (AARCH64, (*FLOATS, *INTEGERS)),
    "aarch64 with SDOT": (SDOT, INTEGERS),
    "armv7": (load_target("armv7"), (*FLOATS, *INTEGERS)),
}


@pytest.mark.parametrize(("target", "families"), list(TARGETS.values()), ids=list(TARGETS))
def test_code_for_arm_agrees_with_numpy(
    target: Target, families: Sequence[Callable[[Draw], Example]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    prefix(target)
    examples = draw_examples(families, count=10, seed=len(target.name) + len(families))
    builder = CellBuilder(target=target, name="examples", folder=tmp_path_factory.mktemp("builder"))
    inputs = {name: array for example in examples.values() for name, array in example.inputs.items()}
    made = builder.bundle(model_of(list(examples.values())), [inputs])
    made_of = json.loads((builder.folder / "compile" / "compile.json").read_text())["costs"]
    multiplies_bytes = "+dotprod" in target.code.features
    assert any("winograd_int8" in function["name"] for function in made_of) != multiplies_bytes
    outputs = [port["name"] for port in json.loads((made / "manifest.json").read_text())["outputs"]]
    found = dict(zip(outputs, builder.run(made), strict=True))
    for name, example in examples.items():
        answer = found[example.output][0]
        assert answer.shape == example.expected.shape, (name, example.words)
        if answer.dtype == np.uint8:
            assert np.array_equal(answer, example.expected), (name, example.words)
        else:
            scale = max(1.0, float(np.abs(example.expected).max()))
            assert np.abs(answer - example.expected).max() <= 2e-5 * scale, (name, example.words)


@pytest.mark.parametrize("name", ["aarch64", "armv7"])
def test_nan_and_infinities_go_through_code_for_arm(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = load_target(name)
    prefix(target)
    nodes: list[onnx.NodeProto] = []
    outputs: list[str] = []
    inputs: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    for operator in _OF_NAN:
        graph, own = ELEMENTWISE[operator]
        for length in (5, 37):
            names = {"x": f"x{length}", "y": f"{operator.split()[0]}{len(outputs)}"}
            own_names = {key: f"{names['y']}_{key}" for key in own}
            for each in graph:
                made = onnx.NodeProto()
                made.CopyFrom(each)
                known = {**names, **own_names}
                made.input[:] = [known.get(key, f"{names['y']}_{key}") for key in each.input]
                made.output[:] = [known.get(key, f"{names['y']}_{key}") for key in each.output]
                nodes.append(made)
            inputs[names["x"]] = everywhere(length)
            constants.update({own_names[key]: array for key, array in own.items()})
            outputs.append(names["y"])
    model = _model(nodes, inputs, constants, outputs)
    builder = CellBuilder(target=target, name="nan", folder=tmp_path_factory.mktemp("builder"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip(outputs, session.run(outputs, inputs), strict=True))
    maxima = {f"{kind}{axis}": (kind, axis) for kind in ("ReduceMax", "ReduceMin") for axis in (0, 1)}
    for output, (kind, axis) in maxima.items():
        inputs["z"] = one_each(32, 37, np.nan)
        nodes.append(node(kind, ["z"], [output], axes=[axis], keepdims=0))
        expected[output] = (np.max if kind == "ReduceMax" else np.min)(inputs["z"], axis=axis)
    made_of = builder.bundle(_model(nodes, inputs, constants, [*outputs, *maxima]), [inputs])
    ports = [port["name"] for port in json.loads((made_of / "manifest.json").read_text())["outputs"]]
    for output, answer in zip(ports, builder.run(made_of), strict=True):
        np.testing.assert_allclose(answer[0], expected[output], rtol=2e-5, atol=2e-5, err_msg=output)


def test_integers_of_64_bits_become_floats_and_back_on_arm_of_32_bits(tmp_path_factory: pytest.TempPathFactory) -> None:
    target = load_target("armv7")
    prefix(target)
    kinds = {"f": "float32", "d": "float64", "u": "uint64", "i": "int64"}
    inputs: dict[str, Array] = {
        "i": np.array([-(2**40) - 7, -3, 0, 5, 2**40 + 7]),
        "u": np.array([0, 1, 7, 2**33, 2**40 + 9], np.uint64),
        "f": np.array([-2.5e9, -3.0, 0.0, 2.75, 3e9], np.float32),
        "d": np.array([-2.5e12, -3.0, 0.0, 2.75, 3e12]),
    }
    pairs = [("i", "f"), ("u", "f"), ("i", "d"), ("u", "d"), ("f", "i"), ("d", "i")]
    codes = {short: helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for short, kind in kinds.items()}
    nodes = [helper.make_node("Cast", [one], [f"{one}{other}"], to=codes[other]) for one, other in pairs]
    nodes += [helper.make_node("Div", ["i", "seven"], ["quotient"]), helper.make_node("Mod", ["i", "seven"], ["rest"])]
    model = _model(
        nodes, inputs, {"seven": np.array(7)}, [*(f"{one}{other}" for one, other in pairs), "quotient", "rest"]
    )
    for port in model.graph.input:
        port.type.tensor_type.elem_type = codes[port.name]
    for port in model.graph.output:
        port.ClearField("type")
    del model.graph.value_info[:]
    builder = CellBuilder(target=target, name="wide", folder=tmp_path_factory.mktemp("builder"))
    made = builder.bundle(onnx.shape_inference.infer_shapes(model), [inputs])
    outputs = [port["name"] for port in json.loads((made / "manifest.json").read_text())["outputs"]]
    found = {name: answer[0] for name, answer in zip(outputs, builder.run(made), strict=True)}
    for one, other in pairs:
        np.testing.assert_array_equal(found[f"{one}{other}"], inputs[one].astype(kinds[other]), err_msg=f"{one}{other}")
    np.testing.assert_array_equal(found["quotient"], np.trunc(inputs["i"] / 7).astype(np.int64))
    np.testing.assert_array_equal(found["rest"], inputs["i"] % 7)


_OF_NAN = ("Relu", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Erf", "Sign", "ThresholdedRelu",
           "Softmax over the last axis", "Softmax over the first axis")  # fmt: skip


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)
