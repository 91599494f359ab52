"""Says before anything is compiled which nodes of a prepared model would be refused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfarm.errors import ModelError
from crossfarm.util.onnx_nodes import describe_node

if TYPE_CHECKING:
    from onnx import ModelProto

_MOST = 20
"""So many refusals are told."""


def refusals(model: ModelProto) -> list[str]:
    """Return what would be said of a prepared model, one text for each node at fault; nothing when all can be imported.

    What is found out only while code is made, for instance a call of TVM's runtime, is not among it.
    """
    from crossfarm.backends.tvm import onnx_import, unsupported

    try:
        unsupported.check_graph(model, known=onnx_import.known_operators())
    except ModelError as error:
        return [str(error)]
    try:
        onnx_import.import_onnx(model)
    except ModelError as error:
        return _of_nodes(model) or [str(error)]
    return []


def _of_nodes(model: ModelProto) -> list[str]:
    """Return what is said of each node alone."""
    from crossfarm.backends.tvm import onnx_import, unsupported

    found: list[str] = []
    for number, alone in unsupported.nodes_alone(model):
        try:
            onnx_import.import_onnx(alone)
        except ModelError as error:
            node, here = model.graph.node[number], alone.graph.node[0]
            place = describe_node(node, number)
            found.append(str(error).replace(describe_node(here, 0), place))
        if len(found) == _MOST:
            break
    return found
