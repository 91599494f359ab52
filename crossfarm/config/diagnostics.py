"""Turns what pydantic found wrong into lines that a person can act on, each with the place in the YAML file."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo

from crossfarm.config import yaml_reader
from crossfarm.errors import ConfigError, nearest

MAX_PROBLEMS = 60
"""Most lines of one message; more would push the first ones off the screen."""
ENOUGH_PROBLEMS = 5 * MAX_PROBLEMS
"""So many are looked into; to explain a million would take minutes and more memory than there is."""
_SHOWN_VALUE = 60

Path = tuple[str | int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong in a file, `path` as a reader writes it: `models[3].inputs[0].shape`, or empty."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}: {place}{self.message}"


def raise_all(problems: Iterable[Problem]) -> None:
    """Raise one ConfigError with a line for each problem, in the order of the files; without problems do nothing."""
    unique = sorted(set(problems))
    if not unique:
        return
    lines = [str(problem) for problem in unique[:MAX_PROBLEMS]]
    if len(unique) > MAX_PROBLEMS:
        at_least = "at least " if len(unique) >= ENOUGH_PROBLEMS else ""
        lines.append(f"... and {at_least}{len(unique) - MAX_PROBLEMS} more; correct these first")
    raise ConfigError("\n".join(lines))


def locate(file: str, root: Any, path: Path, message: str) -> Problem:
    """Return the problem with the line of the deepest part of `path` that stands in the file.

    What an entry inherited from `defaults` is shown there: `models[3].checks.top1` becomes `defaults.checks.top1`.
    """
    line, node, shown = getattr(root, "line", 1), root, path
    for step in path:
        if isinstance(node, yaml_reader.YamlMapping) and step in node.lines:
            if step in node.inherited and path[0] in ("models", "boards"):
                shown = ("defaults", *path[2:])
            line, node = node.lines[str(step)], node[str(step)]
        elif isinstance(node, yaml_reader.YamlSequence) and isinstance(step, int) and step < len(node):
            line, node = node.lines[step], node[step]
        else:
            break
    return Problem(file=file, line=line, path=render(shown), message=message)


def render(path: Path) -> str:
    """Return `models[3].inputs[0].shape` for ("models", 3, "inputs", 0, "shape")."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if step.replace("_", "").replace("-", "").isalnum() and len(step) < _SHOWN_VALUE else show(step)
            text += f".{key}" if text else key
    return text


