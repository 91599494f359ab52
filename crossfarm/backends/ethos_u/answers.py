"""Answers cases with LiteRT's reference kernels. A script: it runs in the environment ethos_u, which has no crossfarm.

    python answers.py FILE.tflite INPUTS.npz OUTPUTS.npz

INPUTS.npz holds the tensors of all cases by the number of the input, stacked, float32; OUTPUTS.npz likewise. Inputs are
rounded to the integers that the file takes, and outputs are given as the real numbers that its integers stand for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def main(model: str, inputs: str, outputs: str) -> None:
    """Run all cases."""
    interpreter = Interpreter(
        model_path=model,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    with np.load(inputs) as stored:
        cases = [stored[str(number)] for number in range(len(stored.files))]
    found: list[list[Any]] = [[] for _ in interpreter.get_output_details()]
    for tensors in zip(*cases, strict=True):
        for detail, tensor in zip(interpreter.get_input_details(), tensors, strict=True):
            interpreter.set_tensor(detail["index"], to_stored(tensor, detail))
        interpreter.invoke()
        for number, detail in enumerate(interpreter.get_output_details()):
            found[number].append(to_real(interpreter.get_tensor(detail["index"]), detail))
    stacked: dict[str, Any] = {str(number): np.stack(arrays) for number, arrays in enumerate(found)}
    np.savez(outputs, **stacked)


def to_stored(tensor: Array, detail: dict[str, Any]) -> Array:
    """Return what the file takes for real numbers: rint(x / scale) + zero point, cut off to its type."""
    kind, (scale, zero) = detail["dtype"], detail["quantization"]
    if scale == 0 or tensor.dtype == kind:
        return np.asarray(tensor, kind)
    limits = np.iinfo(kind)
    return np.asarray(np.clip(np.rint(tensor / np.float32(scale)) + zero, limits.min, limits.max), kind)


def to_real(tensor: Array, detail: dict[str, Any]) -> Array:
    """Return the real numbers that stored ones stand for."""
    scale, zero = detail["quantization"]
    if scale == 0:
        return tensor
    return np.asarray((tensor.astype(np.int32) - zero) * np.float32(scale), np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
