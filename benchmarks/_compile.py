"""Compiles one model as the stage `compile` does: (scheduled | unscheduled) MODEL.onnx NAME TARGET OUTPUT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from crossfarm.backends.project_files import load_targets
from crossfarm.backends.tvm import backend
from crossfarm.config.cell import Cell
from crossfarm.util.paths import HOME


def without_rules() -> None:
    """Leave every function as TVM makes it."""
    from crossfarm.backends.tvm import scheduling

    def fuse_alone(module: Any, *_: Any) -> Any:
        return scheduling.fuse_module(module)

    scheduling.schedule_module = fuse_alone


if __name__ == "__main__":
    way, model, name, target, output = sys.argv[1:]
    if way == "unscheduled":
        without_rules()
    backend.compile(
        cell=Cell(model=name, target=target, variant="float32"),
        model=Path(model),
        code=load_targets(HOME / "toolchains")[target].code,
        output=Path(output),
    )
