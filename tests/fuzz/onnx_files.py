"""Hostile ONNX files through what the stage `prepare` does to them, with a folder beside them."""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossfarm.stages.prepare.external_data import read_from_folder
from crossfarm.stages.prepare.static_onnx import StaticInput, make_static, serialise, signature
from tests.fuzz.harness import Kind
from tests.fuzz.spoiling import spoil

INPUT = StaticInput(name="x", shape=(1, 3, 8, 8), dtype="float32", value=None)
NUMBERS = (0, -1, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "y", "w", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "é", "Conv", "If", "Loop", "Gather", "a" * 5000)
LOCATIONS = (
    "weights.bin", "gone.bin", "../input/model.onnx", "/etc/passwd", "/dev/zero", "a\0b", "", ".", "..",
    "folder", "link", "w" * 5000, "C:\\x", "weights.bin/",
)  # fmt: skip


def _value(name: str, shape: list[Any] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _branch(name: str, op: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, ["y"], [name])], name, [], [_value(name)])


@functools.cache
def _seeds() -> tuple[bytes, ...]:
    """Return good models: a convolution, branches, a loop, a function of its own, and folded shapes."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    yes = numpy_helper.from_array(np.array(True), "yes")
    count = numpy_helper.from_array(np.array(3), "count")
    shape = numpy_helper.from_array(np.array([1, -1]), "shape")
    conv = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Relu", ["in"], ["out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            _value("in"),
        ],
        [helper.make_tensor_value_info("go2", TensorProto.BOOL, []), _value("out")],
    )
    tails = [
        ([helper.make_node("Relu", ["y"], ["z"])], []),
        (
            [helper.make_node("If", ["yes"], ["z"], then_branch=_branch("a", "Relu"), else_branch=_branch("b", "Abs"))],
            [yes],
        ),
        ([helper.make_node("Loop", ["count", "yes", "y"], ["z"], body=body)], [count, yes]),
        ([helper.make_node("Reshape", ["y", "shape"], ["z"])], [shape]),
        ([helper.make_node("twice", ["y"], ["z"], domain="own")], []),
    ]
    found = []
    for nodes, more in tails:
        graph = helper.make_graph([conv, *nodes], "g", [_value("x", ["n", 3, 8, 8])], [_value("z")], [weights, *more])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        twice = helper.make_function(
            "own", "twice", ["p"], ["q"], [helper.make_node("Add", ["p", "p"], ["q"])], [helper.make_opsetid("", 17)]
        )
        model = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=10)
        found.append(model.SerializeToString())
    return tuple(found)


def _messages(message: Any) -> list[Any]:
    """Return a message and all below it."""
    found, stack = [], [message]
    while stack:
        current = stack.pop()
        found.append(current)
        for field, value in current.ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else [value])
    return found


def _change(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change one field of one message of a model."""
    message = rng.choice(_messages(model))
    fields = list(message.DESCRIPTOR.fields)
    field = rng.choice(fields)
    if field.is_repeated:
        values = getattr(message, field.name)
        if len(values) and rng.random() < 0.4:
            del values[rng.randrange(len(values))]
        elif field.message_type is not None:
            copied = values.add()
            if len(values) > 1:
                copied.CopyFrom(rng.choice(list(values)[:-1]))
        else:
            values.append(_scalar(rng, field))
    elif field.message_type is not None:
        if rng.random() < 0.5:
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, _scalar(rng, field))


def _scalar(rng: random.Random, field: Any) -> Any:
    kinds = field.CPPTYPE_STRING, field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE
    if field.cpp_type == kinds[0]:
        return rng.choice(TEXTS).encode() if field.type == field.TYPE_BYTES else rng.choice(TEXTS)
    if field.cpp_type in kinds[1:]:
        return rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice([value.number for value in field.enum_type.values])
    number = rng.choice(NUMBERS)
    if field.cpp_type == field.CPPTYPE_INT32:
        return max(-(2**31), min(number, 2**31 - 1))
    return abs(number) % 2**63 if field.cpp_type in (field.CPPTYPE_UINT64, field.CPPTYPE_UINT32) else number


def _external(rng: random.Random, model: onnx.ModelProto) -> None:
    """Let a tensor's data stand in a file beside the model, or elsewhere."""
    tensors = [message for message in _messages(model) if isinstance(message, onnx.TensorProto)]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key in ("location", "offset", "length", "checksum"):
        if rng.random() < 0.7 or key == "location":
            entry = tensor.external_data.add()
            entry.key = key
            entry.value = (
                rng.choice(LOCATIONS) if key == "location" else str(rng.choice((*NUMBERS, "x", "1e3", "9" * 5000)))
            )


def _bomb(rng: random.Random) -> bytes:
    """Return a model whose constants double with every node, or functions that call each other twice."""
    depth = rng.choice((5, 20, 40))
    op = rng.choice(("Concat", "Add", "Expand", "Tile", "ConstantOfShape"))
    start = numpy_helper.from_array(np.zeros(8, np.float32), "c0")
    big = numpy_helper.from_array(np.array([2 ** rng.choice((10, 24, 33))]), "big")
    nodes = []
    for step in range(depth):
        before, after = f"c{step}", f"c{step + 1}"
        if op == "Concat":
            nodes.append(helper.make_node("Concat", [before, before], [after], axis=0))
        elif op == "Add":
            nodes.append(helper.make_node("Add", [before, before], [after]))
        elif op == "ConstantOfShape":
            nodes.append(helper.make_node(op, ["big"], [after]))
        else:
            nodes.append(helper.make_node(op, [before, "big"], [after]))
    last = [helper.make_node("ReduceSum", [f"c{depth}"], ["s"], keepdims=0), helper.make_node("Add", ["x", "s"], ["z"])]
    graph = helper.make_graph([*nodes, *last], "g", [_value("x", [1, 3, 8, 8])], [_value("z")], [start, big])
    made: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    ).SerializeToString()
    return made


def make(rng: random.Random, folder: Path) -> None:
    """Write model.onnx, with a file of weights, a folder and a link that leads out beside it."""
    chance = rng.random()
    content = rng.choice(_seeds())
    if chance < 0.05:
        content = _bomb(rng)
    elif chance < 0.35:
        content = spoil(rng, content)
    elif chance < 0.97:
        model = onnx.ModelProto.FromString(content)
        for _ in range(rng.randint(1, 4)):
            (_external if rng.random() < 0.15 else _change)(rng, model)
        content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "weights.bin").write_bytes(bytes(432))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("/etc/passwd")


def feed(folder: Path) -> bool:
    """Make the model static as `prepare` does, and write it."""
    content = (folder / "model.onnx").read_bytes()
    model = make_static(content, [INPUT], read_external=read_from_folder(folder))
    (folder / "made.onnx").write_bytes(serialise(model))
    signature(model)
    return True


KIND = Kind(name="onnx", count=1000, make=make, feed=feed)
