"""Recurrent operators and what models keep between runs, held to LiteRT."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import onnxruntime
import pytest

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise
from crossfarm.stages.prepare.tflite.graph import convert
from tests.integration.stages.prepare.tflite.files import Array, Steps, TfliteFile, by_litert, check

pytestmark = pytest.mark.integration

TANH = 4
BATCH, TIME, FEATURES, UNITS, PROJECTED = 2, 5, 3, 4, 3


def _real(random: np.random.Generator, *shape: int) -> Array:
    return random.uniform(-0.6, 0.6, shape).astype(np.float32)


def _direction(
    file: TfliteFile, random: np.random.Generator, *, coupled: bool, peepholes: bool, projected: bool
) -> list[int]:
    """Add the 17 weights of one direction of an LSTM."""
    width = PROJECTED if projected else UNITS
    gates = [not coupled, True, True, True]
    weights = [file.tensor(data=_real(random, UNITS, FEATURES)) if there else -1 for there in gates]
    weights += [file.tensor(data=_real(random, UNITS, width)) if there else -1 for there in gates]
    seen = [peepholes and not coupled, peepholes, peepholes]
    weights += [file.tensor(data=_real(random, UNITS)) if there else -1 for there in seen]
    weights += [file.tensor(data=_real(random, UNITS)) if there else -1 for there in gates]
    weights.append(file.tensor(data=_real(random, PROJECTED, UNITS)) if projected else -1)
    weights.append(file.tensor(data=_real(random, PROJECTED)) if projected else -1)
    return weights


FORMS = [
    dict(zip(("coupled", "peepholes", "projected"), form, strict=True))
    for form in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize(
    "form", FORMS, ids=lambda form: "-".join(key for key, there in form.items() if there) or "plain"
)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("major", [False, True])
def test_an_lstm_over_a_sequence(form: dict[str, bool], normalised: bool, major: bool) -> None:
    random = np.random.default_rng(3)
    file = TfliteFile()
    shape = (TIME, BATCH, FEATURES) if major else (BATCH, TIME, FEATURES)
    width = PROJECTED if form["projected"] else UNITS
    source = file.tensor(shape)
    weights = _direction(file, random, **form)
    states = [file.tensor((BATCH, width), variable=True), file.tensor((BATCH, UNITS), variable=True)]
    coefficients = []
    if normalised:
        coefficients = [file.tensor(data=_real(random, UNITS) + 1) for _ in range(4)]
        coefficients[0] = -1 if form["coupled"] else coefficients[0]
    output = file.tensor((*shape[:2], width))
    options = {"fusedActivationFunction": TANH, "cellClip": 0.5, "projClip": 0.4, "timeMajor": major}
    inputs = [source, *weights, *states, *coefficients]
    file.add("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [output], "UnidirectionalSequenceLSTMOptions", **options)
    check(file.content([source], [output]), {source: _real(random, *shape) * 3})


@pytest.mark.parametrize(("merged", "major"), [(False, False), (False, True), (True, True)])
def test_an_lstm_in_both_directions(merged: bool, major: bool) -> None:
    """With the batch first and both directions in one output, LiteRT's numbers change from run to run."""
    random = np.random.default_rng(3)
    file = TfliteFile()
    shape = (TIME, BATCH, FEATURES) if major else (BATCH, TIME, FEATURES)
    source = file.tensor(shape)
    form = {"coupled": False, "peepholes": False, "projected": False}
    weights = [*_direction(file, random, **form), *_direction(file, random, **form)]
    states = [file.tensor((BATCH, UNITS), variable=True) for _ in range(4)]
    outputs = [file.tensor((*shape[:2], UNITS * 2))] if merged else [file.tensor((*shape[:2], UNITS)) for _ in range(2)]
    options = {"fusedActivationFunction": TANH, "mergeOutputs": merged, "timeMajor": major}
    inputs = [source, *weights, *states, *[-1] * 9]
    file.add("BIDIRECTIONAL_SEQUENCE_LSTM", inputs, outputs, "BidirectionalSequenceLSTMOptions", **options)
    check(file.content([source], outputs), {source: _real(random, *shape) * 3})


