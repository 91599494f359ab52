"""Signatures of the TVM backend name the classes of TVM that they mean."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from pathlib import Path

import pytest

from crossfarm.backends.tvm import types

FOLDER = Path(types.__file__).parent
JSON = {
    "Mapping[str, Any]",
    "dict[str, Any]",
    "Mapping[str, Mapping[str, Any]]",
    "Mapping[str, Mapping[str, Any]] | None",
}
"""Annotations of values that were read from JSON or go into it."""


def documented() -> list[tuple[str, str]]:
    """Return alias -> the class that its docstring begins with, of every alias of a class of TVM."""
    body = ast.parse((FOLDER / "types.py").read_text(encoding="utf-8")).body
    found = []
    for alias, text in itertools.pairwise(body):
        if isinstance(alias, ast.AnnAssign) and isinstance(alias.target, ast.Name) and isinstance(text, ast.Expr):
            said = str(ast.literal_eval(text.value))
            found.append((alias.target.id, said.partition(":")[0]))
    return [(name, path) for name, path in found if name != "Array"]


@pytest.mark.parametrize(("alias", "path"), documented())
def test_an_alias_says_a_class_that_tvm_has(alias: str, path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type), alias


def test_every_alias_is_documented() -> None:
    names = [name for name in vars(types) if name[0].isupper() and name not in ("Any", "TypeAlias", "TYPE_CHECKING")]
    assert sorted(names) == sorted(["Array", *(name for name, _ in documented())])


@pytest.mark.parametrize(
    "path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)).removesuffix(".py")
)
def test_no_argument_or_result_is_any(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg]
            annotations = [each.annotation for each in arguments if each is not None] + [node.returns]
            said = [ast.unparse(each) for each in annotations if each is not None]
            bare = [each for each in said if "Any" in re.findall(r"\w+", each) and each not in JSON]
            found += [f"{node.name}: {each}" for each in bare]
    assert found == []
