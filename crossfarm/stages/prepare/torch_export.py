"""PyTorch to ONNX: builds a module with its factory, loads its weights, and exports it.

The code of a package is a stranger's, so it runs in a process of its own, from a temporary folder, and nothing of it is
installed. As a program: `python -m crossfarm.stages.prepare.torch_export REQUEST.json`.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.config.sources import FactorySource
from crossfarm.errors import ModelError, ToolError, ToolTimeoutError
from crossfarm.util.paths import HOME
from crossfarm.util.processes import ending, run_tool

if TYPE_CHECKING:
    from crossfarm.stages.prepare.static_onnx import StaticInput

OPSET = 18
TIMEOUT_SECONDS = 1800
_NEEDED = ("torch", "onnxscript")
_FAILURE = "export failed: "
_SAFETENSORS_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What the exporting process is told; paths are absolute.

    Attributes:
        factory: `module:callable`.
        arguments: what the callable is given.
        code: folder that is put first on the module path.
        state: file with the weights, or None for a factory that returns a module with its weights.
        inputs: name, shape and dtype of each input, in the order in which the module takes them.
        output_names: names of the outputs, in order.
        target: the ONNX file to write.
    """

    factory: str
    arguments: Sequence[str | int | float | bool]
    code: str
    state: str | None
    inputs: Sequence[Mapping[str, Any]]
    output_names: Sequence[str]
    target: str


