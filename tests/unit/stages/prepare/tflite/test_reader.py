"""Reading TFLite flatbuffers: one written here with the schema's own builder, and damaged ones."""

from __future__ import annotations

import dataclasses

import flatbuffers
import numpy as np
import pytest
import tflite
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite import reader
from crossfarm.stages.prepare.tflite.graph import convert_graph
from crossfarm.stages.prepare.tflite.reader import read_tflite

WEIGHTS = np.arange(12, dtype=np.int8).reshape(2, 1, 1, 6)
SCALES = np.array([0.5, 0.25], np.float32)


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _buffer(builder: flatbuffers.Builder, content: bytes) -> int:
    data = builder.CreateByteVector(content) if content else None
    tflite.BufferStart(builder)
    if data is not None:
        tflite.BufferAddData(builder, data)
    return int(tflite.BufferEnd(builder))


def _tensor(builder: flatbuffers.Builder, name: str, shape: list[int], buffer: int, scales: np.ndarray) -> int:
    label = builder.CreateString(name)
    extents = builder.CreateNumpyVector(np.array(shape, np.int32))
    scale = builder.CreateNumpyVector(scales)
    zero = builder.CreateNumpyVector(np.full(scales.shape, -3, np.int64))
    tflite.QuantizationParametersStart(builder)
    tflite.QuantizationParametersAddScale(builder, scale)
    tflite.QuantizationParametersAddZeroPoint(builder, zero)
    tflite.QuantizationParametersAddQuantizedDimension(builder, 0)
    quantisation = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, label)
    tflite.TensorAddShape(builder, extents)
    tflite.TensorAddType(builder, tflite.TensorType.INT8)
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddQuantization(builder, quantisation)
    return int(tflite.TensorEnd(builder))


def _convolution(builder: flatbuffers.Builder) -> int:
    tflite.Conv2DOptionsStart(builder)
    tflite.Conv2DOptionsAddPadding(builder, tflite.Padding.VALID)
    tflite.Conv2DOptionsAddStrideH(builder, 2)
    tflite.Conv2DOptionsAddStrideW(builder, 1)
    tflite.Conv2DOptionsAddDilationHFactor(builder, 1)
    tflite.Conv2DOptionsAddDilationWFactor(builder, 3)
    tflite.Conv2DOptionsAddFusedActivationFunction(builder, tflite.ActivationFunctionType.RELU6)
    options = tflite.Conv2DOptionsEnd(builder)
    inputs = builder.CreateNumpyVector(np.array([0, 1, -1], np.int32))
    outputs = builder.CreateNumpyVector(np.array([2], np.int32))
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, 0)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    tflite.OperatorAddBuiltinOptionsType(builder, tflite.BuiltinOptions.Conv2DOptions)
    tflite.OperatorAddBuiltinOptions(builder, options)
    return int(tflite.OperatorEnd(builder))


def _file(*, output: int = 2) -> bytes:
    builder = flatbuffers.Builder(1024)
    buffers = _vector(builder, [_buffer(builder, b""), _buffer(builder, WEIGHTS.tobytes())])
    one = np.array([0.1], np.float32)
    tensors = _vector(
        builder,
        [
            _tensor(builder, "image", [1, 4, 4, 6], 0, one),
            _tensor(builder, "weights", [2, 1, 1, 6], 1, SCALES),
            _tensor(builder, "result", [1, 2, 4, 2], 0, one),
        ],
    )
    operators = _vector(builder, [_convolution(builder)])
    inputs = builder.CreateNumpyVector(np.array([0], np.int32))
    outputs = builder.CreateNumpyVector(np.array([output], np.int32))
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, tensors)
    tflite.SubGraphAddOperators(builder, operators)
    tflite.SubGraphAddInputs(builder, inputs)
    tflite.SubGraphAddOutputs(builder, outputs)
    graphs = _vector(builder, [tflite.SubGraphEnd(builder)])
    tflite.OperatorCodeStart(builder)
    # As files from before schema 3a have it: the code stands in the narrow field alone.
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, tflite.BuiltinOperator.CONV_2D)
    codes = _vector(builder, [tflite.OperatorCodeEnd(builder)])
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffers)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


GOOD = _file()


def test_tensors_are_read_with_shape_type_steps_and_values() -> None:
    graph = read_tflite(GOOD)
    image, weights, result = graph.tensors
    assert [tensor.name for tensor in graph.tensors] == ["image", "weights", "result"]
    assert (image.shape, image.dtype, image.data) == ((1, 4, 4, 6), "int8", None)
    np.testing.assert_array_equal(weights.data, WEIGHTS)
    assert weights.quantisation is not None
    np.testing.assert_array_equal(weights.quantisation.scale, SCALES)
    np.testing.assert_array_equal(weights.quantisation.zero_point, [-3, -3])
    assert (graph.inputs, graph.outputs, result.index) == ((0,), (2,), 2)


def test_an_operator_is_read_with_its_options() -> None:
    (operator,) = read_tflite(GOOD).operators
    assert (operator.name, operator.inputs, operator.outputs) == ("CONV_2D", (0, 1, -1), (2,))
    options = operator.options
    assert (options.activation, options.same_padding, options.stride, options.dilation) == (
        "RELU6",
        False,
        (2, 1),
        (1, 3),
    )


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all", b"\x08\x07\x12\x07pytorch"])
def test_bytes_that_are_not_tflite_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="not a TFLite model"):
        read_tflite(content)


def test_a_tensor_that_is_named_but_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="names tensors that it does not hold"):
        read_tflite(_file(output=7))


@given(st.integers(8, len(GOOD) - 1))
def test_a_truncated_file_raises_nothing_but_a_model_error(length: int) -> None:
    try:
        graph = read_tflite(GOOD[:length])
    except ModelError:
        return
    np.testing.assert_array_equal(graph.tensors[1].data, WEIGHTS)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_damaged_byte_raises_nothing_but_a_model_error(place: int, value: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = value
    try:
        graph = read_tflite(bytes(damaged))
    except ModelError:
        return
    assert graph.inputs


def test_an_operator_that_does_not_fit_its_tensors_is_named() -> None:
    graph = read_tflite(GOOD)
    flat = dataclasses.replace(graph.tensors[0], shape=(96,))
    spoilt = dataclasses.replace(graph, tensors=(flat, *graph.tensors[1:]))
    with pytest.raises(ModelError, match=r"operator CONV_2D \(number 0\) does not fit its tensors of shapes \[96\]"):
        convert_graph(spoilt, [])


def test_an_output_that_does_not_fit_its_operator_is_named() -> None:
    graph = read_tflite(GOOD)
    output = graph.outputs[0]
    tensors = [*graph.tensors]
    tensors[output] = dataclasses.replace(tensors[output], shape=(1, 2))
    with pytest.raises(ModelError, match=r"the TFLite (output|operator) .* does not fit"):
        convert_graph(dataclasses.replace(graph, tensors=tuple(tensors)), [])


def test_tensors_of_all_subgraphs_are_counted_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TENSORS_LIMIT", 2)
    monkeypatch.setattr(reader, "_read_tensor", lambda *arguments: pytest.fail("a tensor was read"))
    with pytest.raises(ModelError, match="more than 2 tensors in its first 1 subgraphs"):
        read_tflite(GOOD)


def test_constants_are_no_copies_of_the_file() -> None:
    data = read_tflite(GOOD).tensors[1].data
    assert data is not None
    assert np.shares_memory(data, np.frombuffer(GOOD, np.uint8))
