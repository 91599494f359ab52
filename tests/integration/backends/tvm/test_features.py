"""Operators of ai.onnx.ml and TfIdfVectorizer on many shapes, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper, numpy_helper

from crossfarm.errors import ModelError
from tests.integration.backends.tvm.onnx_graphs import GENERATOR, Array, assert_right, numbers, places

pytestmark = pytest.mark.integration

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
few = settings(max_examples=10, deadline=None)
ML = "ai.onnx.ml"


@few
@given(shape=SHAPES, threshold=st.sampled_from([-0.5, 0.0, 1.0]))
def test_numbers_above_a_threshold(shape: tuple[int, ...], threshold: float) -> None:
    assert_right(
        helper.make_node("Binarizer", ["x"], ["y"], domain=ML, threshold=threshold), {"x": numbers(*shape)}, {}
    )


@few
@given(shape=SHAPES, count=st.integers(1, 4), computed=st.booleans())
def test_chosen_features(shape: tuple[int, ...], count: int, computed: bool) -> None:
    chosen = {"i": places(0, shape[-1], count)}
    inputs = {"x": numbers(*shape), **(chosen if computed else {})}
    node = helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain=ML)
    assert_right(node, inputs, {} if computed else chosen)


@few
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), alike=st.booleans())
def test_scaled_features(rows: int, columns: int, alike: bool) -> None:
    size = 1 if alike else columns
    offset, scale = (numbers(size).tolist() for _ in range(2))
    node = helper.make_node("Scaler", ["x"], ["y"], domain=ML, offset=offset, scale=scale)
    assert_right(node, {"x": numbers(rows, columns)}, {})


@few
@given(rows=st.integers(1, 4), columns=st.integers(1, 4), targets=st.integers(1, 3))
def test_linear_regression(rows: int, columns: int, targets: int) -> None:
    node = helper.make_node(
        "LinearRegressor",
        ["x"],
        ["y"],
        domain=ML,
        coefficients=numbers(targets * columns).tolist(),
        intercepts=numbers(targets).tolist(),
        targets=targets,
    )
    assert_right(node, {"x": numbers(rows, columns)}, {})


@few
@given(
    shape=st.sampled_from([(9,), (1, 9), (3, 12)]),
    mode=st.sampled_from(["TF", "IDF", "TFIDF"]),
    sizes=st.sampled_from([(1, 1), (1, 3), (2, 2), (2, 3), (3, 3)]),
    skips=st.integers(0, 5),
    narrow=st.booleans(),
    weighted=st.booleans(),
)
def test_counted_grams(
    *, shape: tuple[int, ...], mode: str, sizes: tuple[int, int], skips: int, narrow: bool, weighted: bool
) -> None:
    grams = 3 + 1 + 2
    pool = [0, 1, 2, *(1, 2), *(0, 1, 2), *(2, 2, 1)]
    counts = [0, 3, 5]
    indexes = np.arange(grams)[::-1].tolist()
    weights = {"weights": np.abs(numbers(grams)).tolist()} if weighted else {}
    node = helper.make_node(
        "TfIdfVectorizer",
        ["x"],
        ["y"],
        mode=mode,
        min_gram_length=sizes[0],
        max_gram_length=sizes[1],
        max_skip_count=skips,
        ngram_counts=counts,
        ngram_indexes=indexes,
        pool_int64s=pool,
        **weights,
    )
    assert_right(node, {"x": places(0, 3, *shape).astype("int32" if narrow else "int64")}, {})


def _trees(count: int, depth: int, columns: int, targets: int, modes: list[int]) -> dict[str, Any]:
    """Return full trees as attributes of TreeEnsemble."""
    inner, leaves = 2**depth - 1, 2**depth
    random = GENERATOR.random
    ways: dict[str, list[int]] = {f"{side}{what}": [] for side in ("true", "false") for what in ("nodeids", "leafs")}
    for tree in range(count):
        for place in range(inner):
            for number, side in enumerate(("true", "false")):
                child = 2 * place + 1 + number
                ways[f"{side}leafs"].append(int(child >= inner))
                ways[f"{side}nodeids"].append(child - inner + tree * leaves if child >= inner else child + tree * inner)
    total = count * inner
    chosen = random.choice(modes, total).astype(np.uint8)
    return {
        **{f"nodes_{name}": values for name, values in ways.items()},
        "tree_roots": [tree * inner for tree in range(count)],
        "nodes_featureids": random.integers(0, columns, total).tolist(),
        "nodes_modes": chosen,
        "nodes_splits": random.integers(-2, 3, total).astype(np.float32),
        "nodes_missing_value_tracks_true": random.integers(0, 2, total).tolist(),
        "leaf_targetids": random.integers(0, targets, count * leaves).tolist(),
        "leaf_weights": random.standard_normal(count * leaves).astype(np.float32),
        "n_targets": targets,
    }


def _ensemble(attributes: dict[str, Any], dtype: str) -> NodeProto:
    made = dict(attributes)
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            kind = np.uint8 if name == "nodes_modes" else dtype
            made[name] = numpy_helper.from_array(value.astype(kind), name)
    return helper.make_node("TreeEnsemble", ["x"], ["y"], domain=ML, **made)


def _features(rows: int, columns: int, dtype: str) -> Array:
    """Return small whole numbers, so that some are equal to what they are compared with, and a NaN."""
    values = places(-3, 4, rows, columns).astype(dtype)
    values[-1, 0] = np.nan
    return values


@few
@given(
    trees=st.integers(1, 4),
    depth=st.integers(1, 4),
    targets=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
    aggregate=st.integers(0, 3),
    modes=st.sampled_from([[0], [1], [0, 1, 2, 3, 4, 5]]),
)
def test_ensembles_of_trees(
    *, trees: int, depth: int, targets: int, dtype: str, aggregate: int, modes: list[int]
) -> None:
    attributes = _trees(trees, depth, 3, targets, modes) | {"aggregate_function": aggregate}
    assert_right(_ensemble(attributes, dtype), {"x": _features(5, 3, dtype)}, {})


def test_nodes_look_into_sets() -> None:
    attributes = _trees(2, 2, 1, 4, [0, 6]) | {"nodes_modes": np.array([6, 0, 6, 6, 6, 0])}
    sets = [1.0, 2.0, np.nan, 3.0, np.nan, -1.0, 0.0, np.nan, 2.0, np.nan]
    node = _ensemble(attributes | {"membership_values": np.array(sets)}, "float32")
    x = np.array([[-1], [0], [1], [2], [3], [7]], np.float32)
    assert_right(node, {"x": x}, {})


def test_a_tree_of_one_leaf_gives_its_weight() -> None:
    attributes = {
        "tree_roots": [0],
        "nodes_featureids": [0],
        "nodes_modes": np.array([0]),
        "nodes_splits": np.array([0.0]),
        **{f"nodes_{side}leafs": [1] for side in ("true", "false")},
        **{f"nodes_{side}nodeids": [0] for side in ("true", "false")},
        "leaf_targetids": [0],
        "leaf_weights": np.array([3.5]),
        "n_targets": 1,
    }
    x = numbers(3, 2)
    assert_right(_ensemble(attributes, "float32"), {"x": x}, {}, expected=[np.full((3, 1), 3.5, np.float32)])


@pytest.mark.parametrize("fault", ["circle", "feature", "target"])
def test_tables_that_do_not_fit_are_refused_with_the_node(fault: str) -> None:
    attributes = _trees(1, 2, 3, 2, [0])
    if fault == "circle":
        attributes |= {"nodes_trueleafs": [0, 0, 0], "nodes_truenodeids": [1, 0, 0]}
    elif fault == "feature":
        attributes["nodes_featureids"] = [0, 9, 0]
    else:
        attributes["leaf_targetids"] = [0, 1, 0, 7]
    # Targets are counted, and circles found, by ONNX Runtime already, which folds the model.
    said = {"circle": "cycle|circle", "target": "target", "feature": "operator ai.onnx.ml.TreeEnsemble .*do not fit"}
    with pytest.raises(ModelError, match=said[fault]):
        assert_right(_ensemble(attributes, "float32"), {"x": numbers(2, 3)}, {}, expected=[])


@few
@given(
    trees=st.integers(1, 3),
    targets=st.integers(1, 2),
    dtype=st.sampled_from(["float32", "float64"]),
    aggregate=st.sampled_from(["SUM", "AVERAGE", "MIN", "MAX"]),
    based=st.booleans(),
)
def test_regression_by_trees(*, trees: int, targets: int, dtype: str, aggregate: str, based: bool) -> None:
    inner, nodes = 3, 7
    ids = [(tree, node) for tree in range(trees) for node in range(nodes)]
    leaves = [(tree, node) for tree, node in ids if node >= inner]
    random = GENERATOR.random
    held = [(tree, node, target) for tree, node in leaves for target in range(targets)]
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain=ML,
        nodes_treeids=[tree for tree, _ in ids],
        nodes_nodeids=[place for _, place in ids],
        nodes_featureids=random.integers(0, 3, len(ids)).tolist(),
        nodes_values=random.integers(-2, 3, len(ids)).astype(float).tolist(),
        nodes_modes=["LEAF" if place >= inner else "BRANCH_LEQ" for _, place in ids],
        nodes_truenodeids=[0 if place >= inner else 2 * place + 1 for _, place in ids],
        nodes_falsenodeids=[0 if place >= inner else 2 * place + 2 for _, place in ids],
        target_treeids=[tree for tree, _, _ in held],
        target_nodeids=[place for _, place, _ in held],
        target_ids=[target for _, _, target in held],
        target_weights=random.standard_normal(len(held)).tolist(),
        n_targets=targets,
        aggregate_function=aggregate,
        **({"base_values": random.standard_normal(targets).tolist()} if based else {}),
    )
    assert_right(node, {"x": places(-3, 4, 5, 3).astype(dtype)}, {}, ml_opset=3)
