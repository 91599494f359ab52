"""Making a tool's Python environment: its Python is found or named, and what is half-made does not count."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from crossfarm.errors import ToolError
from crossfarm.setup import environments as setup
from crossfarm.util import environments
from crossfarm.util.console import Console
from crossfarm.util.environments import ToolEnvironment

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToolEnvironment:
    monkeypatch.setattr(environments, "HOME", tmp_path)
    for module in (environments, setup):
        monkeypatch.setattr(module, "PLACES", (tmp_path / "clone",))
    lock = tmp_path / "requirements" / "environments" / "tool.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text("# nothing\n")
    return ToolEnvironment(name="tool", python=VERSION)


def _python(folder: Path, *, says: str) -> None:
    folder.mkdir(parents=True)
    program = folder / "python3.99"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)


def test_a_python_on_the_path_counts_only_if_it_is_the_version_that_it_is_called_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    _python(tmp_path / "good", says="3.99")
    _python(tmp_path / "bad", says="3.98")
    monkeypatch.setenv("PATH", f"{tmp_path / 'good'}{os.pathsep}{os.environ['PATH']}")
    assert setup.find_python("3.99") == str(tmp_path / "good" / "python3.99")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bad'}{os.pathsep}{os.defpath}")
    assert setup.find_python("3.99") is None


def test_one_that_pyenv_keeps_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "versions" / "3.99.4" / "bin"
    _python(folder, says="3.99")
    (folder / "python3.99").rename(folder / "python")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert setup.find_python("3.99") == str(folder / "python")


def test_without_its_python_it_says_which_and_how_to_get_it(environment: ToolEnvironment) -> None:
    wanted = ToolEnvironment(name=environment.name, python="3.99")
    with pytest.raises(ToolError, match=r"tool needs Python 3\.99.*pyenv install 3\.99"):
        setup.make_environment(wanted, console=Console(io.StringIO()))


def test_it_is_complete_only_when_everything_of_its_lock_was_installed(
    environment: ToolEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ToolError("setup: pip failed")

    monkeypatch.setattr(setup, "find_python", lambda version: sys.executable)
    with monkeypatch.context() as patched:
        patched.setattr(setup, "install_hashed_into", fail)
        with pytest.raises(ToolError):
            setup.make_environment(environment, console=Console(io.StringIO()))
    assert environment.interpreter() is None
    monkeypatch.setattr(setup, "install_hashed_into", lambda *_, **__: None)
    folder = setup.make_environment(environment, console=Console(io.StringIO()))
    assert environment.interpreter() == folder / "bin" / "python"
