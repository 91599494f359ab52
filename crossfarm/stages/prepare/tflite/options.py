"""Reads the options of TFLite operators: one table says which fields of which kind are read."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any

import tflite


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorOptions:
    """The fields of an operator's options that the converters read; pairs are height and width.

    Names are the schema's but for these: `same_padding` is padding == SAME, `window` the filter of a pooling,
    `shuffled_weights` says that the weights of a FULLY_CONNECTED are in an order of their own, `symmetric` that a
    MIRROR_PAD repeats the edge, `basic_kernel` that an LSTM is of the older form with five inputs, `name` the shared
    name of a variable or the name of a composite operator, `subgraph` the number of the subgraph that is called, and
    `depth_*` the first of the three spatial axes of a volume.
    """

    activation: str = "NONE"
    same_padding: bool = False
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    window: tuple[int, int] = (1, 1)
    depth_stride: int = 1
    depth_dilation: int = 1
    axis: int = 0
    keep_dims: bool = False
    beta: float = 1.0
    shuffled_weights: bool = False
    alpha: float = 0.0
    align_corners: bool = False
    half_pixel_centers: bool = False
    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0
    end_is_offset: bool = False
    batch_dims: int = 0
    exclusive: bool = False
    reverse: bool = False
    approximate: bool = False
    symmetric: bool = False
    adj_x: bool = False
    adj_y: bool = False
    block_size: int = 1
    radius: int = 0
    bias: float = 0.0
    low: float = 0.0
    high: float = 0.0
    bits: int = 8
    narrow_range: bool = False
    seq_dim: int = 0
    batch_dim: int = 0
    time_major: bool = False
    merge_outputs: bool = False
    cell_clip: float = 0.0
    proj_clip: float = 0.0
    basic_kernel: bool = False
    diagonal: bool = False
    rank: int = 1
    boundaries: tuple[float, ...] = ()
    name: str = ""
    subgraph: int = -1


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_ACTIVATIONS = _names(tflite.ActivationFunctionType)


def _same_padding(options: Any) -> bool:
    return bool(options.Padding() == tflite.Padding.SAME)


def _stride(options: Any) -> tuple[int, int]:
    return options.StrideH(), options.StrideW()


def _dilation(options: Any) -> tuple[int, int]:
    return options.DilationHFactor(), options.DilationWFactor()


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", errors="replace")


_Read = Callable[[Any], Any]
_FIELDS: dict[str, _Read] = {
    "activation": lambda options: _ACTIVATIONS.get(options.FusedActivationFunction(), "unknown"),
    "same_padding": _same_padding,
    "stride": _stride,
    "dilation": _dilation,
    "window": lambda options: (options.FilterHeight(), options.FilterWidth()),
    "depth_stride": lambda options: options.StrideD(),
    "depth_dilation": lambda options: options.DilationDFactor(),
    "axis": lambda options: options.Axis(),
    "keep_dims": lambda options: bool(options.KeepDims()),
    "beta": lambda options: float(options.Beta()),
    "shuffled_weights": lambda options: options.WeightsFormat() != 0,
    "alpha": lambda options: float(options.Alpha()),
    "align_corners": lambda options: bool(options.AlignCorners()),
    "half_pixel_centers": lambda options: bool(options.HalfPixelCenters()),
    "begin_mask": lambda options: options.BeginMask(),
    "end_mask": lambda options: options.EndMask(),
    "ellipsis_mask": lambda options: options.EllipsisMask(),
    "new_axis_mask": lambda options: options.NewAxisMask(),
    "shrink_axis_mask": lambda options: options.ShrinkAxisMask(),
    "end_is_offset": lambda options: bool(options.Offset()),
    "batch_dims": lambda options: options.BatchDims(),
    "exclusive": lambda options: bool(options.Exclusive()),
    "reverse": lambda options: bool(options.Reverse()),
    "approximate": lambda options: bool(options.Approximate()),
    "symmetric": lambda options: options.Mode() == tflite.MirrorPadMode.SYMMETRIC,
    "adj_x": lambda options: bool(options.AdjX()),
    "adj_y": lambda options: bool(options.AdjY()),
    "block_size": lambda options: options.BlockSize(),
    "radius": lambda options: options.Radius(),
    "bias": lambda options: float(options.Bias()),
    "low": lambda options: float(options.Min()),
    "high": lambda options: float(options.Max()),
    "bits": lambda options: options.NumBits(),
    "narrow_range": lambda options: bool(options.NarrowRange()),
    "seq_dim": lambda options: options.SeqDim(),
    "batch_dim": lambda options: options.BatchDim(),
    "time_major": lambda options: bool(options.TimeMajor()),
    "merge_outputs": lambda options: bool(options.MergeOutputs()),
    "cell_clip": lambda options: float(options.CellClip()),
    "proj_clip": lambda options: float(options.ProjClip()),
    "basic_kernel": lambda options: options.KernelType() == tflite.LSTMKernelType.BASIC,
    "diagonal": lambda options: bool(options.DiagonalRecurrentTensors()),
    "rank": lambda options: options.Rank(),
    "boundaries": lambda options: tuple(float(options.Boundaries(at)) for at in range(options.BoundariesLength())),
}
"""How each field is read; a function of its own where an operator has another name for it (`_OWN`)."""

_OWN: dict[tuple[str, str], _Read] = {
    ("PACK", "axis"): lambda options: options.Axis(),
    ("VAR_HANDLE", "name"): lambda options: _text(options.SharedName()),
    ("STABLEHLO_COMPOSITE", "name"): lambda options: _text(options.Name()),
    ("STABLEHLO_COMPOSITE", "subgraph"): lambda options: options.DecompositionSubgraphIndex(),
    ("CALL", "subgraph"): lambda options: int(options.Subgraph()),
    ("CALL_ONCE", "subgraph"): lambda options: options.InitSubgraphIndex(),
}

_CONVOLUTION = ("activation", "same_padding", "stride", "dilation")
_POOL = ("activation", "same_padding", "stride", "window")
_VOLUME = (*_CONVOLUTION, "depth_stride", "depth_dilation")
_SLICE = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "end_is_offset")
_REDUCTION = ("ReducerOptions", ("keep_dims",))
_SEQUENCE_LSTM = ("activation", "cell_clip", "proj_clip", "time_major")

_READ: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("activation",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "BATCH_MATMUL": ("BatchMatMulOptions", ("adj_x", "adj_y")),
    "BIDIRECTIONAL_SEQUENCE_LSTM": ("BidirectionalSequenceLSTMOptions", (*_SEQUENCE_LSTM, "merge_outputs")),
    "BIDIRECTIONAL_SEQUENCE_RNN": (
        "BidirectionalSequenceRNNOptions",
        ("activation", "time_major", "merge_outputs"),
    ),
    "BUCKETIZE": ("BucketizeOptions", ("boundaries",)),
    "CALL": ("CallOptions", ("subgraph",)),
    "CALL_ONCE": ("CallOnceOptions", ("subgraph",)),
    "CONCATENATION": ("ConcatenationOptions", ("activation", "axis")),
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION),
    "CONV_3D": ("Conv3DOptions", _VOLUME),
    "CUMSUM": ("CumsumOptions", ("exclusive", "reverse")),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONVOLUTION),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("block_size",)),
    "DIV": ("DivOptions", ("activation",)),
    "FAKE_QUANT": ("FakeQuantOptions", ("low", "high", "bits", "narrow_range")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("activation", "shuffled_weights")),
    "GATHER": ("GatherOptions", ("axis", "batch_dims")),
    "GELU": ("GeluOptions", ("approximate",)),
    "L2_NORMALIZATION": ("L2NormOptions", ("activation",)),
    "L2_POOL_2D": ("Pool2DOptions", _POOL),
    "LEAKY_RELU": ("LeakyReluOptions", ("alpha",)),
    "LOCAL_RESPONSE_NORMALIZATION": ("LocalResponseNormalizationOptions", ("radius", "bias", "alpha", "beta")),
    "LSTM": ("LSTMOptions", ("activation", "cell_clip", "proj_clip", "basic_kernel")),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "MEAN": _REDUCTION,
    "MIRROR_PAD": ("MirrorPadOptions", ("symmetric",)),
    "MUL": ("MulOptions", ("activation",)),
    "ONE_HOT": ("OneHotOptions", ("axis",)),
    "PACK": ("PackOptions", ("axis",)),
    "REDUCE_ALL": _REDUCTION,
    "REDUCE_ANY": _REDUCTION,
    "REDUCE_MAX": _REDUCTION,
    "REDUCE_MIN": _REDUCTION,
    "REDUCE_PROD": _REDUCTION,
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", ("align_corners", "half_pixel_centers")),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("align_corners", "half_pixel_centers")),
    "REVERSE_SEQUENCE": ("ReverseSequenceOptions", ("seq_dim", "batch_dim")),
    "RNN": ("RNNOptions", ("activation",)),
    "SOFTMAX": ("SoftmaxOptions", ("beta",)),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", ("block_size",)),
    "STABLEHLO_COMPOSITE": ("StableHLOCompositeOptions", ("name", "subgraph")),
    "STRIDED_SLICE": ("StridedSliceOptions", _SLICE),
    "SUB": ("SubOptions", ("activation",)),
    "SUM": _REDUCTION,
    "SVDF": ("SVDFOptions", ("activation", "rank")),
    "TRANSPOSE_CONV": ("TransposeConvOptions", ("activation", "same_padding", "stride")),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", (*_SEQUENCE_LSTM, "diagonal")),
    "UNIDIRECTIONAL_SEQUENCE_RNN": ("SequenceRNNOptions", ("activation", "time_major")),
    "UNPACK": ("UnpackOptions", ("axis",)),
    "VAR_HANDLE": ("VarHandleOptions", ("name",)),
}
"""Operator -> its kind of options in the schema, and the fields that are read."""


TRANSPOSE_CONV_BIAS = "CUSTOM Convolution2DTransposeBias"
"""MediaPipe's transposed convolution; its options are the C structure TfLiteTransposeConvParams."""
_SAME = 1


