"""Every stage names all source files that shape its artifact: what it imports, directly or through others."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from crossfarm.backends import BACKENDS, load_backend
from crossfarm.stages import STAGES
from crossfarm.store.keys import source_files
from crossfarm.util.paths import HOME

HARMLESS = (
    "crossfarm/__init__.py",
    "crossfarm/errors.py",  # texts of messages
    "crossfarm/config/",  # what is declared is in the key by value
    "crossfarm/util/",  # texts, folders, processes
    "crossfarm/store/keys.py",  # digests
    "crossfarm/stages/__init__.py",
    "crossfarm/stages/job.py",  # how a job is called
    "crossfarm/stages/protocol.py",
    "crossfarm/boards/__init__.py",
    "crossfarm/bundles/__init__.py",
    "crossfarm/backends/__init__.py",
    "crossfarm/backends/protocol.py",
    "crossfarm/backends/tvm/unsupported.py",  # refuses, and says why
)
"""Files that cannot change what an artifact holds."""


def _module_file(name: str) -> str | None:
    path = HOME.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(HOME).as_posix()
    return None


def _imports(file: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse((HOME / file).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("crossfarm."):
            names = [node.value]
        found |= {path for name in names if name.startswith("crossfarm") and (path := _module_file(name))}
    return found


def _closure(files: Iterable[str], *, stop: Iterable[str]) -> set[str]:
    """Return all that files import, but for what stands in `stop` and what only that imports."""
    seen: set[str] = set()
    frontier = list(files)
    ends = tuple(stop)
    while frontier:
        current = frontier.pop()
        if current in seen or current.startswith(ends) or Path(current).name == "__init__.py":
            continue
        seen.add(current)
        frontier += _imports(current)
    return seen


def _backend_modules() -> tuple[str, ...]:
    """Return the modules by which backends are entered: what they load is in their own lists of sources."""
    return tuple(name.replace(".", "/") + ".py" for name in BACKENDS.values())


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_lists_every_source_file_that_it_imports(name: str) -> None:
    listed = set(source_files(HOME, STAGES[name].DECLARATION.sources))
    missing = _closure([f"crossfarm/stages/{name}/stage.py"], stop=(*HARMLESS, *_backend_modules())) - listed
    assert not missing, f"add to the sources of stage {name}: {sorted(missing)}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_lists_every_source_file_that_it_imports(backend: str) -> None:
    own = load_backend(backend).DECLARATION.sources
    stages = [STAGES[name].DECLARATION.sources for name in ("compile", "bundle", "measure")]
    listed = set(source_files(HOME, [pattern for patterns in (*own.values(), *stages) for pattern in patterns]))
    module = BACKENDS[backend].replace(".", "/") + ".py"
    missing = _closure([module], stop=HARMLESS) - listed
    assert not missing, f"add to the sources of backend {backend}: {sorted(missing)}"


@pytest.mark.parametrize("name", list(STAGES))
def test_a_stage_lists_no_source_file_that_is_gone(name: str) -> None:
    assert source_files(HOME, STAGES[name].DECLARATION.sources)


def test_a_pattern_that_matches_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for pattern in ("none.py", "folder/", "!none.py"):
        with pytest.raises(FileNotFoundError, match="no source file matches"):
            source_files(tmp_path, (pattern,))


def test_a_folder_holds_all_files_below_it_but_what_python_caches_and_what_is_taken_out(tmp_path: Path) -> None:
    for name in ("a/one.py", "a/b/two.sh", "a/__pycache__/one.cpython-311.pyc", "a/words.py", "c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert source_files(tmp_path, ("c.py", "a/", "!a/words.py", "a/one.py")) == ["a/b/two.sh", "a/one.py", "c.py"]
