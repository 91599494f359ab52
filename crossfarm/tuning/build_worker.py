"""A process that makes code with chosen variants: `python -m crossfarm.tuning.build_worker`.

Reads one request a line from standard input, as JSON, and answers each with one line on standard output. It imports TVM
once and ends with its input. A crash of the compiler takes this process only.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from crossfarm.config.cell import Cell
from crossfarm.config.llvm import LlvmCode


class LayerVariants(BaseModel):
    """A layer of a model with its variants as plain JSON values, the rule's own first."""

    model_config = ConfigDict(frozen=True)

    key: str
    variants: tuple[dict[str, Any], ...]


class BuildRequest(BaseModel):
    """What a builder is asked for: the layers of a model, or code in `output` with the choices of `tuned`."""

    model_config = ConfigDict(frozen=True)

    model: Path
    name: str
    variant: str
    target: str
    code: LlvmCode
    output: Path | None = None
    tuned: dict[str, dict[str, Any]] = {}


class BuildAnswer(BaseModel):
    """What a builder says: an error, or nothing wrong and, when asked, the layers."""

    model_config = ConfigDict(frozen=True)

    error: str | None = None
    layers: tuple[LayerVariants, ...] = ()


def answer(request: BuildRequest) -> BuildAnswer:
    """Do what is asked; an error of the compiler becomes a text."""
    from crossfarm.backends.tvm import backend

    try:
        if request.output is None:
            return BuildAnswer(layers=_layers(request))
        request.output.mkdir(parents=True)
        backend.compile(
            cell=Cell(model=request.name, target=request.target, variant=request.variant),
            model=request.model,
            code=request.code,
            output=request.output,
            tuned=request.tuned,
        )
    except Exception as error:
        # TVM raises errors of any type, and a variant that cannot be built is one fewer, no more.
        traceback.print_exc(file=sys.stderr)
        return BuildAnswer(error=f"{type(error).__name__}: {error}"[:500])
    return BuildAnswer()


def _layers(request: BuildRequest) -> tuple[LayerVariants, ...]:
    from crossfarm.backends.tvm import backend, lowering, onnx_import
    from crossfarm.backends.tvm.schedules import packing
    from crossfarm.backends.tvm.schedules.choices import Choice, Layer, plain
    from crossfarm.backends.tvm.schedules.processor import Processor
    from crossfarm.tuning.variants import variants_of

    seen: dict[str, tuple[Choice, ...]] = {}

    def note(layer: Layer, processor: Processor) -> Choice | None:
        seen[layer.key] = variants_of(layer, processor)
        return packing.choose(layer, processor)

    model = backend.load_model(request.model)
    lowering.lower(onnx_import.import_onnx(model), lowering.tvm_target(request.code), note)
    return tuple(LayerVariants(key=key, variants=tuple(map(plain, found))) for key, found in seen.items())


def main() -> None:
    """Answer requests until there are no more."""
    # Libraries that print do so on standard error; the answers have a stream of their own.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for line in sys.stdin:
            answers.write(answer(BuildRequest.model_validate(json.loads(line))).model_dump_json() + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
