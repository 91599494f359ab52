"""Reads YAML into plain values that remember the line of every key and item.

The values are those of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), as editors read them:
`1e-4` is a number, `no` and `2024-01-01` are texts. What a declaration never needs and an attacker might is refused:
tags, several documents, keys that are not texts, keys given twice, nesting without end, and aliases that unfold into
far more than was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 16 * 2**20
"""Largest file that is read; 3,333 models of ten lines are 1 MiB."""
MAX_DEPTH = 40
"""Deepest nesting; a declaration needs nine levels."""
MAX_VALUES = 1_000_000
"""Most keys and values of a file; 10,000 models of ten lines have 0.4 million."""
MAX_ALIASED_VALUES = 100_000
"""Most values that all aliases of a file may stand for together."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAX_DIGITS = 300
"""Python refuses to read integers of more than 4,300 digits, with an error of its own."""
_NUMBERS: tuple[tuple[re.Pattern[str], Callable[[str], int | float]], ...] = (
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)
_NUMBER_STARTS = frozenset("+-.0123456789")


class YamlMapping(dict[str, Any]):
    """A mapping of YAML. `line` is where it begins, `lines` where each key stands; `inherited` came from defaults."""

    __slots__ = ("inherited", "line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.inherited: frozenset[str] = frozenset()


class YamlSequence(list[Any]):
    """A list of YAML. `line` is where it begins, `lines` where each item stands."""

    __slots__ = ("line", "lines")

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


class YamlError(Exception):
    """The text is not YAML that crossfarm reads. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read_text(path: Path) -> str:
    """Return the text of a file of at most MAX_BYTES.

    Raises:
        YamlError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise YamlError(1, "there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise YamlError(1, f"cannot be read: {reason}; check the path and its permissions") from None
    if len(content) > MAX_BYTES:
        raise YamlError(1, f"is larger than {MAX_BYTES // 2**20} MiB; split it into several files")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(line, f"byte {content[error.start]:#04x} is not UTF-8; save the file as UTF-8") from None


def parse(text: str) -> tuple[Any, list[YamlError]]:
    """Return the value of the one document in `text`, and what is wrong with its keys.

    The value is made of YamlMapping, YamlSequence, str, int, float, bool and None. An alias is the very object that its
    anchor names. Of a key that is given twice the first value is kept.

    Raises:
        YamlError: the text is not YAML, or holds something that is refused and leaves no value to go on with.
    """
    loader = _new_loader(text)
    builder = _Builder()
    try:
        while (event := loader.get_event()) is not None:
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f"{error.context}: " if error.context else ""
        problem = f"not valid YAML: {context}{error.problem}; correct the text here or on the line before"
        raise YamlError(mark.line + 1 if mark else 1, problem) from None
    except yaml.YAMLError as error:
        raise _unreadable(error) from None
    finally:
        loader.dispose()
    if not builder.documents:
        raise YamlError(1, "is empty; docs/ describes every file with an example")
    return builder.root, builder.problems


def _new_loader(text: str) -> Any:
    try:
        return _Loader(text)
    except yaml.YAMLError as error:
        raise _unreadable(error) from None


def _unreadable(error: yaml.YAMLError) -> YamlError:
    """Say which character YAML refuses; its own message is three lines long and names no file."""
    reason = getattr(error, "reason", None) or "it cannot be read"
    return YamlError(1, f"not valid YAML: {reason}; remove the character that no YAML file may hold")


class _Builder:
    """Builds the value from the parser's events, without recursion."""

    def __init__(self) -> None:
        self.root: Any = None
        self.documents = 0
        self.problems: list[YamlError] = []
        self._open: list[YamlMapping | YamlSequence] = []
        self._keys: list[tuple[str, int] | None] = []
        self._started: list[tuple[str | None, int]] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._aliased = 0
        self._actions = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._start,
            yaml.SequenceStartEvent: self._start,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
            yaml.DocumentStartEvent: self._document,
        }

    def take(self, event: Any) -> None:
        action = self._actions.get(type(event))
        if action is not None:
            action(event)

    def _document(self, event: Any) -> None:
        self.documents += 1
        if self.documents > 1:
            raise YamlError(event.start_mark.line + 1, "a second document begins here; a file holds one, remove `---`")

    def _scalar(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if event.tag is not None:
            self._refuse_tag(event, line)
        value = resolve(event.value) if event.implicit[0] else event.value
        self._values += 1
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._place(value, line)

    def _start(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if event.tag is not None:
            self._refuse_tag(event, line)
        if len(self._open) >= MAX_DEPTH:
            raise YamlError(line, f"nested deeper than {MAX_DEPTH} levels; no declaration needs that")
        self._values += 1
        container = YamlMapping(line) if type(event) is yaml.MappingStartEvent else YamlSequence(line)
        self._place(container, line)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
        self._open.append(container)
        self._keys.append(None)
        self._started.append((event.anchor, self._values))

    def _end(self, _event: Any) -> None:
        container = self._open.pop()
        self._keys.pop()
        anchor, values_before = self._started.pop()
        if anchor is not None:
            self._anchors[anchor] = (container, self._values - values_before + 1)

    def _alias(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if event.anchor not in self._anchors:
            raise YamlError(line, f"alias *{event.anchor} has no finished anchor &{event.anchor} before it; add one")
        value, size = self._anchors[event.anchor]
        self._values += size
        self._aliased += size
        if self._aliased > MAX_ALIASED_VALUES:
            raise YamlError(line, f"the aliases stand for more than {MAX_ALIASED_VALUES} values; write them out")
        self._place(value, line)

    def _refuse_tag(self, event: Any, line: int) -> None:
        raise YamlError(line, f"the tag {event.tag} is not allowed; write the plain value, quoted if it is a text")

    def _place(self, value: Any, line: int) -> None:
        """Put a finished or just opened value where it belongs: the root, the next item, a key, or a key's value."""
        if self._values > MAX_VALUES:
            raise YamlError(line, f"more than {MAX_VALUES} values; split the file into several")
        if not self._open:
            self.root = value
            return
        container = self._open[-1]
        if isinstance(container, YamlSequence):
            container.append(value)
            container.lines.append(line)
            return
        pending = self._keys[-1]
        if pending is None:
            self._keys[-1] = (self._check_key(container, value, line), line)
            return
        self._keys[-1] = None
        key, key_line = pending
        if key in container:
            first = container.lines[key]
            self.problems.append(YamlError(key_line, f"the key {key[:60]!r} stands on line {first} already; keep one"))
            return
        container[key] = value
        container.lines[key] = key_line

    def _check_key(self, container: YamlMapping, key: Any, line: int) -> str:
        if not isinstance(key, str):
            shown = "a list or mapping" if isinstance(key, list | dict) else repr(key)
            raise YamlError(line, f"a key must be a text, got {shown}; put it in quotes")
        if key == "<<":
            raise YamlError(line, "merge keys (<<) are not supported; put what is common under `defaults:`")
        return key


def resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain (unquoted) scalar by YAML 1.2's core schema; numbers of absurd length stay texts."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _MAX_DIGITS:
        return text
    for pattern, number in _NUMBERS:
        if pattern.fullmatch(text):
            return number(text)
    return text
