"""Converters of variables: what a model keeps from one run to the next is an input and an output of the graph."""

from __future__ import annotations

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.common import Converter, place
from crossfarm.stages.prepare.tflite.emitter import Emitter, is_real
from crossfarm.stages.prepare.tflite.reader import Operator, TfliteTensor


def _handle(emitter: Emitter, operator: Operator) -> None:
    emitter.handles[operator.outputs[0]] = operator.options.name or emitter.graph.tensors[operator.outputs[0]].name


def _variable(emitter: Emitter, operator: Operator) -> str:
    handle = emitter.tensor(operator.inputs[0])
    name = emitter.handles.get(handle.index)
    if name is None:
        raise ModelError(f"operator {operator.index} ({operator.name}) is about {handle.name!r}, which is no variable")
    return name


def _read(emitter: Emitter, operator: Operator) -> None:
    output, variable = emitter.graph.tensors[operator.outputs[0]], _variable(emitter, operator)
    if variable not in emitter.variables:
        raise ModelError(
            f"{place(emitter, operator)} reads the variable {variable!r}, which the model keeps from one run to the "
            f"next; declare it under `inputs`: {{name: {variable}, shape: {list(output.shape)}, "
            f"carry_from: {next_name(variable)}}}"
        )
    value = emitter.variables[variable]
    if is_real(output):
        emitter.write(output.index, value, "last")
    else:
        emitter.write_plain(output.index, value, "last", output.dtype)


def _assign(emitter: Emitter, operator: Operator) -> None:
    variable = _variable(emitter, operator)
    emitter.variables[variable] = emitter.value(operator.inputs[1])
    emitter.assigned[variable] = emitter.tensor(operator.inputs[1])


def next_name(variable: str) -> str:
    """Return the name of the output that holds what a variable becomes."""
    return f"{variable}/next"


def is_zero(tensor: TfliteTensor) -> bool:
    """Say whether a constant stands for nothing but zeros."""
    if tensor.data is None:
        return False
    zero = 0
    if tensor.quantisation is not None and is_real(tensor):
        zero = int(tensor.quantisation.zero_point[0])
    return bool((tensor.data == zero).all())


CONVERTERS: dict[str, Converter] = {
    "ASSIGN_VARIABLE": _assign,
    "READ_VARIABLE": _read,
    "VAR_HANDLE": _handle,
}
