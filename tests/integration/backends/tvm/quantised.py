"""Quantised graphs for the tests of the integer kernels: random tensors, and a way to run a graph on instructions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tvm
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from tvm import relax

from crossfarm.backends.tvm import lowering, onnx_import, scheduling
from crossfarm.backends.tvm.int8 import numpy_reference
from crossfarm.backends.tvm.int8.dot_instructions import DOTS, IntegerUnit, integer_unit
from crossfarm.backends.tvm.int8.float_remainder import left_in_float
from crossfarm.backends.tvm.int8.numpy_reference import QuantParams
from crossfarm.backends.tvm.int8.rewrite import use_integers
from crossfarm.backends.tvm.passes import register_allocation
from crossfarm.backends.tvm.schedules.processor import processor_of
from crossfarm.config.llvm import LlvmCode

Array = np.ndarray[Any, Any]
FLAGS = Path("/proc/cpuinfo").read_text()
node = helper.make_node
laws = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


def _targets() -> dict[str, tuple[LlvmCode, IntegerUnit]]:
    """Return what this machine can run: its own instructions, and the code of targets without any."""
    found = {}
    for name, cpu, features, flag in (
        ("vpdpbusd", "x86-64-v4", ("+avx512vnni",), "avx512_vnni"),
        ("vpmaddwd of 512 bits", "x86-64-v4", (), "avx512bw"),
        ("vpmaddwd of 256 bits", "x86-64-v3", (), "avx2"),
        ("vpmaddwd of 128 bits", "x86-64", (), "sse2"),
    ):
        if flag in FLAGS:
            code = LlvmCode(triple="x86_64-linux-gnu", cpu=cpu, features=features)
            found[name] = (code, integer_unit(lowering.tvm_target(code)))
    plain = LlvmCode(triple="x86_64-linux-gnu", cpu="x86-64")
    found["plain vectors"] = (plain, IntegerUnit(activation="int8", dots=(DOTS["plain4"],), registers=16))
    found["scalars"] = (plain, IntegerUnit(activation="int8", dots=(DOTS["plain1"],), registers=16))
    return found


TARGETS = _targets()
targets = st.sampled_from(sorted(TARGETS))
types = st.sampled_from(["uint8", "int8"])
seeds = st.integers(0, 2**32 - 1)
scales = st.floats(2.0**-12, 2.0**-2).map(lambda scale: float(np.float32(scale)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantised tensor: what stands in DequantizeLinear and QuantizeLinear."""

    dtype: str
    params: QuantParams

    def constants(self, name: str) -> dict[str, Array]:
        """Return its constants."""
        return {
            f"{name}_scale": np.float32(self.params.scale).reshape(()),
            f"{name}_zero": np.array(self.params.zero, self.dtype),
        }


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Draw type, scale and zero point."""
    dtype = draw(types)
    info = np.iinfo(dtype)
    zero = draw(st.one_of(st.sampled_from([int(info.min), int(info.max)]), st.integers(info.min, info.max)))
    return Tensor(dtype=dtype, params=QuantParams(scale=draw(scales), zero=zero))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What every test draws.

    Attributes:
        target: name in TARGETS.
        source: scale and zero point of the input.
        result: scale and zero point of the result.
        seed: of its numbers.
    """

    target: str
    source: Tensor
    result: Tensor
    seed: int


cases = st.builds(Case, target=targets, source=tensors(), result=tensors(), seed=seeds)
DOT4 = [name for name, (_, unit) in TARGETS.items() if unit.dots[0].depth == 4] or sorted(TARGETS)
"""Targets that add four products at once; all where this machine runs none of them."""
cases_of_dot4 = st.builds(Case, target=st.sampled_from(DOT4), source=tensors(), result=tensors(), seed=seeds)


def quantised_as(tensor: Tensor, name: str, result: str) -> list[onnx.NodeProto]:
    """Return a QuantizeLinear to the steps of `result`."""
    return [node("QuantizeLinear", [name, f"{result}_scale", f"{result}_zero"], [result])]