def test_one_step_of_an_lstm_in_both_of_its_forms() -> None:
    random = np.random.default_rng(3)
    file = TfliteFile()
    source = file.tensor((BATCH, FEATURES))
    weights = _direction(file, random, coupled=False, peepholes=True, projected=False)
    states = [file.tensor((BATCH, UNITS), variable=True) for _ in range(2)]
    output = file.tensor((BATCH, UNITS))
    file.add("LSTM", [source, *weights, *states], [output], "LSTMOptions", fusedActivationFunction=TANH)
    check(file.content([source], [output]), {source: _real(random, BATCH, FEATURES)})
    basic = TfliteFile()
    inputs = [basic.tensor(shape) for shape in ((BATCH, FEATURES), (BATCH, UNITS), (BATCH, UNITS))]
    kernel = basic.tensor(data=_real(random, 4 * UNITS, FEATURES + UNITS))
    bias = basic.tensor(data=_real(random, 4 * UNITS))
    shapes = ((BATCH, UNITS), (BATCH, UNITS), (BATCH, FEATURES + UNITS), (BATCH, 4 * UNITS))
    outputs = [basic.tensor(shape) for shape in shapes]
    options = {"fusedActivationFunction": TANH, "kernelType": 1}
    basic.add("LSTM", [inputs[0], inputs[1], kernel, bias, inputs[2]], outputs, "LSTMOptions", **options)
    feed = {index: _real(random, BATCH, FEATURES if index == inputs[0] else UNITS) for index in inputs}
    check(basic.content(inputs, outputs[:2]), feed)


@pytest.mark.parametrize("activation", [1, TANH])
@pytest.mark.parametrize("form", ["one", "sequence", "both"])
def test_a_plain_recurrent_layer(form: str, activation: int) -> None:
    random = np.random.default_rng(3)
    file = TfliteFile()
    shape = (BATCH, FEATURES) if form == "one" else (BATCH, TIME, FEATURES)
    source = file.tensor(shape)

    def direction() -> list[int]:
        arrays = (_real(random, UNITS, FEATURES), _real(random, UNITS, UNITS), _real(random, UNITS))
        return [*(file.tensor(data=array) for array in arrays), file.tensor((BATCH, UNITS), variable=True)]

    if form == "both":
        outputs = [file.tensor((*shape[:2], UNITS)) for _ in range(2)]
        inputs = [source, *direction(), *direction(), -1, -1, -1]
        name, kind = "BIDIRECTIONAL_SEQUENCE_RNN", "BidirectionalSequenceRNNOptions"
    else:
        outputs, inputs = [file.tensor((*shape[:-1], UNITS))], [source, *direction()]
        name, kind = ("RNN", "RNNOptions") if form == "one" else ("UNIDIRECTIONAL_SEQUENCE_RNN", "SequenceRNNOptions")
    file.add(name, inputs, outputs, kind, fusedActivationFunction=activation)
    check(file.content([source], outputs), {source: _real(random, *shape)})


def _frames(
    content: bytes, declared: Sequence[StaticInput], feeds: Sequence[dict[str, Array]], carried: dict[str, str]
) -> list[Array]:
    """Run the converted file over frames; carried: name of an input -> the output that it gets in the next frame."""
    model = serialise(make_static(convert(content, declared), declared))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    kept = {item.name: np.zeros(item.shape, item.dtype) for item in declared if item.name in carried}
    results = []
    for feed in feeds:
        found = dict(zip(names, session.run(None, {**feed, **kept}), strict=True))
        kept = {name: found[output] for name, output in carried.items()}
        results.append(np.asarray(found[names[0]]))
    return results


@pytest.mark.parametrize("rank", [1, 2])
def test_what_an_svdf_remembers_is_carried(rank: int) -> None:
    random = np.random.default_rng(3)
    filters, memory = UNITS * rank, 6
    file = TfliteFile()
    source = file.tensor((BATCH, FEATURES))
    features, times = (
        file.tensor(data=_real(random, filters, FEATURES)),
        file.tensor(data=_real(random, filters, memory)),
    )
    bias, state = file.tensor(data=_real(random, UNITS)), file.tensor((BATCH, filters * memory), variable=True)
    output = file.tensor((BATCH, UNITS))
    options = {"rank": rank, "fusedActivationFunction": 1}
    file.add("SVDF", [source, features, times, bias, state], [output], "SVDFOptions", **options)
    content = file.content([source], [output])
    frames = [_real(random, BATCH, FEATURES) for _ in range(9)]
    expected = by_litert(content, [{source: frame} for frame in frames])
    declared = [
        StaticInput(name=f"t{source}", shape=(BATCH, FEATURES), dtype="float32"),
        StaticInput(name=f"t{state}", shape=(BATCH, filters * memory), dtype="float32"),
    ]
    carried = {f"t{state}": f"t{state}/next"}
    found = _frames(content, declared, [{f"t{source}": frame} for frame in frames], carried)
    np.testing.assert_allclose(found, [outputs[0] for outputs in expected], rtol=1e-5, atol=1e-5)


