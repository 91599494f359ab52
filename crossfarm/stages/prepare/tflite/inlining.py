"""Puts subgraphs in place of the operators that call them, so that one graph is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from crossfarm.errors import ModelError
from crossfarm.stages.prepare.tflite.operators import INLINED
from crossfarm.stages.prepare.tflite.reader import TENSORS_LIMIT, Operator, TfliteGraph, TfliteTensor

OPERATORS_LIMIT = 100_000
"""The most operators of a graph with all calls written out."""
DEPTH_LIMIT = 16
"""How deep subgraphs may call each other."""


@dataclasses.dataclass(kw_only=True)
class _Flat:
    """The graph that grows."""

    graphs: Sequence[TfliteGraph]
    tensors: list[TfliteTensor]
    operators: list[Operator]
    calls: int = 0


def inline_calls(graph: TfliteGraph) -> TfliteGraph:
    """Return the graph with subgraphs in place of their calls; operators keep the number that they have in the file.

    Raises:
        ModelError: a subgraph that is not there, that calls itself, or too many operators.
    """
    if not any(operator.name in INLINED for operator in graph.operators):
        return graph
    flat = _Flat(graphs=graph.called, tensors=list(graph.tensors), operators=[])
    _add(flat, graph.operators, {index: index for index in range(len(graph.tensors))}, depth=0)
    return dataclasses.replace(graph, tensors=tuple(flat.tensors), operators=tuple(flat.operators))


def _add(flat: _Flat, operators: Sequence[Operator], numbers: dict[int, int], *, depth: int) -> None:
    """Add operators whose tensors have other numbers in the flat graph."""
    numbers = {**numbers, -1: -1}
    for operator in operators:
        inputs, outputs = (tuple(numbers[index] for index in part) for part in (operator.inputs, operator.outputs))
        if operator.name not in INLINED:
            flat.operators.append(dataclasses.replace(operator, inputs=inputs, outputs=outputs))
            _check_growth(flat)
            continue
        where = f"operator {operator.index} ({operator.name})"
        number = operator.options.subgraph
        if not 0 < number < len(flat.graphs) or depth >= DEPTH_LIMIT:
            raise ModelError(f"{where} calls subgraph {number}, which is not there or calls itself")
        called = flat.graphs[number]
        if len(called.inputs) != len(inputs) or len(called.outputs) != len(outputs):
            raise ModelError(f"{where} does not fit the inputs and outputs of subgraph {number}")
        _add_call(flat, called, inputs, outputs, depth=depth)


def _check_growth(flat: _Flat) -> None:
    if len(flat.operators) + flat.calls > OPERATORS_LIMIT or len(flat.tensors) > TENSORS_LIMIT:
        raise ModelError(
            f"the model has more than {OPERATORS_LIMIT} operators or {TENSORS_LIMIT} tensors with its calls written out"
        )


def _add_call(flat: _Flat, called: TfliteGraph, inputs: Sequence[int], outputs: Sequence[int], *, depth: int) -> None:
    inner: dict[int, int] = dict(zip(called.inputs, inputs, strict=True))
    for index, outer in zip(called.outputs, outputs, strict=True):
        inner.setdefault(index, outer)
    flat.calls += 1
    _check_growth(flat)
    for tensor in called.tensors:
        if tensor.index not in inner:
            inner[tensor.index] = len(flat.tensors)
            flat.tensors.append(dataclasses.replace(tensor, index=len(flat.tensors)))
    _add(flat, called.operators, inner, depth=depth + 1)
    for index, outer in zip(called.outputs, outputs, strict=True):
        # An output that is an input, a constant, or given twice has no operator that writes it.
        if inner[index] != outer:
            copied = Operator(index=-1, name="IDENTITY", inputs=(inner[index],), outputs=(outer,))
            flat.operators.append(copied)
