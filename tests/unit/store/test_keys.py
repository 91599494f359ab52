"""Keys: equal for equal declarations, different for different ones, and the reason can be told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.store.keys import (
    KeyDocument,
    canonical_json,
    describe_change,
    digest_file,
    digest_json,
    digest_sources,
    tool_versions,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
documents = st.builds(
    KeyDocument,
    stage=st.sampled_from(["compile", "bundle"]),
    version=st.integers(1, 9),
    parameters=st.dictionaries(st.text(min_size=1), hexes, max_size=3),
    sources=hexes,
    inputs=st.dictionaries(st.text(min_size=1), hexes, max_size=3),
    image=st.sampled_from(["host", "sha256:1"]),
    tools=st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=3),
)


@given(values)
def test_canonical_json_keeps_the_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), values, min_size=2, max_size=6))
def test_the_order_of_keys_does_not_change_the_digest(value: dict[str, object]) -> None:
    assert digest_json(value) == digest_json(dict(reversed(value.items())))


@given(values, values)
def test_different_values_have_different_digests(one: object, other: object) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (digest_json(one) == digest_json(other))


@given(documents, documents)
def test_keys_are_equal_exactly_when_documents_are(one: KeyDocument, other: KeyDocument) -> None:
    assert (one == other) == (one.key() == other.key())


@given(documents)
def test_every_field_of_the_document_is_part_of_the_key(document: KeyDocument) -> None:
    changed = [
        dataclasses.replace(document, stage="check"),
        dataclasses.replace(document, version=document.version + 1),
        dataclasses.replace(document, parameters={**document.parameters, "new group": "0" * 64}),
        dataclasses.replace(document, sources="f" * 63 + "g"),
        dataclasses.replace(document, inputs={**document.inputs, "new role": "0" * 64}),
        dataclasses.replace(document, image="sha256:2"),
        dataclasses.replace(document, tools={**document.tools, "new tool": "1"}),
    ]
    assert len({document.key(), *(other.key() for other in changed)}) == 1 + len(changed)


def test_numbers_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"tolerance": float("nan")})


def _document(groups: dict[str, object], **changes: object) -> KeyDocument:
    document = KeyDocument(
        stage="compile",
        version=1,
        parameters={name: digest_json(group) for name, group in groups.items()},
        sources="a" * 64,
        inputs={"prepare": "b" * 64},
        image="host",
        tools={"apache-tvm": "0.27.0"},
    )
    return dataclasses.replace(document, **changes)  # type: ignore[arg-type]


def test_the_reason_names_the_group_and_the_path_that_changed() -> None:
    old = {"toolchain armv7": {"code": {"cpu": "cortex-a7", "features": ["+neon"]}}}
    new = {"toolchain armv7": {"code": {"cpu": "cortex-a53", "features": ["+neon"]}}}
    reason = describe_change(_document(old).to_json(), _document(new), old_groups=old, new_groups=new)
    assert reason == "toolchain armv7 changed: code.cpu"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tools": {"apache-tvm": "0.28.0"}}, "apache-tvm changed: 0.27.0 -> 0.28.0"),
        ({"sources": "c" * 64}, "source code of stage compile changed"),
        ({"version": 2}, "source code of stage compile changed"),
        ({"inputs": {"prepare": "d" * 64}}, "input changed: prepare"),
        ({"image": "sha256:1"}, "image changed"),
    ],
)
def test_the_reason_names_what_else_changed(changes: dict[str, object], reason: str) -> None:
    old = _document({})
    new = dataclasses.replace(old, **changes)  # type: ignore[arg-type]
    assert describe_change(old.to_json(), new, old_groups={}, new_groups={}) == reason


def test_the_digest_of_sources_follows_content_and_name(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.py").write_text("1")
    (tmp_path / "x" / "b.py").write_text("2")
    first = digest_sources(tmp_path, ["x/a.py", "x/b.py"])
    assert digest_sources(tmp_path, ["x/b.py", "x/a.py"]) == digest_sources(tmp_path, ["x/"]) == first
    (tmp_path / "x" / "a.py").rename(tmp_path / "x" / "c.py")
    assert digest_sources(tmp_path, ["x/"]) != first


def test_a_source_that_is_listed_but_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_sources(tmp_path, ["gone/"])


def test_a_source_that_moves_to_another_folder_changes_the_digest(tmp_path: Path) -> None:
    """The name that counts is the whole path below the project, not the file's own."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "one" / "a.py").write_text("1")
    before = digest_sources(tmp_path, ["one/a.py"])
    (tmp_path / "one" / "a.py").rename(tmp_path / "other" / "a.py")
    assert digest_sources(tmp_path, ["other/a.py"]) != before


