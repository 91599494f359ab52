"""Pattern matching: a node between DequantizeLinear and QuantizeLinear, with its activation, becomes a layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crossfarm.backends.dpu.functions import ACTIVATIONS, PIECES, function_of
from crossfarm.backends.dpu.layers import LEAST, MOST, Layer, Network, Tensor
from crossfarm.backends.dpu.quantised_graph import QuantisedGraph, attributes, title
from crossfarm.backends.dpu.rules import Broken

if TYPE_CHECKING:
    from onnx import NodeProto

_FUSING = ("Conv", "Gemm", "MatMul", "Add")
_VIEWS = ("Flatten", "Reshape", "Squeeze", "Identity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Match:
    """A layer, and the nodes that it stands for.

    Attributes:
        layer: its tensors are named as the stored ones of the graph.
        tensors: extents of what it reads and writes.
        nodes: all that it replaces, the QuantizeLinear last.
        views: nodes before those that are needed for it alone, unless others read them: what only gives another shape,
            and what a function stores on the way.
    """

    layer: Layer
    tensors: Mapping[str, Tensor]
    nodes: tuple[NodeProto, ...]
    views: tuple[NodeProto, ...] = ()

    def network(self) -> Network:
        """Return a network of this layer alone."""
        layer = self.layer
        return Network(tensors=self.tensors, layers=(layer,), inputs=layer.inputs, outputs=(layer.output,))


def match(graph: QuantisedGraph, quantise: NodeProto) -> Match:
    """Return the layer whose result a QuantizeLinear stores.

    Raises:
        Broken: it is none that the array has; the text says why.
    """
    last = graph.makers.get(quantise.input[0])
    if last is None:
        raise Broken("it stores an input of the model")
    try:
        return _layer(graph, last, quantise)
    except Broken as rule:
        try:
            return _function(graph, last, quantise)
        except Broken as other:
            raise (other if last.op_type in (*ACTIVATIONS, *PIECES) and last.op_type != "Add" else rule) from None


def _layer(graph: QuantisedGraph, last: NodeProto, quantise: NodeProto) -> Match:
    node, activation = last, None
    if last.op_type in ("Relu", "Clip"):
        before = graph.makers.get(last.input[0])
        if before is not None and before.op_type in _FUSING and len(graph.users[before.output[0]]) == 1:
            node, activation = before, last
    if any(len(graph.users[each.output[0]]) != 1 for each in (node, last)) or last.output[0] in graph.outputs:
        raise Broken("its result is needed in float32 too")
    make = _MAKERS.get(node.op_type)
    if make is None:
        raise Broken(f"{node.op_type} is no operator of the array")
    exponent = graph.exponent(quantise)
    low, high = _limits(graph, activation, exponent) if activation is not None else (LEAST, MOST)
    found = make(_Site(graph=graph, node=node, output=quantise.output[0], exponent=exponent))
    layer = dataclasses.replace(found.layer, low=low, high=high)
    nodes = (node, *((activation,) if activation is not None else ()), quantise)
    return dataclasses.replace(found, layer=layer, nodes=nodes)


def _function(graph: QuantisedGraph, last: NodeProto, quantise: NodeProto) -> Match:
    site = _Site(graph=graph, node=last, output=quantise.output[0], exponent=graph.exponent(quantise))
    found = function_of(graph, last, quantise)
    made = site.found((found.source,), kind="table", table=found.table)
    return dataclasses.replace(made, nodes=(*found.nodes, quantise), views=found.inside)


def _limits(graph: QuantisedGraph, activation: NodeProto, exponent: int) -> tuple[int, int]:
    """Return the smallest and largest result of Relu or Clip, in steps of the output; rounding keeps the order."""
    if activation.op_type == "Relu":
        return 0, MOST
    bounds = [graph.constants.get(name) if name else None for name in activation.input[1:]]
    if any(name and name not in graph.constants for name in activation.input[1:]):
        raise Broken("the bounds of its Clip are computed")
    steps = [None if bound is None else round(float(bound.reshape(())) * 2.0**-exponent) for bound in bounds]
    low = steps[0] if steps and steps[0] is not None else LEAST
    high = steps[1] if len(steps) > 1 and steps[1] is not None else MOST
    low, high = max(LEAST, min(MOST, low)), max(LEAST, min(MOST, high))
    if low > high:
        raise Broken("the bounds of its Clip cross")
    return low, high


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Site:
    """Where a layer is made: the node, the stored tensor that it gives, and the exponent of that."""

    graph: QuantisedGraph
    node: NodeProto
    output: str
    exponent: int

    def found(self, inputs: Sequence[str], *, fed: Mapping[str, Tensor] | None = None, **fields: Any) -> Match:
        tensors = {name: self.graph.tensor(name) for name in inputs} if fed is None else dict(fed)
        tensors[self.output] = self.graph.tensor(self.output)
        layer = Layer(name=title(self.node), inputs=tuple(inputs), output=self.output, **fields)
        return Match(layer=layer, tensors=tensors, nodes=())


def _convolution(site: _Site) -> Match:
    graph, node, given = site.graph, site.node, attributes(site.node)
    name, exponent = graph.stored(node.input[0])
    weights, of_weights = graph.constant(node.input[1])
    if weights.ndim != 4:
        raise Broken(f"its weights have {weights.ndim} dimensions, and the array takes 4")
    fed, made = graph.tensor(name), graph.tensor(site.output)
    groups = int(given.get("group", 1))
    is_depthwise = groups == fed.channels == made.channels and weights.shape[1] == 1 and groups > 1
    if groups != 1 and not is_depthwise:
        raise Broken(f"it has {groups} groups, and the array takes 1, or one for each channel")
    return site.found(
        (name,),
        kind="depthwise" if is_depthwise else "conv",
        **_window(given, weights.shape[2:], fed, made),
        shift=site.exponent - exponent - of_weights,
        weights=weights,
        bias=_bias(graph, node, exponent + of_weights),
    )


def _dense(site: _Site) -> Match:
    """A fully connected layer is a convolution whose kernel is the whole tensor; what flattens it falls away."""
    graph, node, given = site.graph, site.node, attributes(site.node)
    name, exponent = graph.stored(node.input[0])
    weights, of_weights = graph.constant(node.input[1])
    if weights.ndim != 2 or given.get("transA", 0) or given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0:
        raise Broken("it is no product of a vector with a matrix")
    if node.op_type == "MatMul" or not given.get("transB", 0):
        weights = weights.T
    views, source = _through_views(graph, name, exponent)
    fed = graph.tensor(source)
    if fed.size != weights.shape[1]:
        raise Broken(f"it multiplies {weights.shape[1]} numbers, and its tensor has {fed.size}")
    found = site.found(
        (source,),
        fed={source: fed},
        kind="conv",
        kernel=(fed.height, fed.width),
        shift=site.exponent - exponent - of_weights,
        weights=weights.reshape(-1, fed.channels, fed.height, fed.width),
        bias=_bias(graph, node, exponent + of_weights),
    )
    return dataclasses.replace(found, views=views)


def _through_views(graph: QuantisedGraph, name: str, exponent: int) -> tuple[tuple[NodeProto, ...], str]:
    """Return the stored tensor before all that only changes its shape, and those nodes."""
    views: list[NodeProto] = []
    while True:
        quantise = graph.makers.get(name)
        view = (
            graph.makers.get(quantise.input[0])
            if quantise is not None and quantise.op_type == "QuantizeLinear"
            else None
        )
        if quantise is None or view is None or view.op_type not in _VIEWS or len(graph.users[view.output[0]]) != 1:
            return tuple(views), name
        try:
            before, same = graph.stored(view.input[0])
            graph.tensor(before)
        except Broken:
            return tuple(views), name
        if same != exponent or graph.exponent(quantise) != exponent:
            return tuple(views), name
        views += [view, quantise]
        name = before


def _pool(site: _Site) -> Match:
    graph, node, given = site.graph, site.node, attributes(site.node)
    name, exponent = graph.stored(node.input[0])
    fed, made = graph.tensor(name), graph.tensor(site.output)
    is_global = node.op_type.startswith("Global")
    kernel = (fed.height, fed.width) if is_global else tuple(given["kernel_shape"])
    if len(kernel) != 2 or len(node.output) != 1:
        raise Broken("the array pools in 2 dimensions, and gives no indices")
    window = _window(given, kernel, fed, made)
    if node.op_type in ("MaxPool", "GlobalMaxPool"):
        if exponent != site.exponent:
            raise Broken("its result has another scale than what it reads")
        return site.found((name,), kind="max", **window)
    is_padded = any(given.get("pads", ())) or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    if (is_padded and not given.get("count_include_pad", 0)) or given.get("ceil_mode", 0):
        raise Broken("its mean leaves padding out, and the array counts it in")
    return _mean(site, name, exponent, window)


def _reduced_mean(site: _Site) -> Match:
    graph, node, given = site.graph, site.node, attributes(site.node)
    name, exponent = graph.stored(node.input[0])
    fed = graph.tensor(name)
    axes = given.get("axes")
    if axes is None and len(node.input) > 1 and node.input[1] in graph.constants:
        axes = graph.constants[node.input[1]].tolist()
    if len(graph.shapes[name]) != 4 or axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise Broken("it is a mean over other axes than height and width")
    return _mean(site, name, exponent, {"kernel": (fed.height, fed.width)})


def _mean(site: _Site, name: str, exponent: int, window: Mapping[str, Any]) -> Match:
    """A mean over a power of two is a shift; else a product with a float32, as ONNX Runtime's integer kernel has it."""
    import numpy as np

    count = window["kernel"][0] * window["kernel"][1]
    if count & (count - 1) == 0:
        shift = site.exponent - exponent + count.bit_length() - 1
        return site.found((name,), kind="average", **window, shift=shift)
    scales = np.float32(2.0**exponent), np.float32(2.0**site.exponent)
    multiplier = scales[0] / np.float32(scales[1] * np.float32(count))
    return site.found((name,), kind="average", **window, multiplier=float(multiplier))


