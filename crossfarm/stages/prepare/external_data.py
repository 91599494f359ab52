"""Tensors that an ONNX model keeps in other files: read from beside the model only, and put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from crossfarm.errors import ModelError
from crossfarm.stages.fetch.archives import is_inside

if TYPE_CHECKING:
    import onnx

MODEL_LIMIT = 2 << 30
"""The most bytes of all tensors together that are put into a model; a file of the format cannot hold more."""

ReadExternal = Callable[[PurePosixPath], bytes | None]
"""From a path relative to the model's folder, without `..`, to the file's content; None when there is no such file."""


def no_external_data(_path: PurePosixPath) -> bytes | None:
    """Say that nothing stands beside the model."""
    return None


def read_from_folder(folder: Path) -> ReadExternal:
    """Return a reader of the files below `folder`; a link that leads out of it counts as missing."""
    base = folder.resolve()

    def read(path: PurePosixPath) -> bytes | None:
        try:
            target = (base / path).resolve()
            return target.read_bytes() if target.is_relative_to(base) and target.is_file() else None
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links that go round in a circle
            return None

    return read


def inline_external_data(model: onnx.ModelProto, read: ReadExternal) -> None:
    """Put every tensor that is stored outside the model into it; afterwards nothing in it names a file.

    What this version of the format does not know is dropped first, because ONNX Runtime might know it.

    Args:
        model: changed in place.
        read: returns the content of a file beside the model.

    Raises:
        ModelError: a location points outside the model's folder, does not exist, or is too short for its tensor; or
            the tensors have more than MODEL_LIMIT bytes together.
    """
    import onnx

    model.DiscardUnknownFields()
    taken = 0
    contents: dict[PurePosixPath, bytes] = {}
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            del tensor.external_data[:]
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
        data = _slice(contents[path], fields, tensor.name, str(path))
        taken += len(data)
        if taken > MODEL_LIMIT:
            raise ModelError(
                f"tensors up to {tensor.name!r} take more than {MODEL_LIMIT} bytes out of other files, which is the "
                "most that a model may have; export a smaller one"
            )
        tensor.raw_data = data
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _checked_location(location: str, tensor: str) -> PurePosixPath:
    if not is_inside(location):
        raise ModelError(
            f"tensor {tensor!r} is stored in {location!r}, outside the model's folder, which is never read; "
            "save the model with its weights inside"
        )
    return PurePosixPath(location)


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
    """Yield every tensor that a model holds, wherever the format has one: in graphs, functions, sparse tensors.

    The fields are taken from the format's own description, so that none is forgotten, nor any of a later version.
    """
    import onnx

    kind = onnx.TensorProto.DESCRIPTOR.full_name
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if message.DESCRIPTOR.full_name == kind:
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if hasattr(value, "ListFields") else value)
