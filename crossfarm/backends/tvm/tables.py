"""Writes what the runner reads: the tables of runner/library/model_tables.h as C, and the weights file."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossfarm.backends.tvm.arena import ALIGNMENT, align, plan_arena
from crossfarm.backends.tvm.program import DTYPES, Program, ProgramPort

_MAGIC = b"CFWEIGHT"
_WEIGHTS_VERSION = 1
_ESCAPED = '"\\?'
"""Escaped in C strings; the question mark because two of them begin a trigraph."""
_PLACE_ARENA, _PLACE_WEIGHTS = "CROSSFARM_PLACE_ARENA", "CROSSFARM_PLACE_WEIGHTS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each block of a program lies.

    Attributes:
        offsets: block -> bytes from the start of the arena, or for a constant of the weights behind their header.
        arena_size: bytes.
        weights_size: bytes, without header.
    """

    offsets: dict[int, int]
    arena_size: int
    weights_size: int


def lay_out(program: Program) -> Layout:
    """Give every block that is used a place: constants one behind the other, the others in a planned arena."""
    lifetimes = program.lifetimes()
    arena = plan_arena(list(lifetimes.values()))
    offsets = dict(zip(lifetimes, arena.offsets, strict=True))
    end = 0
    for block in _used_constants(program):
        offsets[block] = end
        end = align(end + program.blocks[block].size)
    return Layout(offsets=offsets, arena_size=arena.size, weights_size=end)


def weights_chunks(program: Program, layout: Layout) -> Iterable[bytes]:
    """Yield the weights behind the header, piece by piece."""
    for block in _used_constants(program):
        content = program.blocks[block].content or b""
        yield content
        yield bytes(align(len(content)) - len(content))


def weights_header(*, size: int, identity: str) -> bytes:
    """Return the 64 bytes that stand before the weights.

    Args:
        size: bytes of the weights.
        identity: 64 hex digits.
    """
    return struct.pack("<8sIIQ32s8x", _MAGIC, _WEIGHTS_VERSION, 0, size, bytes.fromhex(identity))


def write_weights(path: Path, program: Program, layout: Layout, *, identity: str) -> None:
    """Write the weights file."""
    with path.open("wb") as stream:
        stream.write(weights_header(size=layout.weights_size, identity=identity))
        stream.writelines(weights_chunks(program, layout))


def tables_source(program: Program, layout: Layout, *, model: str, target: str, identity: str) -> str:
    """Return the C file that defines `crossfarm_tables`.

    Args:
        program: what to write down.
        layout: of that program.
        model: name of the model.
        target: name of the target.
        identity: 64 hex digits that tie program, weights and manifest together.
    """
    used = _used_tensors(program)
    number = {tensor: place for place, tensor in enumerate(used)}
    arguments = [number[argument] for call in program.calls for argument in call.arguments]
    declarations = [
        f"int __tvm_ffi_{name}(void *, const crossfarm_ffi_any *, int32_t, crossfarm_ffi_any *);"
        for name in program.functions
    ]
    parts = [
        '#include "model_tables.h"\n',
        "\n".join(declarations) + "\n" if declarations else "",
        _shapes(program),
        _array("crossfarm_table_tensor", "tensors", [_tensor(program, layout, tensor) for tensor in used]),
        _array("uint32_t", "arguments", _in_rows([str(argument) for argument in arguments])),
        _array("crossfarm_table_call", "calls", _calls(program)),
        _array("crossfarm_table_port", "inputs", _ports(program.inputs, number)),
        _array("crossfarm_table_port", "outputs", _ports(program.outputs, number)),
        "const crossfarm_model_tables crossfarm_tables = {\n"
        f"  .model = {_string(model)},\n"
        f"  .identity = {_string(identity)},\n"
        f"  .target = {_string(target)},\n"
        f"  .weights_bytes = {layout.weights_size}u,\n"
        f"  .arena_bytes = {layout.arena_size}u,\n"
        + "".join(
            f"  .{name} = {name if count else 'NULL'},\n"
            for name, count in (
                ("tensors", len(used)),
                ("calls", len(program.calls)),
                ("arguments", len(arguments)),
                ("inputs", len(program.inputs)),
                ("outputs", len(program.outputs)),
            )
        )
        + f"  .tensor_count = {len(used)}u,\n"
        f"  .call_count = {len(program.calls)}u,\n"
        f"  .argument_count = {len(arguments)}u,\n"
        f"  .input_count = {len(program.inputs)}u,\n"
        f"  .output_count = {len(program.outputs)}u,\n"
        "};\n",
    ]
    return "\n".join(part for part in parts if part)


def _used_tensors(program: Program) -> list[int]:
    """Return the tensors that something touches, in the order of their first use."""
    touched = [port.tensor for port in program.inputs]
    touched += [argument for call in program.calls for argument in call.arguments]
    touched += [port.tensor for port in program.outputs]
    return list(dict.fromkeys(touched))


def _used_constants(program: Program) -> list[int]:
    blocks = dict.fromkeys(program.tensors[tensor].block for tensor in _used_tensors(program))
    return [block for block in blocks if program.blocks[block].content is not None]


def _shapes(program: Program) -> str:
    shapes = dict.fromkeys(program.tensors[tensor].shape for tensor in _used_tensors(program))
    lines = [
        f"static const int64_t {_shape_name(shape)}[] = {{{', '.join(map(str, shape))}}};" for shape in shapes if shape
    ]
    return "\n".join(lines) + "\n" if lines else ""


def _shape_name(shape: tuple[int, ...]) -> str:
    return "shape_" + "_".join(map(str, shape)) if shape else "NULL"


def _tensor(program: Program, layout: Layout, index: int) -> str:
    tensor = program.tensors[index]
    place = _PLACE_ARENA if program.blocks[tensor.block].content is None else _PLACE_WEIGHTS
    code, bits = DTYPES[tensor.dtype]
    offset = layout.offsets[tensor.block]
    if offset % ALIGNMENT:
        raise AssertionError(f"tensor {index} lies at {offset}, which is no multiple of {ALIGNMENT}")
    return f"{{{_shape_name(tensor.shape)}, {offset}u, {tensor.size}u, {len(tensor.shape)}, {place}, {code}, {bits}}}"


def _calls(program: Program) -> list[str]:
    rows, first = [], 0
    for call in program.calls:
        rows.append(f"{{__tvm_ffi_{call.function}, {_string(call.function)}, {first}u, {len(call.arguments)}u}}")
        first += len(call.arguments)
    return rows


def _ports(ports: Sequence[ProgramPort], number: dict[int, int]) -> list[str]:
    return [f"{{{_string(port.name)}, {number[port.tensor]}u}}" for port in ports]


def _in_rows(items: Sequence[str], *, length: int = 16) -> list[str]:
    return [", ".join(items[start : start + length]) for start in range(0, len(items), length)]


def _array(kind: str, name: str, rows: Sequence[str]) -> str:
    if not rows:
        return ""
    return f"static const {kind} {name}[] = {{\n" + "".join(f"  {row},\n" for row in rows) + "};\n"


def _string(text: str) -> str:
    """Return a C string literal: printable ASCII as it is, any other byte of its UTF-8 as three octal digits."""
    encoded = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in _ESCAPED else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{encoded}"'
