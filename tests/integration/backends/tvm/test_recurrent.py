"""LSTM, GRU and RNN against ONNX Runtime: directions, lengths, states, peepholes, clip, activations, layouts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from crossfarm.backends.tvm import lowering
from crossfarm.backends.tvm.backend import translate
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import ModelError
from tests.integration.backends.tvm.onnx_graphs import Array, assert_right, graph_of, numbers, places, prepared

pytestmark = pytest.mark.integration

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ACTIVATIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(GATES)),
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    steps=st.integers(1, 6),
    batch=st.integers(1, 3),
    width=st.integers(1, 9),
    hidden=st.integers(1, 40),
    given_inputs=st.sets(st.sampled_from(["bias", "lengths", "h", "c", "peepholes"])),
    baked=st.booleans(),
    attributes=st.fixed_dictionaries({}, optional={"clip": st.sampled_from([0.2, 3.0]), "input_forget": st.just(1)}),
    before_reset=st.integers(0, 1),
)
def test_every_form_computes_what_onnx_runtime_computes(
    *,
    kind: str,
    direction: str,
    steps: int,
    batch: int,
    width: int,
    hidden: int,
    given_inputs: set[str],
    baked: bool,
    attributes: dict[str, float],
    before_reset: int,
) -> None:
    directions, rows = 2 if direction == "bidirectional" else 1, GATES[kind] * hidden
    weights = {"W": numbers(directions, rows, width) / 2, "R": numbers(directions, rows, hidden) / 4}
    inputs = {"x": numbers(steps, batch, width)}
    optional: dict[str, Array] = {
        "bias": numbers(directions, 2 * rows) / 2,
        "lengths": places(1, steps + 1, batch).astype("int32"),
        "h": numbers(directions, batch, hidden),
        "c": numbers(directions, batch, hidden),
        "peepholes": numbers(directions, 3 * hidden) / 2,
    }
    order = ["bias", "lengths", "h", "c", "peepholes"][: 5 if kind == "LSTM" else 3]
    chosen = {name: optional[name] for name in order if name in given_inputs}
    (weights if baked else inputs).update(chosen)
    if not baked:
        inputs |= weights
        weights = {}
    names = ["x", "W", "R", *(name if name in chosen else "" for name in order)]
    outputs = ["y", "h_last", "c_last"][: 3 if kind == "LSTM" else 2]
    if kind != "LSTM":
        attributes = {name: value for name, value in attributes.items() if name != "input_forget"}
    if kind == "GRU":
        attributes = {**attributes, "linear_before_reset": before_reset}
    node = helper.make_node(kind, names, outputs, hidden_size=hidden, direction=direction, **attributes)
    assert_right(node, inputs, weights, outputs=outputs)


@pytest.mark.parametrize(
    "name",
    ["Relu", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus", "Affine"],
)
@pytest.mark.parametrize("kind", sorted(GATES))
def test_every_activation_is_onnx_runtimes(kind: str, name: str) -> None:
    names = [*["Sigmoid", "Tanh"][: ACTIVATIONS[kind] - 1], name]
    weights = {"W": numbers(1, GATES[kind] * 5, 3), "R": numbers(1, GATES[kind] * 5, 5) / 4}
    own = (
        {"activation_alpha": [0.4], "activation_beta": [0.3]} if name in ("ScaledTanh", "Affine", "HardSigmoid") else {}
    )
    node = helper.make_node(kind, ["x", "W", "R"], ["y"], hidden_size=5, activations=names, **own)
    assert_right(node, {"x": numbers(4, 2, 3)}, weights)


def test_code_does_not_grow_with_the_number_of_steps() -> None:
    def calls(steps: int) -> int:
        inputs = {"x": numbers(steps, 1, 4)}
        weights = {"W": numbers(1, 12, 4), "R": numbers(1, 12, 3)}
        node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=3)
        code = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v3")
        model = prepared(graph_of([node], inputs, weights), inputs)
        return len(translate(model, lowering.tvm_target(code))[1].calls)

    assert calls(3) == calls(300)


def test_an_unknown_activation_is_refused_with_its_node() -> None:
    inputs = {"x": numbers(2, 1, 4)}
    weights = {"W": numbers(1, 3, 4), "R": numbers(1, 3, 3)}
    node = helper.make_node("RNN", ["x", "W", "R"], ["y"], hidden_size=3, activations=["Tanh"], name="memory")
    model = prepared(graph_of([node], inputs, weights), inputs)
    model.graph.node[0].attribute.remove(next(a for a in model.graph.node[0].attribute if a.name == "activations"))
    model.graph.node[0].attribute.append(helper.make_attribute("activations", ["Sine"]))
    with pytest.raises(ModelError, match=r"operator RNN \(node 'memory', number 0\).*activation 'sine' is not one"):
        translate(model, lowering.tvm_target(LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64-v3")))
