"""From an int8_shift model to the parts of the array and of the CPU: command lists, ONNX files and the plan of all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfarm.backends.dpu.array import Array, DpuCode, array_of
from crossfarm.backends.dpu.commands import Program
from crossfarm.backends.dpu.latency import accuracy
from crossfarm.backends.dpu.layers import Network
from crossfarm.backends.dpu.partition import Partitioner
from crossfarm.backends.dpu.quantised_graph import QuantisedGraph, read_graph
from crossfarm.backends.dpu.tiler import tile
from crossfarm.backends.dpu.timing import CONTAINS, Count, count
from crossfarm.backends.onnx_model import describe
from crossfarm.bundles.accelerator import ACCELERATOR, AcceleratorReport, Estimate, Quantity
from crossfarm.config.cell import Cell
from crossfarm.errors import UnfitError

if TYPE_CHECKING:
    from onnx import ModelProto

PLAN = "plan.json"
TOOLS = ("onnx", "onnxruntime", "numpy")
"""Distributions that shape what is written."""


def compile_cell(*, cell: Cell, model: Path, code: DpuCode, output: Path) -> None:
    """Write plan.json, K.commands and K.constants or K.onnx of each part, accelerator.json and compile.json.

    Raises:
        ModelError: the model is not quantised.
        UnfitError: nothing of it fits the array, or a layer does not fit into the banks.
    """
    graph, array = read_graph(model, cell=cell.id), array_of(code)
    partitioner = Partitioner(graph, array)
    segments = partitioner.segments()
    partition = partitioner.report(segments)
    if not any(segment.side == "dpu" for segment in segments):
        some = "; ".join(f"{item.operator} {item.node}: {item.rule}" for item in partition.left_over[:3])
        raise UnfitError(f"{cell.id}: the array can run no layer of this model ({some}); choose another target")
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
    describe(graph.model, cell=cell, made=made, tools=TOOLS).write(output / "compile.json")


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
    except UnfitError as error:
        raise UnfitError(f"{cell.id}: {error}") from error


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
