"""Operators that move elements, held to LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.stages.prepare.tflite.files import Array, Steps, TfliteFile, check

pytestmark = pytest.mark.integration

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
DTYPES = st.sampled_from(("float32", "int32", "int8"))
FEW = settings(max_examples=10)
STEPS = Steps(scale=0.05, zero_point=3)
Shape = tuple[int, ...]


def _values(shape: Sequence[int], dtype: str) -> Array:
    random = np.random.default_rng(sum(shape))
    if dtype == "float32":
        return random.normal(size=shape).astype(np.float32)
    return random.integers(-100, 100, tuple(shape)).astype(dtype)


def _hold(
    name: str,
    values: Array,
    constants: Sequence[Array],
    shapes: Sequence[Shape],
    kind: str = "",
    *,
    data_at: int = 0,
    **options: Any,
) -> None:
    """Hold an operator of one computed input and some constants to LiteRT; the results have the input's type."""
    dtype = values.dtype.name
    steps = STEPS if dtype == "int8" else None
    file = TfliteFile()
    source = file.tensor(values.shape, dtype, steps=steps)
    inputs = [file.tensor(data=constant) for constant in constants]
    inputs.insert(data_at, source)
    outputs = [file.tensor(shape, dtype, steps=steps) for shape in shapes]
    file.add(name, inputs, outputs, kind, **options)
    check(file.content([source], outputs), {source: values}, steps=0)


def _vector(values: Sequence[int]) -> Array:
    return np.array(values, np.int32)


