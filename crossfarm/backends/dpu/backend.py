"""Backend dpu: int8_shift models on an array in the style of AMD's DPU, what it leaves over on the CPU.

The parts of the array become command lists; those of the CPU stay ONNX. A bundle holds the functional model as a
program, the core as SystemVerilog, and all parts with the order in which they run.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import crossfarm
from crossfarm.backends.dpu.array import Array, DpuCode, array_of
from crossfarm.backends.dpu.commands import Program
from crossfarm.backends.dpu.latency import accuracy
from crossfarm.backends.dpu.layers import Network
from crossfarm.backends.dpu.partition import Partitioner
from crossfarm.backends.dpu.quantised_graph import QuantisedGraph, read_graph
from crossfarm.backends.dpu.tiler import tile
from crossfarm.backends.dpu.timing import CONTAINS, Count, count
from crossfarm.backends.onnx_model import describe
from crossfarm.backends.protocol import BackendDeclaration
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport, Estimate, Quantity
from crossfarm.bundles.compile_report import CompileReport
from crossfarm.bundles.contents import copy_inputs, write_manifest
from crossfarm.bundles.linking.c_compiler import Toolchain, tool_version
from crossfarm.bundles.linking.runner_objects import compile_all
from crossfarm.bundles.order import BundleOrder
from crossfarm.config.cell import Cell
from crossfarm.errors import BundleError, ModelError
from crossfarm.util.scratch import scratch_folder

if TYPE_CHECKING:
    from onnx import ModelProto

DECLARATION = BackendDeclaration(
    section=DpuCode,
    sources={
        "compile": ("crossfarm/backends/dpu/", "crossfarm/backends/onnx_model.py", "crossfarm/bundles/accelerator.py"),
        "bundle": ("crossfarm/bundles/linking/", "crossfarm/bundles/accelerator.py", "runner/dpu/"),
        "measure": ("crossfarm/boards/simulators/base.py", "crossfarm/boards/simulators/dpu.py"),
    },
    tools={"compile": ("onnx", "onnxruntime", "numpy"), "bundle": ("ziglang",), "measure": ("numpy", "onnxruntime")},
    preload={"compile": ("onnxruntime",)},
    simulator="crossfarm.boards.simulators.dpu",
)

PLAN = "plan.json"
PROGRAM = "program"
CORE = "core"
SOURCES = ("program.c", "execute.c", "files.c", "main.c")
HEADERS = ("program.h", "execute.h", "files.h")
CORE_SOURCES = ("program.c", "program.h", "files.c", "files.h", "core_main.cpp")
"""What the core's testbench is built from, beside all of rtl/."""


def compile(*, cell: Cell, model: Path, code: DpuCode, output: Path, tuned: Mapping[str, Any] | None = None) -> None:
    """Write plan.json, K.commands and K.constants or K.onnx of each part, accelerator.json and compile.json.

    Raises:
        ModelError: the model is not quantised, nothing of it fits the array, or a layer does not fit into the banks.
    """
    graph, array = read_graph(model, cell=cell.id), array_of(code)
    partitioner = Partitioner(graph, array)
    segments = partitioner.segments()
    partition = partitioner.report(segments)
    if not any(segment.side == "dpu" for segment in segments):
        some = "; ".join(f"{item.operator} {item.node}: {item.rule}" for item in partition.left_over[:3])
        raise ModelError(f"{cell.id}: the array can run no layer of this model ({some}); choose another target")
    plan: list[dict[str, Any]] = []
    made: list[bytes] = []
    programs: list[Program] = []
    for number, segment in enumerate(segments):
        if segment.network is None:
            files, written = _write_cpu_part(partitioner.cpu_model(segment), number, output)
        else:
            programs.append(_tiled(segment.network, array, cell))
            files, written = _write_program(programs[-1], number, output)
        made += written
        plan.append({"side": segment.side, "inputs": segment.inputs, "outputs": segment.outputs, **files})
    counts = [count(program.commands) for program in programs]
    why = _not_in_core(programs)
    networks = [segment.network for segment in segments if segment.network is not None]
    document = {
        "channels": array.channels,
        "pixels": array.pixels,
        "alu_pixels": array.alu_pixels,
        "feature_words": array.feature_words,
        "weight_words": array.weight_words,
        "megahertz": code.megahertz,
        "macs": sum(network.total_macs() for network in networks),
        "cycles": sum(each.cycles for each in counts),
        "contains": CONTAINS,
        "core": why is None,
        "why": why,
        "ports": {name: _port(graph, name) for segment in segments for name in (*segment.inputs, *segment.outputs)},
        "parts": plan,
    }
    made.append(json.dumps(document, sort_keys=True).encode())
    (output / PLAN).write_bytes(made[-1])
    total = sum(each.cycles for each in counts)
    AcceleratorReport(
        estimate=Estimate(cycles=total, contains=CONTAINS, accuracy=accuracy(code.held_against)),
        partition=partition,
        quantities=_quantities(code, array, networks, counts),
        notes=(f"{code.parallelism} at {code.megahertz} MHz; what it leaves over is for the target {code.cpu}",),
    ).write(output / ACCELERATOR)
    describe(graph.model, cell=cell, made=made, tools=DECLARATION.tools["compile"]).write(output / "compile.json")


