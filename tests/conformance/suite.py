"""The cases of the ONNX backend suite, as the installed `onnx` wheel makes or holds them."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray[Any, Any]
KINDS = ("simple", "pytorch-operator", "pytorch-converted", "light")
"""Those that the wheel holds as files; node cases are made in this process."""
_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One case of the suite.

    Attributes:
        name: without `test_`.
        kind: `node` or one of KINDS.
        model: as the suite has it.
        data: for each set of data its inputs and expected outputs, in the model's order; lists and None where those
            are no tensors.
        rtol: relative tolerance of the suite.
        atol: its absolute tolerance.
    """

    name: str
    kind: str
    model: onnx.ModelProto
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator that the case is about; for a model of several nodes, its kind."""
        if self.kind != "node":
            return f"models: {self.kind}"
        original = originals().get(self.name.partition("_expanded")[0], self.model)
        node = original.graph.node[0]
        return f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type

    @property
    def opset(self) -> int:
        """The model's opset of the standard domain, or of the only other one."""
        versions = {entry.domain: entry.version for entry in self.model.opset_import}
        return versions.get("", versions.get("ai.onnx", max(versions.values(), default=0)))


@functools.cache
def originals() -> dict[str, onnx.ModelProto]:
    """Return name -> model of the node cases, those whose operator is written as its function left out."""
    return {
        case.name.removeprefix("test_"): case.model
        for case in _node_cases()
        if "_expanded" not in case.name and case.model is not None
    }


@functools.cache
def _node_cases() -> list[Any]:
    from onnx.backend.test.loader import load_node_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_node_model_tests())


def load() -> Iterator[Case]:
    """Yield all cases, in the order of their names within a kind."""
    for case in sorted(_node_cases(), key=lambda one: one.name):
        data = [tuple([_plain(value) for value in side] for side in pair) for pair in case.data_sets]
        yield Case(
            name=case.name.removeprefix("test_"),
            kind="node",
            model=case.model,
            data=data,
            rtol=case.rtol,
            atol=case.atol,
        )
    for kind in KINDS:
        yield from _stored(kind)


def _stored(kind: str) -> Iterator[Case]:
    if kind == "light":
        for path in sorted((_DATA / kind).glob("light_*.onnx")):
            yield _light(path)
        return
    for folder in sorted((_DATA / kind).iterdir()):
        if not (folder / "model.onnx").is_file():
            continue
        model = onnx.load(folder / "model.onnx")
        data = []
        for place in sorted(folder.glob("test_data_set_*")):
            inputs = _read(place, "input", model.graph.input)
            data.append((inputs, _read(place, "output", model.graph.output)))
        yield Case(name=folder.name.removeprefix("test_"), kind=kind, model=model, data=data, rtol=1e-3, atol=1e-7)


def _light(path: Path) -> Case:
    """Return a model whose input is a ramp, as the suite makes it."""
    model = onnx.load(path)
    known = {tensor.name for tensor in model.graph.initializer}
    port = next(port for port in model.graph.input if port.name not in known)
    shape = [extent.dim_value or 1 for extent in port.type.tensor_type.shape.dim]
    count = int(np.prod(shape))
    ramp = (np.arange(count).reshape(shape) / count).astype(np.float32)
    expected = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
    return Case(
        name=path.stem,
        kind="light",
        model=model,
        data=[([ramp], [numpy_helper.to_array(expected)])],
        rtol=1e-3,
        atol=1e-7,
    )


def _read(folder: Path, role: str, ports: Sequence[onnx.ValueInfoProto]) -> list[Any]:
    count = len(list(folder.glob(f"{role}_*.pb")))
    values: list[Any] = []
    for number, port in zip(range(count), ports, strict=False):
        path = folder / f"{role}_{number}.pb"
        if port.type.WhichOneof("value") != "tensor_type":
            values.append(None)
            continue
        values.append(numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes())))
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if np.isscalar(value) or isinstance(value, np.generic) else value