def run(
    target: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    *,
    output: str = "y",
) -> tuple[Array, tuple[str, ...]]:
    """Run a graph in integers and return its output and the names of its functions."""
    result, names, _ = _run(target, nodes, inputs, constants, output)
    return result, names


def run_and_count(
    target: str, nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Array], constants: Mapping[str, Array]
) -> tuple[Array, dict[str, int]]:
    """Run a graph in integers and return its output and which operators were left in float32."""
    result, _, left = _run(target, nodes, inputs, constants, "y")
    return result, left


def _run(
    target: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    output: str,
) -> tuple[Array, tuple[str, ...], dict[str, int]]:
    code, unit = TARGETS[target]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in inputs.items()}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kinds[name], array.shape) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    tvm_target = lowering.tvm_target(code)
    with tvm_target:
        module = use_integers(onnx_import.import_onnx(model), unit)
        left = left_in_float(module)
        module = scheduling.schedule_module(module, processor_of(tvm_target))
        names = [str(name.name_hint) for name in module.functions if name.name_hint != "main"]
        assert scheduling.uncovered(module, names) == ()
        built = relax.build(
            module,
            target=tvm_target,
            relax_pipeline=tvm.transform.Sequential(lowering.passes_to_calls()),
            tir_pipeline=register_allocation.pipeline(),
        )
    machine = relax.VirtualMachine(built, tvm.cpu())
    result: Array = machine["main"](*[tvm.runtime.tensor(array) for array in inputs.values()]).numpy()
    return result, tuple(names), left


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardSwishForm:
    """x * clamp(x + shift, 0, top) * factor, and how a graph spells it: from `c` to `a`."""

    nodes: Sequence[onnx.NodeProto]
    shift: float
    top: float
    factor: float


NUMBERS = {f"number_{value}": np.array(value, np.float32) for value in (-6, 0, 1, 3, 6)}
"""Constants that nodes behind a convolution may read."""
_ALPHA, _BETA = np.float32(0.2), np.float32(0.5)
HARD_SWISHES = {
    "HardSwish": HardSwishForm(
        # TVM's importer writes x * (clip(x + 3, 0, 6) / 6).
        nodes=[helper.make_node("HardSwish", ["c"], ["a"])],
        shift=3.0,
        top=6.0,
        factor=float(np.float32(1 / 6)),
    ),
    "divided last": HardSwishForm(
        nodes=[
            node("Add", ["c", "number_3"], ["c_3"]),
            node("Clip", ["c_3", "number_0", "number_6"], ["c_6"]),
            node("Mul", ["c_6", "c"], ["c_7"]),
            node("Div", ["c_7", "number_6"], ["a"]),
        ],
        shift=3.0,
        top=6.0,
        factor=float(np.float32(1 / 6)),
    ),
    "HardSigmoid": HardSwishForm(
        nodes=[
            node("HardSigmoid", ["c"], ["c_1"], alpha=float(_ALPHA), beta=float(_BETA)),
            node("Mul", ["c", "c_1"], ["a"]),
        ],
        shift=float(_BETA) / float(_ALPHA),
        top=1.0 / float(_ALPHA),
        factor=float(_ALPHA),
    ),
}
"""Spellings of HardSwish, and a relative of it."""


def any_integers(seed: int, shape: Sequence[int], dtype: str, *, least: int | None = None) -> Array:
    info = np.iinfo(dtype)
    low = info.min if least is None else least
    return np.random.default_rng(seed).integers(low, info.max, shape, dtype=dtype, endpoint=True)


