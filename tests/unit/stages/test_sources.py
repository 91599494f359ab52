"""Every stage names all source files that shape its artifact: what it imports, directly or through others."""

from __future__ import annotations

import ast
from collections.abc import Set
from pathlib import Path

import pytest

from crossfarm.stages import STAGES

ROOT = Path(__file__).parents[3]

HARMLESS = {
    "crossfarm/__init__.py",
    "crossfarm/errors.py",  # words of messages
    "crossfarm/stages/job.py",  # how a job is called
    "crossfarm/store/keys.py",  # digests
    "crossfarm/stages/__init__.py",
    "crossfarm/stages/protocol.py",
    "crossfarm/boards/__init__.py",
}
"""Files that cannot change what an artifact holds. What is declared (crossfarm/spec) is in the key by value."""

OTHER_HALF = {
    "compile": {"bundling", "runner_objects", "runner_sources", "toolchain"},
    "bundle": {"arena", "cpu/*", "importing", "integer", "lowering", "program", "reading", "supported", "tables"},
}
"""A backend is one module with two functions, and each of the two stages calls one of them: modules in
crossfarm/backends that only the other function reaches."""

LOADS_NO_BACKEND = {"c_library", "runner"}
"""Stages that take single modules out of crossfarm/backends; its __init__.py names the backends and imports none."""


def _module_file(name: str) -> str | None:
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(ROOT).as_posix()
    return None


def _imports(file: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("crossfarm."):
            names = [node.value]
        found |= {path for name in names if name.startswith("crossfarm") and (path := _module_file(name))}
    return found


def _closure(file: str, harmless: Set[str] = frozenset()) -> set[str]:
    seen: set[str] = set()
    frontier = [file]
    while frontier:
        current = frontier.pop()
        if current in seen or current in HARMLESS | harmless or current.startswith("crossfarm/spec/"):
            continue
        seen.add(current)
        frontier += _imports(current)
    return seen


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_lists_every_source_file_that_it_imports(name: str) -> None:
    listed = {path.relative_to(ROOT).as_posix() for pattern in STAGES[name].SOURCES for path in ROOT.glob(pattern)}
    patterns = [f"crossfarm/backends/{module}.py" for module in OTHER_HALF.get(name, ())]
    other = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    harmless = {"crossfarm/backends/__init__.py"} if name in LOADS_NO_BACKEND else set()
    missing = _closure(f"crossfarm/stages/{name}.py", harmless) - listed - other
    assert not missing, f"add to SOURCES of stage {name}: {sorted(missing)}"


@pytest.mark.parametrize("name", sorted(LOADS_NO_BACKEND))
def test_a_stage_that_is_said_to_load_no_backend_loads_none(name: str) -> None:
    for file in _closure(f"crossfarm/stages/{name}.py", {"crossfarm/backends/__init__.py"}):
        assert "load_backend" not in (ROOT / file).read_text(), file


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_lists_no_source_file_that_is_gone(name: str) -> None:
    assert all(list(ROOT.glob(pattern)) for pattern in STAGES[name].SOURCES)