def export_factory(source: FactorySource, *, artifacts: Mapping[str, Path], inputs: Sequence[StaticInput]) -> bytes:
    """Return the ONNX file of a PyTorch module.

    Args:
        source: factory, arguments and packages.
        artifacts: role -> artifact of `fetch`: `package0`, `package1` and so on, or `code`; `state` if there is one.
        inputs: in the order in which the module takes them; a value is baked in afterwards.

    Raises:
        ToolError: PyTorch or its ONNX exporter is not installed.
        ModelError: the factory, the weights or the export failed; the log holds the traceback.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ToolError(f"models of format torch need {' and '.join(missing)}, not installed here; run `./inv setup`")
    with tempfile.TemporaryDirectory(prefix="torch-export-") as scratch:
        folder = Path(scratch)
        code = folder / "code"
        code.mkdir()
        lay_out_code(source, artifacts, code)
        request = ExportRequest(
            factory=source.factory,
            arguments=source.arguments,
            code=str(code),
            state=_lay_out_state(source, artifacts, folder),
            inputs=[{"name": item.name, "shape": item.shape, "dtype": item.dtype} for item in inputs],
            output_names=source.output_names,
            target=str(folder / "exported.onnx"),
        )
        (folder / "request.json").write_text(json.dumps(dataclasses.asdict(request)), encoding="utf-8")
        _run_exporter(folder, source.factory)
        return Path(request.target).read_bytes()


def lay_out_code(source: FactorySource, artifacts: Mapping[str, Path], code: Path) -> None:
    """Put the packages, or the module beside models.yaml, where the exporting process imports from.

    Args:
        source: says how many packages there are, and where the module stands when there are none.
        artifacts: role -> artifact of `fetch`.
        code: an existing folder, which is first on that process's module path.
    """
    from crossfarm.stages.fetch.archives import extract_tree
    from crossfarm.stages.fetch.artifact import fetched_file

    for index in range(len(source.packages)):
        extract_tree(fetched_file(artifacts[f"package{index}"]), code)
    if not source.packages:
        module = code.joinpath(*source.factory.partition(":")[0].split(".")).with_suffix(".py")
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_bytes(fetched_file(artifacts["code"]).read_bytes())


def _lay_out_state(source: FactorySource, artifacts: Mapping[str, Path], folder: Path) -> str | None:
    from crossfarm.stages.fetch.artifact import fetched_bytes

    if source.state is None:
        return None
    path = folder / "state.pth"
    path.write_bytes(fetched_bytes(source.state, artifacts["state"]))
    return str(path)


def _run_exporter(folder: Path, factory: str) -> None:
    """Run this module as a program; what it prints goes to the log, its last complaint into the error."""
    paths = [str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "crossfarm.stages.prepare.torch_export", str(folder / "request.json")]
    try:
        done = run_tool(command, folder=folder, environment=environment, wall_seconds=TIMEOUT_SECONDS)
    except ToolTimeoutError as error:
        raise ModelError(f"the export of {factory} did not end within {TIMEOUT_SECONDS} s") from error
    sys.stderr.write(done.stdout + done.stderr)
    if done.returncode != 0:
        told = [line.removeprefix(_FAILURE) for line in done.stderr.splitlines() if line.startswith(_FAILURE)]
        reason = told[-1] if told else f"the process {ending(done.returncode)}; the log holds what it said"
        raise ModelError(f"{factory} could not be exported: {reason}")


def main(arguments: Sequence[str]) -> int:
    """Export as the request file says; return 0, or 1 after one line on standard error that begins `export failed:`."""
    request = ExportRequest(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    sys.path.insert(0, request.code)
    try:
        _export(request)
    except Exception as error:  # the factory is foreign code, which may raise anything
        import traceback

        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        sys.stderr.write(f"{_FAILURE}{type(error).__name__}: {lines[0]}\n")
        return 1
    return 0


def _export(request: ExportRequest) -> None:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = load_factory(request.factory)(*request.arguments)
    if request.state is not None:
        give_state(module, Path(request.state))
    module.eval()
    example = tuple(torch.zeros(item["shape"], dtype=getattr(torch, item["dtype"])) for item in request.inputs)
    torch.onnx.export(
        module,
        example,
        request.target,
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        input_names=[item["name"] for item in request.inputs],
        output_names=list(request.output_names),
        verbose=False,
    )


def give_state(module: Any, path: Path) -> None:
    """Load the weights of a file; a module with a method `load_state_file` reads a form of its own."""
    if hasattr(module, "load_state_file"):
        module.load_state_file(path)
    else:
        module.load_state_dict(_load_state(path))


def _load_state(path: Path) -> Mapping[str, Any]:
    """Return the weights of a file: PyTorch's own form without any code, or safetensors."""
    import torch

    from crossfarm.stages.prepare.safetensors import is_safetensors, read_safetensors

    with path.open("rb") as file:
        head = file.read(16)
    if not is_safetensors(head, path.stat().st_size):
        state = torch.load(path, map_location="cpu", weights_only=True)
        loaded: Mapping[str, Any] = state.get("state_dict", state)
        return loaded
    content = path.read_bytes()
    weights = {}
    for name, stored in read_safetensors(content).items():
        dtype = getattr(torch, _SAFETENSORS_DTYPES[stored.dtype])
        values = bytearray(content[stored.begin : stored.end])
        flat = torch.frombuffer(values, dtype=dtype) if values else torch.zeros(0, dtype=dtype)
        weights[name] = flat.reshape(stored.shape)
    return weights


def load_factory(factory: str) -> Any:
    """Return the callable that `module:callable` names; the callable may be a method: `module:Class.from_name`.

    A package whose own __init__ needs something that is not here is entered without it: its modules for training or for
    pictures are not needed to build the network, nor are the compiled operators that torchvision's brings.

    Raises:
        ImportError: the module cannot be imported either way.
        AttributeError: the module has no such callable.
    """
    name, _, attribute = factory.partition(":")
    try:
        found: Any = importlib.import_module(name)
    except (ImportError, RuntimeError):  # RuntimeError: operators of a compiled part that does not fit this PyTorch
        _enter_without_init(name)
        found = importlib.import_module(name)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _enter_without_init(name: str) -> None:
    """Put an empty module in place of every package above `name`, so that only `name` itself is run."""
    parts = name.split(".")
    top = importlib.machinery.PathFinder.find_spec(parts[0])
    locations = list(top.submodule_search_locations or []) if top else []
    for stale in [loaded for loaded in sys.modules if loaded == parts[0] or loaded.startswith(f"{parts[0]}.")]:
        del sys.modules[stale]
    for depth in range(1, len(parts)):
        package = types.ModuleType(".".join(parts[:depth]))
        package.__path__ = [str(Path(location, *parts[1:depth])) for location in locations]
        sys.modules[package.__name__] = package


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
