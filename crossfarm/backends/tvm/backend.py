"""Backend tvm: TVM compiles the operators, and what calls them is our own; a board needs nothing but a C library.

The heavy work stands in modules that are imported when it is done, because this module is imported to look at it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.order import LINKED_SOURCES, BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.config.llvm import LlvmCode
from crossfarm.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

    from crossfarm.backends.tvm.program import Program, ProgramPort
    from crossfarm.backends.tvm.tables import Layout
    from crossfarm.backends.tvm.types import IRModule, Target
    from crossfarm.bundles.compile_report import PortType

COMPILE_TOOLS = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx")

DECLARATION = BackendDeclaration(
    section=LlvmCode,
    sources={
        "compile": (
            "crossfarm/backends/tvm/",
            "!crossfarm/backends/tvm/inspection.py",
            "!crossfarm/backends/tvm/processor_names.py",
            "!crossfarm/backends/tvm/search_programs.py",
            "!crossfarm/backends/tvm/unsupported.py",
            "crossfarm/bundles/compile_report.py",
        ),
        "bundle": LINKED_SOURCES,
    },
    tools={"compile": COMPILE_TOOLS, "bundle": ("ziglang",)},
    groups={"compile": ("tuning",)},
    preload={"compile": ("onnx", "tvm.relax.frontend.onnx")},
)


def compile(
    *, cell: Cell, model: Path, code: LlvmCode, output: Path, tuned: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Compile a model to model.o, tables.c, weights.bin and compile.json; see protocol.Backend.compile."""
    compile_program(cell=cell, model=model, code=code, output=output, tuned=tuned)


def compile_program(
    *, cell: Cell, model: Path, code: LlvmCode, output: Path, tuned: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Program, Layout]:
    """Compile as `compile` does, and return the program and where its tensors lie.

    Raises:
        ModelError: the model holds something that cannot be compiled; the message names operator and node.
    """
    from crossfarm.backends.tvm import lowering, scheduling, tables
    from crossfarm.backends.tvm.int8 import float_remainder
    from crossfarm.backends.tvm.schedules import operation_count
    from crossfarm.bundles.compile_report import CompileReport, FunctionCost, versions

    onnx_model = load_model(model)
    target = lowering.tvm_target(code)
    try:
        module, program = translate(onnx_model, target, tuned or {})
        lowering.build_object(module, program.functions, target, output / "model.o")
    except ModelError as error:
        raise ModelError(f"model {cell.model}, target {cell.target}: {error}") from error
    unscheduled = scheduling.unscheduled(module, program.functions)
    layers = operation_count.layers(module, program.functions)
    calls = Counter(call.function for call in program.calls)
    moved: Counter[str] = Counter()
    for call in program.calls:
        moved[call.function] += sum(program.tensors[number].size for number in call.arguments)
    layout = tables.lay_out(program)
    identity = _identity(cell, program, layout, output / "model.o")
    source = tables.tables_source(program, layout, model=cell.model, target=cell.target, identity=identity)
    (output / "tables.c").write_text(source, encoding="ascii")
    tables.write_weights(output / "weights.bin", program, layout, identity=identity)
    CompileReport(
        identity=identity,
        model=cell.model,
        target=cell.target,
        variant=cell.variant,
        arena_bytes=layout.arena_size,
        storage_bytes=program.storage_size,
        weights_bytes=layout.weights_size,
        functions=len(program.functions),
        calls=len(program.calls),
        inputs=_port_types(program, program.inputs),
        outputs=_port_types(program, program.outputs),
        operators=dict(sorted(Counter(node.op_type for node in onnx_model.graph.node).items())),
        unscheduled=unscheduled,
        left_in_float=float_remainder.counted(module),
        costs=tuple(
            FunctionCost(
                name=name,
                operations=count,
                scheduled=name not in unscheduled,
                layer=layers[name],
                calls=calls[name],
                bytes=moved[name],
            )
            for name, count in operation_count.operations(module, program.functions).items()
        ),
        tools=versions(COMPILE_TOOLS),
    ).write(output / "compile.json")
    return program, layout


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Link the object with the runner and make the bundle; see protocol.Backend.bundle."""
    from crossfarm.bundles.make import make_bundle

    make_bundle(order, output=output)


def load_model(path: Path) -> ModelProto:
    """Read a prepared ONNX file.

    Raises:
        ModelError: it is not one.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except Exception as error:
        # Protobuf, the checker and the file system each have errors of their own for the same fault.
        raise ModelError(f"{path.name} is no valid ONNX model: {error}; prepare it again") from error
    return model


def translate(
    model: ModelProto, target: Target, tuned: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[IRModule, Program]:
    """Import and lower a model, and read the order of its calls.

    Args:
        model: with static shapes.
        target: tvm.target.Target.
        tuned: layer -> choice, in place of the rules'.

    Returns:
        The lowered tvm.IRModule, and the program over it.

    Raises:
        ModelError: something of it cannot be compiled; operator and node are named.
    """
    from crossfarm.backends.tvm import onnx_import, unsupported

    unsupported.check_graph(model, known=onnx_import.known_operators())
    try:
        return _attempt(model, target, tuned or {})
    except unsupported.UnsupportedError as error:
        raise unsupported.blame(model, error, lambda alone: _attempt(alone, target, {})) from error
    except unsupported.WrongPortError as error:
        raise unsupported.blame_for_port(model, error, lambda alone: _attempt(alone, target, {})) from error


def _attempt(model: ModelProto, target: Target, tuned: Mapping[str, Mapping[str, Any]]) -> tuple[IRModule, Program]:
    from crossfarm.backends.tvm import lowering, onnx_import, unsupported
    from crossfarm.backends.tvm.read_program import read_program
    from crossfarm.backends.tvm.schedules.recorded_choices import recorded

    module = lowering.lower(onnx_import.import_onnx(model), target, recorded(tuned))
    initialisers = {tensor.name for tensor in model.graph.initializer}
    program = read_program(
        module,
        inputs=[port.name for port in model.graph.input if port.name not in initialisers],
        outputs=[port.name for port in model.graph.output],
    )
    lowering.check_functions(module, program.functions)
    unsupported.check_ports(
        model, inputs=_signatures(program, program.inputs), outputs=_signatures(program, program.outputs)
    )
    return module, program


def _signatures(program: Program, ports: tuple[ProgramPort, ...]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(port.name, port.dtype, tuple(port.shape)) for port in _port_types(program, ports)]


def _identity(cell: Cell, program: Program, layout: Layout, object_file: Path) -> str:
    """Return sha256 over everything that program and weights are made of, as 64 hex digits."""
    from crossfarm.backends.tvm import tables

    digest = hashlib.sha256(f"{cell.id}\n".encode())
    digest.update(tables.tables_source(program, layout, model=cell.model, target=cell.target, identity="").encode())
    digest.update(object_file.read_bytes())
    for chunk in tables.weights_chunks(program, layout):
        digest.update(chunk)
    return digest.hexdigest()


def _port_types(program: Program, ports: tuple[ProgramPort, ...]) -> tuple[PortType, ...]:
    from crossfarm.bundles.compile_report import PortType

    tensors = [(port.name, program.tensors[port.tensor]) for port in ports]
    return tuple(PortType(name=name, dtype=tensor.dtype, shape=tensor.shape) for name, tensor in tensors)