def _counter(start: float = 0.0, *, dtype: str = "float32") -> tuple[bytes, int]:
    """Return a model that adds its input to a variable and gives the sum."""
    file = TfliteFile()
    source, handle, before, after = (
        file.tensor((2, 3), dtype),
        file.tensor((), "resource"),
        *(file.tensor((2, 3), dtype) for _ in range(2)),
    )
    file.add("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    file.add("VAR_HANDLE", [], [handle], "VarHandleOptions", container="", sharedName="total")
    file.add("READ_VARIABLE", [handle], [before], "ReadVariableOptions")
    file.add("ADD", [source, before], [after], "AddOptions")
    file.add("ASSIGN_VARIABLE", [handle, after], [], "AssignVariableOptions")
    file.ports([source], [after])
    file.graph()
    inner = file.tensor((), "resource")
    file.add("VAR_HANDLE", [], [inner], "VarHandleOptions", container="", sharedName="total")
    value = file.tensor(data=np.full((2, 3), start, dtype))
    file.add("ASSIGN_VARIABLE", [inner, value], [], "AssignVariableOptions")
    file.ports([], [])
    file.first()
    return file.content([source], [after]), source


def test_a_variable_is_carried() -> None:
    content, source = _counter()
    frames = [np.full((2, 3), number, np.float32) for number in (1, 2, 5)]
    expected = by_litert(content, [{source: frame} for frame in frames])
    declared = [StaticInput(name=name, shape=(2, 3), dtype="float32") for name in (f"t{source}", "total")]
    found = _frames(content, declared, [{f"t{source}": frame} for frame in frames], {"total": "total/next"})
    np.testing.assert_array_equal(found, [outputs[0] for outputs in expected])
    assert found[-1][0, 0] == 8


def test_a_variable_that_is_not_declared_tells_how() -> None:
    content, source = _counter()
    declared = [StaticInput(name=f"t{source}", shape=(2, 3), dtype="float32")]
    with pytest.raises(
        ModelError, match=r"reads the variable 'total'.*\{name: total, shape: \[2, 3\], carry_from: total/next\}"
    ):
        convert(content, declared)


def test_a_variable_that_starts_at_another_number_than_zero_is_refused() -> None:
    content, source = _counter(1.0)
    declared = [StaticInput(name=name, shape=(2, 3), dtype="float32") for name in (f"t{source}", "total")]
    with pytest.raises(ModelError, match=r"operator 0 \(CALL_ONCE\) starts a variable at something else than zero"):
        convert(content, declared)


def integer_lstm(random: np.random.Generator) -> tuple[bytes, int]:
    """Return a fully quantised LSTM over a sequence: int8 weights and hidden values, an int16 cell."""
    file = TfliteFile()
    read, hidden, weight = 0.02, 1 / 128, 0.005
    source = file.tensor((BATCH, TIME, FEATURES), "int8", steps=Steps(scale=read, zero_point=5))

    def matrix(*shape: int) -> int:
        return file.tensor(data=random.integers(-127, 128, shape).astype(np.int8), steps=Steps(scale=weight))

    inputs = [
        source,
        *(matrix(UNITS, FEATURES) for _ in range(4)),
        *(matrix(UNITS, UNITS) for _ in range(4)),
        -1,
        -1,
        -1,
    ]
    for _ in range(4):
        values = random.integers(-3000, 3000, UNITS).astype(np.int32)
        inputs.append(file.tensor(data=values, steps=Steps(scale=read * weight)))
    inputs += [-1, -1]
    inputs.append(file.tensor((BATCH, UNITS), "int8", steps=Steps(scale=hidden), variable=True))
    inputs.append(file.tensor((BATCH, UNITS), "int16", steps=Steps(scale=2**-11), variable=True))
    output = file.tensor((BATCH, TIME, UNITS), "int8", steps=Steps(scale=hidden))
    options = {"fusedActivationFunction": TANH}
    file.add("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [output], "UnidirectionalSequenceLSTMOptions", **options)
    intermediate = [
        *(file.tensor((0,), "int16", steps=Steps(scale=2**-12)) for _ in range(4)),
        file.tensor((0,), "int8", steps=Steps(scale=hidden)),
    ]
    file.intermediates(intermediate)
    return file.content([source], [output]), source


def test_a_quantised_lstm_over_a_sequence() -> None:
    random = np.random.default_rng(3)
    content, source = integer_lstm(random)
    for _ in range(5):
        feed = {source: random.integers(-128, 128, (BATCH, TIME, FEATURES)).astype(np.int8)}
        # A step of the hidden values comes back in the next step.
        check(content, feed, steps=2, equal=0.7)
