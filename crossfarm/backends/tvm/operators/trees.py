"""Ensembles of decision trees of ai.onnx.ml: tables of nodes and leaves, and one loop that goes down each tree.

https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html, onnx_aionnxml_TreeEnsembleRegressor.html. Code does not
grow with the trees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from onnx import numpy_helper
from tvm import relax, tirx
from tvm.script.ir_builder import tirx as T  # noqa: N812 - the name that all TVM code has

from crossfarm.backends.tvm.operators.emitting import cast, tensor
from crossfarm.backends.tvm.operators.node import Converter, Node, UnsupportedForm
from crossfarm.backends.tvm.operators.serial import Row, run_loops, scalar
from crossfarm.backends.tvm.types import Array, PrimExpr, RelaxExpr

_LEQ, _LT, _GTE, _GT, _EQ, _NEQ, _MEMBER = range(7)
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_LEAF = "LEAF"
_AVERAGE, _SUM, _MIN, _MAX = range(4)
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_NONE, _SOFTMAX, _LOGISTIC = range(3)
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Trees:
    """An ensemble.

    Attributes:
        roots: of each tree: a node, or a leaf, which is said as -1 - leaf.
        features: of each node, which column it looks at.
        modes: of each node, how it compares.
        splits: of each node, what it compares with.
        missing: of each node, whether NaN goes where the comparison holds.
        ways: of each node, where it goes when the comparison fails, and when it holds; leaves as in `roots`.
        begins: of each leaf, the first of its weights; one more at the end.
        targets: of each weight.
        weights: that leaves add to their targets.
        members: sets that nodes look into, one behind the other.
        sets: of each node, where its set begins and ends.
        base: that is added to each target.
    """

    roots: Array
    features: Array
    modes: Array
    splits: Array
    missing: Array
    ways: Array
    begins: Array
    targets: Array
    weights: Array
    members: Array
    sets: Array
    base: Array

    @property
    def depth(self) -> int:
        """Nodes on the longest way down.

        Raises:
            UnsupportedForm: a way leads to no node or leaf, or round in a circle.
        """
        nodes, leaves = len(self.features), len(self.begins) - 1
        for place in (*self.roots.tolist(), *self.ways.reshape(-1).tolist()):
            if not -leaves <= place < nodes:
                raise UnsupportedForm("one of its trees leads to a node that is not there")
        deepest: dict[int, int] = {}
        for root in self.roots.tolist():
            waiting = [(root, False)]
            on_way: set[int] = set()
            while waiting:
                place, done = waiting.pop()
                if place < 0 or (place in deepest and not done):
                    continue
                below = [int(way) for way in self.ways[place]]
                if done:
                    on_way.discard(place)
                    deepest[place] = 1 + max(deepest.get(way, 0) if way >= 0 else 0 for way in below)
                    continue
                if place in on_way:
                    raise UnsupportedForm("one of its trees leads round in a circle")
                on_way.add(place)
                waiting += [(place, True), *((way, False) for way in below)]
        return max(deepest.values(), default=0)


def _ensemble(node: Node) -> RelaxExpr:
    attributes = node.attributes
    modes = _tensor(node, "nodes_modes").astype(np.int32)
    features = _indices(node, "nodes_featureids")
    splits = _tensor(node, "nodes_splits")
    ways = [
        np.where(_indices(node, f"nodes_{side}leafs") > 0, -1 - places, places)
        for side in ("false", "true")
        for places in [_indices(node, f"nodes_{side}nodeids")]
    ]
    roots = _indices(node, "tree_roots")
    leafs = [_indices(node, f"nodes_{side}leafs") > 0 for side in ("false", "true")]
    weights = _tensor(node, "leaf_weights")
    if roots.min(initial=0) < 0 or roots.max(initial=-1) >= len(features):
        raise UnsupportedForm("one of its trees begins at a node that is not there")
    # A tree of a leaf alone is a node whose both ways lead to the same leaf.
    alone = leafs[0][roots] & leafs[1][roots] & (ways[0][roots] == ways[1][roots])
    members, sets = _sets(node, modes)
    trees = _Trees(
        roots=np.where(alone, ways[0][roots], roots),
        features=features,
        modes=modes,
        splits=splits,
        missing=_missing(node, len(features)),
        ways=np.stack(ways, axis=-1),
        begins=np.arange(len(weights) + 1),
        targets=_indices(node, "leaf_targetids"),
        weights=weights,
        members=members,
        sets=sets,
        base=np.zeros(1),
    )
    chosen = int(attributes.get("aggregate_function", _SUM)), int(attributes.get("post_transform", _NONE))
    return _walked(node, trees, int(attributes["n_targets"]), *chosen)


def _sets(node: Node, modes: Array) -> tuple[Array, Array]:
    """Return the members of all sets, which NaN parts in the file, and where that of each node begins and ends."""
    places = np.zeros((len(modes), 2), np.int64)
    looking = np.flatnonzero(modes == _MEMBER)
    if not len(looking):
        return np.zeros(1), places
    listed = _tensor(node, "membership_values")
    ends = np.flatnonzero(np.isnan(listed.astype(np.float64)))
    if len(ends) != len(looking):
        raise UnsupportedForm(f"it has {len(ends)} sets for {len(looking)} nodes that look into one")
    places[looking, 0] = [0, *(ends[:-1] + 1)]
    places[looking, 1] = ends
    return listed, places


def _regressor(node: Node) -> RelaxExpr:
    attributes = node.attributes
    keys = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    names = [_text(name) for name in attributes["nodes_modes"]]
    inner = [place for place, name in enumerate(names) if name != _LEAF]
    leaves = [place for place, name in enumerate(names) if name == _LEAF]
    place_of = {keys[place]: number for number, place in enumerate(inner)}
    place_of |= {keys[place]: -1 - number for number, place in enumerate(leaves)}
    unknown = {names[place] for place in inner} - set(_MODES)
    if unknown or len(place_of) != len(keys):
        raise UnsupportedForm(f"it compares by {sorted(unknown)}" if unknown else "it names a node twice")

    def ways(name: str) -> list[int]:
        given = attributes[name]
        return [place_of[keys[place][0], given[place]] for place in inner]

    held: dict[tuple[int, int], list[int]] = {}
    ids = zip(attributes["target_treeids"], attributes["target_nodeids"], strict=True)
    for number, key in enumerate(ids):
        held.setdefault(key, []).append(number)
    order = [held.get(keys[place], []) for place in leaves]
    flat = [number for numbers in order for number in numbers]
    first = {tree: place_of[tree, number] for tree, number in reversed(keys)}
    missing = _missing(node, len(keys))[inner]
    trees = _Trees(
        roots=np.asarray([first[tree] for tree in dict.fromkeys(tree for tree, _ in keys)], np.int64),
        features=_indices(node, "nodes_featureids")[inner],
        modes=np.asarray([_MODES.index(names[place]) for place in inner], np.int32),
        splits=_numbers(node, "nodes_values")[inner],
        missing=missing,
        ways=np.asarray([ways("nodes_falsenodeids"), ways("nodes_truenodeids")], np.int64).reshape(2, -1).T,
        begins=np.cumsum([0, *(len(numbers) for numbers in order)]),
        targets=_indices(node, "target_ids")[flat],
        weights=_numbers(node, "target_weights")[flat],
        members=np.zeros(1),
        sets=np.zeros((len(inner), 2), np.int64),
        base=_numbers(node, "base_values") if _has(node, "base_values") else np.zeros(1),
    )
    aggregate, transform = (_text(attributes.get(*item)) for item in _CHOICES)
    if aggregate not in _AGGREGATES or transform not in _TRANSFORMS:
        raise UnsupportedForm(f"it aggregates by {aggregate!r} and transforms its result by {transform!r}")

    # Numbers of 64 bits are compared as such; what comes out is float32 in any case.
    wide = dataclasses.replace(node, inputs=[cast(node, node.input(0), _WIDTHS.get(node.dtype(0), "float32"))])
    chosen = _AGGREGATES.index(aggregate), _TRANSFORMS.index(transform)
    return cast(node, _walked(wide, trees, int(attributes["n_targets"]), *chosen), "float32")


_CHOICES = (("aggregate_function", "SUM"), ("post_transform", "NONE"))
_WIDTHS = {"float64": "float64"}


def _walked(node: Node, trees: _Trees, targets: int, aggregate: int, transform: int) -> RelaxExpr:
    """Emit the loops over rows and trees.

    Args:
        node: that is imported.
        trees: of it.
        targets: columns of the result.
        aggregate: what becomes of the weights that reach one target.
        transform: of the result.
    """
    dtype = node.dtype(0)
    rows, columns = node.shape(0)
    depth = trees.depth
    _check(trees, columns, targets)
    if transform not in (_NONE, _SOFTMAX, _LOGISTIC) or aggregate not in range(len(_AGGREGATES)):
        raise UnsupportedForm(f"it aggregates by {aggregate} and transforms its result by {transform}")
    tables = [
        tensor(_filled(each).astype(kind))
        for each, kind in (
            (trees.roots, np.int32),
            (trees.features, np.int32),
            (trees.modes, np.int32),
            (trees.splits, dtype),
            (trees.missing, np.int32),
            (trees.ways, np.int32),
            (trees.begins, np.int32),
            (trees.targets, np.int32),
            (trees.weights, dtype),
            (trees.members, dtype),
            (trees.sets, np.int32),
        )
    ]
    widest = int((trees.sets[:, 1] - trees.sets[:, 0]).max(initial=0))
    kinds = sorted({int(mode) for mode in trees.modes})

    def body(values: Row, *others: Row) -> None:
        walk = _Loops(tables=others[: len(tables)], values=values, columns=columns, kinds=kinds, widest=widest)
        result, reached = others[len(tables) :]
        with T.serial(0, rows * targets) as place:
            result[place] = tirx.const(0, dtype)
            reached[place] = tirx.const(0, "int32")
        with T.serial(0, rows) as row, T.serial(0, len(trees.roots)) as tree:
            place = walk.down(row, tree, depth)
            walk.add(place, row * targets, result, reached, aggregate, count=len(trees.roots))

    outputs = [((rows, targets), dtype), ((rows, targets), "int32")]
    scores = run_loops(node, body, inputs=[node.input(0), *tables], outputs=outputs, name="trees")[0]
    if trees.base.any():
        scores = node.emit(relax.op.add(scores, tensor(trees.base.astype(dtype).reshape(1, -1))))
    if transform == _SOFTMAX:
        return relax.op.nn.softmax(scores, axis=-1)
    return relax.op.sigmoid(scores) if transform == _LOGISTIC else scores


def _check(trees: _Trees, columns: int, targets: int) -> None:
    lengths = {len(each) for each in (trees.modes, trees.splits, trees.missing, trees.ways, trees.features)}
    fits = (
        len(lengths) == 1
        and len(trees.targets) == len(trees.weights) == int(trees.begins[-1])
        and 0 <= trees.features.min(initial=0) <= trees.features.max(initial=0) < columns
        and 0 <= trees.targets.min(initial=0) <= trees.targets.max(initial=0) < targets
        and len(trees.base) in (1, targets)
    )
    if not fits:
        raise UnsupportedForm("its tables do not fit each other, its input or its targets")


def _filled(table: Array) -> Array:
    """Return a table with one element at least: a buffer has no place for none."""
    return table if table.size else np.zeros(1, table.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loops:
    """The tables as the loops see them.

    Attributes:
        tables: rows of the tables of `_Trees`, in its order.
        values: what is looked at.
        columns: of a row of it.
        kinds: comparisons that nodes make.
        widest: members of the largest set.
    """

    tables: Sequence[Row]
    values: Row
    columns: int
    kinds: Sequence[int]
    widest: int

    def down(self, row: PrimExpr, tree: PrimExpr, depth: int) -> Row:
        """Write the way down one tree and return a variable that holds -1 - leaf."""
        roots, features, _, splits, missing, ways = self.tables[:6]
        place = scalar("int32")
        place[0] = roots[tree]
        if not depth:
            return place
        with T.serial(0, depth), T.If(place[0] >= 0), T.Then():
            holds, value = scalar("int32"), scalar(str(splits.dtype))
            value[0] = self.values[row * self.columns + features[place[0]]].astype(str(splits.dtype))
            holds[0] = tirx.const(0, "int32")
            with T.If(tirx.isnan(value[0])):
                with T.Then():
                    holds[0] = missing[place[0]]
                    if _NEQ in self.kinds:
                        self._compare(_NEQ, place[0], value[0], holds)
                with T.Else():
                    for kind in self.kinds:
                        self._compare(kind, place[0], value[0], holds)
            place[0] = ways[place[0] * 2 + holds[0]]
        return place

    def _compare(self, kind: int, place: PrimExpr, value: PrimExpr, holds: Row) -> None:
        modes, splits, members, sets = (self.tables[k] for k in (2, 3, 9, 10))
        if kind == _MEMBER and self.widest:
            with T.serial(0, self.widest) as number:
                here = sets[place * 2] + number
                inside = tirx.all(tirx.EQ(modes[place], _MEMBER), here < sets[place * 2 + 1])
                with T.If(inside), T.Then(), T.If(tirx.EQ(members[here], value)), T.Then():
                    holds[0] = tirx.const(1, "int32")
            return
        split = splits[place]
        if kind == _MEMBER:
            return
        meets = {
            _LEQ: value <= split,
            _LT: value < split,
            _GTE: value >= split,
            _GT: value > split,
            _EQ: tirx.EQ(value, split),
            _NEQ: tirx.NE(value, split),
        }[kind]
        with T.If(tirx.all(tirx.EQ(modes[place], kind), meets)), T.Then():
            holds[0] = tirx.const(1, "int32")

    def add(self, place: Row, first: PrimExpr, result: Row, reached: Row, aggregate: int, *, count: int) -> None:
        """Write what a leaf does to its targets.

        Args:
            place: a variable that holds -1 - leaf.
            first: place of the row's first target in the result.
            result: of all rows.
            reached: whether a target has been reached, as `result`.
            aggregate: how weights are put together.
            count: of trees.
        """
        begins, targets, weights = self.tables[6:9]
        begin, end = scalar("int32"), scalar("int32")
        begin[0] = begins[-1 - place[0]]
        end[0] = begins[tirx.const(0, "int32") - place[0]]
        with T.While(begin[0] < end[0]):
            target = scalar("int32")
            target[0] = first + targets[begin[0]]
            old, new = result[target[0]], weights[begin[0]]
            if aggregate == _AVERAGE:
                made = old + new / tirx.const(count, str(weights.dtype))
            elif aggregate == _SUM:
                made = old + new
            else:
                extreme = tirx.min(old, new) if aggregate == _MIN else tirx.max(old, new)
                made = tirx.Select(reached[target[0]] > 0, extreme, new)
            result[target[0]] = made
            reached[target[0]] = tirx.const(1, "int32")
            begin[0] = begin[0] + 1


def _has(node: Node, name: str) -> bool:
    return name in node.attributes or f"{name}_as_tensor" in node.attributes


def _numbers(node: Node, name: str) -> Array:
    """Return real numbers, which stand in a list of float32 or in a tensor."""
    if name in node.attributes:
        return np.asarray(node.attributes[name], np.float32)
    return _tensor(node, f"{name}_as_tensor")


def _tensor(node: Node, name: str) -> Array:
    if name not in node.attributes:
        raise UnsupportedForm(f"it has no {name}")
    array: Array = numpy_helper.to_array(node.attributes[name])
    return array.reshape(-1)


def _indices(node: Node, name: str) -> Array:
    return np.asarray(node.attributes[name], np.int64).reshape(-1)


def _missing(node: Node, count: int) -> Array:
    given = node.attributes.get("nodes_missing_value_tracks_true")
    return np.zeros(count, np.int64) if not given else (np.asarray(given) != 0).astype(np.int64)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


CONVERTERS: dict[str, Converter] = {
    "ai.onnx.ml.TreeEnsemble": _ensemble,
    "ai.onnx.ml.TreeEnsembleRegressor": _regressor,
}
"""Operator -> its converter."""