def bundle(order: BundleOrder, *, output: Path) -> None:
    """Link the functional model, and put it beside parts, core, inputs and manifest; see protocol.Backend.bundle."""
    linking = order.linking
    if linking is None:
        raise BundleError(f"{order.cell.id}: the functional model is linked by a C compiler; declare `compiler`")
    report = CompileReport.read(order.compiled / "compile.json")
    document: Any = json.loads((order.reference / "reference.json").read_text(encoding="utf-8"))
    inputs = copy_inputs(report, document, order.reference, output)
    own = linking.runner / "dpu"
    with scratch_folder("link") as folder:
        for name in (*SOURCES, *HEADERS):
            shutil.copyfile(own / name, folder / name)
        toolchain = Toolchain(compiler=linking.compiler, static=linking.static, folder=folder).for_programs()
        toolchain.link_program(compile_all(toolchain, SOURCES), PROGRAM)
        shutil.copyfile(folder / PROGRAM, output / PROGRAM)
    (output / PROGRAM).chmod(0o755)
    (output / CORE).mkdir()
    for path in (*(own / name for name in CORE_SOURCES), *sorted((own / "rtl").glob("*.sv"))):
        shutil.copyfile(path, output / CORE / path.name)
    for path in order.compiled.iterdir():
        if path.name != "compile.json":
            shutil.copyfile(path, output / path.name)
    provenance = {**report.tools, "crossfarm": crossfarm.__version__, "compiler": tool_version(linking.compiler)}
    write_manifest(output, cell=order.cell, report=report, document=document, inputs=inputs, provenance=provenance)


def _write_cpu_part(model: ModelProto, number: int, output: Path) -> tuple[dict[str, str], list[bytes]]:
    """Write a part of the CPU; returns the names of its files by kind, and what they hold."""
    content = model.SerializeToString(deterministic=True)
    (output / f"{number}.onnx").write_bytes(content)
    return {"model": f"{number}.onnx"}, [content]


def _write_program(program: Program, number: int, output: Path) -> tuple[dict[str, str], list[bytes]]:
    """Write a part of the array; returns the names of its files by kind, and what they hold."""
    commands = program.to_bytes()
    (output / f"{number}.commands").write_bytes(commands)
    (output / f"{number}.constants").write_bytes(program.constants)
    return {"commands": f"{number}.commands", "constants": f"{number}.constants"}, [commands, program.constants]


def _tiled(network: Network, array: Array, cell: Cell) -> Program:
    try:
        return tile(network, array)
    except ModelError as error:
        raise ModelError(f"{cell.id}: {error}") from error


def _not_in_core(programs: Sequence[Program]) -> str | None:
    """Return what the core cannot do of these programs; None when it can run them."""
    if any(command.scale for program in programs for command in program.commands):
        return "the core has no mean over a number that is no power of two"
    return None


def _port(graph: QuantisedGraph, name: str) -> dict[str, Any]:
    from onnx import helper

    return {"dtype": helper.tensor_dtype_to_np_dtype(graph.types[name]).name, "shape": graph.shapes[name]}


def _quantities(
    code: DpuCode, array: Array, networks: Sequence[Network], counts: Sequence[Count]
) -> tuple[Quantity, ...]:
    total = {field.name: sum(getattr(each, field.name) for each in counts) for field in dataclasses.fields(Count)}
    macs = sum(network.total_macs() for network in networks)
    most = array.operations * total["cycles"]
    return (
        Quantity(name="latency_estimated", value=total["cycles"] / code.megahertz / 1000.0, unit="ms"),
        Quantity(name="cycles_convolution", value=total["convolution"], unit="cycles"),
        Quantity(name="cycles_alu", value=total["alu"], unit="cycles"),
        Quantity(name="cycles_memory", value=total["memory"], unit="cycles"),
        Quantity(name="cycles_layers", value=total["layers"], unit="cycles"),
        Quantity(name="utilisation", value=2 * macs / most if most else 0.0, unit="share"),
    )
