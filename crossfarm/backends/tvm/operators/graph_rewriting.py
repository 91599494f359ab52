"""Replaces nodes of an ONNX graph by several of simpler operators, before it is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from crossfarm.backends.tvm.operators.node import UnsupportedForm
from crossfarm.backends.tvm.types import Array
from crossfarm.backends.tvm.unsupported import said_by
from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import STANDARD_DOMAINS, describe_node, full_name, opset_of, static_shape

_AXES_AS_INPUT = 13
_REDUCTIONS_WITH_INPUT = 18
_SLICES_WITH_INPUT = 10
"""From these operator sets on, what were attributes are inputs."""


@dataclasses.dataclass(kw_only=True)
class Rewriting:
    """One node while it is replaced.

    Attributes:
        node: that is replaced.
        constants: name -> initialiser, of the whole graph.
        types: name -> element type and shape, where they are known.
        makers: name -> the node that gives it, of the graph as it was.
        opset: of the operators of ONNX.
        nodes: what replaces it.
        added: new initialisers.
    """

    node: NodeProto
    constants: Mapping[str, TensorProto]
    types: Mapping[str, tuple[int, tuple[int, ...] | None]]
    makers: Mapping[str, NodeProto]
    opset: int
    nodes: list[NodeProto] = dataclasses.field(default_factory=list)
    added: list[TensorProto] = dataclasses.field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the node, text as str."""
        values = {item.name: helper.get_attribute_value(item) for item in self.node.attribute}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}

    def input(self, number: int) -> str:
        """Return the name of an input; empty when it is left out."""
        return self.node.input[number] if number < len(self.node.input) else ""

    def output(self, number: int) -> str:
        """Return the name of an output; empty when it is left out."""
        return self.node.output[number] if number < len(self.node.output) else ""

    def array(self, number: int) -> Array | None:
        """Return the content of an input; None when it is left out or computed."""
        tensor = self.constants.get(self.input(number))
        return None if tensor is None else numpy_helper.to_array(tensor)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a value; None when it is not known."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return self.types[name][1] if name in self.types else None

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """Return NumPy's dtype of a value; float32 when it is not known."""
        if name in self.constants:
            return helper.tensor_dtype_to_np_dtype(self.constants[name].data_type)
        return helper.tensor_dtype_to_np_dtype(self.types[name][0]) if name in self.types else np.dtype(np.float32)

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Add an initialiser and return its name."""
        array = np.asarray(value, dtype=dtype)
        name = self._name()
        self.added.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, gives: str = "", **attributes: Any) -> str:
        """Add a node of one output and return the name of that.

        Args:
            operator: of ONNX.
            inputs: names; empty for one that is left out.
            gives: name of the output; a new one when it is empty.
            attributes: of the node.
        """
        output = gives or self._name()
        self.nodes.append(helper.make_node(operator, inputs, [output], name=self.node.name, **attributes))
        return output

    def unsqueezed(self, value: str, *axes: int) -> str:
        """Return a value with new axes of one element; operator sets before 13 take them as an attribute."""
        if self.opset >= _AXES_AS_INPUT:
            return self.add("Unsqueeze", value, self.constant(axes, np.int64))
        return self.add("Unsqueeze", value, axes=list(axes))

    def reduced(self, operator: str, value: str, axes: Sequence[int], *, keepdims: int = 1, gives: str = "") -> str:
        """Return a reduction over axes; ReduceSum takes them as an input from operator set 13 on, the others from 18.

        Args:
            operator: ReduceSum, ReduceMean and so on.
            value: name of what is reduced.
            axes: at least one.
            keepdims: whether reduced axes stay, with one element.
            gives: name of the output; a new one when it is empty.
        """
        if self.opset >= (_AXES_AS_INPUT if operator == "ReduceSum" else _REDUCTIONS_WITH_INPUT):
            names = [value, self.constant(axes, np.int64)]
            return self.add(operator, *names, gives=gives, keepdims=keepdims)
        return self.add(operator, value, gives=gives, axes=list(axes), keepdims=keepdims)

    def sliced(self, value: str, begin: int, end: int, *, axis: int = 0, step: int = 1) -> str:
        """Return a part of an axis; operator sets before 10 take its places as attributes, and no step."""
        if self.opset >= _SLICES_WITH_INPUT:
            return self.add("Slice", value, *(self.constant([each], np.int64) for each in (begin, end, axis, step)))
        if step != 1:
            raise UnsupportedForm(f"operator set {self.opset} has no steps of a slice")
        return self.add("Slice", value, starts=[begin], ends=[end], axes=[axis])

    def _name(self) -> str:
        """Return a name that nothing has yet: those of outputs are unique in a graph."""
        made = next(name for name in self.node.output if name)
        return f"{made}/{self.node.op_type}_{len(self.nodes)}_{len(self.added)}"


Rewrite = Callable[[Rewriting], bool]
"""Adds nodes that give the outputs of the one that is replaced; False leaves it as it is."""


def rewritten(model: ModelProto, rewrites: Mapping[str, Rewrite]) -> ModelProto:
    """Return the model with nodes replaced; the same object when there is nothing to replace.

    Args:
        model: with the types of all values.
        rewrites: operator -> what replaces it; one of another domain than ONNX's is `domain.operator`.

    Raises:
        ModelError: a node cannot be replaced, and nothing else imports it.
    """
    graph = model.graph
    if not any(full_name(node) in rewrites for node in graph.node):
        return model
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: (value.type.tensor_type.elem_type, static_shape(value)) for value in values}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    opset = opset_of(model)
    nodes: list[NodeProto] = []
    added: list[TensorProto] = []
    changes = False
    for number, node in enumerate(graph.node):
        rewriting = Rewriting(node=node, constants=constants, types=types, makers=makers, opset=opset)
        rewrite = rewrites.get(full_name(node))
        if rewrite is None or not _is_replaced(rewrite, rewriting, number):
            nodes.append(node)
            continue
        changes = True
        nodes.extend(rewriting.nodes)
        added.extend(rewriting.added)
        constants.update((tensor.name, tensor) for tensor in rewriting.added)
    if not changes:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(added)
    known = {*STANDARD_DOMAINS, *(entry.domain for entry in result.opset_import)}
    for domain in sorted({node.domain for node in nodes} - known):
        result.opset_import.add(domain=domain, version=1)
    # What was made of one may be replaced again, and needs the types of what is new.
    return rewritten(onnx.shape_inference.infer_shapes(result, data_prop=True), rewrites)


def _is_replaced(rewrite: Rewrite, rewriting: Rewriting, number: int) -> bool:
    try:
        return rewrite(rewriting)
    except ModelError:
        raise
    except Exception as reason:  # a node of a form that nobody thought of, such as one of another rank
        raise ModelError(
            f"{describe_node(rewriting.node, number)} cannot be imported: {said_by(reason)}; replace it before the "
            "model is exported, or list the target under skip with this reason"
        ) from reason
