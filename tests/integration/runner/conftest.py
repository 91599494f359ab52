"""Programs that are built once for all tests of the runner."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.runner.building import HERE, MEMORY_SANITIZERS, Bundle, build, make_bundle, program_sources


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and shutil.which("gcc") is None:
            item.add_marker(pytest.mark.skip(reason="gcc is not installed; apt-get install gcc"))


@pytest.fixture(scope="session")
def runner_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds what this session builds."""
    return tmp_path_factory.mktemp("runner")


@pytest.fixture(scope="session")
def objects(runner_folder: Path) -> list[Path]:
    """Return the program without a model, as objects that check every access to memory."""
    folder = runner_folder / "objects"
    folder.mkdir()
    build(folder, program_sources(), [*MEMORY_SANITIZERS, "-c"])
    return sorted(folder.glob("*.o"))


@pytest.fixture(scope="session")
def link_sample(runner_folder: Path, objects: list[Path]) -> Callable[..., Path]:
    """Return a function that links the program with sample_model.c, compiled with these macros."""

    def link(name: str, *macros: str) -> Path:
        program = runner_folder / name
        flags = [*MEMORY_SANITIZERS, *(f"-D{macro}" for macro in macros), "-o", str(program), "-pthread"]
        build(runner_folder, [HERE / "sample_model.c", *objects], flags)
        return program

    return link


@pytest.fixture(scope="session")
def sample_program(link_sample: Callable[..., Path]) -> Path:
    """Return the program of sample_model.c."""
    return link_sample("sample")


@pytest.fixture(scope="session")
def plain_program(runner_folder: Path) -> Path:
    """Return the program of sample_model.c without sanitizers, which have threads of their own."""
    program = runner_folder / "plain"
    build(runner_folder, [HERE / "sample_model.c", *program_sources()], ["-O2", "-o", str(program), "-pthread"])
    return program


@pytest.fixture
def bundle(tmp_path: Path, sample_program: Path) -> Bundle:
    """Return a good bundle of three cases."""
    return make_bundle(tmp_path / "bundle", sample_program)


@pytest.fixture
def commanded(tmp_path: Path, sample_program: Path) -> Callable[[int], Bundle]:
    """Return a function that makes a bundle whose model is told to do something."""
    return lambda command: make_bundle(tmp_path / f"command-{command}", sample_program, command=command)
