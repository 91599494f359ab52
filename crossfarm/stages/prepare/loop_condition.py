"""Whether a loop goes on behind each of its trips, as far as that is known before the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from crossfarm.util.onnx_nodes import RANDOM_OPERATORS, subgraphs

if TYPE_CHECKING:
    import onnx


class LoopCondition:
    """Whether a loop goes on behind a trip: what follows from constants and the number of the trip alone."""

    def __init__(self, body: onnx.GraphProto, around: Mapping[str, onnx.TensorProto], opset: int) -> None:
        self._body, self._opset = body, opset
        self._known = {**around, **{tensor.name: tensor for tensor in body.initializer}}
        self._makers = {output: node for node in body.node for output in node.output}
        self._needed = self._needs()

    def after(self, number: int) -> bool | None:
        """Return whether the loop goes on behind trip `number`; None when that depends on data."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        if self._needed is None:
            return None
        name = self._body.output[0].name
        if name == self._body.input[1].name:
            return True
        if name in self._known:
            return bool(onnx.numpy_helper.to_array(self._known[name]).reshape(-1)[0])
        inside = {output for node in self._needed for output in node.output}
        used = {name for node in self._needed for name in node.input if name} - inside
        graph = onnx.helper.make_graph(
            self._needed,
            "condition",
            [
                onnx.helper.make_tensor_value_info(value.name, kind, [])
                for value, kind in zip(
                    self._body.input[:2], (onnx.TensorProto.INT64, onnx.TensorProto.BOOL), strict=True
                )
            ],
            [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, None)],
            [self._known[each] for each in used if each in self._known],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self._opset)])
        given = {self._body.input[0].name: np.array(number, np.int64), self._body.input[1].name: np.array(True)}
        try:
            (answer,) = ReferenceEvaluator(model).run(None, given)
        except Exception:  # its errors share no base class; what it cannot compute is not known beforehand
            return None
        return bool(np.asarray(answer).reshape(-1)[0])

    def _needs(self) -> list[onnx.NodeProto] | None:
        """Return the nodes that the condition is computed by; None when one of them reads data."""
        free = {value.name for value in self._body.input[:2]}
        found: set[str] = set()
        waiting = [self._body.output[0].name]
        while waiting:
            name = waiting.pop()
            if not name or name in free or name in self._known or name in found:
                continue
            node = self._makers.get(name)
            if node is None or node.op_type in RANDOM_OPERATORS or any(True for _ in subgraphs(node)):
                return None
            found.update(node.output)
            waiting.extend(node.input)
        return [node for node in self._body.node if any(output in found for output in node.output)]
