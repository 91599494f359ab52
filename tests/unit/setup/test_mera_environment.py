"""Environments of tools: what completes one runs before it counts, and a Python that is missing is told."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType

import pytest

from crossfarm.backends.project_files import load_targets
from crossfarm.boards.inventory import Inventory
from crossfarm.config.boards import Board
from crossfarm.errors import ToolError
from crossfarm.images.identity import ImageIdentity
from crossfarm.pipeline import key_context
from crossfarm.setup import environments as setup
from crossfarm.setup import requirements
from crossfarm.setup.environments import make_environment
from crossfarm.stages.job import HOST as HOST_IMAGE
from crossfarm.util import environments
from crossfarm.util.console import Console
from crossfarm.util.environments import COMPLETE, ToolEnvironment
from crossfarm.util.mera.calls import MERA
from crossfarm.util.paths import HOME


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for environments, whose lock is empty."""
    monkeypatch.setattr(environments, "PLACES", (tmp_path,))
    monkeypatch.setattr(setup, "PLACES", (tmp_path,))
    (tmp_path / "lock.txt").touch()
    monkeypatch.setattr(ToolEnvironment, "lock", property(lambda _: tmp_path / "lock.txt"))
    monkeypatch.setattr(setup, "find_python", lambda _: sys.executable)
    monkeypatch.setattr(setup, "install_hashed_into", lambda *_, **__: None)
    return tmp_path


def test_what_completes_an_environment_runs_before_it_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("completing")
    tool = ToolEnvironment(name="tool", completed_by="completing")

    def complete(folder: Path, *, console: Console) -> None:
        assert not (folder / COMPLETE).exists() and tool.interpreter() is None
        (folder / "added").touch()

    monkeypatch.setattr(module, "complete", complete, raising=False)
    monkeypatch.setitem(sys.modules, "completing", module)
    made = make_environment(tool, console=Console(io.StringIO()))
    assert (made / "added").exists() and tool.interpreter() == made / "bin" / "python"


def test_an_environment_that_could_not_be_completed_does_not_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("completing")

    def complete(folder: Path, *, console: Console) -> None:
        raise ToolError("MERA does not start here")

    monkeypatch.setattr(module, "complete", complete, raising=False)
    monkeypatch.setitem(sys.modules, "completing", module)
    tool = ToolEnvironment(name="tool", completed_by="completing")
    with pytest.raises(ToolError, match="does not start"):
        make_environment(tool, console=Console(io.StringIO()))
    assert tool.interpreter() is None


@pytest.mark.parametrize(
    ("python", "expected"),
    [
        ("/usr/bin/python3.10", r"environment mera is not there; \./inv setup makes it$"),
        (None, r"once Python 3.10 is here: it is neither on PATH nor among pyenv's; pyenv install 3\.10 brings it$"),
    ],
)
def test_cells_of_mera_without_its_environment_say_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str | None, expected: str
) -> None:
    monkeypatch.setattr(environments, "PLACES", (tmp_path,))
    monkeypatch.setattr(key_context, "find_python", lambda _: python)
    targets = load_targets(HOME / "toolchains")
    with pytest.raises(ToolError, match=expected):
        raise ToolError(str(key_context._unbuilt(targets["mera_f200"])))
    assert key_context._unbuilt(targets["x86_64"]) is None, "it is compiled in an image"


def test_cells_of_mera_are_compiled_on_this_host_whatever_images_there_are() -> None:
    targets = load_targets(HOME / "toolchains")
    images = {"x86_64": ImageIdentity(name="x86_64", reference="crossfarm-x86_64:1", digest="ab" * 32, base=None)}
    assert key_context._image(images, targets["mera_f200"]) == HOST_IMAGE
    assert key_context._image(images, targets["x86_64"]) == "ab" * 32


def test_the_cards_of_all_declared_boards_are_known_to_the_check(tmp_path: Path) -> None:
    board = Board(name="pc", transport="local", targets=("x86_64",), cards=("dna-f200",))
    other = Board(name="pi", transport="local", targets=("x86_64",))
    found = key_context.held_cards(Inventory(declared={"pc": board, "pi": other}))
    assert found == {"pc": ["dna-f200"]}


@pytest.mark.parametrize(("python", "is_wanted"), [("/usr/bin/python3.10", True), (None, False)])
def test_setup_fails_for_what_this_machine_can_have_and_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str | None, is_wanted: bool
) -> None:
    """A download that broke ends CI; a Python that is not on this machine is the reason of a skip."""
    monkeypatch.setattr(environments, "PLACES", (tmp_path,))
    monkeypatch.setattr(requirements, "find_python", lambda _: python)
    target = load_targets(HOME / "toolchains")["mera_f200"]
    rows = [
        requirements._way_to_run(target, is_wanted=True),
        requirements.environment_row(MERA, users=["mera_f200"]),
    ]
    assert [(row.found, row.is_wanted) for row in rows] == [(None, is_wanted)] * 2


def test_ci_does_not_go_on_without_tools_that_can_be_had() -> None:
    lines = (HOME / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("./inv setup --pipeline accelerators"))
    assert "set -eu" in lines and "||" not in line
