"""The reader of JSON takes what RFC 8259 allows, within bounds, and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.integration.runner.building import HERE, MEMORY_SANITIZERS, RUNNER, build

pytestmark = pytest.mark.integration

Read = Callable[[bytes], tuple[int, str]]
FRAGMENTS = (*'{}[],:"\\ 01.-+eEun', "null", "true", '"a"', "\\u00e9", "\\ud83d", "\\ude00", "\t", "\xe9")
few = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="session")
def read_json(runner_folder: Path) -> Read:
    """Return a function that gives bytes to the reader and returns its exit code and what it printed."""
    driver = runner_folder / "json"
    build(runner_folder, [HERE / "json_driver.c", RUNNER / "program/json.c"], [*MEMORY_SANITIZERS, "-o", str(driver)])

    def read(content: bytes) -> tuple[int, str]:
        done = subprocess.run([driver], input=content, capture_output=True, check=False, timeout=60)
        assert done.returncode in {0, 1}, done.stderr.decode()
        return done.returncode, done.stdout.decode()

    return read


def canonical(value: Any) -> Any:
    """Return what the driver prints for a value."""
    if isinstance(value, str):
        return value.encode().hex()
    if isinstance(value, float) or (isinstance(value, int) and not -(1 << 63) <= value < 1 << 63):
        return "real"
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {canonical(key): canonical(item) for key, item in value.items()}
    return value


texts = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)


@few
@given(value=values, is_ascii=st.booleans(), indent=st.sampled_from([None, 0, 3]))
@example(value=[1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1, -0], is_ascii=True, indent=None)
@example(value="\N{GRINNING FACE}\u20ac\xe9\x7f\x01", is_ascii=True, indent=None)
def test_what_python_writes_is_read_as_it_was(read_json: Read, value: Any, is_ascii: bool, indent: int | None) -> None:
    code, printed = read_json(json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode())
    assert (code, json.loads(printed)) == (0, canonical(value))


def python_takes(content: bytes) -> bool:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key occurs twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in json.dumps(value)


@few
@given(
    content=st.one_of(
        st.binary(max_size=12),
        st.lists(
            st.sampled_from(FRAGMENTS),
            max_size=8,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_it_takes_what_python_takes_and_refuses_what_python_refuses(read_json: Read, content: bytes) -> None:
    assert (read_json(content)[0] == 0) == python_takes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0: it ends too early"),
        (b'{"a":1,"a":2}', "10: a key occurs twice"),
        (b"[1,]", "3: a value is expected here"),
        (b"[1] 2", "4: something follows the end"),
        (b"01", "2: a number starts with a superfluous 0"),
        (b"1.", "2: a number lacks digits"),
        (b'"\\u0000"', "7: a string holds a NUL"),
        (b'"\\ud800x"', "7: half of a surrogate pair"),
        (b'"\xc0\x80"', "1: a string is not UTF-8"),
        (b'"\xed\xa0\x80"', "1: a string is not UTF-8"),
        (b'"\xf4\x90\x80\x80"', "1: a string is not UTF-8"),
        (b'"a\nb"', "2: a control character in a string"),
        (b'"abc', "4: a string does not end"),
        (b"[" * 17, "16: nested too deeply"),
        (b"[" + b"1," * 20_000 + b"1]", "32767: too many values"),
        (b" " * (1 << 20) + b"1", "0: too large"),
        (json.dumps(dict.fromkeys(map(str, range(513)))).encode(), "6552: too many members in one object"),
        (b"\xef\xbb\xbf1", "0: a value is expected here"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(read_json: Read, content: bytes, said: str) -> None:
    assert read_json(content) == (1, said)