def _custom_convolution(stored: Any) -> OperatorOptions:
    """Read padding and strides from the beginning of the structure; later versions have more fields behind them."""
    padding, width, height = struct.unpack_from("<3i", stored.tobytes())
    return OperatorOptions(same_padding=padding == _SAME, stride=(height, width))


def read_options(operator: Any, name: str) -> OperatorOptions:
    """Return the options of an operator of the file; what is not read, or absent, has its default.

    Args:
        operator: of the schema's class `Operator`.
        name: of the builtin operator.
    """
    if name == TRANSPOSE_CONV_BIAS:
        return _custom_convolution(operator.CustomOptionsAsNumpy())
    if name not in _READ:
        return OperatorOptions()
    kind, fields = _READ[name]
    second = name.startswith("STABLEHLO_")
    table = operator.BuiltinOptions2() if second else operator.BuiltinOptions()
    stated = operator.BuiltinOptions2Type() if second else operator.BuiltinOptionsType()
    kinds = tflite.BuiltinOptions2 if second else tflite.BuiltinOptions
    if table is None or stated != getattr(kinds, kind):
        return OperatorOptions()
    options = getattr(tflite, kind)()
    options.Init(table.Bytes, table.Pos)
    values = {field: (_OWN.get((name, field)) or _FIELDS[field])(options) for field in fields}
    return OperatorOptions(**values)
