"""Writes a float32 model as QDQ whose scales are powers of two, symmetric, one for each tensor, weights too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from crossfarm.config.quantisation import Quantisation
from crossfarm.errors import ModelError
from crossfarm.stages.calibration.inputs import CalibratedModel, calibration_inputs
from crossfarm.stages.data.tensors import Array
from crossfarm.stages.job import Job
from crossfarm.stages.prepare.onnx_session import open_session
from crossfarm.stages.prepare.static_onnx import serialise
from crossfarm.stages.quantize.artifact import Quantised
from crossfarm.stages.quantize.layers import layer_errors, output_steps
from crossfarm.stages.quantize.nodes import is_quantised, quantised_operators
from crossfarm.stages.quantize.quantise import (
    of_opset,
    with_names,
    write_answers,
)
from crossfarm.stages.quantize_shift.exponents import Samples, best_exponent, rounded
from crossfarm.stages.quantize_shift.groups import Group, find_groups, fold, is_product_over_constants


def write_quantised(job: Job) -> None:
    """Do the work of the stage `quantize_shift`; see there."""
    declaration = CalibratedModel.model_validate(job.group("model"))
    count = Quantisation.model_validate(job.parameters["quantisation"]).calibration
    prepared = onnx.load(job.inputs["prepare"] / "model.onnx", load_external_data=False)
    if is_quantised(prepared):
        raise ModelError(
            f"model {declaration.name}: it is quantised already, and int8_shift is made from float32; leave int8_shift "
            "out of its variants"
        )
    inputs = calibration_inputs(job, declaration, count)
    real = folded(prepared)
    model = quantise(real, inputs, name=declaration.name)
    path = job.output / "model.onnx"
    path.write_bytes(serialise(model))
    Quantised(
        ready_made=False,
        calibrated_from=len(inputs),
        operators=quantised_operators(model.graph),
        layers=layer_errors(
            real, model, {group.result for group in find_groups(real.graph)}, inputs, model=declaration.name
        ),
        steps=output_steps(model.graph),
    ).write(job.output)
    write_answers(job, path, model=declaration.name)


def folded(model: ModelProto) -> ModelProto:
    """Return a copy of opset 13 or later with names, shapes, and nothing left that folds into a product."""
    copy = onnx.shape_inference.infer_shapes(with_names(of_opset(model)))
    fold(copy.graph)
    return copy


def quantise(model: ModelProto, inputs: Sequence[Mapping[str, Array]], *, name: str) -> ModelProto:
    """Return a model as QDQ: x is about 2**k * n with n of 8 bits, around 0; biases are of 32 bits.

    Args:
        model: float32, with static shapes, as `folded` returns it.
        inputs: from which the exponents are chosen.
        name: of the model, for messages.

    Raises:
        ModelError: nothing can be quantised, or ONNX Runtime cannot run the model.
    """
    groups = find_groups(model.graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    if not any(is_product_over_constants(group.node, constants) for group in groups):
        raise ModelError(f"model {name}: it has no product over constant weights, so nothing can be quantised")
    return _Writer(model, groups, _exponents(model, groups, inputs, name=name)).write()


def _exponents(
    model: ModelProto, groups: Sequence[Group], inputs: Sequence[Mapping[str, Array]], *, name: str
) -> dict[str, int]:
    """Return tensor -> exponent of its scale, for all that groups read and give."""
    wanted = dict.fromkeys(tensor for group in groups for tensor in (*group.inputs, group.result))
    samples = {tensor: Samples(inputs=len(inputs)) for tensor in wanted}
    for tensors in _values(model, list(wanted), inputs, name=name):
        for tensor, value in tensors.items():
            samples[tensor].add(value)
    found = {tensor: sample.exponent() for tensor, sample in samples.items()}
    for group in groups:
        if group.keeps_scale:
            found[group.result] = found[group.inputs[0]]
    return found


def _values(
    model: ModelProto, names: Sequence[str], inputs: Sequence[Mapping[str, Array]], *, name: str
) -> Iterator[dict[str, Array]]:
    """Yield the named tensors of a float32 graph for each input."""
    given = {value.name for value in model.graph.input}
    computed = [tensor for tensor in names if tensor not in given]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in computed)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = open_session(copy.SerializeToString(), options)
        for tensors in inputs:
            found = dict(zip(computed, session.run(computed, dict(tensors)), strict=True))
            yield found | {tensor: tensors[tensor] for tensor in names if tensor in given}
    except Exception as error:
        # ONNX Runtime raises errors of many types here, and what the user can do about them is the same.
        raise ModelError(
            f"model {name}: ONNX Runtime cannot run it on its calibration inputs: {error}; leave int8_shift out of its "
            "variants"
        ) from error


class _Writer:
    """Writes QuantizeLinear and DequantizeLinear around groups; every result keeps its name."""

    def __init__(self, model: ModelProto, groups: Sequence[Group], exponents: Mapping[str, int]) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._first = {group.node.name: group for group in groups}
        self._last = {group.last.name: group for group in groups}
        self._results = {group.result for group in groups}
        self._exponents = exponents
        self._values = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._graph.initializer}
        self._made: dict[str, TensorProto] = {}
        self._read: dict[str, str] = {}
        self._nodes: list[NodeProto] = []

    def write(self) -> ModelProto:
        nodes = list(self._graph.node)
        for node in nodes:
            group = self._first.get(node.name)
            if group is not None:
                self._read_in_8_bits(node, group)
            last = self._last.get(node.name)
            self._nodes.append(node)
            if last is not None:
                result = node.output[0]
                node.output[0] = f"{result}_sum"
                self._pair(f"{result}_sum", result, self._exponents[result])
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._made.values()])
        del self._graph.value_info[:]
        return self._model

    def _read_in_8_bits(self, node: NodeProto, group: Group) -> None:
        """Make a node read quantised tensors, and quantised weights where it has some."""
        for place, name in enumerate(node.input):
            if name in group.inputs:
                node.input[place] = self._quantised_input(name)
        if is_product_over_constants(node, self._values):
            exponent = best_exponent(self._values[node.input[1]])
            weights = rounded(self._values[node.input[1]], exponent).astype(np.int8)
            node.input[1] = self._constant(f"{node.input[1]}_of_{node.name}", weights, exponent)
            if len(node.input) > 2 and node.input[2]:
                sums = exponent + self._exponents[group.inputs[0]]
                limits = np.iinfo(np.int32)
                bias = np.rint(self._values[node.input[2]].astype(np.float64) * 2.0**-sums)
                stored = np.clip(bias, limits.min, limits.max).astype(np.int32)
                node.input[2] = self._constant(f"{node.input[2]}_of_{node.name}", stored, sums)

    def _quantised_input(self, name: str) -> str:
        if name in self._results:
            return name
        if name not in self._read:
            self._read[name] = f"{name}_rounded"
            self._pair(name, self._read[name], self._exponents[name])
        return self._read[name]

    def _pair(self, real: str, result: str, exponent: int) -> None:
        scale, zero = self._scale(exponent), self._zero()
        self._nodes.append(helper.make_node("QuantizeLinear", [real, scale, zero], [f"{result}_8"], f"{result}_8"))
        self._nodes.append(helper.make_node("DequantizeLinear", [f"{result}_8", scale, zero], [result], f"{result}_q"))

    def _constant(self, name: str, numbers: Array, exponent: int) -> str:
        """Store a constant in integers; returns the name of its real value."""
        self._keep(f"{name}_stored", numbers)
        inputs = [f"{name}_stored", self._scale(exponent)]
        if numbers.dtype == np.int8:
            inputs.append(self._zero())
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [name], f"{name}_q"))
        return name

    def _scale(self, exponent: int) -> str:
        return self._keep(f"scale_2_to_{exponent}", np.array(2.0**exponent, np.float32))

    def _zero(self) -> str:
        return self._keep("zero_of_8_bits", np.array(0, np.int8))

    def _keep(self, name: str, array: Array) -> str:
        self._made.setdefault(name, numpy_helper.from_array(array, name))
        return name
