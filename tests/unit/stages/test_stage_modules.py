"""What the stages reference, measure and check promise to the plan: few imports, and all their sources."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SHAPING = ("crossfarm/stages/", "crossfarm/boards/", "crossfarm/results.py")
"""Modules that shape an artifact. What spec declares reaches a stage through its parameters, which are in the key."""
CONTRACTS = {"crossfarm/stages/protocol.py", "crossfarm/stages/__init__.py", "crossfarm/boards/__init__.py"}


def _imported(path: Path) -> set[str]:
    """Return the project's files that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            file = Path(*name.split(".")).with_suffix(".py")
            if (ROOT / file).is_file():
                found.add(file.as_posix())
    return found


def _closure(file: str) -> set[str]:
    seen: set[str] = set()
    todo = [file]
    while todo:
        now = todo.pop()
        if now in seen or not now.startswith(SHAPING) or now in CONTRACTS:
            continue
        seen.add(now)
        todo += _imported(ROOT / now)
    return seen


@pytest.mark.parametrize("name", ["reference", "measure", "check"])
def test_the_sources_of_a_stage_are_all_that_it_imports(name: str) -> None:
    stage = importlib.import_module(f"crossfarm.stages.{name}")
    assert set(stage.SOURCES) == _closure(f"crossfarm/stages/{name}.py")
    assert list(stage.SOURCES) == sorted(stage.SOURCES)


def test_a_plan_imports_nothing_heavy_for_these_stages() -> None:
    code = (
        "import sys; import crossfarm.stages.reference, crossfarm.stages.measure, crossfarm.stages.check, "
        "crossfarm.boards.local; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert "crossfarm.stages.check" in loaded.split()
    assert not {"numpy", "PIL", "onnx", "onnxruntime", "tvm", "torch"} & set(loaded.split())