def from_validation(file: str, root: Any, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Return the first problems, at most ENOUGH_PROBLEMS, of `root` that `model` refused with `error`."""
    problems = []
    for detail in error.errors(include_url=False)[:ENOUGH_PROBLEMS]:
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # pydantic counts only the valid items, and each of the others has a line of its own
        loc, kind = tuple(detail["loc"]), detail["type"]
        an_item_is_missing = kind == "missing" and isinstance(loc[-1], int)
        place = _follow(model, loc[:-1] if an_item_is_missing else loc)
        if (
            an_item_is_missing
            or (kind == "too_long" and place.has_fixed_length)
            or (kind != "missing" and place.is_union)
        ):
            path, message = place.path, f"expected {words_for(place.expected)}, got {show(_value_at(root, place.path))}"
        else:
            path, message = _explain(place, typing.cast(Mapping[str, Any], detail))
        problems.append(locate(file, root, path, message))
    return problems


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Where an error is: path in the data, type expected there and its description, and the model that has the key."""

    path: Path
    expected: Any
    description: str
    owner: type[BaseModel] | None

    @property
    def is_union(self) -> bool:
        """Whether one of several forms is expected, and no key says which."""
        return _is_union(self.expected) and not _branches(self.expected)

    @property
    def has_fixed_length(self) -> bool:
        """Whether a list of so many items is expected."""
        return typing.get_origin(self.expected) is tuple and typing.get_args(self.expected)[-1] is not ...


def _follow(model: type[BaseModel], loc: Path) -> _Place:
    """Follow pydantic's `loc`, which mixes keys and indices with names of union branches, along the declared types."""
    path: list[str | int] = []
    expected: Any = model
    description = ""
    owner: type[BaseModel] | None = None
    for step in loc:
        expected, inner = _unwrap(expected)
        description = inner or description
        if _is_union(expected):
            branches = _branches(expected)
            if step not in branches:
                break
            expected = branches[str(step)]
            continue
        path.append(step)
        description = ""
        if _is_model(expected):
            owner = expected
            field = owner.model_fields.get(str(step)) if owner is not None else None
            expected = field.annotation if field is not None else object
            description = (field.description or "") if field is not None else ""
        elif typing.get_origin(expected) is tuple:
            items = typing.get_args(expected)
            index = step if isinstance(step, int) and items[-1] is not ... else 0
            expected = items[min(index, len(items) - 1)]
        elif typing.get_origin(expected) is dict:
            expected = typing.get_args(expected)[1]
        else:
            expected = object
    expected, inner = _unwrap(expected)
    return _Place(path=tuple(path), expected=expected, description=inner or description, owner=owner)


def _unwrap(annotation: Any) -> tuple[Any, str]:
    """Strip Annotated and `| None`; return the type below and the innermost description on the way."""
    description = ""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *metadata = typing.get_args(annotation)
            for item in metadata:
                description = (item.description or description) if isinstance(item, FieldInfo) else description
        elif _is_union(annotation):
            members = [member for member in typing.get_args(annotation) if member is not type(None)]
            if len(members) != 1:
                return annotation, description
            annotation = members[0]
        else:
            return annotation, description


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _branches(annotation: Any) -> dict[str, Any]:
    """Return the branches of a union by the name that pydantic puts into `loc`; a plain union has none."""
    named: dict[str, Any] = {}
    for member in typing.get_args(annotation):
        tags = [item.tag for item in getattr(member, "__metadata__", ()) if isinstance(item, Tag)]
        branch, _ = _unwrap(member)
        if not tags and _is_model(branch) and "kind" in branch.model_fields:
            tags = list(typing.get_args(branch.model_fields["kind"].annotation))
        named.update(dict.fromkeys(tags, branch))
    return named


def _explain(place: _Place, detail: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the path to show and the message for one error of pydantic."""
    path, value, context = place.path, detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            path, message = path[:-1], f"the key {path[-1]!r} is missing; add it"
        case "extra_forbidden":
            message = _unknown_key(str(path[-1]), tuple(place.owner.model_fields) if place.owner is not None else ())
        case "union_tag_invalid":
            path, message = (*path, "kind"), _one_of(tuple(_branches(place.expected)), context["tag"])
        case "union_tag_not_found":
            message = _no_branch(place, value)
        case "literal_error":
            message = _one_of(typing.get_args(place.expected), value)
        case "value_error":
            message = str(context["error"])
        case kind:
            message = _describe(kind, context, place, value)
    return path, message


def _value_at(root: Any, path: Path) -> Any:
    for step in path:
        root = root[step]
    return root


_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_LENGTHS: Mapping[str, tuple[str, str, str]] = {
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}


def _describe(kind: str, context: Mapping[str, Any], place: _Place, value: Any) -> str:
    got = f", got {show(value)}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"must be {words} {context[key]}{got}"
    if kind in _LENGTHS:
        words, key, unit = _LENGTHS[kind]
        return f"must have {words} {context[key]} {unit}{'s' if context[key] != 1 else ''}{got}"
    if kind == "string_pattern_mismatch":
        return f"expected {place.description or 'a text that matches ' + context['pattern']}{got}"
    if kind == "finite_number":
        return f"expected a finite number{got}"
    if kind == "string_type" and isinstance(value, int | float):
        return f"expected a text{got}; put it in quotes"
    return f"expected {words_for(place.expected)}{got}"


def _unknown_key(key: str, known: tuple[str, ...]) -> str:
    hint = nearest(key, known) or f"; known here: {', '.join(known)}"
    return f"unknown key {show(key)}{hint}"


def _no_branch(place: _Place, value: Any) -> str:
    """Explain a mapping of which no key, or more than one, says which form it has."""
    names = tuple(_branches(place.expected))
    if not isinstance(value, dict):
        return f"expected a mapping, got {show(value)}"
    if all("kind" in branch.model_fields for branch in _branches(place.expected).values()):
        return f"the key 'kind' is missing; give one of {', '.join(names)}"
    present = [name for name in names if name in value]
    if len(present) > 1:
        return f"give only one of {' and '.join(present)}"
    hints = [hint for key in value if (hint := nearest(str(key), names))]
    return f"give one of {', '.join(names)}{hints[0] if hints else ''}"


def _one_of(names: tuple[Any, ...], value: Any) -> str:
    texts = [str(name) for name in names]
    hint = nearest(value, texts) if isinstance(value, str) else ""
    return f"expected one of {', '.join(texts)}, got {show(value)}{hint}"


_NOUNS: Mapping[Any, tuple[str, str]] = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
}


def words_for(annotation: Any, *, plural: bool = False) -> str:
    """Return the words for a declared type: `a list of integers` for tuple[int, ...]."""
    annotation, _ = _unwrap(annotation)
    if annotation in _NOUNS:
        return _NOUNS[annotation][plural]
    if _is_union(annotation):
        members = [words_for(m, plural=plural) for m in typing.get_args(annotation) if m is not type(None)]
        return " or ".join(dict.fromkeys(members))
    if typing.get_origin(annotation) is tuple:
        items = typing.get_args(annotation)
        count = "" if items[-1] is ... else f"{len(items)} "
        return f"{'lists' if plural else 'a list'} of {count}{words_for(items[0], plural=True)}"
    if typing.get_origin(annotation) is typing.Literal:
        names = ", ".join(str(name) for name in typing.get_args(annotation))
        return f"{'any' if plural else 'one'} of {names}"
    return "mappings" if plural else "a mapping"


def show(value: Any) -> str:
    """Return a value as YAML would write it, cut to a length that fits a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 3] + "..."
