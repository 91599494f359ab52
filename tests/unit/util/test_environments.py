"""Python environments of tools: known by the digest of their lock, and only when they are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfarm.util import environments
from crossfarm.util.environments import COMPLETE, ToolEnvironment


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToolEnvironment:
    monkeypatch.setattr(environments, "HOME", tmp_path)
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "image", tmp_path / "clone"))
    lock = tmp_path / "requirements" / "environments" / "tool.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text("a==1\n")
    return ToolEnvironment(name="tool")


def _put(environment: ToolEnvironment, place: Path) -> Path:
    folder = place / environment.folder_name
    folder.mkdir(parents=True)
    (folder / COMPLETE).touch()
    return folder / "bin" / "python"


def test_one_that_was_left_half_made_is_missing(environment: ToolEnvironment, tmp_path: Path) -> None:
    (tmp_path / "clone" / environment.folder_name).mkdir(parents=True)
    assert environment.interpreter() is None
    assert environment.missing() == "its Python environment tool is not there; ./inv setup makes it"


def test_that_of_the_image_comes_first(environment: ToolEnvironment, tmp_path: Path) -> None:
    own = _put(environment, tmp_path / "clone")
    assert environment.interpreter() == own
    assert environment.missing() is None
    assert _put(environment, tmp_path / "image") == environment.interpreter()


def test_another_lock_is_another_environment(environment: ToolEnvironment, tmp_path: Path) -> None:
    _put(environment, tmp_path / "clone")
    environment.lock.write_text("a==2\n")
    assert environment.interpreter() is None


def test_in_an_image_the_lock_is_the_one_that_the_image_was_made_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "tool.txt").write_text("package==1.0\n")
    monkeypatch.setattr(environments, "HOME", tmp_path / "project")
    monkeypatch.setattr(environments, "PLACES", (tmp_path / "opt", tmp_path / "project" / ".crossfarm"))
    tool = environments.ToolEnvironment(name="tool")
    folder = tmp_path / "opt" / tool.folder_name
    (folder / "bin").mkdir(parents=True)
    assert tool.interpreter() is None
    (folder / environments.COMPLETE).touch()
    assert tool.interpreter() == folder / "bin" / "python"
