"""Tensors that an ONNX model keeps in other files: read from beside the model only, and put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from crossfarm.errors import ModelError

if TYPE_CHECKING:
    import onnx

ReadExternal = Callable[[PurePosixPath], bytes | None]
"""From a path relative to the model's folder, without `..`, to the file's content; None when there is no such file."""


def no_external_data(_path: PurePosixPath) -> bytes | None:
    """Say that nothing stands beside the model."""
    return None


def read_from_folder(folder: Path) -> ReadExternal:
    """Return a reader of the files below `folder`; a link that leads out of it counts as missing."""
    base = folder.resolve()

    def read(path: PurePosixPath) -> bytes | None:
        target = (base / path).resolve()
        return target.read_bytes() if target.is_relative_to(base) and target.is_file() else None

    return read


def inline_external_data(model: onnx.ModelProto, read: ReadExternal) -> None:
    """Put every tensor that is stored outside the model into it.

    Args:
        model: changed in place.
        read: returns the content of a file beside the model.

    Raises:
        ModelError: a location points outside the model's folder, does not exist, or is too short for its tensor.
    """
    import onnx

    contents: dict[PurePosixPath, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        path = _checked_location(fields.get("location", ""), tensor.name)
        if path not in contents:
            content = read(path)
            if content is None:
                raise ModelError(
                    f"tensor {tensor.name!r} is stored in {str(path)!r}, which is not there; put the file beside the "
                    "model under the model's name with .data appended, or save the model with its weights inside"
                )
            contents[path] = content
        tensor.raw_data = _slice(contents[path], fields, tensor.name, str(path))
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _checked_location(location: str, tensor: str) -> PurePosixPath:
    path = PurePosixPath(location)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in location or ":" in path.parts[0]:
        raise ModelError(
            f"tensor {tensor!r} is stored in {location!r}, outside the model's folder, which is never read; "
            "save the model with its weights inside"
        )
    return path


def _slice(content: bytes, fields: dict[str, str], tensor: str, path: str) -> bytes:
    try:
        offset = int(fields.get("offset", "0"))
        length = int(fields.get("length", str(len(content) - offset)))
    except ValueError as error:
        raise ModelError(
            f"tensor {tensor!r}: the place in {path!r} is damaged: {error}; export the model again"
        ) from error
    if offset < 0 or length < 0 or offset + length > len(content):
        raise ModelError(
            f"tensor {tensor!r} needs bytes {offset} to {offset + length} of {path!r}, which has {len(content)}; "
            "the file is truncated or belongs to another model"
        )
    return content[offset : offset + length]


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _graph_tensors(graph)
