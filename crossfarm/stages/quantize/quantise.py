"""Quantises a model with ONNX Runtime and runs it over the cases of the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from crossfarm.config.quantisation import Quantisation
from crossfarm.errors import ModelError
from crossfarm.stages.calibration.inputs import CalibratedModel, calibration_inputs
from crossfarm.stages.data.tensors import Array, read_stacked, write_stacked
from crossfarm.stages.job import Job
from crossfarm.stages.prepare.onnx_session import in_empty_folder
from crossfarm.stages.prepare.static_onnx import serialise
from crossfarm.stages.quantize.artifact import LayerError, Quantised
from crossfarm.stages.quantize.layers import layer_errors, output_steps
from crossfarm.stages.quantize.nodes import PRODUCTS, chosen_nodes, is_quantised, quantised_operators
from crossfarm.stages.quantize.scales import to_powers_of_two
from crossfarm.stages.reference.answers import Runtime
from crossfarm.stages.reference.artifact import Reference
from crossfarm.util.onnx_nodes import opset_of
from crossfarm.util.scratch import scratch_folder

OPSET = 17
"""Scales for each channel need 13 or later."""
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Inputs(CalibrationDataReader):  # type: ignore[misc]
    """Hands the inputs to ONNX Runtime one by one."""

    def __init__(self, inputs: Sequence[Mapping[str, Array]]) -> None:
        self._inputs = iter(inputs)

    def get_next(self) -> Mapping[str, Array] | None:
        """Return the next input, or None behind the last."""
        return next(self._inputs, None)


def write_quantised(job: Job) -> None:
    """Do the work of the stage `quantize`; see there."""
    declaration = CalibratedModel.model_validate(job.group("model"))
    how = Quantisation.model_validate(job.parameters["quantisation"])
    prepared = onnx.load(job.inputs["prepare"] / "model.onnx", load_external_data=False)
    ready_made = is_quantised(prepared)
    inputs = [] if ready_made else calibration_inputs(job, declaration, how.calibration)
    model = prepared if ready_made else quantise(prepared, inputs, how, name=declaration.name)
    path = job.output / "model.onnx"
    path.write_bytes(serialise(model))
    Quantised(
        ready_made=ready_made,
        calibrated_from=len(inputs),
        operators=quantised_operators(model.graph),
        layers=() if ready_made else _layers(prepared, model, inputs, name=declaration.name),
        steps=output_steps(model.graph),
    ).write(job.output)
    write_answers(job, path, model=declaration.name)


def quantise(
    model: onnx.ModelProto, inputs: Sequence[Mapping[str, Array]], how: Quantisation, *, name: str
) -> onnx.ModelProto:
    """Return a model as QDQ: weights int8 around 0 with a scale for each channel, activations 8 bits.

    Args:
        model: float32, with static shapes.
        inputs: from which ranges are taken.
        how: method and scales.
        name: of the model, for messages.

    Raises:
        ModelError: ONNX Runtime cannot quantise it.
    """
    powers = how.scales == "power_of_two"
    try:
        current = with_names(of_opset(model))
        chosen = chosen_nodes(current.graph)
        if not chosen:
            raise ModelError(f"model {name}: it has no product over constant weights, so nothing can be quantised")
        with scratch_folder("quantize") as folder, in_empty_folder():
            made = Path(folder) / "quantised.onnx"
            quantize_static(
                current,
                made,
                _Inputs(inputs),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if powers else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_quantize=chosen,
                calibrate_method=_METHODS[how.method],
                extra_options={
                    "ActivationSymmetric": powers,
                    "WeightSymmetric": True,
                    "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
                },
            )
            quantised = onnx.load(made, load_external_data=False)
    except ModelError:
        raise
    except Exception as error:
        # ONNX and ONNX Runtime raise errors of any type here, and what the user can do about them is the same.
        raise ModelError(
            f"model {name}: ONNX Runtime cannot quantise it: {error}; leave int8 out of its variants"
        ) from error
    if powers:
        weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in current.graph.initializer}
        to_powers_of_two(quantised, weights)
    return quantised


def _layers(
    prepared: onnx.ModelProto, quantised: onnx.ModelProto, inputs: Sequence[Mapping[str, Array]], *, name: str
) -> tuple[LayerError, ...]:
    current = of_opset(prepared)
    named = with_names(current).graph
    chosen = frozenset(chosen_nodes(named))
    results = {node.output[0] for node in named.node if node.name in chosen}
    return layer_errors(current, quantised, results, inputs, model=name)


def of_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of an opset in which everything can be quantised."""
    current = opset_of(model)
    return model if current >= OPSET else onnx.version_converter.convert_version(model, OPSET)


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every node has a name of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for number, node in enumerate(copy.graph.node):
        node.name = f"{node.op_type}_{number}"
    return copy


def answers_of(runtime: Runtime, reference: Reference, inputs: Mapping[str, Array]) -> list[Mapping[str, Array]]:
    """Return what a model answers on every case: output name -> tensor; what it carries are its own outputs.

    Args:
        runtime: the model.
        reference: of the float32 model.
        inputs: of the reference, input name -> tensor of shape (cases, ...).
    """
    carried = {port.name: port.carry_from for port in reference.inputs if port.carry_from is not None}
    answers: list[Mapping[str, Array]] = []
    for number, case in enumerate(reference.cases):
        tensors = {name: array[number] for name, array in inputs.items()}
        if case.continues and answers:
            tensors |= {name: answers[-1][source] for name, source in carried.items()}
        answers.append(runtime.run(tensors, case=case.name))
    return answers


def write_answers(job: Job, model_file: Path, *, model: str) -> None:
    """Write what the quantised model answers on every case of the reference."""
    reference = Reference.read(job.inputs["reference"])
    runtime = Runtime(model_file, model=model)
    count = len(reference.cases)
    inputs = {
        port.name: read_stacked(job.inputs["reference"] / port.file, dtype=port.dtype, shape=port.shape, cases=count)
        for port in reference.inputs
    }
    answers = answers_of(runtime, reference, inputs)
    (job.output / "outputs").mkdir()
    for port in reference.outputs:
        write_stacked(job.output / port.file, (np.asarray(answer[port.name]) for answer in answers), dtype=port.dtype)