def first(image: Array) -> Array:
    """Return an image [n, h, w, c] as ONNX has it."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution:
    """A quantised convolution with bias, and Relu where it is wanted.

    Attributes:
        image: quantised integers [n, height, width, channels].
        weights: int8 [kernel height, kernel width, channels of a group, output channels].
        source: scale and zero point of the image.
        result: scale and zero point of the result.
        pads: top, left, bottom, right.
        form: name in HARD_SWISHES of what stands behind it instead of Relu; none without a name.
        behind: nodes that stand there in place of both, from `c` to `a`.
    """

    image: Array
    weights: Array
    source: Tensor
    result: Tensor
    seed: int
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    relu: bool = False
    form: str = ""
    behind: Sequence[onnx.NodeProto] = ()

    @property
    def scale(self) -> Array:
        """Scale of the weights, float32 for each channel."""
        generator = np.random.default_rng(self.seed)
        return (generator.uniform(0.5, 2.0, self.weights.shape[3]) * 2.0**-7).astype(np.float32)

    @property
    def sums_scale(self) -> Array:
        """Scale of the sums, float64 for each channel."""
        return np.float64(self.source.params.scale) * self.scale.astype(np.float64)

    @property
    def bias(self) -> Array:
        """In units of the sums."""
        return any_integers(self.seed + 2, (self.weights.shape[3],), "int16").astype(np.int32)

    def run(self, target: str) -> tuple[Array, tuple[str, ...]]:
        """Return the result [n, channels, rows, columns] and the names of the functions."""
        return run(
            target,
            [
                node("DequantizeLinear", ["x", "x_scale", "x_zero"], ["r"]),
                node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["v"], axis=0),
                node("DequantizeLinear", ["b", "b_scale", "b_zero"], ["d"], axis=0),
                node(
                    "Conv",
                    ["r", "v", "d"],
                    ["c"],
                    kernel_shape=self.weights.shape[:2],
                    strides=self.strides,
                    pads=self.pads,
                    dilations=self.dilation,
                    group=self.groups,
                ),
                *self._behind(),
                *quantised_as(self.result, "a", "y"),
            ],
            {"x": first(self.image)},
            {
                **self.source.constants("x"),
                **self.result.constants("y"),
                **NUMBERS,
                "w": np.ascontiguousarray(self.weights.transpose(3, 2, 0, 1)),
                "w_scale": self.scale,
                "w_zero": np.zeros(self.scale.shape, np.int8),
                "b": self.bias,
                "b_scale": self.sums_scale.astype(np.float32),
                "b_zero": np.zeros(self.scale.shape, np.int32),
            },
        )

    def _behind(self) -> Sequence[onnx.NodeProto]:
        if self.form:
            return HARD_SWISHES[self.form].nodes
        return self.behind or [node("Relu" if self.relu else "Identity", ["c"], ["a"])]

    @property
    def sums(self) -> Array:
        """Sums without the bias, with channels last."""
        return numpy_reference.convolve(
            self.image,
            self.weights,
            zero=self.source.params.zero,
            strides=self.strides,
            padding=self.pads,
            dilation=self.dilation,
            groups=self.groups,
        )

    @property
    def how(self) -> numpy_reference.HardSwishParams | None:
        """How the reference computes the HardSwish; None where there is none, or 16 bits do not hold it."""
        form = HARD_SWISHES[self.form]
        return numpy_reference.hard_swish_params(
            shift=form.shift, top=form.top, factor=form.factor, result=self.result.params, dtype=self.result.dtype
        )

    def wanted(self) -> Array:
        """Return what the reference says, as `run` returns it."""
        params, dtype = self.result.params, self.result.dtype
        if self.form:
            how = self.how
            assert how is not None
            factors = numpy_reference.multipliers(self.sums_scale, how.step)
            return first(
                numpy_reference.hard_swish(
                    numpy_reference.to_int16(self.sums, self.bias, factors), params=how, dtype=dtype
                )
            )
        low, high = params.bounds(dtype, 0.0 if self.relu else -np.inf)
        factors = numpy_reference.multipliers(self.sums_scale, params.scale)
        return first(
            numpy_reference.requantise(self.sums, self.bias, factors, low=low, high=high, zero=params.zero, dtype=dtype)
        )

    @property
    def real(self) -> Array:
        """The real numbers of the sums and the bias (float64), with channels last."""
        return np.asarray((self.sums + self.bias.astype(np.float64)) * self.sums_scale)

    def exact(self, real: Array) -> Array:
        """Return real numbers as `run` returned them if it stored fractions, which is as exact as can be."""
        info, params = np.iinfo(self.result.dtype), self.result.params
        return first(np.clip(real / params.scale + params.zero, info.min, info.max))