def _sum(site: _Site) -> Match:
    graph, node = site.graph, site.node
    (one, first), (other, second) = (graph.stored(name) for name in node.input)
    if graph.shapes.get(one) != graph.shapes.get(other):
        raise Broken(f"it adds {graph.shapes.get(one)} and {graph.shapes.get(other)}, and the array equal extents")
    base = min(first, second)
    return site.found((one, other), kind="add", shift=site.exponent - base, lefts=(first - base, second - base))


def _concatenation(site: _Site) -> Match:
    graph, node = site.graph, site.node
    if attributes(node).get("axis") not in (1, -3):
        raise Broken("it concatenates along another axis than channels")
    read = [graph.stored(name) for name in node.input]
    names = tuple(name for name, _ in read)
    return site.found(names, kind="concat", lefts=tuple(site.exponent - exponent for _, exponent in read))


def _bias(graph: QuantisedGraph, node: NodeProto, exponent: int) -> Any:
    if len(node.input) < 3 or not node.input[2]:
        return None
    numbers, of_bias = graph.constant(node.input[2])
    if of_bias != exponent or numbers.dtype.name != "int32":
        raise Broken("its bias has another scale than its sums")
    return numbers.reshape(-1)


def _window(given: Mapping[str, Any], kernel: Sequence[int], fed: Tensor, made: Tensor) -> dict[str, Any]:
    """Return kernel, stride, dilation and padding of a layer."""
    stride, dilation = tuple(given.get("strides", (1, 1))), tuple(given.get("dilations", (1, 1)))
    pads = tuple(given.get("pads", (0, 0, 0, 0)))
    auto = given.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        extents = ((fed.height, made.height), (fed.width, made.width))
        needed = [
            max(0, (out - 1) * step + (size - 1) * apart + 1 - there)
            for (there, out), step, size, apart in zip(extents, stride, kernel, dilation, strict=True)
        ]
        pads = tuple((each + (auto == b"SAME_LOWER")) // 2 for each in needed)
    return {"kernel": tuple(kernel), "stride": stride, "dilation": dilation, "padding": pads[:2]}


_MAKERS: Mapping[str, Callable[[_Site], Match]] = {
    "Conv": _convolution,
    "Gemm": _dense,
    "MatMul": _dense,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalMaxPool": _pool,
    "GlobalAveragePool": _pool,
    "ReduceMean": _reduced_mean,
    "Add": _sum,
    "Concat": _concatenation,
}
