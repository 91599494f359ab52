"""Laws of `defaults:`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from crossfarm.config.loading import load_models, merge
from crossfarm.config.yaml_reader import YamlMapping, parse

KEYS = st.sampled_from("abcd")
MAPPINGS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(KEYS, st.integers() | st.lists(st.integers(), max_size=2), max_size=4),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), max_size=4),
    max_leaves=12,
)


def tree(value: dict[str, Any], first_line: int = 1) -> YamlMapping:
    """Return a mapping as it is read from a file in which it begins at a line."""
    root, _ = parse("\n" * (first_line - 1) + json.dumps(value, indent=1))
    assert isinstance(root, YamlMapping)
    return root


@given(MAPPINGS)
def test_empty_defaults_change_nothing(own: dict[str, Any]) -> None:
    assert merge(tree({}), tree(own)) == own


@given(MAPPINGS)
def test_an_empty_model_has_the_defaults(defaults: dict[str, Any]) -> None:
    assert merge(tree(defaults), tree({})) == defaults


@given(MAPPINGS)
def test_merging_twice_is_merging_once(own: dict[str, Any]) -> None:
    assert merge(tree(own), tree(own)) == own


@settings(max_examples=50)
@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_is_associative_unless_a_value_hides_a_mapping(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    left = merge(merge(tree(a), tree(b)), tree(c))
    right = merge(tree(a), merge(tree(b), tree(c)))
    assert left == right or hides_a_mapping(a, b, c)


def hides_a_mapping(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> bool:
    """Whether b has a plain value where a and c both have a mapping: the one case that is not associative."""
    return any(
        isinstance(a[key], dict)
        and isinstance(c[key], dict)
        and (not isinstance(b.get(key, {}), dict) or hides_a_mapping(a[key], b.get(key, {}), c[key]))
        for key in a.keys() & c.keys()
    )


@given(MAPPINGS, MAPPINGS)
def test_every_value_keeps_the_line_where_it_was_written(defaults: dict[str, Any], own: dict[str, Any]) -> None:
    defaults_tree, own_tree = tree(defaults), tree(own, first_line=1000)
    merged = merge(defaults_tree, own_tree)
    for key, line in merged.lines.items():
        assert line == (own_tree.lines[key] if key in own else defaults_tree.lines[key])
        assert (key in merged.inherited) == (key not in own)


@given(MAPPINGS, MAPPINGS)
def test_merging_leaves_both_sides_as_they_were(defaults: dict[str, Any], own: dict[str, Any]) -> None:
    defaults_tree, own_tree = tree(defaults), tree(own)
    merge(defaults_tree, own_tree)
    assert (defaults_tree, own_tree) == (defaults, own)


def test_lists_and_values_of_a_model_replace_those_of_the_defaults_and_null_takes_them_away(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    (tmp_path / "a.onnx").touch()
    path.write_text("""\
defaults:
  licence: MIT
  source: {file: a.onnx}
  inputs: [{name: x, shape: [1, 3, 8, 8]}]
  preprocess: {resize: {size: [8, 8]}, scale: 0.5}
  checks: {tolerance: 1e-3, argmax: 0.9}
models:
  - name: all_defaults
  - name: own_values
    inputs: [{name: y, shape: [3]}]
    preprocess: null
    checks: {argmax: 0.8}
""")
    first, second = load_models(path).models
    assert first.preprocess is not None
    assert (first.inputs[0].name, first.preprocess.scale, first.checks.tolerance) == ("x", 0.5, 1e-3)
    assert [item.name for item in second.inputs] == ["y"]
    assert second.preprocess is None
    assert (second.checks.tolerance, second.checks.argmax) == (1e-3, 0.8)
