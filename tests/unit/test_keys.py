"""Keys: equal for equal declarations, different for different ones, and the reason can be told."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.keys import KeyDocument, canonical_json, describe_change, digest_json, digest_sources

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
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    first = digest_sources(tmp_path, ["a.py", "b.py"])
    assert digest_sources(tmp_path, ["b.py", "a.py"]) == digest_sources(tmp_path, ["*.py"]) == first
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert digest_sources(tmp_path, ["*.py"]) != first


def test_a_source_that_is_listed_but_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_sources(tmp_path, ["gone_*.py"])
