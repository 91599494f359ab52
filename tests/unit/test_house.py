"""The house stays as docs/architecture.md draws it: who imports whom, what a warm run loads, which modules exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.config.pipelines import STAGES

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "crossfarm").rglob("*.py"))
MOST_LINES = 420

HEAVY = {"numpy", "sqlalchemy", "psycopg", "tvm", "tvm_ffi", "onnx", "onnxruntime", "torch", "PIL", "tflite"}

WARM = (
    "crossfarm.pipeline.run",
    "crossfarm.setup.requirements",
    "crossfarm.setup.cleaning",
    *(f"crossfarm.stages.{name}" for name in STAGES),
)
"""What a run with nothing to do, `plan`, `setup`, `doctor` and `clean` import."""


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {_name(path): path for path in MODULES}


def _nodes(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """Yield the nodes below `tree`; with `at_import` only those that are run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node, at_import=at_import)


def _imports(path: Path, *, at_import: bool = False) -> set[str]:
    """Return the modules that a module imports: `from a import b` gives `a.b` where that is a module, else `a`."""
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text()), at_import=at_import):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            base = node.module or ""
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base)
    return found


def _allowed() -> dict[str, set[str]]:
    """Return part -> parts that it may import, as the table of docs/architecture.md says."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("## What may import what")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \| (.+) \|$", section, re.MULTILINE)
    return {part: set(re.findall("`([a-z.]+)`", allowed)) for parts, allowed in rows for part in _words(parts)}


def _words(text: str) -> list[str]:
    return re.findall("`([a-z.]+)`", text)


def _part(module: str) -> str:
    """Return the package of a module, or the module itself where it stands alone: `spec`, `keys`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "version"


def test_the_table_of_imports_speaks_of_every_part() -> None:
    parts = {_part(name) for name in NAMES} - {"version"}
    assert parts == set(_allowed())


@pytest.mark.parametrize(
    "name", [name for name in sorted(NAMES) if _part(name) not in ("version", "pipeline", "faces")]
)
def test_a_module_imports_only_what_its_part_may(name: str) -> None:
    part = _part(name)
    allowed = _allowed()[part] | {part}
    for imported in _imports(NAMES[name]):
        if imported.split(".")[0] != "crossfarm" or imported == "crossfarm":
            continue
        module = imported.removeprefix("crossfarm.")
        assert _part(imported) in allowed or module in allowed, f"{name} imports {module}"


def test_the_lowest_modules_import_nothing_of_ours() -> None:
    for name in ("crossfarm", "crossfarm.errors", "crossfarm.store.keys"):
        assert not {module for module in _imports(NAMES[name]) if module.startswith("crossfarm")}


def test_nothing_but_tasks_and_benchmarks_imports_the_pipeline() -> None:
    importers = {
        path.relative_to(ROOT).parts[0] if "faces" not in path.parts else "faces"
        for path in (*MODULES, ROOT / "tasks.py", *(ROOT / "benchmarks").glob("*.py"))
        if "crossfarm.pipeline.run" in _imports(path)
    }
    assert importers <= {"tasks.py", "faces", "benchmarks"}
    assert "tasks.py" in importers


def test_a_warm_run_imports_nothing_heavy() -> None:
    seen: set[str] = set()
    frontier = list(WARM)
    while frontier:
        name = frontier.pop()
        if name in seen or name not in NAMES:
            continue
        seen.add(name)
        imported = _imports(NAMES[name], at_import=True)
        heavy = {module.split(".")[0] for module in imported} & HEAVY
        assert not heavy, f"{name} imports {sorted(heavy)} at its top; import it in the function that needs it"
        frontier += [*imported, name.rpartition(".")[0]]
    assert {
        "crossfarm.pipeline.plan",
        "crossfarm.store.store",
        "crossfarm.reports.junit",
        "crossfarm.boards.transports.local",
    } <= seen


def test_tasks_import_nothing_of_ours_but_faces_and_errors_before_a_task_runs() -> None:
    faces = sorted((ROOT / "crossfarm" / "faces").glob("*.py"))
    for path in (ROOT / "tasks.py", *faces):
        imported = {name for name in _imports(path, at_import=True) if name.startswith("crossfarm")}
        assert {".".join(name.split(".")[:2]) for name in imported} <= {"crossfarm.errors", "crossfarm.cli"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_the_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tables = text.partition("## Modules")[2].partition("\n## What may")[0]
    named = re.findall(r"`([a-z_/0-9]+\.py)`", tables)
    assert len(named) == len(set(named)), "a module is named twice"
    assert set(named) == {path.relative_to(ROOT / "crossfarm").as_posix() for path in MODULES}
