"""Running the tests of a module with one mutant of it in its place.

Each mutant has a forked process, in which an import hook hands out the changed source. No file is written, and the
packages that tests import are there before the fork; so a mutant costs little more than the tests.
"""

from __future__ import annotations

import dataclasses
import importlib.abc
import importlib.util
import math
import os
import resource
import signal
import sys
import time
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

Fate = Literal["killed", "survived", "timeout"]
_PRELOADED = ("hypothesis", "numpy", "pydantic", "pytest", "sqlalchemy", "yaml", "junit_xml", "jsonschema")
_POLL_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Module:
    """A module and the test files, relative to the project's folder, that are to notice its mutants."""

    root: Path
    file: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Its file."""
        return self.root / self.file

    @property
    def name(self) -> str:
        """Its full name."""
        return self.file.removesuffix(".py").replace("/", ".")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds of processor time and of the clock after which a mutant counts as one that never ends."""

    processor: float
    clock: float


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, in a source of its own."""

    def __init__(self, module: Module, source: str) -> None:
        self._name, self._path, self._source = module.name, module.path, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)  # noqa: S102 - this is the mutant


def preload() -> None:
    """Import what tests import, but nothing of crossfarm: each mutant imports that anew."""
    for name in _PRELOADED:
        importlib.import_module(name)


def limits(module: Module) -> Limits:
    """Run the tests of a module as it is, and return what a mutant may take.

    Raises:
        SystemExit: they fail without any mutant.
    """
    before = time.monotonic()
    generous = Limits(processor=600, clock=1800)
    fate, seconds = run(module, module.path.read_text(encoding="utf-8"), generous)
    if fate != "survived":
        sys.exit(f"mutants: the tests of {module.name} fail as they are: pytest {' '.join(module.tests)} ({fate})")
    return Limits(processor=10 + 4 * seconds, clock=60 + 10 * (time.monotonic() - before))


def run(module: Module, source: str, allowed: Limits) -> tuple[Fate, float]:
    """Return what became of a mutant, and the processor seconds of its tests.

    Args:
        module: the module.
        source: its changed text.
        allowed: how long it may take.
    """
    child = os.fork()
    if child == 0:
        _be_the_mutant(module, _Finder(module, source), allowed)
    deadline = time.monotonic() + allowed.clock
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            pid, status, used = os.wait4(child, 0)
            return "timeout", used.ru_utime + used.ru_stime
        time.sleep(_POLL_SECONDS)
    code = os.waitstatus_to_exitcode(status)
    fate: Fate = "survived" if code == 0 else "timeout" if code == -signal.SIGXCPU else "killed"
    return fate, used.ru_utime + used.ru_stime


def _be_the_mutant(module: Module, finder: _Finder, allowed: Limits) -> None:
    """Run the tests in this process and end it; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        seconds = math.ceil(allowed.processor)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        os.chdir(module.root)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        sys.meta_path.insert(0, finder)
        sys.path.insert(0, str(module.root))
        import pytest

        # The same examples for every mutant; no database of examples, which runs at the same time would share.
        options = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-W", "ignore::pytest.PytestWarning")
        code = int(pytest.main([*options, *module.tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
