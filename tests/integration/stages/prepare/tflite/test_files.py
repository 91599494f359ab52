"""What TFLite files hold besides operators: sparse, 4-bit and half-precision weights, subgraphs; and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.static_onnx import StaticInput
from crossfarm.stages.prepare.tflite.graph import convert
from crossfarm.stages.prepare.tflite.operators import REASONS
from crossfarm.stages.prepare.tflite.reader import read_tflite
from tests.integration.stages.prepare.tflite.files import Array, Steps, TfliteFile, check, schema

pytestmark = pytest.mark.integration

NO_ATTRIBUTES = list(flexbuffers.Dumps({}))


def _real(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def csr(values: Array) -> tuple[Any, Array]:
    """Return how a matrix is stored row by row, and its values other than zero."""
    dense, sparse = schema.DimensionMetadataT(), schema.DimensionMetadataT()
    dense.format, dense.denseSize = schema.DimensionType.DENSE, values.shape[0]
    sparse.format = schema.DimensionType.SPARSE_CSR
    sparse.arraySegmentsType = sparse.arrayIndicesType = schema.SparseIndexVector.Int32Vector
    sparse.arraySegments, sparse.arrayIndices = schema.Int32VectorT(), schema.Int32VectorT()
    sparse.arraySegments.values = np.concatenate([[0], np.cumsum((values != 0).sum(axis=1))]).astype(np.int32)
    sparse.arrayIndices.values = np.nonzero(values)[1].astype(np.int32)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap, sparsity.dimMetadata = np.arange(2, dtype=np.int32), [], [dense, sparse]
    return sparsity, values[values != 0]


@settings(max_examples=10)
@given(st.tuples(st.integers(1, 6), st.integers(1, 6)), st.integers(0, 2**32 - 1))
def test_sparse_weights_are_filled_up(shape: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(size=shape) * (random.random(shape) < 0.4)).astype(np.float32)
    values[0, 0] = 1.0
    sparsity, kept = csr(values)
    file = TfliteFile()
    source, dense, output = file.tensor((2, shape[1])), file.tensor(shape), file.tensor((2, shape[0]))
    weights = file.tensor(data=values, stored=kept.tobytes(), sparsity=sparsity)
    file.add("DENSIFY", [weights], [dense], "DensifyOptions")
    file.add("FULLY_CONNECTED", [source, dense, -1], [output], "FullyConnectedOptions")
    content = file.content([source], [output])
    np.testing.assert_array_equal(read_tflite(content).tensors[weights].data, values)
    check(content, {source: _real(2, shape[1])})


def test_sparse_weights_in_blocks_are_filled_up() -> None:
    """Rows in blocks of 2: the axes are row blocks, columns, rows inside of a block."""
    values = np.zeros((4, 3), np.float32)
    values[0:2, 1], values[2:4, 0], values[2:4, 2] = (1, 2), (3, 4), (5, 6)
    sizes = [schema.DimensionMetadataT() for _ in range(3)]
    sizes[0].denseSize, sizes[2].denseSize = 2, 2
    sizes[1].format = schema.DimensionType.SPARSE_CSR
    sizes[1].arraySegmentsType = sizes[1].arrayIndicesType = schema.SparseIndexVector.Uint8Vector
    sizes[1].arraySegments, sizes[1].arrayIndices = schema.Uint8VectorT(), schema.Uint8VectorT()
    sizes[1].arraySegments.values = np.array([0, 1, 3], np.uint8)
    sizes[1].arrayIndices.values = np.array([1, 0, 2], np.uint8)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.blockMap = np.arange(3, dtype=np.int32), np.array([0], np.int32)
    sparsity.dimMetadata = sizes
    file = TfliteFile()
    source, dense, output = file.tensor((2, 3)), file.tensor((4, 3)), file.tensor((2, 4))
    stored = np.arange(1, 7, dtype=np.float32).tobytes()
    weights = file.tensor(data=values, stored=stored, sparsity=sparsity)
    file.add("DENSIFY", [weights], [dense], "DensifyOptions")
    file.add("FULLY_CONNECTED", [source, dense, -1], [output], "FullyConnectedOptions")
    content = file.content([source], [output])
    np.testing.assert_array_equal(read_tflite(content).tensors[weights].data, values)
    check(content, {source: _real(2, 3)})


def test_sparse_weights_that_do_not_fit_are_refused() -> None:
    sparsity, kept = csr(np.eye(3, dtype=np.float32))
    for spoil in (
        lambda: setattr(sparsity.dimMetadata[1].arrayIndices, "values", np.array([0, 1, 7], np.int32)),
        lambda: setattr(sparsity.dimMetadata[1].arraySegments, "values", np.array([0, 2, 1, 3], np.int32)),
        lambda: setattr(sparsity.dimMetadata[0], "denseSize", 1 << 30),
    ):
        spoil()
        file = TfliteFile()
        source, output = file.tensor((2, 3)), file.tensor((2, 3))
        weights = file.tensor(data=np.eye(3, dtype=np.float32), stored=kept.tobytes(), sparsity=sparsity)
        file.add("FULLY_CONNECTED", [source, weights, -1], [output], "FullyConnectedOptions")
        with pytest.raises(ModelError, match=r"the TFLite file is damaged: .* sparse tensor"):
            read_tflite(file.content([source], [output]))


def test_weights_of_half_precision() -> None:
    file = TfliteFile()
    source, wide, output = file.tensor((1, 5, 5, 2)), file.tensor((3, 2, 2, 2)), file.tensor((1, 4, 4, 3))
    half, bias = file.tensor(data=_real(3, 2, 2, 2).astype(np.float16)), file.tensor(data=_real(3))
    file.add("DEQUANTIZE", [half], [wide])
    options = {"padding": 1, "strideH": 1, "strideW": 1}
    file.add("CONV_2D", [source, wide, bias], [output], "Conv2DOptions", **options)
    check(file.content([source], [output]), {source: _real(1, 5, 5, 2)})


def test_weights_of_4_bits() -> None:
    random = np.random.default_rng(3)
    values = random.integers(-7, 8, (4, 7)).astype(np.int8)
    flat = values.reshape(-1)
    packed = ((flat[1::2].astype(np.uint8) & 15) << 4) | (flat[0::2].astype(np.uint8) & 15)
    file = TfliteFile()
    source = file.tensor((2, 7), "int8", steps=Steps(scale=0.05, zero_point=3))
    weights = file.tensor(dtype="int4", data=values, stored=packed.tobytes(), steps=Steps(scale=0.1))
    output = file.tensor((2, 4), "int8", steps=Steps(scale=0.3))
    file.add("FULLY_CONNECTED", [source, weights, -1], [output], "FullyConnectedOptions")
    content = file.content([source], [output])
    np.testing.assert_array_equal(read_tflite(content).tensors[weights].data, values)
    check(content, {source: random.integers(-128, 128, (2, 7)).astype(np.int8)})


def test_weights_of_8_bits_in_a_floating_layer() -> None:
    """LiteRT quantises the input of such layers at run time; the converted graph does not."""
    random = np.random.default_rng(3)
    values = random.integers(-127, 128, (6, 32)).astype(np.int8)
    file = TfliteFile()
    source, output = file.tensor((2, 32)), file.tensor((2, 6))
    weights = file.tensor(data=values, steps=Steps(scale=0.01))
    file.add("FULLY_CONNECTED", [source, weights, -1], [output], "FullyConnectedOptions")
    check(file.content([source], [output]), {source: _real(2, 32)}, atol=0.02)


def test_a_floating_input_and_a_quantised_output_keep_their_types() -> None:
    file = TfliteFile()
    source, output = file.tensor((3, 4)), file.tensor((3, 4), "int8", steps=Steps(scale=0.02, zero_point=3))
    file.add("QUANTIZE", [source], [output])
    check(file.content([source], [output]), {source: _real(3, 4)})


def test_a_composite_operator_is_replaced_by_what_it_stands_for() -> None:
    file = TfliteFile()
    source, middle, output = file.tensor((2, 3)), file.tensor((2, 3)), file.tensor((2, 3))
    options = {"name": b"odml.some", "decompositionSubgraphIndex": 1, "compositeAttributes": NO_ATTRIBUTES}
    file.add("STABLEHLO_COMPOSITE", [source], [middle], "StableHLOCompositeOptions", **options)
    file.add("STABLEHLO_COMPOSITE", [middle], [output], "StableHLOCompositeOptions", **options)
    file.ports([source], [output])
    file.graph()
    inner, squared, result = file.tensor((2, 3)), file.tensor((2, 3)), file.tensor((2, 3))
    file.add("SQUARE", [inner], [squared], "SquareOptions")
    file.add("NEG", [squared], [result], "NegOptions")
    file.ports([inner], [result])
    file.first()
    check(file.content([source], [output]), {source: _real(2, 3)})


def test_a_subgraph_that_calls_itself_is_refused() -> None:
    file = TfliteFile()
    source, output = file.tensor((2, 3)), file.tensor((2, 3))
    options = {"name": b"again", "decompositionSubgraphIndex": 1}
    file.add("STABLEHLO_COMPOSITE", [source], [output], "StableHLOCompositeOptions", **options)
    file.ports([source], [output])
    file.graph()
    inner, result = file.tensor((2, 3)), file.tensor((2, 3))
    file.add("STABLEHLO_COMPOSITE", [inner], [result], "StableHLOCompositeOptions", **options)
    file.ports([inner], [result])
    file.first()
    with pytest.raises(ModelError, match=r"operator 0 \(STABLEHLO_COMPOSITE\) calls subgraph 1, which .* calls itself"):
        convert(file.content([source], [output]), _declared(source))


def _declared(*indices: int) -> list[StaticInput]:
    return [StaticInput(name=f"t{index}", shape=(2, 3), dtype="float32") for index in indices]


@pytest.mark.parametrize("name", REASONS)
def test_a_refused_operator_is_named_with_tensor_and_reason(name: str) -> None:
    if not hasattr(schema.BuiltinOperator, name):
        pytest.fail(f"{name} is no operator of TFLite")
    file = TfliteFile()
    source, middle, output = file.tensor((2, 3)), file.tensor((2, 3)), file.tensor((2, 3))
    file.add("NEG", [source], [middle], "NegOptions")
    file.add(name, [middle], [output])
    with pytest.raises(ModelError) as refused:
        convert(file.content([source], [output]), _declared(source))
    assert f"{name} (number 1, output 't2', tensor 2): {REASONS[name]}" in str(refused.value)


@pytest.mark.parametrize(("name", "kind"), [("TRANSPOSE", "TransposeOptions"), ("PAD", "PadOptions")])
def test_what_must_be_a_constant_is_named(name: str, kind: str) -> None:
    file = TfliteFile()
    source, other, output = file.tensor((2, 3)), file.tensor((2,), "int32"), file.tensor((2, 3))
    file.add(name, [source, other], [output], kind)
    declared = [*_declared(source), StaticInput(name="t1", shape=(2,), dtype="int32")]
    message = rf"operator 0 \({name}, output 't2'\) needs 't1' as a constant, but it is computed from the data"
    with pytest.raises(ModelError, match=message):
        convert(file.content([source, other], [output]), declared)


def test_integers_go_through_as_they_are() -> None:
    file = TfliteFile()
    source, output = file.tensor((2, 3), "int32"), file.tensor((2, 3), "int32")
    file.add("NEG", [source], [output], "NegOptions")
    content = file.content([source], [output])
    check(content, {source: np.arange(6, dtype=np.int32).reshape(2, 3)})
    model = onnx.load_model_from_string(convert(content, [StaticInput(name="t0", shape=(2, 3), dtype="int32")]))
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == [6, 6]