def test_sources_that_swap_their_contents_change_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    before = digest_sources(tmp_path, ["a.py", "b.py"])
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    (tmp_path / "b.py").rename(tmp_path / "a.py")
    (tmp_path / "c.py").rename(tmp_path / "b.py")
    assert digest_sources(tmp_path, ["a.py", "b.py"]) != before


def test_a_source_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("1")
    assert digest_sources(tmp_path / "here", ["a.py"]) == digest_sources(tmp_path / "there", ["a.py"])


def test_one_pattern_that_matches_nothing_is_an_error_beside_others_that_do(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    with pytest.raises(FileNotFoundError, match=r"no source file matches 'gone/' below"):
        digest_sources(tmp_path, ["a.py", "gone/"])


def test_a_digest_is_the_sha256_that_other_tools_print(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_file(tmp_path / "abc") == known
    assert digest_json(0) == "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"


def test_canonical_json_is_one_line_of_ascii_with_sorted_keys() -> None:
    assert canonical_json({"b": [1, "\u00e4"], "a": None}) == '{"a":null,"b":[1,"\\u00e4"]}'


def test_an_input_that_vanished_is_told() -> None:
    old = _document({}, inputs={"prepare": "b" * 64, "tuning": "c" * 64})
    new = _document({})
    reason = describe_change(old.to_json(), new, old_groups={}, new_groups={})
    assert reason == "input changed: tuning"


def test_inputs_that_changed_came_or_vanished_are_told_in_one_list() -> None:
    old = _document({}, inputs={"prepare": "b" * 64, "tuning": "c" * 64})
    new = _document({}, inputs={"prepare": "d" * 64, "code": "e" * 64})
    reason = describe_change(old.to_json(), new, old_groups={}, new_groups={})
    assert reason == "input changed: code, prepare, tuning"


def test_several_reasons_stand_in_one_line() -> None:
    old = {"model m": {"a": 1}, "gone": {}}
    new = {"model m": {"a": 2}, "fresh": {}}
    before = _document(old, tools={})
    after = _document(new, image="sha256:1")
    assert describe_change(before.to_json(), after, old_groups=old, new_groups=new) == (
        "fresh is new; gone is gone; model m changed: a; apache-tvm changed: none -> 0.27.0; image changed"
    )


def test_a_key_that_differs_in_nothing_known_is_still_told() -> None:
    document = _document({})
    assert describe_change(document.to_json(), document, old_groups={}, new_groups={}) == "key changed"
    bare = describe_change({}, _document({}), old_groups={}, new_groups={})
    assert bare.endswith("apache-tvm changed: none -> 0.27.0; image changed; input changed: prepare")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ({"a": [1, 2]}, {"a": [1, 3]}, "g changed: a[1]"),
        ({"a": [1, 2]}, {"a": [1]}, "g changed: a"),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, "g changed: a.c"),
        ({"a": {"b": 1}}, {"a": [1]}, "g changed: a"),
        (dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 1), "g changed: a, b, c, d"),
        (dict.fromkeys("abcde", 0), dict.fromkeys("abcde", 1), "g changed: a, b, c, d and 1 more"),
        ([1], [2], "g changed: [0]"),
        ("x", "y", "g changed"),
    ],
)
def test_changed_paths_are_written_as_a_reader_would(old: object, new: object, reason: str) -> None:
    told = describe_change(_document({}).to_json(), _document({}), old_groups={"g": old}, new_groups={"g": new})
    assert told == reason


def test_versions_of_tools_are_those_that_are_installed() -> None:
    import importlib.metadata

    assert tool_versions(["pytest", "no-such-distribution"]) == {
        "pytest": importlib.metadata.version("pytest"),
        "no-such-distribution": "absent",
    }


def test_a_key_document_is_written_whole() -> None:
    document = _document({"g": 1})
    assert document.to_json() == dataclasses.asdict(document)
