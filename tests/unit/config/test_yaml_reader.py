"""Reading YAML with line numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crossfarm.config import yaml_reader
from crossfarm.config.yaml_reader import YamlError, parse, resolve

TEXTS = st.text(st.characters(max_codepoint=0xD7FF), max_size=20).filter(lambda text: text != "<<")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_nan_is_a_number() -> None:
    value = resolve(".nan")
    assert isinstance(value, float)
    assert math.isnan(value)


@given(DOCUMENTS.filter(lambda value: isinstance(value, dict | list)))
def test_what_json_writes_is_read_back(document: Any) -> None:
    assert parse(json.dumps(document))[0] == document


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    try:
        parse(text)
    except YamlError as error:
        assert 1 <= error.line <= text.count("\n") + text.count("\r") + len(text.splitlines()) + 2
        assert error.message


@given(st.text(alphabet="ab:-[]{}&*!#'\"|>? \n\t01,%@`<", max_size=80))
def test_both_parsers_of_pyyaml_agree(text: str) -> None:
    def outcome(loader: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml_reader, "_Loader", loader)
            try:
                return parse(text)[0]
            except YamlError:
                return YamlError

    compiled, plain = outcome(yaml.CSafeLoader), outcome(yaml.SafeLoader)
    assert compiled == plain or YamlError in (compiled, plain)


@st.composite
def numbered_documents(draw: st.DrawFn) -> tuple[str, dict[tuple[str | int, ...], int]]:
    """A document in block style with comments and empty lines, and the line of every key and item."""
    lines: list[str] = []
    places: dict[tuple[str | int, ...], int] = {}

    def padding() -> None:
        lines.extend(draw(st.lists(st.sampled_from(["", "# a comment", "   # further in"]), max_size=2)))

    def mapping(path: tuple[str | int, ...], indent: str, depth: int) -> None:
        for key in draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True)):
            padding()
            places[(*path, key)] = len(lines) + 1
            value((*path, key), f"{indent}{key}:", indent + "  ", depth)

    def sequence(path: tuple[str | int, ...], indent: str, depth: int) -> None:
        for index in range(draw(st.integers(1, 3))):
            padding()
            places[(*path, index)] = len(lines) + 1
            value((*path, index), f"{indent}-", indent + "  ", depth)

    def value(path: tuple[str | int, ...], head: str, indent: str, depth: int) -> None:
        form = draw(st.sampled_from(["scalar", "flow", "literal", "mapping", "sequence"] if depth else ["scalar"]))
        match form:
            case "scalar":
                lines.append(f"{head} 1")
            case "flow":
                lines.extend([f"{head} [1,", f"{indent}  2]"])
                places[(*path, 0)], places[(*path, 1)] = len(lines) - 1, len(lines)
            case "literal":
                lines.extend([f"{head} |", f"{indent}one", "", f"{indent}three"])
            case "mapping" if head.endswith(":"):
                lines.append(head)
                mapping(path, indent, depth - 1)
            case _ if head.endswith(":"):
                lines.append(head)
                sequence(path, indent, depth - 1)
            case _:
                lines.append(f"{head} x: 1")
                places[(*path, "x")] = len(lines)

    mapping((), "", 3)
    return "\n".join(lines) + "\n", places


@given(numbered_documents())
def test_every_key_and_item_knows_its_line(case: tuple[str, dict[tuple[str | int, ...], int]]) -> None:
    text, places = case
    root, _ = parse(text)
    for path, line in places.items():
        container = root
        for step in path[:-1]:
            container = container[step]
        assert container.lines[path[-1]] == line, (text, path)


def test_an_alias_is_the_object_of_its_anchor() -> None:
    root, _ = parse("a: &shared {x: 1}\nb: *shared\n")
    assert root["b"] is root["a"]
    assert root.lines == {"a": 1, "b": 2}


def test_a_key_given_twice_is_told_with_both_lines_and_the_first_is_kept() -> None:
    root, problems = parse("a: 1\nb: 2\na: 3\n")
    assert root == {"a": 1, "b": 2}
    assert [(problem.line, problem.message) for problem in problems] == [
        (3, "the key 'a' stands on line 1 already; keep one")
    ]


def test_aliases_that_unfold_without_end_are_refused() -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    with pytest.raises(YamlError, match="the aliases stand for more than 100000 values") as refused:
        parse("\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x]", *levels]))
    assert refused.value.line <= 7


@pytest.mark.parametrize("text", ["a: [1,\n 2, 3, 4]", "a: [[],\n [], [], []]", "a: 1\nb: 2\nc: 3\n"])
def test_more_values_than_any_project_has_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "MAX_VALUES", 4)
    with pytest.raises(YamlError, match="more than 4 values; split the file into several") as refused:
        parse(text)
    assert refused.value.line == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "is empty"),
        ("# only a comment\n", 1, "is empty"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: 1\n1: b\n", 2, "a key must be a text, got 1; put it in quotes"),
        ("a: 1\n[b]: c\n", 2, "a key must be a text, got a list or mapping"),
        ("a: 1\n~: c\n", 2, "a key must be a text, got None"),
        ("a: !!python/object:os.system x\n", 1, "the tag tag:yaml.org,2002:python/object:os.system is not allowed"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "merge keys (<<) are not supported"),
        ("a: &a [*a]\n", 1, "alias *a has no finished anchor &a"),
        ("a: *b\n", 1, "alias *b has no finished anchor &b"),
        ("a: 1\n b: 2\n", 2, "not valid YAML: "),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML: while parsing a flow sequence"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML: "),
        ("a: \x07\n", 1, "not valid YAML: "),
        ("[" * 10_000, 1, "nested deeper than 40 levels"),
        ("- " * 10_000, 1, "nested deeper than 40 levels"),
        ("? " * 10_000, 1, "a key must be a text, got a list or mapping"),
    ],
)
def test_what_is_refused_says_where_and_why(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlError) as refused:
        parse(text)
    assert refused.value.line == line
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"a: 1\nb: \xff\n", 2, "byte 0xff is not UTF-8"),
        (b"a" * (yaml_reader.MAX_BYTES + 1), 1, "is larger than 16 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, line: int, message: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlError, match=message) as refused:
        yaml_reader.read_text(path)
    assert refused.value.line == line


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_bytes("\ufeffa: 1\n".encode())
    assert parse(yaml_reader.read_text(path))[0] == {"a": 1}


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match="there is no such file"):
        yaml_reader.read_text(tmp_path / "models.yaml")
    with pytest.raises(YamlError, match="cannot be read: Is a directory"):
        yaml_reader.read_text(tmp_path)
