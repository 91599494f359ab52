"""TorchScript to ONNX: a traced module in one file, float or quantised, whose operators become standard ones.

Such a file is a program in PyTorch's own language and holds no Python, but PyTorch's reader of it was not made for
strangers' files, so it runs in the sandbox of tools. As a program: `python torchscript_export.py REQUEST.json`; it
imports nothing of crossfarm.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossfarm.stages.prepare.static_onnx import StaticInput

OPSET = 17
"""From 13 on a quantised tensor may have a scale for each channel."""
_PROCESSOR_SECONDS = 1800
_FAILURE = "export failed: "


def export_torchscript(content: bytes, *, inputs: Sequence[StaticInput]) -> bytes:
    """Return a TorchScript file as ONNX; what is quantised becomes QuantizeLinear and DequantizeLinear.

    Args:
        content: of the file.
        inputs: in the order in which the module takes them.

    Raises:
        ToolError: PyTorch is not installed, or does not end.
        ModelError: it is no TorchScript, or holds what ONNX cannot say; the log holds what PyTorch said.
    """
    from crossfarm.errors import ModelError, ToolError
    from crossfarm.util.processes import ending
    from crossfarm.util.scratch import scratch_folder
    from crossfarm.util.tool_sandbox import run_sandboxed

    if importlib.util.find_spec("torch") is None:
        raise ToolError("models of format torchscript need torch, not installed here; run `./inv setup`")
    script = Path(__file__)
    with scratch_folder("torchscript") as scratch:
        folder = scratch / "work"
        folder.mkdir()
        (folder / "model.pt").write_bytes(content)
        described = [{"name": item.name, "shape": item.shape, "dtype": item.dtype} for item in inputs]
        (folder / "request.json").write_text(json.dumps(described), encoding="utf-8")
        done = run_sandboxed(
            [sys.executable, "-I", str(script), "request.json"],
            folder=folder,
            reads=(Path(sys.prefix), Path(os.path.realpath(sys.executable)).parent.parent, script),
            processor_seconds=_PROCESSOR_SECONDS,
        )
        sys.stderr.write(done.stdout)
        exported = folder / "exported.onnx"
        if done.returncode or not exported.exists():
            told = [line.removeprefix(_FAILURE) for line in done.stdout.splitlines() if line.startswith(_FAILURE)]
            reason = told[-1] if told else f"PyTorch {ending(done.returncode)}; the log holds what it said"
            raise ModelError(f"the TorchScript file cannot be written as ONNX: {reason}")
        return exported.read_bytes()


def main(arguments: Sequence[str]) -> int:
    """Export as the request file says; return 0, or 1 after a line that begins `export failed:`."""
    try:
        _export(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    except Exception as error:  # PyTorch raises errors of many kinds over a damaged file
        import traceback

        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        sys.stderr.write(f"{_FAILURE}{type(error).__name__}: {lines[0]}\n")
        return 1
    return 0


def _export(inputs: Sequence[Any]) -> None:
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load("model.pt", map_location="cpu").eval()
    example = tuple(torch.zeros(item["shape"], dtype=getattr(torch, item["dtype"])) for item in inputs)
    with torch.no_grad():
        answer = module(*example)
    outputs = 1 if isinstance(answer, torch.Tensor) else len(answer)
    torch.onnx.export(
        module,
        example,
        "exported.onnx",
        dynamo=False,  # the other exporter takes no TorchScript
        opset_version=OPSET,
        input_names=[item["name"] for item in inputs],
        output_names=["output"] if outputs == 1 else [f"output{number}" for number in range(outputs)],
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