@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_transpose(shape: Shape, dtype: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    _hold("TRANSPOSE", _values(shape, dtype), [_vector(order)], [tuple(shape[at] for at in order)], "TransposeOptions")


@FEW
@given(shape=SHAPES, dtype=DTYPES)
def test_reshape_squeeze_and_expand(shape: Shape, dtype: str) -> None:
    values = _values(shape, dtype)
    _hold("RESHAPE", values, [_vector([-1])], [(values.size,)], "ReshapeOptions", newShape=[-1])
    wider = values.reshape(1, *shape)[:, None]
    _hold("SQUEEZE", wider, [], [(1, *shape)], "SqueezeOptions", squeezeDims=[1])
    _hold("EXPAND_DIMS", values, [np.array(-1, np.int32)], [(*shape, 1)], "ExpandDimsOptions")


@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_slice(shape: Shape, dtype: str, data: st.DataObject) -> None:
    begins = [data.draw(st.integers(0, extent - 1)) for extent in shape]
    sizes = [data.draw(st.integers(1, extent - begin)) for begin, extent in zip(begins, shape, strict=True)]
    given_sizes = [data.draw(st.sampled_from((size, -1))) for size in sizes]
    after = [
        extent - begin if asked < 0 else size
        for extent, begin, size, asked in zip(shape, begins, sizes, given_sizes, strict=True)
    ]
    _hold("SLICE", _values(shape, dtype), [_vector(begins), _vector(given_sizes)], [tuple(after)], "SliceOptions")


@settings(max_examples=60)
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_strided_slice_with_all_masks(shape: Shape, dtype: str, data: st.DataObject) -> None:
    rank = len(shape)
    begins = [data.draw(st.integers(-extent, extent - 1)) for extent in shape]
    ends = [data.draw(st.integers(-extent - 1, extent + 1)) for extent in shape]
    strides = [data.draw(st.sampled_from((1, 2, -1, -2))) for _ in shape]
    bits = st.integers(0, 2**rank - 1)
    begin_mask, end_mask, shrink = data.draw(bits), data.draw(bits), data.draw(bits)
    strides = [1 if shrink >> at & 1 else stride for at, stride in enumerate(strides)]
    indices: list[Any] = []
    for at in range(rank):
        if shrink >> at & 1:
            begin_mask &= ~(1 << at)
            indices.append(begins[at])
            continue
        first = None if begin_mask >> at & 1 else begins[at]
        indices.append(slice(first, None if end_mask >> at & 1 else ends[at], strides[at]))
    values = _values(shape, dtype)
    expected = values[tuple(indices)]
    if not expected.size:
        return
    masks = {"beginMask": begin_mask, "endMask": end_mask, "shrinkAxisMask": shrink}
    bounds = [_vector(begins), _vector(ends), _vector(strides)]
    _hold("STRIDED_SLICE", values, bounds, [expected.shape], "StridedSliceOptions", **masks)


@pytest.mark.parametrize(
    ("begins", "ends", "masks", "shape"),
    [
        ([0, 1], [0, 3], {"ellipsisMask": 1}, (4, 3, 2)),
        ([1, 0, 0], [2, 0, 1], {"ellipsisMask": 2, "shrinkAxisMask": 4}, (1, 3)),
        ([0, 0, 1], [0, 2, 3], {"newAxisMask": 1}, (1, 2, 2, 5)),
        ([0, 0, 0], [2, 0, 2], {"newAxisMask": 2}, (2, 1, 2, 5)),
    ],
)
def test_strided_slice_with_dots_and_new_axes(begins: Any, ends: Any, masks: Any, shape: Shape) -> None:
    bounds = [_vector(begins), _vector(ends), _vector([1] * len(begins))]
    _hold("STRIDED_SLICE", _values((4, 3, 5), "float32"), bounds, [shape], "StridedSliceOptions", **masks)


@FEW
@given(shape=SHAPES, dtype=DTYPES, count=st.integers(1, 3), data=st.data())
def test_split(shape: Shape, dtype: str, count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = tuple(extent * count if at == axis else extent for at, extent in enumerate(shape))
    values = _values(parts, dtype)
    named = np.array(axis - len(shape), np.int32)
    _hold("SPLIT", values, [named], [shape] * count, "SplitOptions", data_at=1, numSplits=count)


@FEW
@given(shape=SHAPES, dtype=DTYPES, sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3), data=st.data())
def test_split_into_stated_sizes(shape: Shape, dtype: str, sizes: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    shapes = [tuple(size if at == axis else extent for at, extent in enumerate(shape)) for size in sizes]
    total = tuple(sum(sizes) if at == axis else extent for at, extent in enumerate(shape))
    constants = [_vector(sizes), np.array(axis, np.int32)]
    _hold("SPLIT_V", _values(total, dtype), constants, shapes, "SplitVOptions", numSplits=len(sizes))


@FEW
@given(shape=SHAPES.filter(lambda shape: len(shape) < 4), dtype=DTYPES, count=st.integers(1, 4), data=st.data())
def test_pack_and_unpack(shape: Shape, dtype: str, count: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    packed = np.stack([_values(shape, dtype)] * count, axis=axis)
    _hold("UNPACK", packed, [], [shape] * count, "UnpackOptions", num=count, axis=axis)
    file = TfliteFile()
    steps = STEPS if dtype == "int8" else None
    inputs = [file.tensor(shape, dtype, steps=steps) for _ in range(count)]
    output = file.tensor(packed.shape, dtype, steps=steps)
    file.add("PACK", inputs, [output], "PackOptions", valuesCount=count, axis=axis)
    feed = {index: _values(shape, dtype) + np.array(index, dtype) for index in inputs}
    check(file.content(inputs, [output]), feed, steps=0)


@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_concatenation(shape: Shape, dtype: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    file = TfliteFile()
    steps = STEPS if dtype == "int8" else None
    values = [_values(shape, dtype), _values(shape, dtype)]
    inputs = [file.tensor(shape, dtype, steps=steps) for _ in range(2)]
    output = file.tensor(np.concatenate(values, axis=axis).shape, dtype, steps=steps)
    file.add("CONCATENATION", inputs, [output], "ConcatenationOptions", axis=axis)
    check(file.content(inputs, [output]), dict(zip(inputs, values, strict=True)), steps=0)


def _pairs(data: st.DataObject, shape: Shape, most: int | None = None) -> Array:
    bounds = [extent if most is None else min(most, extent) for extent in shape]
    return np.array([[data.draw(st.integers(0, bound)) for _ in range(2)] for bound in bounds], np.int32)


@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_pad(shape: Shape, dtype: str, data: st.DataObject) -> None:
    pairs = _pairs(data, shape)
    after = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    _hold("PAD", _values(shape, dtype), [pairs], [after], "PadOptions")
    if dtype != "int8":
        _hold("PADV2", _values(shape, dtype), [pairs, np.array(7, dtype)], [after], "PadV2Options")


@pytest.mark.parametrize("mode", [0, 1], ids=["reflect", "symmetric"])
@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_mirror_pad(mode: int, shape: Shape, dtype: str, data: st.DataObject) -> None:
    pairs = _pairs(data, tuple(extent - 1 + mode for extent in shape))
    after = tuple(int(extent + sum(pair)) for extent, pair in zip(shape, pairs, strict=True))
    _hold("MIRROR_PAD", _values(shape, dtype), [pairs], [after], "MirrorPadOptions", mode=mode)


@FEW
@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_reverse_tile_and_broadcast(shape: Shape, dtype: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    values = _values(shape, dtype)
    if dtype != "int8":
        _hold("REVERSE_V2", values, [_vector([axis])], [shape], "ReverseV2Options")
    times = [data.draw(st.integers(1, 3)) for _ in shape]
    after = tuple(extent * count for extent, count in zip(shape, times, strict=True))
    if dtype != "int8":
        _hold("TILE", values, [_vector(times)], [after], "TileOptions")
    wider = (2, *shape)
    _hold("BROADCAST_TO", values, [_vector(wider)], [wider], "BroadcastToOptions")


def _indexed(
    name: str, values: Array, indices: Array, shape: Shape, kind: str, *, constant: bool, **options: Any
) -> None:
    dtype = values.dtype.name
    steps = STEPS if dtype == "int8" else None
    file = TfliteFile()
    source, output = (file.tensor(extents, dtype, steps=steps) for extents in (values.shape, shape))
    places = file.tensor(data=indices) if constant else file.tensor(indices.shape, indices.dtype.name)
    file.add(name, [source, places], [output], kind, **options)
    feed = {source: values} if constant else {source: values, places: indices}
    check(file.content(list(feed), [output]), feed, steps=0)


@settings(max_examples=25)
@given(shape=SHAPES, dtype=DTYPES, constant=st.booleans(), wide=st.booleans(), data=st.data())
def test_gather(shape: Shape, dtype: str, constant: bool, wide: bool, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    batch = data.draw(st.integers(0, axis))
    places = (*shape[:batch], *data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    indices = np.random.default_rng(1).integers(0, shape[axis], places).astype(np.int64 if wide else np.int32)
    after = (*shape[:axis], *places[batch:], *shape[axis + 1 :])
    options = {"axis": axis, "batchDims": batch}
    _indexed("GATHER", _values(shape, dtype), indices, after, "GatherOptions", constant=constant, **options)


@FEW
@given(shape=SHAPES, dtype=DTYPES, constant=st.booleans(), data=st.data())
def test_gather_nd(shape: Shape, dtype: str, constant: bool, data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, len(shape)))
    random = np.random.default_rng(1)
    indices = np.stack([random.integers(0, extent, (2, 3)) for extent in shape[:depth]], axis=-1).astype(np.int32)
    after = (2, 3, *shape[depth:])
    _indexed("GATHER_ND", _values(shape, dtype), indices, after, "GatherNdOptions", constant=constant)


@pytest.mark.parametrize("begin", [0, 2, 3])
def test_a_slice_from_a_computed_place(begin: int) -> None:
    values = _values((4, 6), "float32")
    file = TfliteFile()
    source, begins, output = file.tensor((4, 6)), file.tensor((2,), "int32"), file.tensor((4, 3))
    sizes = file.tensor(data=_vector([4, 3]))
    file.add("SLICE", [source, begins, sizes], [output], "SliceOptions")
    check(file.content([source, begins], [output]), {source: values, begins: _vector([0, begin])}, steps=0)


@pytest.mark.parametrize("begins", [(0, 0, 0), (1, 2, 1), (0, 5, -3)])
def test_an_update_at_a_computed_place(begins: tuple[int, ...]) -> None:
    file = TfliteFile()
    source, update, at = file.tensor((2, 4, 3)), file.tensor((1, 2, 3)), file.tensor((3,), "int32")
    output = file.tensor((2, 4, 3))
    file.add("DYNAMIC_UPDATE_SLICE", [source, update, at], [output], "DynamicUpdateSliceOptions")
    feed = {source: _values((2, 4, 3), "float32"), update: _values((1, 2, 3), "float32") + 9, at: _vector(begins)}
    check(file.content([source, update, at], [output]), feed, steps=0)


def test_a_scatter_adds_what_goes_to_one_place() -> None:
    file = TfliteFile()
    places = file.tensor(data=np.array([[0], [2], [2]], np.int32))
    updates, output = file.tensor((3, 4)), file.tensor((5, 4))
    file.add("SCATTER_ND", [places, updates, file.tensor(data=_vector([5, 4]))], [output], "ScatterNdOptions")
    check(file.content([updates], [output]), {updates: _values((3, 4), "float32")})


def test_sparse_to_dense() -> None:
    file = TfliteFile()
    places = file.tensor(data=np.array([[0, 1], [2, 3]], np.int32))
    filling, shape = file.tensor(data=np.array(-1, np.float32)), file.tensor(data=_vector([3, 4]))
    values, output = file.tensor((2,)), file.tensor((3, 4))
    file.add("SPARSE_TO_DENSE", [places, shape, values, filling], [output], "SparseToDenseOptions")
    check(file.content([values], [output]), {values: _values((2,), "float32")})


@FEW
@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple), data=st.data())
def test_reverse_sequence(shape: Shape, data: st.DataObject) -> None:
    along, rows = data.draw(st.permutations(range(len(shape))))[:2]
    lengths = np.array([data.draw(st.integers(0, shape[along])) for _ in range(shape[rows])], np.int32)
    file = TfliteFile()
    source, counts, output = file.tensor(shape), file.tensor(lengths.shape, "int32"), file.tensor(shape)
    options = {"seqDim": along, "batchDim": rows}
    file.add("REVERSE_SEQUENCE", [source, counts], [output], "ReverseSequenceOptions", **options)
    check(file.content([source, counts], [output]), {source: _values(shape, "float32"), counts: lengths}, steps=0)


def test_diagonals() -> None:
    values = _values((2, 3), "float32")
    _hold("MATRIX_DIAG", values, [], [(2, 3, 3)], "MatrixDiagOptions")
    for shape in ((2, 3, 3), (2, 3, 5), (2, 5, 3)):
        file = TfliteFile()
        source, diagonal, output = file.tensor(shape), file.tensor((2, 3)), file.tensor(shape)
        file.add("MATRIX_SET_DIAG", [source, diagonal], [output], "MatrixSetDiagOptions")
        feed = {source: _values(shape, "float32"), diagonal: values}
        check(file.content([source, diagonal], [output]), feed, steps=0)


def test_an_embedding_is_looked_up() -> None:
    file = TfliteFile()
    indices, table, output = (
        file.tensor((3,), "int32"),
        file.tensor(data=_values((7, 4), "float32")),
        file.tensor((3, 4)),
    )
    file.add("EMBEDDING_LOOKUP", [indices, table], [output])
    check(file.content([indices], [output]), {indices: _vector([6, 0, 2])}, steps=0)


def test_fill_and_range_and_zeros_are_constants() -> None:
    file = TfliteFile()
    source, filled, counted, zeros, sums, more, output = (file.tensor((4,)) for _ in range(7))
    dims, value = file.tensor(data=_vector([4])), file.tensor(data=np.array(2.5, np.float32))
    bounds = [file.tensor(data=np.array(bound, np.float32)) for bound in (1.0, 9.0, 2.0)]
    file.add("FILL", [dims, value], [filled], "FillOptions")
    file.add("RANGE", bounds, [counted], "RangeOptions")
    file.add("ZEROS_LIKE", [source], [zeros], "ZerosLikeOptions")
    file.add("ADD_N", [source, filled, counted], [sums], "AddNOptions")
    file.add("ADD", [sums, zeros], [more], "AddOptions")
    file.add("NEG", [more], [output], "NegOptions")
    check(file.content([source], [output]), {source: _values((4,), "float32")})


def test_a_fill_with_a_computed_number() -> None:
    file = TfliteFile()
    source, output = file.tensor(()), file.tensor((2, 3))
    file.add("FILL", [file.tensor(data=_vector([2, 3])), source], [output], "FillOptions")
    check(file.content([source], [output]), {source: np.array(1.5, np.float32)})


def test_a_shape_that_is_computed_from_shapes() -> None:
    """What exporters write for `reshape(x, (shape(x)[0], -1))`."""
    file = TfliteFile()
    source, output = file.tensor((2, 3, 4)), file.tensor((2, 12))
    shape, first, target = file.tensor((3,), "int32"), file.tensor((), "int32"), file.tensor((2,), "int32")
    bounds = [file.tensor(data=_vector([number])) for number in (0, 1, 1)]
    rest = file.tensor(data=np.array(12, np.int32))
    file.add("SHAPE", [source], [shape], "ShapeOptions", outType=2)
    file.add("STRIDED_SLICE", [shape, *bounds], [first], "StridedSliceOptions", shrinkAxisMask=1)
    file.add("PACK", [first, rest], [target], "PackOptions", valuesCount=2)
    file.add("BROADCAST_TO", [source, shape], [middle := file.tensor((2, 3, 4))], "BroadcastToOptions")
    file.add("RESHAPE", [middle, target], [output])
    check(file.content([source], [output]), {source: _values((2, 3, 4), "float32")}, steps=0)


IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
WHERE = [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize(("corners", "half"), WHERE, ids=["plain", "corners", "half"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@settings(max_examples=20)
@given(shape=IMAGES, size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_resize_to_the_nearest(corners: bool, half: bool, dtype: str, shape: Shape, size: Shape) -> None:
    options = {"alignCorners": corners, "halfPixelCenters": half}
    after = (shape[0], *size, shape[3])
    _hold(
        "RESIZE_NEAREST_NEIGHBOR",
        _values(shape, dtype),
        [_vector(size)],
        [after],
        "ResizeNearestNeighborOptions",
        **options,
    )


@pytest.mark.parametrize(("corners", "half"), WHERE, ids=["plain", "corners", "half"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@settings(max_examples=20)
@given(shape=IMAGES, size=st.tuples(st.integers(1, 12), st.integers(1, 12)))
def test_resize_along_lines(corners: bool, half: bool, dtype: str, shape: Shape, size: Shape) -> None:
    file = TfliteFile()
    steps = STEPS if dtype == "int8" else None
    source, output = (
        file.tensor(shape, dtype, steps=steps),
        file.tensor((shape[0], *size, shape[3]), dtype, steps=steps),
    )
    options = {"alignCorners": corners, "halfPixelCenters": half}
    file.add("RESIZE_BILINEAR", [source, file.tensor(data=_vector(size))], [output], "ResizeBilinearOptions", **options)
    # LiteRT's integers have weights of 10 bits.
    check(file.content([source], [output]), {source: _values(shape, dtype)}, equal=0.5)


@FEW
@given(shape=IMAGES, block=st.integers(2, 3), dtype=DTYPES)
def test_depth_and_space(shape: Shape, block: int, dtype: str) -> None:
    batch, height, width, channels = shape
    deep = (batch, height, width, channels * block * block)
    wide = (batch, height * block, width * block, channels)
    _hold("DEPTH_TO_SPACE", _values(deep, dtype), [], [wide], "DepthToSpaceOptions", blockSize=block)
    _hold("SPACE_TO_DEPTH", _values(wide, dtype), [], [deep], "SpaceToDepthOptions", blockSize=block)


@FEW
@given(shape=IMAGES, block=st.tuples(st.integers(1, 3), st.integers(1, 3)), dtype=DTYPES, data=st.data())
def test_batch_and_space(shape: Shape, block: Shape, dtype: str, data: st.DataObject) -> None:
    batch, _, _, channels = shape
    around = [[data.draw(st.integers(0, 2)), 0] for _ in range(2)]
    for at in range(2):
        around[at][1] = -(shape[1 + at] + around[at][0]) % block[at]
    small = [(shape[1 + at] + sum(around[at])) // block[at] for at in range(2)]
    folded = (batch * block[0] * block[1], *small, channels)
    pairs = np.array(around, np.int32)
    constants = [_vector(block), pairs]
    _hold("SPACE_TO_BATCH_ND", _values(shape, dtype), constants, [folded], "SpaceToBatchNDOptions")
    _hold("BATCH_TO_SPACE_ND", _values(folded, dtype), constants, [shape], "BatchToSpaceNDOptions")
