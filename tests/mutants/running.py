"""Running the tests of a module with one mutant of it in its place.

Each mutant has a forked process, in which an import hook hands out the changed source. No file is written. What the
tests import is there before the fork, but for the module and whatever imports it; so a mutant costs little more than
the tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib.abc
import importlib.util
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal, NoReturn

Fate = Literal["killed", "survived", "timeout"]
_POLL_SECONDS = 0.01
_OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:junitxml", "-W", "ignore::pytest.PytestWarning")


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
    usual: float = 0.0
    """What the tests take without a mutant, in processor seconds."""


_GENEROUS = Limits(processor=600, clock=1800)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, in a source of its own."""

    def __init__(self, module: Module, source: str) -> None:
        self._name, self._path = module.name, module.path
        self._code = compile(source, str(self._path), "exec")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - this is the mutant


class _Absent(importlib.abc.MetaPathFinder):
    """Lets a module, and with it whatever imports it, fail to be imported."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self._name:
            raise ImportError(name)


class BrokenTestsError(Exception):
    """The tests fail without any mutant."""


@contextlib.contextmanager
def prepared(module: Module) -> Iterator[Limits]:
    """Import what the tests of a module import, and run them on the module as it is; yields what a mutant may take.

    Raises:
        BrokenTestsError: they fail; with what pytest printed.
    """
    scratch = Path(tempfile.mkdtemp(prefix="mutants-"))
    environment, imported = dict(os.environ), set(sys.modules)
    os.environ |= {
        "HYPOTHESIS_PROFILE": "mutants",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_DEBUG_TEMPROOT": str(scratch),
    }
    try:
        _preload(module, scratch)
        yield _limits(module, scratch)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        gc.unfreeze()
        for name in set(sys.modules) - imported:
            # The next module may be one that these import.
            if name.split(".")[0] in (module.name.split(".")[0], "tests"):
                del sys.modules[name]
        # Python would not remove what tests of deep folders leave behind when a mutant fails them.
        subprocess.run(["rm", "-rf", scratch], check=True)


def _preload(module: Module, scratch: Path) -> None:
    """Import here what the tests import, without the module and what imports it."""
    listed = scratch / "modules"
    source = module.path.read_text(encoding="utf-8")
    run(module, source, _GENEROUS, log=scratch / "log", listed=listed)
    sys.path.insert(0, str(module.root))
    absent = _Absent(module.name)
    sys.meta_path.insert(0, absent)
    try:
        for name in listed.read_text(encoding="utf-8").split() if listed.exists() else ():
            # What cannot be imported alone, or imports the mutant, is left to the tests.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    finally:
        sys.meta_path.remove(absent)
        sys.path.remove(str(module.root))
    gc.freeze()


def _limits(module: Module, scratch: Path) -> Limits:
    begun = time.monotonic()
    log = scratch / "log"
    fate, seconds = run(module, module.path.read_text(encoding="utf-8"), _GENEROUS, log=log)
    if fate != "survived":
        told = log.read_text(encoding="utf-8", errors="replace")
        raise BrokenTestsError(f"the tests of {module.name} fail without a mutant ({fate}):\n{told}")
    return Limits(processor=2 + 4 * seconds, clock=60 + 10 * (time.monotonic() - begun), usual=seconds)


def run(
    module: Module, source: str, allowed: Limits, *, log: Path | None = None, listed: Path | None = None
) -> tuple[Fate, float]:
    """Return what became of a mutant, and the processor seconds of its tests.

    Args:
        module: the module.
        source: its changed text.
        allowed: how long it may take.
        log: file for what pytest prints; None where that does not matter.
        listed: file for the names of all modules that the tests import; None where that does not matter.
    """
    finder = _Finder(module, source)
    child = os.fork()
    if child == 0:
        _be_the_mutant(module, finder, allowed, log, listed)
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


def _be_the_mutant(module: Module, finder: _Finder, allowed: Limits, log: Path | None, listed: Path | None) -> NoReturn:
    """Run the tests in this process and end it."""
    code = 70
    try:
        os.setpgid(0, 0)
        seconds = math.ceil(allowed.processor)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        os.chdir(module.root)
        null = os.open(os.devnull, os.O_RDWR)
        output = null if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for descriptor, target in enumerate((null, output, output)):
            os.dup2(target, descriptor)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.meta_path.insert(0, finder)
        sys.path.insert(0, str(module.root))
        import pytest

        told = ("--tb=no", "--assert=plain") if log is None else ("--tb=short",)
        code = int(pytest.main([*_OPTIONS, *told, *module.tests]))
        if listed is not None:
            listed.write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
