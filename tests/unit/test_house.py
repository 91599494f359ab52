"""The house stays as docs/architecture.md draws it: what a warm run loads, how large a module is, which packages exist.

Who may import whom stands in pyproject.toml; import-linter checks it in `./inv lint`.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossfarm.config.pipelines import STAGES
from crossfarm.util.paths import HOME

MODULES = sorted((HOME / "crossfarm").rglob("*.py"))
MOST_LINES, FEWEST_LINES = 420, 15

SHORT = {"crossfarm/util/paths.py": "every package needs the folder of the clone, and nothing else of any other module"}
"""Modules below the least size, with the reason."""

HEAVY = {
    "jinja2",
    "numpy",
    "alembic",
    "sqlalchemy",
    "psycopg",
    "tvm",
    "tvm_ffi",
    "onnx",
    "onnxruntime",
    "torch",
    "PIL",
    "rich",
    "tflite",
}

WARM = (
    "crossfarm.pipeline.run",
    "crossfarm.setup.requirements",
    "crossfarm.setup.cleaning",
    *(f"crossfarm.stages.{name}.stage" for name in STAGES),
)
"""What a run with nothing to do, `plan`, `setup`, `doctor` and `clean` import."""


def _name(path: Path) -> str:
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {_name(path): path for path in MODULES}


def _at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `tree` that are run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _at_import(node)


def _imports(path: Path) -> set[str]:
    """Return the modules that a module imports at its top: `from a import b` gives `a.b` where that is a module."""
    found: set[str] = set()
    for node in _at_import(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who imports whom"
            base = node.module or ""
            found |= {f"{base}.{each.name}" if f"{base}.{each.name}" in NAMES else base for each in node.names}
    return found


def test_a_warm_run_imports_nothing_heavy() -> None:
    seen: set[str] = set()
    frontier = list(WARM)
    while frontier:
        name = frontier.pop()
        if name in seen or name not in NAMES:
            continue
        seen.add(name)
        imported = _imports(NAMES[name])
        heavy = {module.split(".")[0] for module in imported} & HEAVY
        assert not heavy, f"{name} imports {sorted(heavy)} at its top; import it in the function that needs it"
        frontier += [*imported, name.rpartition(".")[0]]
    assert {"crossfarm.pipeline.plan", "crossfarm.store.store", "crossfarm.reports.junit"} <= seen


def test_tasks_import_nothing_of_ours_but_the_command_line_and_errors_before_a_task_runs() -> None:
    tasks = [path for path in (HOME / "crossfarm" / "cli").glob("*.py") if "@verb(" in path.read_text()]
    assert tasks
    for path in (HOME / "tasks.py", *tasks):
        imported = {".".join(name.split(".")[:2]) for name in _imports(path) if name.startswith("crossfarm")}
        light = {"crossfarm.errors", "crossfarm.cli", "crossfarm.util"}
        assert imported <= light, f"{path.name} imports {sorted(imported - light)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_module_can_be_read_in_one_go_and_is_worth_a_file(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES
    assert lines >= FEWEST_LINES or path.name == "__init__.py" or path.relative_to(HOME).as_posix() in SHORT


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_layers_name_every_package_and_the_architecture_names_them_too() -> None:
    contracts = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract for contract in contracts if contract["id"] == "layers")["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")}
    found = {
        path.stem for path in (HOME / "crossfarm").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert named == found - {"__init__"}
    text = (HOME / "docs" / "architecture.md").read_text()
    assert named <= set(re.findall(r"`([a-z_]+)(?:/|\.py)?`", text))


@pytest.mark.parametrize("upwards", ["crossfarm/store/upwards.py", "crossfarm/stages/fetch/upwards.py"])
def test_an_import_that_goes_upwards_breaks_the_contract(upwards: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes((HOME / "pyproject.toml").read_bytes())
    for path in (HOME / "crossfarm").rglob("*.py"):
        copy = tmp_path / path.relative_to(HOME)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / upwards).write_text("from crossfarm.stages.check import stage\n")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "upwards" in done.stdout
